"""Measure what a whole utterance sounds like, in one vector.

Each family of measures is a function that reads the utterance's contours and notes names and values in a tally.
Statistics are taken over energy-active frames and do not depend on the level of the recording. Where a measure has
nothing to look at (a whisper has no pitch) it notes a neutral value, so every number is always finite.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from ecan_core.audio.contours import Contours
from ecan_core.audio.statistics import formants, pitch, rhythm, spectrum, voice
from ecan_core.audio.statistics.tally import Tally

FAMILIES = (
    spectrum.envelope,
    spectrum.cepstrum,
    spectrum.cepstral_correlations,
    spectrum.moments,
    spectrum.tilt,
    pitch.distribution,
    pitch.contour,
    pitch.companions,
    voice.clearness,
    voice.perturbation,
    voice.roughness,
    formants.formants,
    rhythm.energy,
    rhythm.modulation,
    rhythm.timing,
)


def utterance_statistics(samples: npt.NDArray[np.float32]) -> dict[str, float]:
    """Measure one utterance.

    Args:
        samples: Sound at 16 kHz, not silent, at any level, [T].

    Returns:
        Every statistic by its name, always the same names in the same order.
    """
    contours, tally = Contours(samples), Tally()
    for family in FAMILIES:
        family(contours, tally)
    return tally.values


@cache
def statistic_names() -> tuple[str, ...]:
    """Return the names of the statistics in order."""
    noise = np.random.default_rng(0).normal(size=8000).astype(np.float32)
    return tuple(utterance_statistics(noise))
