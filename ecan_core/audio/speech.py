"""Find the speech in a long recording and cut it at the pauses.

A frame counts as speech if it is well above the noise of its channel and not too far below its speech. Both levels are
estimated from the whole channel. No model is used and nothing is random: equal sound gives equal cuts.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ecan_core.audio.decode import BLOCK_SAMPLES, Recording

FRAME_S = 0.01
NOISE_PERCENTILE = 15  # of the levels of a channel
SPEECH_SHARE, SPEECH_S = 0.05, 30.0  # speech is as loud as this share of the frames, so many seconds of them at most
MIN_RANGE_DB = 9.0  # between noise and speech; with less, there is no telling them apart
MAX_RANGE_DB = 60.0  # digital silence is no lower noise than this below speech
MIN_ABOVE_NOISE_DB, SHARE_OF_RANGE = 6.0, 0.4  # the threshold lies so far above the noise, whichever is more
SILENCE_DB = -70.0  # of full scale: nothing below it is speech
BRIDGED_S = 0.3  # shorter pauses belong to the speech around them
MIN_BURST_S = 0.15  # what is shorter is a click
PADDING_S = 0.1  # kept before and after
PAUSE_S = 0.5  # longer pauses end an utterance
MIN_UTTERANCE_S, MAX_UTTERANCE_S = 0.8, 15.0
SAME_VOICE = 0.8  # correlation of the amplitudes of two channels from which they carry the same voice
ECHO_S = 0.5  # an echo comes within so much time
BLEED_DB = 6.0  # so much louder on another channel: the voice is another person's; with less, nobody can tell whose
_FLOOR_DB = -120.0

Levels = npt.NDArray[np.floating[Any]]


class Stretch(NamedTuple):
    """Hold a stretch of a recording, in seconds."""

    start_s: float
    end_s: float


def levels_of(recording: Recording, start_s: float | None = None, end_s: float | None = None) -> Levels:
    """Measure the level of every channel, [F, channels].

    Frames last 10 ms, levels are in dB of full scale.

    The recording is read piece by piece: memory does not depend on its length, but for four bytes per frame.

    Args:
        recording: The recording, of any length.
        start_s: Start of the first frame in seconds; None is the beginning.
        end_s: End of what is read in seconds; None is the end.
    """
    frame = round(FRAME_S * recording.sample_rate)
    num_frames = recording.num_frames // frame
    start = 0 if start_s is None else min(_frames(start_s), num_frames)
    end = num_frames if end_s is None else min(_frames(end_s), num_frames)
    silence = np.empty((0, recording.num_channels), np.float32)
    return np.concatenate([silence, *_levels(recording, frame, start, end)])


def _levels(recording: Recording, frame: int, start: int, end: int) -> Iterator[Levels]:
    """Yield the levels of some frames block by block.

    ``frame`` is the number of samples in a frame; frames go from ``start`` to before ``end``.
    """
    per_block = max(BLOCK_SAMPLES // (frame * recording.num_channels), 1)
    for first in range(start, end, per_block):
        last = min(first + per_block, end)
        samples = recording.frames(first * frame, last * frame).reshape(last - first, frame, recording.num_channels)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused later on
            # Variance, not energy: a constant offset is not sound.
            power = np.nan_to_num(samples.var(axis=1), nan=0.0, posinf=0.0)
        yield (10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10)))).astype(np.float32)


class Heard(NamedTuple):
    """Describe how a voice is heard on another channel.

    Attributes:
        louder_db: How much louder than on its own, in dB.
        late_s: How much later, in seconds; below zero it comes earlier there.
    """

    louder_db: float
    late_s: float


def utterances_in(levels: Levels, without: Sequence[Stretch] = ()) -> list[Stretch]:
    """Find the utterances of one channel.

    Args:
        levels: Its level in frames of 10 ms, in dB of full scale, [F].
        without: Where what is heard is not this channel's own voice.

    Returns:
        Stretches of `MIN_UTTERANCE_S` to `MAX_UTTERANCE_S`, in order; none where there is only noise.
    """
    if not len(levels):
        return []
    smooth = np.convolve(levels, np.ones(5) / 5, mode="same")
    is_speech = smooth >= _threshold(levels)
    for stretch in without:
        is_speech[_frames(stretch.start_s) : _frames(stretch.end_s)] = False
    stretches = _spoken(is_speech)
    return [
        Stretch(start * FRAME_S, end * FRAME_S)
        for first, last in _joined(stretches, _frames(PAUSE_S))
        for start, end in _cut(first, last, smooth)
        if end - start >= _frames(MIN_UTTERANCE_S)
    ]


def heard_elsewhere(stretch: Stretch, channel: int, levels: Levels) -> dict[int, Heard]:
    """Find the other channels on which the voice of a stretch is heard.

    It is heard there if both channels grow louder and softer together, at once or one of them up to `ECHO_S` later: the
    echo of a line or of a loudspeaker takes its time. Loudness alone is not enough: that may be a noisy line.

    Args:
        stretch: A stretch of speech on that channel.
        channel: Counted from 0.
        levels: Of all channels, [F, channels].

    Returns:
        How it is heard there, by channel.
    """
    start, end = _frames(stretch.start_s), min(_frames(stretch.end_s), len(levels))
    if end - start < 2:
        return {}
    amplitudes = _around(levels, start, end)
    most = _frames(ECHO_S)
    own = amplitudes[most:-most, channel]
    found = {}
    for other in range(levels.shape[1]):
        likeness, power = _likeness(own, amplitudes[:, other])
        best = int(likeness.argmax())
        if other != channel and likeness[best] >= SAME_VOICE:
            louder_db = float(10 * np.log10(power[best] / np.square(own).sum()))
            found[other] = Heard(louder_db, (best - most) * FRAME_S)
    return found


def _around(levels: Levels, start: int, end: int) -> Levels:
    """Return the amplitudes of some frames and of `ECHO_S` on both sides.

    Beyond the recording is silence. [end - start + 2 * `ECHO_S` in frames, channels].
    """
    most = _frames(ECHO_S)
    first, last = max(start - most, 0), min(end + most, len(levels))
    amplitudes = 10 ** (levels[first:last].astype(np.float64) / 20)
    around: Levels = np.pad(amplitudes, ((first - start + most, end + most - last), (0, 0)))
    return around


def _likeness(own: Levels, other: Levels) -> tuple[Levels, Levels]:
    """Compare a stretch with every equally long part of another channel.

    Args:
        own: Amplitudes of the stretch, [F].
        other: Amplitudes of the other channel, longer on both sides by as much as its voice may be late.

    Returns:
        Correlation with each part, and the sum of the squares of each part.
    """
    swing = own - own.mean()
    sums, squares = (_running(values, len(own)) for values in (other, np.square(other)))
    spread = np.maximum(squares - np.square(sums) / len(own), 0)
    size = np.sqrt(np.square(swing).sum() * spread) + 1e-12
    return np.correlate(other, swing, "valid") / size, np.maximum(squares, 1e-12)


def _running(values: Levels, length: int) -> Levels:
    """Return the sum of every run of so many values."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    sums: Levels = total[length:] - total[:-length]
    return sums


