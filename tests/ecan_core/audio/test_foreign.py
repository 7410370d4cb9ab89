"""Compressed recordings, decoded in a process that is thrown away."""

import os

import numpy as np
import pytest
import soundfile

from ecan_core.audio import foreign
from ecan_core.audio.decode import Recording, decode
from ecan_core.errors import UnusableAudioError
from tests.ecan_core.audio.sounds import syllables

RATE = 16_000
KINDS = [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
CALL = np.stack([np.tile(syllables(seconds=4.0), 10), 0.3 * np.tile(syllables(seconds=2.0, seed=1), 20)], axis=1)


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


def test_a_decoder_that_takes_too_long_costs_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "MAX_SECONDS", 1)
    monkeypatch.setattr(foreign._Decoder, "_facts", lambda self: [None for _ in iter(int, 1)])
    with pytest.raises(UnusableAudioError) as caught:
        decode(written(tmp_path, "FLAC", "PCM_16"))
    assert caught.value.reason == "UNREADABLE"
