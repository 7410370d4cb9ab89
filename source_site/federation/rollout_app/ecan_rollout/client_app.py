"""What a target runs: the ClientApp that is installed there."""

from target_site.federation.node import app

__all__ = ["app"]
