"""Work that several tests build upon, done once per session."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import cli
from tests.support.crossing import Crossing, cross

# A machine's own encoders would change what `train` makes: tests see an empty folder of data.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="ecan-data-")

settings.register_profile("default", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def crossing(tmp_path_factory) -> Crossing:
    """A model trained on a small synthetic corpus and carried by file to another site."""
    return cross(tmp_path_factory.mktemp("crossing"))


@pytest.fixture(scope="session")
def adapted(crossing) -> Path:
    """The folder of a finished adaptation."""
    out = crossing.work / "adapted"
    result = cli.target(
        *("adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels, "--out", out),
        *("--cache", crossing.work / "cache" / "target", "--keys", crossing.target_keys),
    )
    assert result.code in (0, 14), result.stderr
    return out


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", action="store_true", help="list the rows of the hostile tables, and run nothing")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that nobody waits for them alone: they have asked for more time."""
    asked: dict[Path, float] = {}
    for item in items:
        asked[item.path] = max([asked.get(item.path, 0), *(marker.args[0] for marker in item.iter_markers("timeout"))])
    items.sort(key=lambda item: -asked[item.path])


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how many hostile inputs were refused as their table says."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", ())]
    hostile = sum("tests/hostile/" in name and "test_row" in name for name in passed)
    if hostile:
        terminalreporter.write_line(f"hostile inputs refused as the table says: {hostile}")
