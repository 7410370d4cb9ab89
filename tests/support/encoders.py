"""The real public encoders, where this machine has them."""

import os
from pathlib import Path


def encoders_of_this_machine() -> Path:
    """Their folder: ECAN_TEST_ENCODERS, or the user's."""
    return Path(os.environ.get("ECAN_TEST_ENCODERS", Path.home() / ".local" / "share" / "ecan-ser" / "encoders"))
