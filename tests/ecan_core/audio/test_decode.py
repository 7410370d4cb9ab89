import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ecan_core.audio import decode as decode_module
from ecan_core.audio.decode import REASONS, decode, hashed, resample
from ecan_core.audio.waveform import Waveform
from ecan_core.errors import UnusableAudioError
from tests.ecan_core.audio.sounds import noise, tone


def write(path, samples, rate=16_000, subtype="FLOAT"):
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def refusal(path, **segment) -> UnusableAudioError:
    with pytest.raises(UnusableAudioError) as caught:
        decode(path, **segment)
    assert caught.value.reason in REASONS
    assert caught.value.exit_code == 13
    return caught.value


def test_a_mono_file_is_decoded_at_its_own_rate(tmp_path):
    sound = decode(write(tmp_path / "a.wav", tone(200), rate=22_050))
    assert sound.sample_rate == 22_050
    assert sound.samples.dtype == np.float32
    np.testing.assert_array_equal(sound.samples, tone(200))


def test_the_louder_channel_is_taken_and_never_an_average(tmp_path):
    near, far = tone(200), 0.5 * tone(310)
    for channels in ([near, far], [far, near]):
        sound = decode(write(tmp_path / "stereo.wav", np.stack(channels, axis=1)))
        np.testing.assert_array_equal(sound.samples, near)


def test_a_constant_offset_does_not_make_a_channel_loud(tmp_path):
    offset = np.full_like(tone(200), 0.9)
    sound = decode(write(tmp_path / "stereo.wav", np.stack([offset, tone(200)], axis=1)))
    np.testing.assert_array_equal(sound.samples, tone(200))


def test_the_louder_channel_is_judged_within_the_segment(tmp_path):
    early = np.concatenate([tone(200), 0.01 * tone(200)])
    late = np.concatenate([0.01 * tone(310), 0.8 * tone(310)])
    path = write(tmp_path / "call.wav", np.stack([early, late], axis=1))
    np.testing.assert_array_equal(decode(path, start_s=1.0).samples, late[16_000:])


def test_a_named_channel_is_taken_even_if_it_is_softer(tmp_path):
    path = write(tmp_path / "call.wav", np.stack([tone(200), 0.1 * tone(310)], axis=1))
    np.testing.assert_array_equal(decode(path, channel=1).samples, (0.1 * tone(310)).astype(np.float32))


def test_what_is_decoded_does_not_depend_on_how_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "many.wav", np.stack([level * noise(1.0) + 0.2 for level in (0.1, 0.3, 0.2)], axis=1))
    at_once = decode(path).samples
    monkeypatch.setattr(decode_module, "BLOCK_SAMPLES", 1000)
    np.testing.assert_array_equal(decode(path).samples, at_once)
    np.testing.assert_array_equal(decode(path, channel=1).samples, at_once)


