"""What a site runs: the ClientApp that is installed there."""

from target_site.federation.together import client as app

__all__ = ["app"]
