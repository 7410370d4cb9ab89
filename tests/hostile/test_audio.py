"""Rows A01 to A24 of the hostile corpus: recordings that are none, given to `ecan-target predict`.

One run hears all of them beside a good one; each must be refused for its own reason, and cost nobody else anything.
Where the row's expected word differs from ours, ours is the one that an operator can act on.
"""

import io
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.call_sounds import at_level, line_tones, music
from protocol.containment import launcher
from protocol.sandbox.landlock import landlock_abi
from tests.ecan_core.audio.sounds import syllables
from tests.ecan_core.audio.test_wav import REFUSED, SOUND, chunk, fmt, riff
from tests.hostile.test_containment import infect
from tests.support import cli
from tests.support.days import day_in
from tests.support.models import save_untrained

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")

RATE = 16_000
VOICE = syllables(seconds=1.2)
PATIENT = "Erika Mustermann"
TONES = {name: at_level(sound, -20) for name, sound in line_tones(np.random.default_rng(0)).items()}
COMMAND = Path(sys.executable).parent / "ecan-target"


def wav(samples, subtype="PCM_16", container="WAV", rate=RATE) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, rate, subtype=subtype, format=container)
    return content.getvalue()


def floats(*values: float) -> bytes:
    """A second of sound with these values in it."""
    samples = VOICE.copy()
    samples[1000 : 1000 + len(values)] = values
    return wav(samples, "FLOAT")


def with_format(codec: int, tail: bytes) -> bytes:
    """A WAV file of a codec that has been a decoder's undoing, with a description of impossible sizes."""
    return riff(chunk(b"fmt ", struct.pack("<HHIIHH", codec, 0xFFFF, 0xFFFFFFFF, 0, 0xFFFF, 4) + tail), SOUND)


