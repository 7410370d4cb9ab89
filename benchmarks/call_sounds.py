"""Sounds of calls with known truth: turns of real speech, and what a line carries besides.

All sounds are at 8 kHz. Speech comes from the corpora beside the project; tones, noises and music are computed.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RATE = 8_000
FRAME = 80
"""Samples in a frame of truth, 10 ms."""
SPEECH_DB = -26.0
"""Mean level of speech, of full scale."""
_BELOW_PEAK_DB, _BRIDGED_S = 35.0, 0.5

Sound = npt.NDArray[np.floating]
Truth = npt.NDArray[np.bool_]


class Call(NamedTuple):
    """A channel of a call, and which of its frames somebody speaks in."""

    sound: Sound
    truth: Truth


def at_level(sound: Sound, db: float) -> Sound:
    """The sound at a mean level, in dB of full scale."""
    gain: float = 10 ** (db / 20) / (np.sqrt(np.mean(np.square(sound))) + 1e-12)
    return sound * gain


def spoken(sound: Sound) -> Truth:
    """Frames of a clean utterance in which somebody speaks; pauses below half a second belong to the speech."""
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    level = 10 * np.log10(frames.var(axis=1) + 1e-12)
    places = np.flatnonzero(level > np.percentile(level, 95) - _BELOW_PEAK_DB)
    truth = np.zeros(len(frames), bool)
    for one, following in pairwise(places):
        if (following - one) * FRAME < _BRIDGED_S * RATE:
            truth[one : following + 1] = True
    return truth


def call_of(utterances: Sequence[Sound], others: Sequence[Sound], random: np.random.Generator, seconds: float) -> Call:
    """Turns of speech between pauses of 0.8 to 3 s, every second one of which holds one of the other sounds."""
    sound, truth = np.zeros(int(seconds * RATE)), np.zeros(int(seconds * 100), bool)
    place, turn = int(random.uniform(0.5, 2) * 100), 0
    while True:
        is_other = bool(len(others)) and turn % 2 == 1
        several = others if is_other else utterances
        level = SPEECH_DB + random.uniform(-4, 4)
        chosen = at_level(several[int(random.integers(len(several)))], level)
        end = place + len(chosen) // FRAME
        if end > len(truth) - 50:
            return Call(sound, truth)
        sound[place * FRAME : end * FRAME] += chosen[: (end - place) * FRAME]
        if not is_other:
            truth[place:end] = spoken(chosen)
        place, turn = end + int(random.uniform(0.8, 3) * 100), turn + 1


def through_mu_law(sound: Sound) -> Sound:
    """The sound as 8 bits of mu-law carry it."""
    bounded = np.clip(sound, -1, 1)
    code = np.round(127 * np.sign(bounded) * np.log1p(255 * np.abs(bounded)) / np.log(256))
    expanded: Sound = np.sign(code) * np.expm1(np.abs(code) / 127 * np.log(256)) / 255
    return expanded


def tone(frequencies: Sequence[float], seconds: float) -> Sound:
    """Sines side by side."""
    times = np.arange(int(seconds * RATE)) / RATE
    return sum((np.sin(2 * np.pi * frequency * times) for frequency in frequencies), np.zeros(len(times)))


def cadence(sound: Sound, pause_s: float, count: int) -> Sound:
    """A sound several times, with pauses between."""
    return np.concatenate([np.concatenate([sound, np.zeros(int(pause_s * RATE))]) for _ in range(count)])


def digits(number: str, random: np.random.Generator) -> Sound:
    """The keys of a telephone (DTMF, ITU-T Q.23)."""
    rows, columns = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
    keys = "123A456B789C*0#D"
    pressed = [divmod(keys.index(digit), 4) for digit in number]
    return np.concatenate(
        [
            cadence(tone((rows[r], columns[c]), random.uniform(0.08, 0.2)), random.uniform(0.05, 0.2), 1)
            for r, c in pressed
        ]
    )


def line_tones(random: np.random.Generator) -> dict[str, Sound]:
    """Tones and noises of a line, by name."""
    return {
        "ring-back, North America": cadence(tone((440, 480), 2), 4, 2)[: int(8 * RATE)],
        "ring-back, Europe": cadence(tone((425,), 1), 4, 2)[: int(6 * RATE)],
        "ring-back, Britain": cadence(cadence(tone((400, 450), 0.4), 0.2, 2), 1.8, 2),
        "busy": cadence(tone((425,), 0.5), 0.5, 5),
        "dial": tone((350, 440), 4),
        "digits": digits("0179355#", random),
        "beep": tone((1000,), 1),
        "hum of 50 Hz": tone((50, 100, 150, 250), 6) * 0.5 + tone((100,), 6),
        "hum of 60 Hz": tone((60, 120, 180, 300), 6),
        "fax, called": cadence(tone((2100,), 3), 0.2, 1),
        "fax, calling": cadence(tone((1100,), 0.5), 2, 2),
        "modem": modem(3, random),
        "white noise": random.standard_normal(2 * RATE),
        "pink noise": pink(3, random),
        "out of order": np.concatenate([tone((f,), 0.33) for f in (950, 1400, 1800)] * 2),
    }


def modem(seconds: float, random: np.random.Generator) -> Sound:
    """The carrier of V.21 with random bits."""
    bits = np.repeat(random.integers(0, 2, int(seconds * 300) + 1), RATE // 300)[: int(seconds * RATE)]
    return np.sin(2 * np.pi * np.cumsum(np.where(bits, 1650, 1850)) / RATE)


def pink(seconds: float, random: np.random.Generator) -> Sound:
    """Noise whose power falls with the frequency."""
    spectrum = np.fft.rfft(random.standard_normal(int(seconds * RATE)))
    return np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), int(seconds * RATE))


class _Instrument(NamedTuple):
    """How a note sounds: shares of its overtones, how fast it dies away, and how far its pitch swings."""

    overtones: tuple[float, ...]
    decay_per_s: float
    vibrato: float = 0.0


_INSTRUMENTS = {
    "piano": _Instrument((1, 0.6, 0.35, 0.2, 0.12, 0.08), 2.5),
    "strings": _Instrument((1, 0.8, 0.6, 0.5, 0.3, 0.3, 0.2), 0.0, 0.006),
    "organ": _Instrument((1, 0.5, 0.7, 0.1, 0.4), 0.0),
    "flute": _Instrument((1, 0.25, 0.1), 0.3, 0.008),
    "bells": _Instrument((1, 0, 0.5, 0, 0.3, 0.2), 4.0),
    "guitar": _Instrument((1, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15), 3.5),
}
_CHORDS = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16), (2, 5, 9))
_SCALE = (0, 2, 4, 5, 7, 9, 11, 12)


def _note(half_tones: float, seconds: float, instrument: _Instrument) -> Sound:
    times = np.arange(int(seconds * RATE)) / RATE
    pitch = 220 * 2 ** (half_tones / 12) * (1 + instrument.vibrato * np.sin(2 * np.pi * 5.5 * times))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    waves = (share * np.sin((k + 1) * phase) for k, share in enumerate(instrument.overtones))
    ramp = np.minimum(np.minimum(times / 0.01, 1), np.minimum((times[-1] - times) / 0.03, 1))
    note: Sound = sum(waves, np.zeros(len(times))) * np.exp(-instrument.decay_per_s * times) * ramp
    return note


def music(seconds: float, random: np.random.Generator) -> Sound:
    """A tune over chords, with or without drums, by two instruments that are drawn."""
    names = list(_INSTRUMENTS)
    tune, chords = (_INSTRUMENTS[str(random.choice(names))] for _ in range(2))
    beat_s, key = random.uniform(0.35, 0.7), int(random.integers(-5, 6))
    sound = np.zeros(int((seconds + 4) * RATE))
    for beat in range(int(seconds / beat_s)):
        start = int(beat * beat_s * RATE)
        if beat % 4 == 0:
            chord = _CHORDS[int(random.integers(len(_CHORDS)))]
            for half_tones in chord:
                _add(sound, start, 0.5 * _note(key + half_tones, 4 * beat_s, chords))
        length = float(random.choice([0.5, 1.0, 2.0]))
        _add(sound, start, _note(key + 12 + _SCALE[int(random.integers(8))], length * beat_s, tune))
    if random.random() < 0.5:
        _drum(sound, beat_s, random)
    return sound[: int(seconds * RATE)]


def _drum(sound: Sound, beat_s: float, random: np.random.Generator) -> None:
    times = np.arange(int(0.15 * RATE)) / RATE
    snare = 0.8 * random.standard_normal(len(times)) * np.exp(-25 * times)
    kick = 2 * np.sin(2 * np.pi * 70 * times) * np.exp(-20 * times)
    for number, start in enumerate(np.arange(0, len(sound) / RATE - 1, beat_s)):
        _add(sound, int(start * RATE), snare if number % 2 else kick)


def _add(sound: Sound, start: int, part: Sound) -> None:
    sound[start : start + len(part)] += part[: max(len(sound) - start, 0)]