def test_not_all_channels_are_in_memory_at_once(tmp_path, monkeypatch):
    path = tmp_path / "wide.wav"
    with soundfile.SoundFile(path, "w", 96_000, 16, subtype="FLOAT") as file:
        for second in range(5):
            file.write(0.1 * np.random.default_rng(second).normal(size=(96_000, 16)).astype(np.float32))
    monkeypatch.setattr(decode_module, "BLOCK_SAMPLES", 1 << 18)
    tracemalloc.start()
    decode(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < path.stat().st_size / 2


def test_a_channel_that_does_not_exist_is_refused(tmp_path):
    path = write(tmp_path / "a.wav", tone(200))
    assert refusal(path, channel=1).reason == "NO_SUCH_CHANNEL"
    assert refusal(path, channel=-1).reason == "NO_SUCH_CHANNEL"


def test_a_segment_is_cut_to_the_sample(tmp_path):
    path = write(tmp_path / "a.wav", noise(2.0))
    np.testing.assert_array_equal(decode(path, start_s=0.5, end_s=1.25).samples, noise(2.0)[8_000:20_000])


def test_a_segment_may_end_after_the_file(tmp_path):
    path = write(tmp_path / "a.wav", noise(1.0))
    assert decode(path, start_s=0.5, end_s=9.0).duration_s == 0.5
    assert decode(path, start_s=0.5, end_s=1e308).duration_s == 0.5


@pytest.mark.parametrize("segment", [(2.0, 3.0), (0.8, 0.2), (-1.0, 0.5), (1e308, 1.1e308)])
def test_a_segment_outside_the_file_is_refused(tmp_path, segment):
    path = write(tmp_path / "a.wav", noise(1.0))
    assert refusal(path, start_s=segment[0], end_s=segment[1]).reason == "NO_SUCH_SEGMENT"


def test_a_missing_file_a_folder_and_a_device_are_refused(tmp_path):
    assert refusal(tmp_path / "absent.wav").reason == "NOT_FOUND"
    assert refusal(tmp_path).reason == "NOT_REGULAR"
    os.mkfifo(tmp_path / "pipe.wav")
    assert refusal(tmp_path / "pipe.wav").reason == "NOT_REGULAR"
    assert refusal(Path("/dev/zero")).reason == "NOT_REGULAR"


def test_a_name_that_no_file_can_have_is_refused_like_any_unreadable_file(tmp_path):
    assert refusal(tmp_path / ("x" * 5_000)).reason == "UNREADABLE"
    assert refusal(Path("a\0b.wav")).reason == "UNREADABLE"


def test_a_link_that_leads_nowhere_is_refused_and_one_that_leads_somewhere_is_followed(tmp_path):
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    assert refusal(tmp_path / "loop.wav").reason == "NOT_REGULAR"
    write(tmp_path / "a.wav", tone(200))
    (tmp_path / "link.wav").symlink_to("a.wav")
    assert decode(tmp_path / "link.wav").duration_s == 1.0


def test_a_huge_compressed_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.flac").open("wb") as stream:
        stream.write(b"fLaC")
        stream.truncate(2**30 + 1)
    assert refusal(tmp_path / "a.flac").reason == "TOO_LONG"


def test_a_file_of_zero_length_is_refused(tmp_path):
    (tmp_path / "a.wav").touch()
    assert refusal(tmp_path / "a.wav").reason == "EMPTY"


def test_a_file_without_samples_is_refused(tmp_path):
    assert refusal(write(tmp_path / "a.wav", np.zeros(0, dtype=np.float32))).reason == "EMPTY"


def test_a_file_that_is_not_audio_is_refused(tmp_path):
    (tmp_path / "a.wav").write_text("This is a letter, not a sound.")
    assert refusal(tmp_path / "a.wav").reason == "CONTAINER"


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16")])
def test_a_truncated_file_is_refused(tmp_path, suffix, subtype):
    path = write(tmp_path / f"a.{suffix}", noise(1.0), subtype=subtype)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refusal(path).reason in ("TRUNCATED", "UNREADABLE")


def test_a_streamed_wav_of_unknown_length_is_whole(tmp_path):
    path = write(tmp_path / "a.wav", noise(1.0), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert decode(path).duration_s == 1.0
    content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert decode(path).duration_s == 1.0


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_digital_silence_is_refused_with_and_without_offset(tmp_path, level):
    assert refusal(write(tmp_path / "a.wav", np.full(16_000, level, np.float32))).reason == "SILENT"


def test_speech_at_minus_sixty_decibels_is_accepted(tmp_path):
    assert decode(write(tmp_path / "a.wav", 1e-3 * noise(1.0))).duration_s == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf, 5e37, -2e6])
def test_values_that_are_not_numbers_are_refused(tmp_path, value):
    samples = noise(1.0)
    samples[77] = value
    assert refusal(write(tmp_path / "a.wav", samples)).reason == "NON_FINITE"


def test_values_that_no_single_float_holds_are_refused_without_a_warning(tmp_path):
    samples = noise(1.0).astype(np.float64)
    samples[77] = 1e300
    assert refusal(write(tmp_path / "a.wav", samples, subtype="DOUBLE")).reason == "NON_FINITE"


def test_too_short_and_too_long_are_refused(tmp_path):
    assert refusal(write(tmp_path / "a.wav", noise(0.09))).reason == "TOO_SHORT"
    long = write(tmp_path / "b.wav", np.tile(noise(1.0), 121), subtype="PCM_16")
    assert refusal(long).reason == "TOO_LONG"
    assert decode(long, start_s=100.0, end_s=103.0).duration_s == 3.0


def test_a_rate_below_the_telephone_is_refused(tmp_path):
    assert refusal(write(tmp_path / "a.wav", noise(1.0), rate=4_000)).reason == "LOW_RATE"


def test_messages_are_one_sentence_that_names_the_file(tmp_path):
    message = str(refusal(tmp_path / "absent.wav"))
    assert "absent.wav" in message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_pitch_level_and_length(rate):
    t = np.arange(rate) / rate
    sound = Waveform(samples=(0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32), sample_rate=rate)
    converted = resample(sound, 16_000)
    assert converted.sample_rate == 16_000
    assert converted.samples.dtype == np.float32
    assert abs(len(converted.samples) - 16_000) <= 1
    inner = slice(800, 15_200)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(converted.samples[inner], expected[inner], atol=2e-3)


def test_resampling_to_the_same_rate_changes_nothing():
    sound = Waveform(samples=tone(200), sample_rate=16_000)
    assert resample(sound, 16_000) is sound


def test_every_known_container_is_decoded(tmp_path):
    for suffix in ("wav", "flac", "ogg", "mp3"):
        content = io.BytesIO()
        soundfile.write(content, np.tile(tone(300), 2), 16_000, format=suffix.upper())
        (tmp_path / f"a.{suffix}").write_bytes(content.getvalue())
        assert abs(decode(tmp_path / f"a.{suffix}").duration_s - 2.0) < 0.15


def test_a_file_that_was_written_again_is_another_one_even_if_its_time_was_set_back(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(100))
    before, times = hashed(path), path.stat()
    path.write_bytes(b"\1" * 100)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = hashed(path)
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert before[0] != after[0]
    assert before[1] != after[1]