BAD = {
    "A05-three-channels.wav": (wav(np.stack([VOICE, 0.1 * VOICE, 0 * VOICE], axis=1)), "NO_ROLE"),
    "A01-empty.wav": (b"", "EMPTY"),
    **{f"{name}.wav": refused for name, refused in REFUSED.items()},
    "A08-nan.wav": (floats(np.nan), "NON_FINITE"),
    "A08-infinity.wav": (floats(np.inf, -np.inf), "NON_FINITE"),
    "A08-huge.wav": (floats(1e38), "NON_FINITE"),
    "A10-cve-2021-3246.wav": (with_format(2, struct.pack("<HHH", 32, 4, 0xFFFF)), "MALFORMED"),
    "A10-cve-2022-33065.wav": (with_format(0x11, struct.pack("<HH", 2, 0xFFFF)), "MALFORMED"),
    "A10-cve-2026-37555.wav": (with_format(0x31, b"\xff" * 40), "MALFORMED"),
    "A13-rf64.wav": (wav(VOICE, container="RF64"), "CONTAINER"),
    "A13-w64.w64": (wav(VOICE, container="W64"), "CONTAINER"),
    "A13-aiff.aiff": (wav(VOICE, container="AIFF"), "CONTAINER"),
    "A13-caf.caf": (wav(VOICE, container="CAF"), "CONTAINER"),
    "A13-mat5.wav": (wav(VOICE, container="MAT5"), "CONTAINER"),
    "A13-sds.wav": (b"\xf0\x7e\x00\x01" + bytes(100), "CONTAINER"),
    "A13-xi.wav": (b"Extended Instrument: " + bytes(300), "CONTAINER"),
    "A13-au.au": (wav(VOICE, container="AU"), "CONTAINER"),
    "A14-elf.wav": (b"\x7fELF" + bytes(500), "CONTAINER"),
    "A14-html.wav": (b"<!doctype html><script>alert(1)</script>", "CONTAINER"),
    "A14-zip.wav": (b"PK\x03\x04" + bytes(50), "CONTAINER"),
    "A14-cut.flac": (wav(VOICE, container="FLAC")[:60], "UNREADABLE"),
    "A14-noise.mp3": (b"\xff\xfb" + bytes(range(256)) * 20, ""),
    "A15-opus-of-silence.ogg": (wav(np.zeros(48_000 * 20, np.float32), "OPUS", "OGG", 48_000), ""),
    "A26-ring-back.wav": (wav(TONES["ring-back, Europe"], rate=8_000), "LINE_TONE"),
    "A26-keys.wav": (wav(TONES["digits"], rate=8_000), "KEYS"),
    "A26-hum.wav": (wav(TONES["hum of 50 Hz"], rate=8_000), "HUM"),
    "A26-fax.wav": (wav(TONES["fax, called"], rate=8_000), "FAX"),
    "A26-beep.wav": (wav(TONES["beep"], rate=8_000), "TONE"),
    "A26-noise.wav": (wav(TONES["white noise"], rate=8_000), "NOISE"),
    "A26-hold-music.wav": (wav(at_level(music(12, np.random.default_rng(0)), -20), rate=8_000), "MUSIC"),
    "A17-silence.wav": (wav(np.zeros(RATE)), "SILENT"),
    "A17-constant.wav": (wav(np.full(RATE, 0.3)), "SILENT"),
    "A17-short.wav": (wav(VOICE[:800]), "TOO_SHORT"),
}
GOOD = {
    "good.wav": wav(VOICE),
    "A08-denormal.wav": floats(1e-42, -1e-42),
    "A09-mu-law.wav": wav(VOICE, "ULAW", rate=8_000),
    "A09-a-law.wav": wav(VOICE, "ALAW", rate=8_000),
    "A14-flac.wav": wav(VOICE, container="FLAC"),
    "A14-ogg.wav": wav(VOICE, "VORBIS", "OGG"),
    "A14-mp3.wav": wav(np.tile(VOICE, 2), "MPEG_LAYER_III", "MP3"),
    "A16-name-inside.wav": riff(
        chunk(b"LIST", b"INFOIART" + struct.pack("<I", len(PATIENT)) + PATIENT.encode()),
        fmt(rate=RATE),
        chunk(b"data", (VOICE * 32_767).astype("<i2").tobytes()),
        chunk(b"id3 ", PATIENT.encode()),
    ),
    "A18-clipped.wav": wav(np.clip(20 * VOICE, -1, 0.9999)),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model"))


def predict(model: Path, audio: Path, out: Path, *more: object) -> cli.Result:
    return cli.target("predict", "--model", model, "--audio", audio, "--out", out, "--cache", out / "cache", *more)


def reasons(out: Path) -> dict[str, str]:
    return {
        Path(one["file"]).name: one["reason"]
        for one in json.loads((day_in(out) / "summary.json").read_text())["refused"]
    }


@pytest.fixture(scope="module")
def heard(model, tmp_path_factory) -> tuple[cli.Result, Path]:
    """What one run makes of all of them."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, (data, _) in BAD.items():
        (folder / name).write_bytes(data)
    for name, data in GOOD.items():
        (folder / name).write_bytes(data)
    out = tmp_path_factory.mktemp("heard") / "out"
    return predict(model, folder, out), out


@pytest.mark.parametrize("name", BAD)
def test_row_of_a_recording(heard, name):
    result, out = heard
    assert result.code == 18, result.stderr
    expected = BAD[name][1]
    found = reasons(out).get(name)
    assert found == expected if expected else found != "LOST"


@pytest.mark.parametrize("name", GOOD)
def test_what_is_sound_is_heard(heard, name):
    assert name not in reasons(heard[1])


def test_what_was_recorded_too_loud_is_named(heard):
    """Row A18."""
    result, out = heard
    clipped = json.loads((day_in(out) / "summary.json").read_text())["clipped"]
    assert [Path(path).name for path in clipped] == ["A18-clipped.wav"]
    assert "recorded too loud (clipped), so that their scores are worth less: 1" in result.stderr


def test_nothing_is_said_but_one_line_each_and_no_traceback(heard):
    result, _ = heard
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


def test_row_a16_a_name_inside_a_recording_is_nowhere_in_the_outputs(heard):
    _, out = heard
    for path in out.rglob("*"):
        if path.is_file():
            assert PATIENT.encode() not in path.read_bytes()


def test_row_a15_ten_hours_in_a_few_kilobytes_cost_little(model, tmp_path):
    (tmp_path / "calls").mkdir()
    soundfile.write(tmp_path / "calls" / "a.flac", VOICE, RATE)
    with soundfile.SoundFile(tmp_path / "calls" / "silence.flac", "w", 8_000, 1) as sound:
        for _ in range(10 * 60):
            sound.write(np.zeros(60 * 8_000, np.float32))
    started = time.monotonic()
    result = predict(model, tmp_path / "calls", tmp_path / "out")
    assert result.code == 0, result.stderr
    assert reasons(tmp_path / "out") == {"silence.flac": "NO_SPEECH"}
    assert time.monotonic() - started < 120


def test_row_a17_three_hours_are_one_recording_and_two_minutes_no_utterance(model, tmp_path):
    listing = tmp_path / "list.csv"
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 8_000, 1, subtype="PCM_U8") as sound:
        for _ in range(3 * 60):
            sound.write(np.concatenate([VOICE, np.zeros(60 * 8_000 - len(VOICE))]))
    listing.write_text("file,start,end\nlong.wav,0,130\nlong.wav,0,1\n")
    result = predict(model, listing, tmp_path / "out")
    assert result.code == 0, result.stderr
    assert list(reasons(tmp_path / "out").values()) == ["TOO_LONG"]
    whole = predict(model, tmp_path / "long.wav", tmp_path / "whole")
    assert whole.code == 0, whole.stderr
    assert "predicted 180 utterances" in whole.stderr


NAMES = ["new\nline.wav", "quo'te\".wav", "right\u202eto-left.wav", "$(reboot).wav", "--help.wav", "x" * 251 + ".wav"]


def test_row_a19_any_name_is_a_name(model, tmp_path):
    (tmp_path / "ward").mkdir()
    for name in NAMES:
        (tmp_path / "ward" / name).write_bytes(wav(VOICE))
    (Path(os.fsdecode(bytes(tmp_path) + b"/ward/\xff\xfe.wav"))).write_bytes(wav(VOICE))
    result = predict(model, tmp_path / "ward", tmp_path / "out", "--format", "json")
    assert result.code == 0, result.stderr
    assert result.json()["utterances"] == len(NAMES) + 1
    assert "\u202e" not in result.stderr
    assert "ward" not in result.stderr


def test_row_a20_links_pipes_and_devices_are_no_recordings(model, tmp_path):
    outside = tmp_path / "outside.wav"
    outside.write_bytes(wav(VOICE))
    calls = tmp_path / "calls"
    calls.mkdir()
    (calls / "good.wav").write_bytes(wav(VOICE))
    (calls / "loop.wav").symlink_to("loop.wav")
    (calls / "out.wav").symlink_to(outside)
    (calls / "zero.wav").symlink_to("/dev/zero")
    (calls / "folder.wav").mkdir()
    os.mkfifo(calls / "pipe.wav")
    (calls / "gone.wav").symlink_to(tmp_path / "gone.wav")
    (calls / "more").symlink_to(calls)
    result = predict(model, calls, tmp_path / "out")
    assert result.code == 18, result.stderr
    assert result.refusal().startswith("4 of 6 recordings were lost")
    assert reasons(tmp_path / "out") == {
        **dict.fromkeys(("loop.wav", "zero.wav", "pipe.wav"), "NOT_REGULAR"),
        "gone.wav": "NOT_FOUND",
    }


def test_row_a25_recordings_that_are_kept_elsewhere_are_heard_through_their_links(model, tmp_path):
    """As git-annex, DataLad, DVC and caches keep them: linked files and folders, a list of links, a link to a link."""
    store, calls = tmp_path / "store" / "deep", tmp_path / "calls"
    store.mkdir(parents=True)
    calls.mkdir()
    for number in range(3):
        (store / f"{number}.wav").write_bytes(wav(syllables(seconds=1.0, seed=number)))
    (calls / "one.wav").symlink_to("../store/deep/0.wav")
    (calls / "two.wav").symlink_to("one.wav")
    (calls / "more").symlink_to("../store")
    (tmp_path / "list.csv").write_text("file\ncalls/one.wav\ncalls/more/deep/1.wav\n")
    for audio, count in ((calls, 5), (tmp_path / "list.csv", 2), (calls / "one.wav", 1), (calls / "*.wav", 2)):
        out = tmp_path / f"out-{count}-{audio.name}"
        result = predict(model, audio, out, "--format", "json")
        assert result.code == 0, result.stderr
        assert (result.json()["utterances"], reasons(out)) == (count, {})


def test_row_a21_a_recording_that_is_changed_meanwhile_is_refused(model, tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    calls.mkdir()
    (calls / "good.wav").write_bytes(wav(VOICE))
    (calls / "growing.wav").write_bytes(wav(VOICE))
    infect(
        monkeypatch,
        """
        from ecan_core.data import features
        from ecan_core.audio import decode
        hashed = decode.hashed
        def hash_slowly(path):
            found = hashed(path)
            if path.name == "growing.wav":
                print("attack: hashed", file=sys.stderr, flush=True)
                import time; time.sleep(2)
            return found
        features.hashed = hash_slowly
        """,
    )
    growing = calls / "growing.wav"
    monkeypatch.setattr(launcher, "print", lambda text, **_: _grow_when_hashed(text, growing), raising=False)
    result = predict(model, calls, tmp_path / "out")
    assert result.code == 18, result.stderr
    assert reasons(tmp_path / "out") == {"growing.wav": "CHANGED"}


def _grow_when_hashed(text: str, path: Path) -> None:
    if text.startswith("attack: hashed"):
        with path.open("ab") as file:
            file.write(bytes(1000))


def test_row_a22_the_same_recording_a_thousand_times_is_one(model, tmp_path):
    calls = tmp_path / "calls"
    calls.mkdir()
    for number in range(200):
        (calls / f"{number}.wav").write_bytes(wav(VOICE))
    (calls / "other.wav").write_bytes(wav(syllables(seconds=1.0, seed=5)))
    result = predict(model, calls, tmp_path / "out")
    assert result.code == 0, result.stderr
    assert "199 utterances are copies of others" in result.stderr


def test_row_a23_nothing_usable_writes_nothing(model, tmp_path):
    calls = tmp_path / "calls"
    calls.mkdir()
    for name in ("A17-silence.wav", "A14-elf.wav"):
        (calls / name).write_bytes(BAD[name][0])
    result = predict(model, calls, tmp_path / "out")
    assert result.code == 13
    assert "None of the 2 utterances can be used (1 CONTAINER, 1 SILENT)" in result.refusal()
    assert (day_in(tmp_path / "out") / "segments.jsonl").read_bytes() == b""


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "os._exit(3)", "bytearray(1 << 44)"])
def test_row_a24_a_worker_that_is_killed_costs_its_recording_alone(model, tmp_path, monkeypatch, death):
    calls = tmp_path / "calls"
    calls.mkdir()
    for number in range(4):
        (calls / f"{number}.wav").write_bytes(wav(syllables(seconds=1.0, seed=number)))
    infect(
        monkeypatch,
        f"""
        from ecan_core.data import features
        compute = features._compute
        def deadly(group, *more):
            if group[0].path.name == "2.wav":
                {death}
            return compute(group, *more)
        features._compute = deadly
        """,
    )
    result = predict(model, calls, tmp_path / "out")
    assert result.code == 18, result.stderr
    assert reasons(tmp_path / "out") == {"2.wav": "LOST"}


def test_no_recording_is_a_refusal_that_names_the_remedy(model, tmp_path):
    (tmp_path / "calls").mkdir()
    done = subprocess.run(
        [COMMAND, "predict", "--model", model, "--audio", tmp_path / "calls", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 17
    assert "put .wav or .flac files there" in done.stderr
