"""The room serves any site: here a source site's program, which is not the target's, runs behind the same walls."""

import json
from pathlib import Path

import click
import pytest

from protocol.containment.launcher import Task, carry_out_contained, surroundings_of
from protocol.containment.walls import DEFAULT_LEAST, Conditions
from protocol.errors import ContainmentError, ProtocolError
from protocol.sandbox.landlock import landlock_abi

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


@pytest.fixture
def site(tmp_path) -> Path:
    """A folder with a corpus that the order names, a file that it does not name, and a folder for what is made."""
    for name in ("corpus", "other", "out"):
        (tmp_path / name).mkdir()
    for name in ("corpus/voice", "other/secret"):
        (tmp_path / name).write_bytes(b"some")
    return tmp_path


def carry_out(site: Path, command: str) -> tuple[dict, list[str]]:
    """Have the source's program carry out an order; returns its outcome and what was said on the way."""
    order = {"corpus": site / "corpus" / "voice", "other": site / "other" / "secret", "out": site / "out"}
    task = Task(program="tests.support.contained_source", command=command, order=order)
    said: list[str] = []
    return carry_out_contained(task, conditions=Conditions(), announce=said.append, quiet=False), said


def test_a_source_sites_program_reads_its_order_and_nothing_else(site, capfd):
    outcome, said = carry_out(site, "read")
    assert outcome.pop("level") >= DEFAULT_LEAST
    assert outcome == {"its corpus": "ok", "another file": "EACCES", "its folder": "ok", "another folder": "EACCES"}
    assert said == []
    assert capfd.readouterr().err.startswith("contained at level ")


def test_a_source_sites_program_opens_no_socket_and_the_attempt_is_known(site):
    with pytest.raises(ContainmentError, match="1 attempts to reach a network") as caught:
        carry_out(site, "call")
    assert caught.value.exit_code == 15
    assert json.loads((site / "out" / "outcomes.json").read_text()) == {"a socket": "EPERM"}


def test_a_fault_that_the_program_explains_ends_with_its_exit_code(site, capfd):
    with pytest.raises(click.exceptions.Exit) as caught:
        carry_out(site, "fail")
    assert caught.value.exit_code == 3
    assert "error: the order asks for too much; ask for less" in capfd.readouterr().err


def test_a_program_that_is_killed_is_named_with_the_signal(site):
    with pytest.raises(ProtocolError, match="was ended by SIGABRT") as caught:
        carry_out(site, "die")
    assert caught.value.exit_code == 1


def test_what_steers_a_process_is_dropped_and_named():
    passed_on, dropped = surroundings_of({"HOME": "/", "LC_ALL": "C", "LD_PRELOAD": "x", "https_proxy": "x", "A": "x"})
    assert passed_on == {"HOME": "/", "LC_ALL": "C"}
    assert dropped == ["LD_PRELOAD", "https_proxy"]
