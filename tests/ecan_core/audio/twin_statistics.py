"""The slow twin of `ecan_core.audio.statistics`: one frame, one curve or one stretch after the other."""

from functools import cached_property
from itertools import pairwise

import numpy as np

from ecan_core.audio import logmel
from ecan_core.audio.contours import FLOOR_DB, Contours, region, runs
from ecan_core.audio.logmel import BIN_HZ, FRAMES_PER_S
from ecan_core.audio.prosody import LONGEST_LAG, PITCH_FFT, SHORTEST_LAG
from ecan_core.audio.statistics import FAMILIES, formants, pitch, rhythm, spectrum, voice
from tests.ecan_core.audio import twin_prosody

FLOOR = 10 ** (-FLOOR_DB / 10)


def utterance_statistics(samples):
    contours, tally = TwinContours(samples), TwinTally()
    for family in FAMILIES:
        TWINS.get(family, family)(contours, tally)
    return tally.values


class TwinContours(Contours):
    @cached_property
    def power(self):
        windows = logmel.frames(self.centered, logmel.WINDOW) * logmel._hann(logmel.WINDOW)
        return np.stack([np.square(np.abs(np.fft.rfft(window, logmel.NUM_FFT))) for window in windows])

    @cached_property
    def decibels(self):
        return 10 * np.log10(self.power + self.power.max() * FLOOR)

    @cached_property
    def prosody(self):
        return twin_prosody.track_prosody(self.centered)


class TwinTally:
    def __init__(self):
        self.values = {}

    def number(self, name, value):
        self.values[name] = float(value)

    def numbers(self, name, values):
        for row, value in enumerate(values):
            self.number(f"{name}.{row:02d}", value)

    def moments(self, name, curve, absent=0.0):
        self.number(f"{name}.mean", np.mean(curve) if len(curve) else absent)
        self.number(f"{name}.std", np.std(curve) if len(curve) else 0.0)

    def quantiles(self, name, curve, percents=(10, 50, 90), absent=0.0):
        for percent in percents:
            self.number(f"{name}.q{percent:02d}", np.percentile(curve, percent) if len(curve) else absent)

    def distribution(self, name, curve, percents=(10, 50, 90), absent=0.0):
        self.moments(name, curve, absent)
        self.quantiles(name, curve, percents, absent)


def moments(contours, tally):
    frequencies = BIN_HZ * np.arange(2, 257)
    curves = {name: [] for name in ("centroid", "width", "half", "rolloff", "flatness", "flux")}
    before = None
    for frame in np.flatnonzero(contours.active):
        power = contours.power[frame, 2:].astype(np.float64)
        shares = power / power.sum()
        centroid = (shares * frequencies).sum()
        before = shares if before is None else before
        curves["centroid"].append(np.log(centroid))
        curves["width"].append(np.log(np.sqrt((shares * (frequencies - centroid) ** 2).sum()) + 1))
        curves["half"].append(np.log(frequencies[np.searchsorted(shares.cumsum(), 0.50)]))
        curves["rolloff"].append(np.log(frequencies[np.searchsorted(shares.cumsum(), 0.85)]))
        curves["flatness"].append(contours.decibels[frame, 2:].mean() - 10 * np.log10(power.sum()))
        curves["flux"].append(np.linalg.norm(np.sqrt(shares) - np.sqrt(before)))
        before = shares
    for name, curve in curves.items():
        tally.distribution(f"spectrum.{name}", np.array(curve))


def tilt(contours, tally):
    def level(low, high):
        return 10 * np.log10(contours.power[:, region(low, high)].sum(axis=1) + contours.power.max() * FLOOR)

    def peak(low, high):
        return contours.decibels[:, region(low, high)].max(axis=1)

    def slope(low, high):
        bins = region(low, high)
        khz = np.arange(bins.start, bins.stop) * BIN_HZ / 1000
        return np.array([np.polyfit(khz, frame[bins], 1)[0] for frame in contours.decibels])

    balances = {
        "alpha": level(60, 1000) - level(1000, 5000),
        "hammarberg": peak(60, 2000) - peak(2000, 5000),
        "low_mid": level(500, 1500) - level(60, 500),
        "mid": level(1500, 3000) - level(500, 1500),
        "high": level(4000, 7600) - level(1500, 4000),
        "slope_low": slope(0, 500),
        "slope_mid": slope(500, 1500),
        "slope_high": slope(1500, 5000),
    }
    for name, curve in balances.items():
        tally.moments(f"tilt.{name}", curve[contours.voiced_or_active])
        tally.number(f"tilt.{name}.voiceless", curve[contours.voiceless_or_active].mean())


