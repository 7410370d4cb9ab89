"""Hear what a recording holds, frame by frame.

That is a voice, or what else there is.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ecan_core.audio.decode import MAX_PEAK, Recording, resample
from ecan_core.audio.not_speech import VOICE, kinds_at
from ecan_core.audio.speech import FRAME_S, VOICE_REACH_S, Heard, Levels, is_loud, runs_of, start_of, widened
from ecan_core.audio.voice_network import HOP, RATE, voice_scores
from ecan_core.audio.waveform import Waveform

SURE, MAYBE = 0.5, 0.1
"""Scores from which a voice is heard: as its authors have it, and where the question is whether there is any at all."""
_AROUND_S = 0.5  # heard before and after what is loud; behind a longer pause, as after music, the network begins anew
_LONGEST = 6_000  # frames heard at once
_EVERY = 10  # frames for which the kind of a sound is told once
_FRAME = round(FRAME_S * RATE)


def listen(recording: Recording, levels: Levels, start_s: float | None = None, *, sure: float = SURE) -> Heard:
    """Hear what the loud frames of a recording hold.

    The recording is read piece by piece, and only where it is loud.

    Args:
        recording: The recording, of any length.
        levels: Of all its channels, [F, channels].
        start_s: Where they begin, in seconds; None is the beginning.
        sure: The score from which a voice is heard.

    Returns:
        `VOICE`, or one of `ecan_core.audio.not_speech.KINDS`, or 0 where it is quiet, [F, channels].

    Raises:
        UnusableAudioError: TRUNCATED or UNREADABLE.
    """
    heard = np.zeros(levels.shape, np.int8)
    loud = np.stack([is_loud(channel) for channel in levels.T], axis=1)
    offset = 0 if start_s is None else round(max(start_s, 0) / FRAME_S)
    for start, end in _pieces(np.any(loud, axis=1, keepdims=True)[:, 0]):
        places = (start_of(offset + frame, recording.sample_rate) for frame in (start, end))
        samples = recording.frames(*places)
        for channel in np.flatnonzero(loud[start:end].any(axis=0)):
            piece = Waveform(samples=samples[:, channel].copy(), sample_rate=recording.sample_rate)
            heard[start:end, channel] = _hear(piece, loud[start:end, channel], sure)
    return heard


def _pieces(is_wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Find runs of wanted frames, with some around them, cut if they are long."""
    for start, end in runs_of(widened(is_wanted, _AROUND_S)):
        for first in range(start, end, _LONGEST):
            yield first, min(first + _LONGEST, end)


def _hear(piece: Waveform, loud: npt.NDArray[np.bool_], sure: float) -> Heard:
    """Return what the loud frames of a piece hold, [F]."""
    if not np.abs(piece.samples).max() < MAX_PEAK:
        return np.where(loud, VOICE, 0).astype(np.int8)  # it is no sound, and refused for that when it is read
    samples = resample(piece, RATE).samples
    frames = np.arange(len(loud))
    scores = voice_scores(samples)[np.minimum((frames * _FRAME + _FRAME // 2) // HOP, (len(samples) - 1) // HOP)]
    is_voice = scores >= sure
    is_other = loud & ~widened(is_voice, VOICE_REACH_S if sure == SURE else 0.0)
    others = np.unique(frames[is_other] // _EVERY * _EVERY)
    kinds = np.zeros(len(loud) + _EVERY, np.int8)
    kinds[others] = kinds_at(samples, (others + _EVERY // 2) * _FRAME)
    heard: Heard = np.where(is_other, kinds[frames // _EVERY * _EVERY], np.where(loud & is_voice, VOICE, 0))
    return heard.astype(np.int8)
