"""What the coordinator runs: the ServerApp that is installed there."""

from target_site.federation.together import server as app

__all__ = ["app"]
