"""Keep Flower from calling anybody but the addresses that it is given."""

import os
from pathlib import Path

from protocol.errors import Code, ContainmentError

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


def require_quiet() -> None:
    """Refuse to go on if Flower would send telemetry.

    Raises:
        ContainmentError: its switch is on, or is no longer where it was.
    """
    from flwr.supercore import telemetry

    if getattr(telemetry, "FLWR_TELEMETRY_ENABLED", None) != "0":
        raise ContainmentError(
            Code.CONTAINMENT, "Flower's telemetry is not off; install the version of Flower that pyproject.toml names."
        )
