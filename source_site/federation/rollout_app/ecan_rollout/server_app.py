"""What the source runs: the ServerApp that is installed there."""

from source_site.federation.rollout import app

__all__ = ["app"]