def clearness(contours, tally):
    voiced, active = contours.voiced, contours.active
    share = np.clip(contours.prosody.harmonicity[voiced], 1e-3, 0.999)
    tally.distribution("hnr", 10 * np.log10(share / (1 - share)))
    power = contours.prosody.spectrum[active]
    place = np.arange(SHORTEST_LAG, LONGEST_LAG + 1)
    prominence = []
    for level in 10 * np.log10(power + power.max() * FLOOR):
        cepstrum = np.fft.irfft(level, PITCH_FFT)[place]
        prominence.append((cepstrum - np.polyval(np.polyfit(place, cepstrum, 1), place)).max())
    tally.distribution("cpp", np.array(prominence)[voiced[active]])
    tally.moments("cpp.active", np.array(prominence))


def vowels(contours, tally):
    found = {number: [] for number in (1, 2, 3)}
    for power in contours.power[contours.voiced_or_active]:
        envelope = prediction_spectrum(power.astype(np.float64))
        inner = range(int(200 / formants._POINT_HZ) + 1, len(envelope) - 1)
        peaks = [at for at in inner if envelope[at - 1] < envelope[at] >= envelope[at + 1]]
        for number, at in enumerate(peaks[:3], 1):
            below, top, above = envelope[at - 1 : at + 2]
            bend = max(2 * top - below - above, 1e-6)
            found[number].append(
                ((at + 0.5 * (above - below) / bend) * formants._POINT_HZ, bend, top - envelope.mean())
            )
    for number, rows in found.items():
        frequency, bend, level = np.array(rows).reshape(-1, 3).T
        tally.distribution(f"formant.{number}", frequency, (10, 25, 50, 75, 90), absent=1000.0 * number - 500.0)
        tally.number(f"formant.{number}.sharpness", bend.mean() if rows else 0.0)
        tally.number(f"formant.{number}.level", level.mean() if rows else 0.0)


def prediction_spectrum(power):
    """The all-pole envelope of one frame in dB, its normal equations solved as they stand."""
    angles = np.pi * np.arange(177) / 176
    correlation = np.fft.irfft(power[:177] * (1 + 0.97**2 - 2 * 0.97 * np.cos(angles)))[:13]
    correlation[0] *= 1.0001
    lags = np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
    predictor = np.linalg.solve(correlation[lags], -correlation[1:])
    return -20 * np.log10(np.abs(np.fft.rfft([1, *predictor], 256)) + 1e-9)


def contour(contours, tally):
    pitch.contour(contours, tally)
    rises, arches = [], []
    for start, stop in runs(contours.voiced):
        if stop - start >= 4:
            tones = contours.semitones[start:stop]
            rises.append(np.polyfit(np.arange(len(tones)) / FRAMES_PER_S, tones, 1)[0])
            arches.append(tones.mean() - (tones[0] + tones[-1]) / 2)
    tally.moments("movement.rise", np.array(rises))
    tally.moments("movement.size", np.abs(rises))
    tally.moments("movement.arch", np.array(arches))
    tally.number("movement.first", rises[0] if rises else 0.0)
    tally.number("movement.last", rises[-1] if rises else 0.0)


def timing(contours, tally):
    rhythm.timing(contours, tally)
    loudness = rhythm._smooth(np.maximum(contours.energy_db, -40.0), 7)
    inner = range(1, len(loudness) - 1)
    nuclei = [t for t in inner if loudness[t - 1] < loudness[t] >= loudness[t + 1] and loudness[t] > -25.0]
    dips = [min(loudness[a], loudness[b]) - loudness[a:b].min() for a, b in pairwise(nuclei)]
    tally.moments("syllable.dip", np.array(dips))


TWINS = {
    spectrum.moments: moments,
    spectrum.tilt: tilt,
    voice.clearness: clearness,
    formants.formants: vowels,
    pitch.contour: contour,
    rhythm.timing: timing,
}
