"""A source hands one model to a fleet: the Flower app of both sides in one process, everything else as it is."""

import pytest

from ecan_core.errors import SettingsError
from protocol.grants import GrantState
from protocol.in_process import InProcessGrid
from source_site.federation.rollout import roll_out
from source_site.keys import open_ledger
from target_site.federation.node import Node, app, take_bundle
from tests.source_site.runs import write_run
from tests.support import cli

pytestmark = pytest.mark.journey


@pytest.fixture
def fleet(tmp_path):
    """A source with three open grants, and the nodes of their sites."""
    write_run(tmp_path / "run")
    fingerprint = cli.source("keys", "init", "--out", tmp_path / "keys").stdout.strip()
    nodes = []
    for number in range(3):
        request = tmp_path / f"{number}.request"
        cli.target("request", "--keys", tmp_path / f"target{number}", "--out", request)
        nodes.append(
            {"keys": str(tmp_path / f"target{number}"), "trust": fingerprint, "out": str(tmp_path / f"out{number}")}
        )
    requests = [word for number in range(3) for word in ("--request", tmp_path / f"{number}.request")]
    granted = cli.source("grant", "--model", tmp_path / "run", "--keys", tmp_path / "keys", *requests)
    assert granted.code == 0, granted.stderr
    return tmp_path, nodes


def test_every_site_gets_its_own_bundle_once_closes_its_grant_and_tells_no_more_than_it_may(fleet):
    work, nodes = fleet
    nodes[1]["tell"] = ""
    deliveries = roll_out(InProcessGrid(app, nodes), work / "keys", num_nodes=3)
    assert [one.closed for one in deliveries] == [True] * 3
    assert sorted(len(one.told) for one in deliveries) == [0, 1, 1]
    assert all(one.told in ({}, {"accepted": True}) for one in deliveries)
    ledger = open_ledger(work / "keys")
    assert [record.state for record in ledger.records()] == [GrantState.CLOSED] * 3
    ledger.verify()
    for number in range(3):
        assert (work / f"out{number}" / "model.ecan").exists()
    assert roll_out(InProcessGrid(app, nodes), work / "keys", num_nodes=3) == []


def test_a_node_that_trusts_another_source_takes_nothing_and_its_grant_stays_open(fleet):
    work, nodes = fleet
    nodes[1]["trust"] = "ab" * 32
    deliveries = roll_out(InProcessGrid(app, nodes), work / "keys", num_nodes=3)
    assert sorted((one.closed, one.told["accepted"]) for one in deliveries) == [
        (False, False),
        (True, True),
        (True, True),
    ]
    states = [record.state for record in open_ledger(work / "keys").records()]
    assert sorted(states) == [GrantState.CLOSED, GrantState.CLOSED, GrantState.STREAMING]


def test_a_model_that_was_withdrawn_goes_to_nobody(fleet):
    work, nodes = fleet
    release = open_ledger(work / "keys").records()[0].release
    assert cli.source("revoke", "--keys", work / "keys", "--release", release).code == 0
    assert roll_out(InProcessGrid(app, nodes), work / "keys", num_nodes=3) == []
    assert not any((work / f"out{number}").exists() for number in range(3))


def test_a_delivery_that_is_none_is_not_written(tmp_path):
    node = Node(keys=tmp_path, trust="ab" * 32, out=tmp_path / "out")
    with pytest.raises(SettingsError):
        take_bundle(node, "../../etc/passwd", b"x", lambda words: 0)
    assert not node.out.exists()


def test_recordings_are_opened_by_another_process_alone(tmp_path):
    node = Node(keys=tmp_path, trust="ab" * 32, out=tmp_path / "out", audio="calls/", tell="verdict")
    node.out.mkdir()
    (node.out / "model.ecan.receipt").write_bytes(b"receipt")
    started = []

    def carry(words):
        started.append(words)
        return 14 if words[0] == "adapt" else 0

    told = take_bundle(node, "0" * 32, b"sealed", carry)
    assert told == {"receipt": b"receipt", "verdict": "reverted"}
    assert [words[0] for words in started] == ["receive", "adapt"]
    assert "calls/" in started[1]
    assert not (node.out / f"{'0' * 32}.sealed").exists()
