"""What the coordinator runs: the ServerApp that is installed there."""

from source_site.federation.server import app

__all__ = ["app"]
