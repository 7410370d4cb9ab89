"""What really crosses, heard on a tapped wire with real TLS: the sealed bundle, signed statements, nothing else."""

import csv
import getpass
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.crossing import PATIENCE_S, Command, make_keys, source, target
from protocol.bundle import frame
from protocol.bundle.sealing import outline
from protocol.wire.address import Address
from protocol.wire.ecan.v1.release_pb2 import Chunk
from tests.support import markers
from tests.support.loopback import needs_loopback
from tests.support.speech import synthesize
from tests.support.tap import Heard, Tap, grpc_messages, take_apart

pytestmark = [pytest.mark.journey, needs_loopback]

WORDS = ("zq7folder", "zq7recording", "zq7speaker", "zq7transcript", "zq7user", "zq7machine")
SOMEBODY = {"USER": "zq7user", "LOGNAME": "zq7user", "HOSTNAME": "zq7machine"}
WINDOW = 16
SENT_BY_SOURCE = {":status", "content-type", "grpc-status", "grpc-message", "grpc-accept-encoding"}
SENT_BY_TARGET = {
    *(":method", ":scheme", ":path", ":authority", "te", "content-type", "user-agent"),
    *("grpc-timeout", "grpc-accept-encoding"),
}


@dataclass(frozen=True)
class Tapped:
    """One crossing and all that was heard of it."""

    work: Path
    planted: dict[str, bytes]
    to_source: list[Heard]
    to_target: list[Heard]
    clear: dict[str, bytes]


@pytest.fixture(scope="module")
def tapped(tmp_path_factory) -> Iterator[Tapped]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SOMEBODY.items():
            patch.setenv(name, value)
        yield listen_in(tmp_path_factory.mktemp("tap") / "zq7folder")


def listen_in(work: Path) -> Tapped:
    """One crossing of a marked corpus's model through a tap."""
    work.mkdir()
    labels = mark(synthesize(work / "corpus", "harbor"))
    planted = {word: word.encode() for word in WORDS} | sounds(labels) | names_of_this_machine()
    (work / "short.yaml").write_text("epochs: 4\n")
    keys = make_keys(work)
    trained = on_a_named_machine(
        "train", "--corpus", f"csv={labels}", "--config", work / "short.yaml", "--out", work / "run"
    )
    target(work, "request", "--keys", keys.target, "--out", work / "site.request")
    exporting = Command(
        work,
        "ecan-source",
        *("export", "--model", work / "run", "--keys", keys.source, "--request", work / "site.request"),
        *("--listen", "127.0.0.1:0"),
    )
    tap = Tap(Address("127.0.0.1", exporting.port()), keys.source, keys.target)
    sealed = next((keys.source / "outbox").glob("*.sealed")).read_bytes()
    with tap.listening() as address:
        target(
            work,
            *("receive", "--keys", keys.target, "--from", address, "--trust", keys.fingerprint),
            *("--out", work / "model.ecan"),
        )
        exported = exporting.wait()
    listed = source(work, "ledger", "list", "--keys", keys.source)
    return Tapped(
        work,
        planted,
        [take_apart(bytes(one.to_source)) for one in tap.conversations],
        [take_apart(bytes(one.to_target)) for one in tap.conversations],
        {
            "the wire to the target": tap.to_target,
            "the wire to the source": tap.to_source,
            "the sealed file": sealed,
            "the bundle": (work / "model.ecan").read_bytes(),
            "the receipt": (work / "model.ecan.receipt").read_bytes(),
            "the log of the export": (exported.stdout + exported.stderr).encode(),
            "the ledger as it is shown": listed.stdout.encode(),
            "the log of the training": without_paths(trained, work),
        },
    )


def test_no_planted_word_or_sound_is_anywhere_in_what_left(tapped):
    headers = {
        f"headers {index}": repr(heard.headers).encode()
        for index, heard in enumerate([*tapped.to_source, *tapped.to_target])
    }
    assert markers.found(tapped.planted, tapped.clear | headers) == []


