"""Find the speech in a long recording and cut it at the pauses.

A frame counts as speech if it is well above the noise of its channel and not too far below its speech, and if a voice
is heard in it or close by (`ecan_core.audio.listening`). Both levels are estimated from the whole channel, but for
what is silent for long: hold, mute, and what a line leaves out. Nothing is random: equal sound gives equal cuts.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ecan_core.audio.decode import BLOCK_SAMPLES, Recording
from ecan_core.audio.not_speech import NOISE, VOICE

FRAME_S = 0.01
NOISE_PERCENTILE, FAINT_PERCENTILE = 25, 5  # of the levels of a channel
LONG_SILENCE_S = 1.0  # below `SILENCE_DB` for so long is no pause: nothing came through
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
VOICE_REACH_S = 0.2  # what is loud so close to a voice belongs to it
LEAST_VOICE, LEAST_VOICE_S = 0.1, 0.06  # share of what is loud, and time, without which nobody speaks
SAME_VOICE = 0.8  # correlation of the amplitudes of two channels from which they carry the same voice
ECHO_S = 0.5  # an echo comes within so much time
BLEED_DB = 6.0  # so much louder on another channel: the voice is another person's; with less, nobody can tell whose
_FLOOR_DB = -120.0

Levels = npt.NDArray[np.floating[Any]]
Heard = npt.NDArray[np.int8]
"""What frames hold (`ecan_core.audio.not_speech`)."""


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
    num_frames = recording.num_frames * round(1 / FRAME_S) // recording.sample_rate
    start = 0 if start_s is None else min(_frames(start_s), num_frames)
    end = num_frames if end_s is None else min(_frames(end_s), num_frames)
    silence = np.empty((0, recording.num_channels), np.float32)
    return np.concatenate([silence, *_levels(recording, start, end)])


def start_of(frame: int, sample_rate: int) -> int:
    """Return where a frame begins, in samples.

    Frames differ by a sample where the rate asks for it.
    """
    return frame * sample_rate // round(1 / FRAME_S)


def _levels(recording: Recording, start: int, end: int) -> Iterator[Levels]:
    """Yield the levels of some frames block by block.

    They go from ``start`` to before ``end``.
    """
    rate = recording.sample_rate
    per_block = max(BLOCK_SAMPLES * round(1 / FRAME_S) // (rate * recording.num_channels), 1)
    for first in range(start, end, per_block):
        last = min(first + per_block, end)
        places = [start_of(frame, rate) for frame in range(first, last + 1)]
        samples = recording.frames(places[0], places[-1])
        with np.errstate(invalid="ignore", over="ignore"):
            # What is not finite counts as loud, so that it is read, and refused for what it is.
            power = np.nan_to_num(_variances(samples, np.array(places) - places[0]), nan=1.0, posinf=1.0)
        yield (10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10)))).astype(np.float32)


def _variances(samples: Levels, places: npt.NDArray[np.integer[Any]]) -> Levels:
    """Return the variance of each frame, [F, channels].

    A constant offset is not sound.

    ``places`` are the frames' first samples and the end of the last, [F + 1].
    """
    lengths = np.diff(places)
    if (lengths == lengths[0]).all():
        frames = samples.reshape(len(lengths), lengths[0], -1)
        even: Levels = frames.var(axis=1)
        return even
    wide, starts = samples.astype(np.float64), places[:-1]
    means = np.add.reduceat(wide, starts) / lengths[:, None]
    apart = wide - np.repeat(means, lengths, axis=0)
    uneven: Levels = np.add.reduceat(np.square(apart), starts) / lengths[:, None]
    return uneven


class Elsewhere(NamedTuple):
    """Describe how a voice is heard on another channel.

    Attributes:
        louder_db: How much louder than on its own, in dB.
        late_s: How much later, in seconds; below zero it comes earlier there.
    """

    louder_db: float
    late_s: float


def is_loud(levels: Levels) -> npt.NDArray[np.bool_]:
    """Mark the frames of a channel that are loud enough for speech, [F]."""
    sounding = _sounding(levels)
    if not len(sounding):
        return np.zeros(len(levels), bool)
    faint = float(np.percentile(sounding, FAINT_PERCENTILE))
    loud: npt.NDArray[np.bool_] = _smooth(levels) >= _threshold(faint, sounding, share_of_range=0.0)
    return loud


def utterances_in(levels: Levels, heard: Heard | None = None, without: Sequence[Stretch] = ()) -> list[Stretch]:
    """Find the utterances of one channel.

    Args:
        levels: Its level in frames of 10 ms, in dB of full scale, [F].
        heard: What the frames hold, [F]; None goes by the level alone.
        without: Where what is heard is not this channel's own voice.

    Returns:
        Stretches of `MIN_UTTERANCE_S` to `MAX_UTTERANCE_S`, in order; none where nobody speaks.
    """
    is_speech = _is_voice(levels, heard) & _stands_out(levels, heard)
    for stretch in without:
        is_speech[_frames(stretch.start_s) : _frames(stretch.end_s)] = False
    smooth = _smooth(levels)
    return [
        Stretch(start * FRAME_S, end * FRAME_S)
        for first, last in _joined(_spoken(is_speech), _frames(PAUSE_S))
        for start, end in _cut(first, last, smooth)
        if end - start >= _frames(MIN_UTTERANCE_S)
    ]


def others_in(levels: Levels, heard: Heard, utterances: Sequence[Stretch]) -> list[tuple[Stretch, int]]:
    """Find what would be an utterance of one channel, if it were speech.

    Args:
        levels: Its level in frames of 10 ms, in dB of full scale, [F].
        heard: What its frames hold, [F].
        utterances: What is speech.

    Returns:
        Stretches of at least `MIN_UTTERANCE_S`, each with what most of it is, in order.
    """
    is_other = (heard > VOICE) & _stands_out(levels, heard)
    for stretch in utterances:
        is_other[_frames(stretch.start_s) : _frames(stretch.end_s)] = False
    runs = _joined(_spoken(is_other), _frames(PAUSE_S))
    return [
        (Stretch(start * FRAME_S, end * FRAME_S), most_of(heard[start:end]))
        for start, end in runs
        if end - start >= _frames(MIN_UTTERANCE_S)
    ]


def most_of(heard: Heard) -> int:
    """Return what most of some frames without speech hold.

    0 is nothing.
    """
    return int(np.bincount(heard[heard > VOICE]).argmax()) if (heard > VOICE).any() else 0


def holds_speech(heard: Heard) -> bool:
    """Return whether somebody speaks in these frames, however briefly."""
    num_voice = int((heard == VOICE).sum())
    return num_voice >= max(_frames(LEAST_VOICE_S), LEAST_VOICE * int((heard > 0).sum()))


def _is_voice(levels: Levels, heard: Heard | None) -> npt.NDArray[np.bool_]:
    """Mark the frames with a voice or close to one, [F].

    All of them where nobody has listened.
    """
    return np.ones(len(levels), bool) if heard is None else widened(heard == VOICE, VOICE_REACH_S)


def _stands_out(levels: Levels, heard: Heard | None) -> npt.NDArray[np.bool_]:
    """Mark the frames that stand out of the noise, [F].

    They are not too far below the speech.
    """
    if heard is None:
        heard = np.zeros(len(levels), np.int8)
    voices = levels[heard == VOICE] if (heard == VOICE).any() else _sounding(levels)
    background = _sounding(levels[(heard <= VOICE) | (heard == NOISE)])
    if not len(voices):
        return np.zeros(len(levels), bool)
    noise = float(np.percentile(background, NOISE_PERCENTILE)) if len(background) else -np.inf
    stands_out: npt.NDArray[np.bool_] = _smooth(levels) >= _threshold(noise, voices)
    return stands_out


def widened(is_wanted: npt.NDArray[np.bool_], reach_s: float) -> npt.NDArray[np.bool_]:
    """Mark also the frames so close to wanted ones, [F]."""
    reach = _frames(reach_s)
    around = np.concatenate([np.zeros(reach), is_wanted, np.zeros(reach)])
    near: npt.NDArray[np.bool_] = np.convolve(around, np.ones(2 * reach + 1), "valid") > 0.5
    return near


def _smooth(levels: Levels) -> Levels:
    around = np.concatenate([np.zeros(2), levels, np.zeros(2)])
    smooth: Levels = np.convolve(around, np.ones(5) / 5)[4:-4]
    return smooth


def heard_elsewhere(stretch: Stretch, channel: int, levels: Levels) -> dict[int, Elsewhere]:
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
            found[other] = Elsewhere(louder_db, (best - most) * FRAME_S)
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


def _threshold(noise: float, voices: Levels, share_of_range: float = SHARE_OF_RANGE) -> float:
    """Return the level from which a frame of a channel counts.

    Args:
        noise: The level of what is no speech.
        voices: Levels that tell how loud speech is.
        share_of_range: How far it lies between noise and speech.
    """
    loudest = min(round(SPEECH_SHARE * len(voices)), _frames(SPEECH_S))
    speech = float(np.partition(voices, -loudest - 1)[-loudest - 1])
    noise = max(noise, speech - MAX_RANGE_DB)
    if speech < SILENCE_DB:
        return np.inf
    if speech - noise < MIN_RANGE_DB:  # speech without a pause, or noise without speech: only a listener could tell
        return noise - MIN_RANGE_DB
    return max(noise + max(MIN_ABOVE_NOISE_DB, share_of_range * (speech - noise)), SILENCE_DB)


def _sounding(levels: Levels) -> Levels:
    """Return the levels at which something comes through."""
    is_silent = np.zeros(len(levels), bool)
    for start, end in runs_of(levels < SILENCE_DB):
        is_silent[start:end] = end - start >= _frames(LONG_SILENCE_S)
    return levels[~is_silent]


def runs_of(is_wanted: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Find runs of wanted frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_wanted, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _spoken(is_speech: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Find runs of speech in frames: pauses bridged, clicks dropped, padded.

    Only short pauses are bridged.
    """
    runs = _joined(runs_of(is_speech), _frames(BRIDGED_S))
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
