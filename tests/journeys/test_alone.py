"""Two commands that write into one folder."""

import pytest

from protocol.locks import writing_alone
from target_site.results.runs import hearing_alone
from target_site.results.shards import WHOLE
from tests.support import cli

pytestmark = pytest.mark.journey


@pytest.mark.parametrize("command", ["adapt", "predict", "evaluate"])
def test_every_command_that_writes_is_refused_where_another_one_writes(command, crossing, adapted, tmp_path):
    out = adapted if command == "evaluate" else tmp_path / "out"
    words = {
        "adapt": ("--bundle", crossing.bundle, "--audio", crossing.target_labels, "--out", out),
        "predict": ("--model", adapted, "--audio", crossing.target_labels, "--out", out),
        "evaluate": ("--model", adapted, "--labels", crossing.target_labels),
    }
    before = {path.name: path.read_bytes() for path in adapted.iterdir()}
    with writing_alone(out) if command != "predict" else hearing_alone(out, WHOLE):
        there = {path.relative_to(out) for path in out.rglob("*")}
        result = cli.target(command, *words[command])
        assert {path.relative_to(out) for path in out.rglob("*")} == there
    assert result.code == 16
    assert result.refusal().endswith("wait for it, or choose another folder. [LOCKED]")
    assert {path.name: path.read_bytes() for path in adapted.iterdir()} == before
