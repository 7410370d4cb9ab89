"""Measure the spectrum: envelope, cepstra, balance between regions."""

from functools import cache

import numpy as np
import numpy.typing as npt

from ecan_core.audio.contours import Contours, Curve, Mask, region, slopes
from ecan_core.audio.fourier import decibels
from ecan_core.audio.logmel import BIN_HZ, NUM_FFT
from ecan_core.audio.statistics.tally import Tally, correlations

_NUM_BANDS = 16
_NUM_LOW_CEPSTRA = 13
_NUM_CORRELATED = 8
_LONG_STEP = 8  # frames, about half a syllable
_REGIONS_HZ = ((60, 500), (60, 1000), (500, 1500), (1000, 5000), (1500, 3000), (1500, 4000), (4000, 7600))
_LINES_HZ = ((0, 500), (500, 1500), (1500, 5000))


def envelope(contours: Contours, tally: Tally) -> None:
    """Note mean, deviation and liveliness of mel bands."""
    bands = contours.mel_bands(_NUM_BANDS)
    active = contours.active
    tally.numbers("band.mean", bands[active].mean(axis=0))
    tally.numbers("band.std", bands[active].std(axis=0))
    tally.numbers("band.slope", slopes(bands)[active].std(axis=0))


def cepstrum(contours: Contours, tally: Tally) -> None:
    """Note distribution and speed of mel cepstra."""
    cepstra, active = contours.cepstra, contours.active
    low = cepstra[:, :_NUM_LOW_CEPSTRA]
    first = slopes(cepstra)
    tally.numbers("cepstrum.mean", cepstra[active].mean(axis=0))
    tally.numbers("cepstrum.std", cepstra[active].std(axis=0))
    tally.numbers("cepstrum.slope", first[active].std(axis=0))
    tally.numbers("cepstrum.bend", slopes(first[:, :_NUM_LOW_CEPSTRA])[active].std(axis=0))
    tally.numbers("cepstrum.travel", _travel(low, active))


def _travel(curves: Curve, active: Mask) -> Curve:
    """Average how far curves move in `_LONG_STEP` frames, [columns].

    Frames of speech count.
    """
    both = active[_LONG_STEP:] & active[:-_LONG_STEP]
    if not both.any():
        return np.zeros(curves.shape[1])
    travel: Curve = np.abs(curves[_LONG_STEP:] - curves[:-_LONG_STEP])[both].mean(axis=0)
    return travel


def cepstral_correlations(contours: Contours, tally: Tally) -> None:
    """Note which cepstra move together, and which of their slopes.

    They describe how the mouth moves and barely depend on voice or microphone, which shift cepstra as a whole.
    """
    curves = np.column_stack([contours.cepstra[:, :_NUM_CORRELATED], contours.energy_db])
    tally.numbers("correlation", correlations(curves[contours.active]))
    tally.numbers("correlation.slope", correlations(slopes(curves)[contours.active]))


def moments(contours: Contours, tally: Tally) -> None:
    """Note center, width, roll-off, flatness and flux of the spectrum."""
    power = contours.power[contours.active, 2:]
    frequencies = BIN_HZ * np.arange(2, 2 + power.shape[1], dtype=np.float32)
    total = power.sum(axis=1) + 1e-30
    shares = power / total[:, None]
    centroid = shares @ frequencies
    width = np.sqrt(np.maximum(shares @ np.square(frequencies) - centroid**2, 0))
    collected = np.cumsum(shares, axis=1)
    steps = np.diff(np.sqrt(shares), axis=0)
    curves = {
        "centroid": np.log(centroid),
        "width": np.log(width + 1),
        "half": np.log(frequencies[_first_above(collected, 0.50)]),
        "rolloff": np.log(frequencies[_first_above(collected, 0.85)]),
        "flatness": contours.decibels[contours.active, 2:].mean(axis=1) - decibels(total),
        "flux": np.append(0, np.sqrt(np.square(steps).sum(axis=1))),
    }
    for name, curve in curves.items():
        tally.distribution(f"spectrum.{name}", curve)


def _first_above(collected: Curve, share: float) -> npt.NDArray[np.intp]:
    """Find the bin at which the collected power exceeds a share, [F]."""
    bins: npt.NDArray[np.intp] = np.minimum(np.count_nonzero(collected < share, axis=1), collected.shape[1] - 1)
    return bins


def tilt(contours: Contours, tally: Tally) -> None:
    """Note the balance of low and high regions.

    It follows vocal effort.
    """
    voice, rest = contours.voiced_or_active, contours.voiceless_or_active
    for name, curve in _balances(contours).items():
        tally.moments(f"tilt.{name}", curve[voice])
        tally.number(f"tilt.{name}.voiceless", curve[rest].mean())


def _balances(contours: Contours) -> dict[str, Curve]:
    """Compare regions of the spectrum frame by frame, [F] each.

    The results are in dB, or in dB per kHz.
    """
    level = dict(zip(_REGIONS_HZ, contours.levels(_groups()).T, strict=True))
    slope = dict(zip(_LINES_HZ, (contours.decibels @ _lines()).T, strict=True))
    below, above = (contours.decibels[:, region(*limits)].max(axis=1) for limits in ((60, 2000), (2000, 5000)))
    return {
        "alpha": level[60, 1000] - level[1000, 5000],
        "hammarberg": below - above,
        "low_mid": level[500, 1500] - level[60, 500],
        "mid": level[1500, 3000] - level[500, 1500],
        "high": level[4000, 7600] - level[1500, 4000],
        "slope_low": slope[0, 500],
        "slope_mid": slope[500, 1500],
        "slope_high": slope[1500, 5000],
    }


@cache
def _groups() -> Curve:
    """Mark the bins that belong to each of the regions, [bins, regions]."""
    groups = np.zeros((NUM_FFT // 2 + 1, len(_REGIONS_HZ)), dtype=np.float32)
    for column, limits in enumerate(_REGIONS_HZ):
        groups[region(*limits), column] = 1
    return groups


@cache
def _lines() -> Curve:
    """Return the weights that give a region's slope, [bins, regions].

    The slope is that of the spectrum's straight line within the region, in dB per kHz.
    """
    lines = np.zeros((NUM_FFT // 2 + 1, len(_LINES_HZ)))
    for column, limits in enumerate(_LINES_HZ):
        bins = region(*limits)
        place = np.arange(bins.start, bins.stop) * (BIN_HZ / 1000)
        place -= place.mean()
        lines[bins, column] = place / (place @ place)
    return lines.astype(np.float32)
