"""Three source sites and a coordinator as real processes over Flower, with TLS and node keys, on loopback."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import cli
from tests.support.crossing import export, new_source
from tests.support.engine import (
    LINK_PORT,
    PATIENCE_S,
    assert_silent,
    end,
    is_of_engine,
    kill_whole,
    started,
    wait_for,
    watched,
)
from tests.support.lone_host import captured, lone_host
from tests.support.speech import synthesize

pytestmark = [pytest.mark.journey, pytest.mark.slow, pytest.mark.timeout(1800)]
ADDRESS = f"127.0.0.1:{LINK_PORT}"


def test_three_sites_train_masked_and_private_though_one_dies_and_nobody_else_is_called(tmp_path):
    corpora = [
        synthesize(tmp_path / str(number), name, seed=number)
        for number, name in enumerate(("harbor", "valley", "harbor"))
    ]
    assert cli.source("federate", "keys", "--host", "127.0.0.1", "--out", tmp_path / "keys").code == 0
    (tmp_path / "plan.yaml").write_text("rounds: 2\nlocal_epochs: 1\npatience_s: 300\nsecure: true\nepsilon: 8\n")

    def joining(number: int, corpus: Path, patience_s: float = 120):
        return (
            *("federate", "join", "--to", ADDRESS, "--ca", tmp_path / "keys" / "ca.crt"),
            *("--key", tmp_path / f"{number}.key", "--site", f"csv={corpus}", "--home", tmp_path / f"home{number}"),
            *("--relabel", "calm=neutral"),
            *("--patience", patience_s, "--secure", "--max-epsilon", 8),
        )

    for number in range(4):
        made = cli.source(*joining(number, corpora[number % 3]))
        assert made.code == 0
        assert f"{number}.pub" in made.stderr
    nodes = [word for number in range(3) for word in ("--node", tmp_path / f"{number}.pub")]
    with lone_host() as host, captured(host) as capture, ExitStack() as running:

        def run(*words: object):
            return running.enter_context(started(host, "ecan-source", *words))

        def member(number: int):
            peers = [word for other in range(3) if other != number for word in ("--peer", tmp_path / f"{other}.pub")]
            return run(*joining(number, corpora[number]), *peers)

        serving = run(
            *("federate", "serve", "--keys", tmp_path / "keys", "--listen", ADDRESS, *nodes),
            *("--config", tmp_path / "plan.yaml", "--out", tmp_path / "run", "--format", "json"),
        )
        sites = [member(number) for number in range(3)]
        stranger = run(*joining(3, corpora[0], patience_s=0))
        environments = running.enter_context(watched([serving, *sites]))
        wait_for(lambda: (tmp_path / "home1" / "answer.frame").exists(), "the first round at site 1")
        kill_whole(sites[1])
        again = member(1)
        told, said = serving.communicate(timeout=PATIENCE_S)
        log = (tmp_path / "run.flower" / "superlink.log").read_text(errors="replace")
        assert serving.returncode == 0, said + log[-6000:]
        _, said = stranger.communicate(timeout=PATIENCE_S)
        assert stranger.returncode == 4, said
        assert "error: ended from outside" in end(again)
        assert again.returncode == 143
    assert_silent({number: told for number, told in environments.items() if is_of_engine(told)}, at_least=1)
    assert capture.outside == {}
    assert f"6 127.0.0.1:{LINK_PORT}" in capture.loopback
    facts = json.loads(told)
    assert 1 <= facts["num_utterances"] < 10_000, "with noise"
    exported(tmp_path)


def exported(work: Path) -> None:
    """What the federation ended with passes the gate and is signed."""
    new_source(work / "source-keys")
    _, sealed = export(work / "run", work / "source-keys", work / "target-keys", work)
    assert sealed.stat().st_size > 10_000
