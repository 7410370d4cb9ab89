"""What a site runs: the ClientApp that is installed there."""

from ecan_core.seeding import one_thread
from source_site.federation.client import app

__all__ = ["app"]

one_thread()