def _threshold(levels: Levels) -> float:
    loudest = min(round(SPEECH_SHARE * len(levels)), _frames(SPEECH_S))
    speech = float(np.partition(levels, -loudest - 1)[-loudest - 1])
    noise = max(float(np.percentile(levels, NOISE_PERCENTILE)), speech - MAX_RANGE_DB)
    if speech < SILENCE_DB:
        return np.inf
    if speech - noise < MIN_RANGE_DB:  # speech without a pause, or noise without speech: only a listener could tell
        return noise - MIN_RANGE_DB
    return max(noise + max(MIN_ABOVE_NOISE_DB, SHARE_OF_RANGE * (speech - noise)), SILENCE_DB)


def _spoken(is_speech: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Find runs of speech in frames: pauses bridged, clicks dropped, padded.

    Only short pauses are bridged.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_speech, [False]]).astype(np.int8)))
    runs = _joined(list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)), _frames(BRIDGED_S))
    padding = _frames(PADDING_S)
    return [
        (max(start - padding, 0), min(end + padding, len(is_speech)))
        for start, end in runs
        if end - start >= _frames(MIN_BURST_S)
    ]


def _joined(runs: Sequence[tuple[int, int]], pause: int) -> list[tuple[int, int]]:
    """Join runs that are less than ``pause`` frames apart."""
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        if joined and start - joined[-1][1] < pause:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _cut(start: int, end: int, levels: Levels) -> Iterator[tuple[int, int]]:
    """Cut long runs where they are quietest in their second half."""
    longest = _frames(MAX_UTTERANCE_S)
    while end - start > longest:
        middle = start + longest // 2
        at = middle + int(levels[middle : start + longest].argmin())
        yield start, at
        start = at
    yield start, end


def _frames(seconds: float) -> int:
    return round(seconds / FRAME_S)
