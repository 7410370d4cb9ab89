"""Compressed recordings, decoded in a process that is thrown away."""

import errno
import os
import signal

import numpy as np
import pytest
import soundfile

from ecan_core.audio import foreign
from ecan_core.audio.decode import Recording, decode
from ecan_core.errors import UnusableAudioError
from ecan_core.runtime.cage import bring
from ecan_core.runtime.workers import shared_out, taken
from protocol.sandbox.confine import confine_to_computing
from protocol.sandbox.landlock import landlock_abi
from tests.ecan_core.audio.sounds import syllables

RATE = 16_000
KINDS = [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
CALL = np.stack([np.tile(syllables(seconds=4.0), 10), 0.3 * np.tile(syllables(seconds=2.0, seed=1), 20)], axis=1)


@pytest.fixture(params=["forked here", "by a maker"])
def start(request):
    """What starts a maker, or nobody, once a test has changed what decoders do."""
    yield lambda: request.param == "by a maker" and foreign.start_makers(1, lambda: None)
    while (maker := taken()) is not None:
        maker.close()


def written(tmp_path, kind, subtype):
    path = tmp_path / "call.bin"
    soundfile.write(path, CALL, RATE, format=kind, subtype=subtype)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_decoded_does_not_depend_on_where_decoding_began(tmp_path, kind):
    path = written(tmp_path, *kind)
    whole = soundfile.read(path, dtype="float32")[0]
    with Recording(path) as recording:
        assert (recording.num_frames, recording.num_channels) == whole.shape
        for start in [0, 1000, 400_000, 401_000, *np.random.default_rng(0).integers(0, 600_000, 20)]:
            np.testing.assert_allclose(recording.frames(start, start + 1000), whole[start : start + 1000], atol=2e-6)


def test_a_recording_is_decoded_by_one_process_that_ends_with_it(tmp_path, monkeypatch):
    made, fork = [], os.fork
    monkeypatch.setattr(os, "fork", lambda: made.append(fork()) or made[-1])
    with Recording(written(tmp_path, "FLAC", "PCM_16")) as recording:
        for start in range(0, 100_000, 10_000):
            recording.frames(start, start + 10_000)
    assert len(made) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(made[0], 0)


def test_what_a_decoder_prints_is_not_heard(tmp_path, capfd):
    data = bytearray(written(tmp_path, "MP3", "MPEG_LAYER_III").read_bytes())
    data[3000:3400] = bytes(range(200)) * 2  # libmpg123 tells of this on stderr
    (tmp_path / "damaged.mp3").write_bytes(data)
    soundfile.read(tmp_path / "damaged.mp3")
    assert capfd.readouterr().err
    assert decode(tmp_path / "damaged.mp3").duration_s > 39
    assert capfd.readouterr().err == ""


def test_a_decoder_that_takes_too_long_costs_its_file(tmp_path, monkeypatch, start):
    monkeypatch.setattr(foreign, "MAX_SECONDS", 1)
    monkeypatch.setattr(foreign._Decoder, "_facts", lambda self: [None for _ in iter(int, 1)])
    start()
    with pytest.raises(UnusableAudioError) as caught:
        decode(written(tmp_path, "FLAC", "PCM_16"))
    assert caught.value.reason == "UNREADABLE"


ATTACKS = {
    "a file": "os.close(os.open('/etc/passwd', os.O_RDONLY))",
    "a folder": "os.listdir('/')",
    "its own command": "open('/proc/self/cmdline').close()",
    "a new file": "open('/tmp/ecan-decoder', 'w').close()",
    "a file by its recording": "os.close(os.open('/proc/self/fd/3', os.O_RDWR))",
    "where a file is": "os.stat('/etc/passwd')",
    "a socket": "__import__('_socket').socket(1, 1, 0).close()",
    "a pipe": "os.pipe()",
    "another process": "os.fork()",
    "a program": "os.execv('/bin/true', ['true'])",
    "a signal": "os.kill(os.getppid(), 0)",
    "a priority": "os.nice(1)",
    "a processor": "os.sched_setaffinity(0, {0})",
    "a limit of its parent": "resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
    "code of its own": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
}


@pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_decoder_that_was_taken_over_reaches_nothing(tmp_path, monkeypatch, start, attack):
    path = written(tmp_path, "FLAC", "PCM_16")
    answer = (
        "import errno, mmap, os, resource\ntry:\n    {}\n    said = 7\nexcept OSError as error:\n    said = error.errno"
    )

    def facts(_):
        names = {}
        exec(answer.format(attack), names)
        return foreign._FACTS.pack(1, RATE, names["said"])

    def told():
        with Recording(path) as recording:
            return recording.num_frames

    import mmap  # noqa: F401 - a decoder can import nothing
    import resource  # noqa: F401

    monkeypatch.setattr(foreign._Decoder, "_facts", facts)
    bring(confine_to_computing)
    start()
    try:
        assert told() in (errno.EPERM, errno.EACCES)
    finally:
        bring(lambda _: None)


@pytest.mark.parametrize("answer", [b"", b"x", bytes(23), bytes(25), bytes(1 << 20)])
def test_a_decoder_that_answers_wrongly_costs_its_file(tmp_path, monkeypatch, start, answer):
    monkeypatch.setattr(foreign._Decoder, "_facts", lambda _: answer)
    start()
    with pytest.raises(UnusableAudioError) as caught:
        decode(written(tmp_path, "FLAC", "PCM_16"))
    assert caught.value.reason == "UNREADABLE"


# --- makers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_maker_changes_nothing_of_what_is_heard(tmp_path, start, kind):
    start()
    path = written(tmp_path, *kind)
    whole = soundfile.read(path, dtype="float32")[0]
    with Recording(path) as recording:
        np.testing.assert_allclose(recording.frames(401_000, 402_000), whole[401_000:402_000], atol=2e-6)


def test_every_file_gets_a_process_of_its_own_that_ends_with_it(tmp_path, monkeypatch, start):
    path = written(tmp_path, "FLAC", "PCM_16")
    monkeypatch.setattr(foreign._Decoder, "_facts", lambda _: foreign._FACTS.pack(1, RATE, os.getpid()))
    start()
    found = []
    for _ in range(3):
        with Recording(path) as recording:
            found.append(recording.num_frames)
            os.kill(found[-1], 0)
        with pytest.raises(ProcessLookupError):
            os.kill(found[-1], 0)
    assert len(set(found)) == 3


def test_a_decoder_that_dies_costs_its_file_alone(tmp_path, monkeypatch, start):
    path = written(tmp_path, "FLAC", "PCM_16")
    whole = path.read_bytes()
    facts = foreign._Decoder._facts
    monkeypatch.setattr(foreign._Decoder, "_facts", lambda self: facts(self) if self._data == whole else os._exit(3))
    start()
    (tmp_path / "deadly.flac").write_bytes(whole + b"!")
    for _ in range(2):
        with pytest.raises(UnusableAudioError, match="is not audio"):
            decode(tmp_path / "deadly.flac")
        assert decode(path).duration_s == len(CALL) / RATE


def test_two_recordings_are_open_at_the_same_time(tmp_path, start):
    start()
    path = written(tmp_path, "FLAC", "PCM_16")
    with Recording(path) as first, Recording(path) as second:
        np.testing.assert_array_equal(first.frames(100, 200), second.frames(100, 200))


def test_without_its_maker_a_recording_is_decoded_all_the_same(tmp_path):
    foreign.start_makers(1, lambda: None)
    maker = taken()
    os.kill(maker._process, signal.SIGKILL)
    foreign.put_aside(maker)
    assert decode(written(tmp_path, "FLAC", "PCM_16")).duration_s == len(CALL) / RATE
    assert taken() is None


def test_a_maker_whose_walls_cannot_be_built_makes_nothing(capfd):
    def enclose():
        raise OSError("no walls")

    assert foreign.start_makers(1, enclose) == []
    assert taken() is None
    assert "no walls" in capfd.readouterr().err


def test_workers_have_decoders_made_by_different_makers(tmp_path, monkeypatch):
    path = written(tmp_path, "FLAC", "PCM_16")
    monkeypatch.setattr(foreign._Decoder, "_facts", lambda _: foreign._FACTS.pack(1, RATE, os.getppid()))

    def made_by(_: bytes) -> bytes:
        with Recording(path) as recording:
            return f"{os.getpid()} {recording.num_frames}".encode()

    foreign.start_makers(2, lambda: None)
    makers = [taken(), taken()]
    for maker in makers:
        foreign.put_aside(maker)
    said = {tuple(map(int, one.split())) for one in shared_out([b""] * 40, made_by, 2)}
    assert {maker for _, maker in said} <= {maker._process for maker in makers}
    assert len(said) == len({worker for worker, _ in said}) == len({maker for _, maker in said})
    for maker in {taken(), taken()}:
        maker.close()
