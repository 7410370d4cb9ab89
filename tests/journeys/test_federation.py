"""Three source sites and a coordinator as real processes of Flower's engine, with TLS and node keys, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support import cli
from tests.support.speech import synthesize

pytestmark = [pytest.mark.journey, pytest.mark.slow, pytest.mark.timeout(1800)]
PATIENCE_S = 800.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def started(*words: object):
    """A command of the source in a session of its own."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ecan-source"), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process)


def end(process) -> None:
    """Ask a command to end, with what it started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    except ValueError:  # it was read to its end before
        process.wait()


def telemetry_of(processes) -> dict[int, str]:
    """What every process below some others has in its environment to keep Flower quiet."""
    children = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
        except OSError:
            continue
    found, waiting = {}, [process.pid for process in processes]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child)
            try:
                found[child] = Path(f"/proc/{child}/environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
    return found


def wait_for(happened, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.5)


def test_three_sites_train_though_one_dies_and_a_stranger_is_refused(tmp_path):
    port = free_port()
    address = f"127.0.0.1:{port}"
    corpora = [
        synthesize(tmp_path / str(number), name, seed=number)
        for number, name in enumerate(("harbor", "valley", "harbor"))
    ]
    assert cli.source("federate", "keys", "--host", "127.0.0.1", "--out", tmp_path / "keys").code == 0
    (tmp_path / "plan.yaml").write_text("rounds: 2\nlocal_epochs: 1\npatience_s: 120\n")

    def joining(name: str, corpus: Path, patience_s: float = 120):
        return (
            *("federate", "join", "--to", address, "--ca", tmp_path / "keys" / "ca.crt"),
            *("--key", tmp_path / f"{name}.key", "--site", f"csv={corpus}"),
            *("--home", tmp_path / f"home{name}", "--runtime-port", free_port()),
            *("--patience", patience_s),
        )

    for name in ("0", "1", "2", "stranger"):
        made = cli.source(*joining(name, corpora[0]))
        assert made.code == 0
        assert f"{name}.pub" in made.stderr
    nodes = [word for name in "012" for word in ("--node", tmp_path / f"{name}.pub")]
    with ExitStack() as running:
        serving = running.enter_context(
            started(
                *("federate", "serve", "--keys", tmp_path / "keys", "--listen", address, *nodes),
                *("--config", tmp_path / "plan.yaml", "--out", tmp_path / "run", "--format", "json"),
            )
        )
        wait_for(lambda: (tmp_path / "run.flower" / "run.toml").exists() or serving.poll() is not None, "the SuperLink")
        sites = [running.enter_context(started(*joining(str(number), corpus))) for number, corpus in enumerate(corpora)]
        with started(*joining("stranger", corpora[0], patience_s=0)) as stranger:
            _, said = stranger.communicate(timeout=PATIENCE_S)
            assert stranger.returncode == 4, said
        wait_for(lambda: (tmp_path / "home1" / "features.cache").exists(), "the first round at site 1")
        environments = telemetry_of([serving, *sites])
        assert len(environments) >= 4
        assert all("FLWR_TELEMETRY_ENABLED=0" in told for told in environments.values())
        kill_whole(sites[1])
        running.enter_context(started(*joining("1", corpora[1])))
        told, said = serving.communicate(timeout=PATIENCE_S)
        log = (tmp_path / "run.flower" / "superlink.log").read_text(errors="replace")
        assert serving.returncode == 0, said + log[-6000:]
    facts = json.loads(told)
    assert facts["num_utterances"] == sum(len(path.read_text().splitlines()) - 1 for path in corpora)
    exported(tmp_path)


def kill_whole(process) -> None:
    """Kill a command and all that it started, as a power cut would."""
    for child in telemetry_of([process]):
        os.kill(child, signal.SIGKILL)
    process.kill()
    process.communicate()


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
