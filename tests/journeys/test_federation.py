"""Three source sites and a coordinator as real processes of Flower's engine, with TLS and node keys, on loopback."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import cli
from tests.support.engine import (
    LINK_PORT,
    PATIENCE_S,
    RUNTIME_PORT,
    assert_silent,
    end,
    kill_whole,
    started,
    wait_for,
    watched,
)
from tests.support.lone_host import captured, lone_host
from tests.support.speech import synthesize

pytestmark = [pytest.mark.journey, pytest.mark.slow, pytest.mark.timeout(1800)]
ADDRESS = f"127.0.0.1:{LINK_PORT}"


def test_three_sites_train_though_one_dies_a_stranger_is_refused_and_nobody_else_is_called(tmp_path):
    corpora = [
        synthesize(tmp_path / str(number), name, seed=number)
        for number, name in enumerate(("harbor", "valley", "harbor"))
    ]
    assert cli.source("federate", "keys", "--host", "127.0.0.1", "--out", tmp_path / "keys").code == 0
    (tmp_path / "plan.yaml").write_text("rounds: 2\nlocal_epochs: 1\npatience_s: 60\n")

    def joining(number: int, corpus: Path, patience_s: float = 120):
        return (
            *("federate", "join", "--to", ADDRESS, "--ca", tmp_path / "keys" / "ca.crt"),
            *("--key", tmp_path / f"{number}.key", "--site", f"csv={corpus}"),
            *("--home", tmp_path / f"home{number}", "--runtime-port", RUNTIME_PORT + number),
            *("--patience", patience_s),
        )

    for number in range(4):
        made = cli.source(*joining(number, corpora[0]))
        assert made.code == 0
        assert f"{number}.pub" in made.stderr
    nodes = [word for number in range(3) for word in ("--node", tmp_path / f"{number}.pub")]
    with lone_host() as host, captured(host) as capture, ExitStack() as running:

        def run(*words: object):
            return running.enter_context(started(host, "ecan-source", *words))

        serving = run(
            *("federate", "serve", "--keys", tmp_path / "keys", "--listen", ADDRESS, *nodes),
            *("--config", tmp_path / "plan.yaml", "--out", tmp_path / "run", "--format", "json"),
        )
        wait_for(lambda: (tmp_path / "run.flower" / "run.toml").exists() or serving.poll() is not None, "the SuperLink")
        sites = [run(*joining(number, corpus)) for number, corpus in enumerate(corpora)]
        stranger = run(*joining(3, corpora[0], patience_s=0))
        environments = running.enter_context(watched([serving, *sites]))
        wait_for(lambda: (tmp_path / "home1" / "features.cache").exists(), "the first round at site 1")
        kill_whole(sites[1])
        again = run(*joining(1, corpora[1]))
        told, said = serving.communicate(timeout=PATIENCE_S)
        log = (tmp_path / "run.flower" / "superlink.log").read_text(errors="replace")
        assert serving.returncode == 0, said + log[-6000:]
        _, said = stranger.communicate(timeout=PATIENCE_S)
        assert stranger.returncode == 4, said
        assert "error: ended from outside" in end(again)
        assert again.returncode == 143
    assert_silent(environments, at_least=8)
    assert capture.outside == {}
    assert capture.ports() <= {LINK_PORT, *range(RUNTIME_PORT, RUNTIME_PORT + 4)}
    assert LINK_PORT in capture.ports()
    facts = json.loads(told)
    assert facts["num_utterances"] == sum(len(path.read_text().splitlines()) - 1 for path in corpora)
    exported(tmp_path)


def exported(work: Path) -> None:
    """What the federation ended with passes the gate and is signed."""
    cli.source("keys", "init", "--out", work / "source-keys")
    cli.target("request", "--keys", work / "target-keys", "--out", work / "site.request")
    done = cli.source(
        *("export", "--model", work / "run", "--keys", work / "source-keys", "--request", work / "site.request"),
        *("--file", work / "carried.ecan"),
    )
    assert done.code == 0, done.stderr
    assert (work / "carried.ecan").stat().st_size > 10_000