def test_the_search_would_find_them(tapped):
    corpus = b"".join(path.read_bytes() for path in sorted((tapped.work / "corpus").rglob("*")) if path.is_file())
    for word, marker in tapped.planted.items():
        if word.startswith("sound"):
            assert markers.found({word: marker}, {"the corpus": corpus})
    assert markers.found({"word": b"zq7transcript"}, {"the corpus": corpus})


def test_the_tap_heard_the_whole_sealed_bundle_and_nothing_else_of_its_size(tapped):
    messages = said(tapped.to_target)
    large = [Chunk.FromString(message) for message in messages if len(message) > 4096]
    chunks = sorted(large, key=lambda chunk: chunk.offset)
    assert b"".join(chunk.data for chunk in chunks) == tapped.clear["the sealed file"]
    assert sum(len(message) for message in messages if len(message) <= 4096) < 16 * 1024


def test_the_target_sends_little(tapped):
    assert 0 < sum(map(len, said(tapped.to_source))) < 16 * 1024


def test_no_header_is_our_own(tapped):
    sent = {name for heard in tapped.to_target for block in heard.headers for name, _ in block}
    asked = {name for heard in tapped.to_source for block in heard.headers for name, _ in block}
    assert sent <= SENT_BY_SOURCE
    assert asked <= SENT_BY_TARGET


def test_the_bundle_is_sealed_on_the_wire_and_plain_at_the_target(tapped):
    weights = frame.split(tapped.clear["the bundle"]).weights
    window = bytes(weights[len(weights) // 2 :][:64])
    assert window not in tapped.clear["the wire to the target"]
    assert outline(tapped.clear["the sealed file"]).plain_bytes == len(tapped.clear["the bundle"])


def said(side: list[Heard]) -> list[bytes]:
    """All messages of one side."""
    return [message for heard in side for data in heard.messages.values() for message in grpc_messages(data)]


def mark(labels: Path) -> Path:
    """Give the corpus telling names: of files, of speakers, and a column of transcripts."""
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        old = labels.parent / row["file"]
        new = old.with_name(f"zq7recording-{number}{old.suffix}")
        old.rename(new)
        row["file"] = str(new.relative_to(labels.parent))
        row["speaker"] = f"zq7speaker-{row['speaker']}"
        row["transcript"] = "zq7transcript"
    with labels.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return labels


def sounds(labels: Path) -> dict[str, bytes]:
    """Short windows of the corpus's own samples, from the loudest place of every fifth recording."""
    windows = {}
    for number, path in enumerate(sorted(labels.parent.rglob("zq7recording-*"))[::5]):
        samples, _ = soundfile.read(path, dtype="int16")
        loudest = int(np.abs(samples[: -WINDOW - 1].astype(np.int32)).argmax())
        windows[f"sound {number}"] = samples[loudest : loudest + WINDOW].astype("<i2").tobytes()
    return windows


def names_of_this_machine() -> dict[str, bytes]:
    """The machine's and the user's own names, where they are long enough to mean something."""
    names = {"host name": socket.gethostname(), "user name": getpass.getuser(), "home": str(Path.home())}
    return {what: name.encode() for what, name in names.items() if len(name) > 5}


def on_a_named_machine(*arguments: object) -> str:
    """Run a source command on a machine with a telling name, where the system allows that."""
    script = Path(sysconfig.get_path("scripts")) / "ecan-source"
    command = [sys.executable, str(script), *map(str, arguments)]
    renamed = [*("unshare", "--uts", "sh", "-c", 'hostname zq7machine && exec "$@"', "sh"), *command]
    can_rename = shutil.which("unshare") and not subprocess.run([*renamed[:4], "true"], capture_output=True).returncode
    ended = subprocess.run(
        renamed if can_rename else command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return ended.stdout + ended.stderr


def without_paths(said: str, work: Path) -> bytes:
    """What a command said, less the paths that its operator had typed."""
    return said.replace(str(work), "").encode()
