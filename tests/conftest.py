"""Work that several tests build upon, done once per session."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import cli
from tests.support.cli import approve
from tests.support.speech import synthesize

# A machine's own encoders would change what `train` makes: tests see an empty folder of data.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="ecan-data-")

settings.register_profile("default", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Two sites after one crossing: what each has on its disk."""

    work: Path
    source_labels: Path
    target_labels: Path
    run: Path
    source_keys: Path
    target_keys: Path
    fingerprint: str
    request: Path
    sealed: Path
    bundle: Path


@pytest.fixture(scope="session")
def crossing(tmp_path_factory) -> Crossing:
    """A model trained on a small synthetic corpus and carried by file to another site."""
    work = tmp_path_factory.mktemp("crossing")
    source_labels = synthesize(work / "harbor", "harbor")
    target_labels = synthesize(work / "valley", "valley", seed=1)
    (work / "short.yaml").write_text("epochs: 8\n")
    steps = [
        cli.source("keys", "init", "--out", work / "source-keys"),
        cli.source(
            *("train", "--corpus", f"csv={source_labels}", "--config", work / "short.yaml"),
            *("--cache", work / "source.cache", "--out", work / "run"),
        ),
        cli.target("request", "--keys", work / "target-keys", "--out", work / "site.request"),
        cli.source(
            *("export", "--model", work / "run", "--keys", work / "source-keys"),
            *("--request", work / "site.request", "--file", work / "carried.ecan"),
        ),
    ]
    fingerprint = steps[0].stdout.strip()
    steps.append(
        cli.target(
            *("receive", "--keys", work / "target-keys", "--from", work / "carried.ecan"),
            *("--trust", fingerprint, "--out", work / "model.ecan"),
        )
    )
    steps.append(approve(work / "model.ecan", work / "target-keys"))
    assert [step.code for step in steps] == [0] * 6, [step.stderr for step in steps]
    return Crossing(
        work=work,
        source_labels=source_labels,
        target_labels=target_labels,
        run=work / "run",
        source_keys=work / "source-keys",
        target_keys=work / "target-keys",
        fingerprint=fingerprint,
        request=work / "site.request",
        sealed=work / "carried.ecan",
        bundle=work / "model.ecan",
    )


@pytest.fixture(scope="session")
def adapted(crossing) -> Path:
    """The folder of a finished adaptation."""
    out = crossing.work / "adapted"
    result = cli.target(
        *("adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels, "--out", out),
        *("--cache", crossing.work / "target.cache", "--keys", crossing.target_keys),
    )
    assert result.code in (0, 14), result.stderr
    return out


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how many hostile inputs were refused as their table says."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", ())]
    hostile = sum("tests/hostile/" in name and "test_row" in name for name in passed)
    if hostile:
        terminalreporter.write_line(f"hostile inputs refused as the table says: {hostile}")
