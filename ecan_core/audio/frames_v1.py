"""Compute the front end of frames: log-mel bands and prosody.

Every 10 ms has one row with both, side by side.
"""

import numpy as np
import numpy.typing as npt

from ecan_core.audio.contours import Contours
from ecan_core.audio.logmel import NUM_BANDS

COLUMNS = (
    *(f"mel.{band:02d}" for band in range(NUM_BANDS)),
    "log_f0",
    "voicing",
    "energy",
    "harmonicity",
)

_DB_TO_UNIT = 0.1  # brings decibels to the size of the other columns


def utterance_frames(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Compute log-mel bands and prosody of every frame.

    Args:
        samples: Sound at 16 kHz, [T].

    Returns:
        `COLUMNS` of every frame, [F, 68]. Mel bands are natural logarithms relative to the mean over active
        frames; log_f0 is in octaves around the utterance's median, filled through voiceless stretches by
        straight lines; voicing is 0 or 1; energy is in units of 10 dB below the loudest frame.
    """
    contours = Contours(samples)
    prosody = np.stack(
        [
            _filled_pitch(contours),
            contours.voiced,
            contours.energy_db * _DB_TO_UNIT,
            contours.prosody.harmonicity,
        ],
        axis=1,
    )
    return np.concatenate([contours.log_mel, prosody], axis=1).astype(np.float16)


def _filled_pitch(contours: Contours) -> npt.NDArray[np.float64]:
    """Interpolate log-pitch through voiceless stretches, [F].

    The result is in octaves, centered on its median.
    """
    voiced = np.flatnonzero(contours.voiced)
    if len(voiced) == 0:
        return np.zeros(len(contours.voiced))
    octaves = contours.semitones[voiced] / 12
    return np.interp(np.arange(len(contours.voiced)), voiced, octaves - np.median(octaves))
