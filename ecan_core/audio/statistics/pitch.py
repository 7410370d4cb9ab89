"""Measure the melody: how high, how wide, how it moves."""

import numpy as np
import numpy.typing as npt

from ecan_core.audio.contours import Contours, Curve, Mask, runs
from ecan_core.audio.logmel import FRAMES_PER_S
from ecan_core.audio.statistics.tally import Tally, correlations, median, quantiles

_LONGEST_STEP = 3.0  # semitones per frame; more is a jump between tracks, not a movement
_SHORTEST_RUN = 4  # frames
_EDGE = 8  # frames at the start and end of a melody


def distribution(contours: Contours, tally: Tally) -> None:
    """Note where the pitch lies, how far it reaches and how fast it moves."""
    voiced, active = contours.voiced, contours.active
    pitch = contours.semitones[voiced]
    tally.distribution("pitch", pitch, (5, 10, 25, 50, 75, 90, 95))
    tally.moments("pitch.hz", contours.prosody.f0_hz[voiced])
    tally.quantiles("pitch.relative", pitch - median(pitch), (5, 10, 25, 75, 90, 95))
    steps = np.diff(contours.semitones)[voiced[1:] & voiced[:-1]]
    steps = steps[np.abs(steps) < _LONGEST_STEP]
    tally.distribution("pitch.step", steps)
    tally.moments("pitch.stepsize", np.abs(steps))
    low, high = quantiles([pitch], [(5, 95)]) if len(pitch) else (0.0, 0.0)
    tally.number("pitch.range", high - low)
    tally.number("voiced.share", voiced.sum() / active.sum())
    tally.number("active.share", active.mean())


def contour(contours: Contours, tally: Tally) -> None:
    """Note the course of pitch, energy and brightness.

    The course runs from the start to the end of the utterance.
    """
    span = contours.span
    pitch, voiced = contours.semitones[span], contours.voiced[span]
    energy, active = contours.energy_db[span], contours.active[span]
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, len(pitch)), 3)
    tally.numbers("pitch.course", _course(basis, pitch, voiced))
    tally.numbers("energy.course", _course(basis, energy, active))
    tally.numbers("tilt.course", _course(basis, contours.cepstra[span, 0], active))
    tally.number("pitch.peak", _place_of_peak(pitch, voiced))
    tally.number("energy.peak", _place_of_peak(energy, active))
    tones = pitch[voiced]
    center = median(tones)
    tally.number("pitch.initial", median(tones[:_EDGE]) - center)
    tally.number("pitch.final", median(tones[-_EDGE:]) - center)
    _movements(contours, tally)


def _course(basis: Curve, curve: Curve, mask: Mask) -> Curve:
    """Return the Legendre weights of a curve but the first, [3].

    The polynomials ``basis`` are [F, 4]; the masked frames of a span count.
    """
    if mask.sum() < 2 * _SHORTEST_RUN:
        return np.zeros(3)
    basis, values = basis[mask], curve[mask] - median(curve[mask])
    ridge = 0.02 * len(values) * np.eye(4)  # gaps at the ends must not let the polynomial swing
    weights: Curve = np.linalg.solve(basis.T @ basis + ridge, basis.T @ values)
    return weights[1:]


def _place_of_peak(curve: Curve, mask: Mask) -> float:
    """Return the place of the maximum: -1 at the start to 1 at the end."""
    if not mask.any():
        return 0.0
    rows = np.flatnonzero(mask)
    return float(2 * rows[curve[rows].argmax()] / len(curve) - 1)


def _movements(contours: Contours, tally: Tally) -> None:
    """Note rise and arch of the pitch within voiced runs.

    The rise is in semitones per second.
    """
    start, stop = runs(contours.voiced).T
    start, stop = np.compress(stop - start >= _SHORTEST_RUN, [start, stop], axis=1)
    pitch = contours.semitones
    length, center = stop - start, (start + stop - 1) / 2
    mean = _sums(pitch, start, stop) / length
    moment = _sums(pitch * np.arange(len(pitch)), start, stop) / length - mean * center
    rise = moment / ((length**2 - 1) / 12) * FRAMES_PER_S
    tally.moments("movement.rise", rise)
    tally.moments("movement.size", np.abs(rise))
    tally.moments("movement.arch", mean - (pitch[start] + pitch[stop - 1]) / 2)
    tally.number("movement.first", rise[0] if len(rise) else 0.0)
    tally.number("movement.last", rise[-1] if len(rise) else 0.0)


def _sums(curve: Curve, start: npt.NDArray[np.intp], stop: npt.NDArray[np.intp]) -> Curve:
    """Sum a curve over stretches of frames, [stretches]."""
    total = np.append(0, np.cumsum(curve, dtype=np.float64))
    sums: Curve = total[stop] - total[start]
    return sums


def companions(contours: Contours, tally: Tally) -> None:
    """Note how pitch, energy and brightness go together when voiced."""
    curves = np.column_stack([contours.semitones, contours.energy_db, contours.cepstra[:, :2]])
    tally.numbers("companion", correlations(curves[contours.voiced_or_active]))
