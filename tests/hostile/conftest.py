"""Everything in this folder is marked, so that the quick tests stay quick, and its rows can be listed."""

from pathlib import Path

import pytest

from tests.hostile.rows import rows_of

HERE = Path(__file__).parent
COLLECTED = pytest.StashKey[list[pytest.Item]]()
"""What is in this folder, before any of it is deselected."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[COLLECTED] = [item for item in items if HERE in item.path.parents]
    for item in config.stash[COLLECTED]:
        item.add_marker(pytest.mark.hostile)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Print the rows of what was collected, and run nothing."""
    if session.config.getoption("rows"):
        for row in rows_of(session.items):
            print(f"{row.name:5} {row.ends:24} {row.what}  [{row.test}]")
        session.items.clear()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("rows"):
        session.exitstatus = pytest.ExitCode.OK
