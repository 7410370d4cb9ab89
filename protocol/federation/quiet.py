"""Keep Flower from calling any address but those it is given.

This module imports no Flower.
"""

import os
from pathlib import Path

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
"""Variables by which a process of Flower sends no telemetry, looks for no update and installs nothing."""


def quiet_environment(home: Path) -> dict[str, str]:
    """Return the environment variables of a process that uses Flower.

    ``home`` is the folder where Flower keeps its files.
    """
    return QUIET | {"FLWR_HOME": str(home)}


def keep_quiet(home: Path) -> None:
    """Set these variables in this process.

    Flower reads them when it is imported.
    """
    os.environ |= quiet_environment(home)
