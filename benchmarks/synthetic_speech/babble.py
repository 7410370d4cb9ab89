"""Turn made-up syllables into speech without words.

A voice speaks them with a prosody; the result is an articulation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.synthetic_speech.synthesizer import FRAME_S, Articulation, Floats

CONSONANTS = ("", "hiss", "burst", "hum")
_ACCENT_ST = 3.5
_STRESS_DB = 3.0
_PAUSE_S = 0.16
_TREMOR_HZ = 6.5
_HIGH_FORMANTS_HZ = (3400.0, 4400.0)
_BANDWIDTHS_HZ = np.array([80.0, 100.0, 140.0, 220.0, 320.0])


class Prosody(NamedTuple):
    """Describe how an utterance departs from a voice's neutral speech.

    All zero is neutral.

    Attributes:
        pitch_st: Mean pitch in semitones.
        range_oct: Height of the pitch accents in doublings.
        slope_st: Rise of the pitch over a phrase in semitones.
        rate_oct: Tempo in doublings.
        energy_db: Level.
        stress_db: Level of stressed over unstressed syllables.
        brightness_oct: Corner of the spectral tilt in doublings.
        breath_oct: Amplitude of breath noise in doublings.
        jitter_oct: Irregularity of the pulses in doublings.
        tremor_st: Depth of a slow tremor of the pitch in semitones.
        pause_oct: Length of pauses in doublings.
        smile: Relative rise of the formants by spread lips.
        clarity: Relative widening of the vowels.
    """

    pitch_st: float = 0.0
    range_oct: float = 0.0
    slope_st: float = 0.0
    rate_oct: float = 0.0
    energy_db: float = 0.0
    stress_db: float = 0.0
    brightness_oct: float = 0.0
    breath_oct: float = 0.0
    jitter_oct: float = 0.0
    tremor_st: float = 0.0
    pause_oct: float = 0.0
    smile: float = 0.0
    clarity: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Voice:
    """Describe one speaker at rest.

    Attributes:
        pitch_hz: Mean pitch.
        tract: Formants relative to a grown man's `[5]`.
        syllables_per_s: Tempo.
        breath: Amplitude of breath noise relative to the voice.
        jitter: Irregularity of the pulses in periods.
        brightness_hz: Corner of the spectral tilt.
    """

    pitch_hz: float
    tract: Floats
    syllables_per_s: float
    breath: float
    jitter: float
    brightness_hz: float


class Syllable(NamedTuple):
    """Hold a consonant of `CONSONANTS`, a vowel's number, what follows."""

    consonant: str
    vowel: int
    stressed: bool
    ends_phrase: bool


class _Segment(NamedTuple):
    """Hold a stretch of equal articulation.

    Stretches flow into each other when they are joined.
    """

    duration_s: float
    formants_hz: tuple[float, float, float]
    voicing: float = 0.0
    friction: float = 0.0
    friction_hz: float = 4500.0
    accent: float = 0.0
    pause: bool = False


def sentence(num_vowels: int, generator: np.random.Generator) -> tuple[Syllable, ...]:
    """Make up 8 to 11 syllables in one to three phrases."""
    count = int(generator.integers(8, 12))
    ends = {count - 1} | {i for i in range(2, count - 3) if generator.random() < 0.15}
    return tuple(
        Syllable(
            consonant=str(generator.choice(CONSONANTS, p=[0.15, 0.25, 0.3, 0.3])),
            vowel=int(generator.integers(num_vowels)),
            stressed=bool(generator.random() < 0.4),
            ends_phrase=i in ends,
        )
        for i in range(count)
    )


def articulate(
    syllables: tuple[Syllable, ...],
    vowels_hz: Floats,
    voice: Voice,
    prosody: Prosody,
    generator: np.random.Generator,
) -> Articulation:
    """Speak syllables.

    Args:
        syllables: What to say.
        vowels_hz: First three formants of the language's vowels for a grown man `[V, 3]`.
        voice: Who speaks.
        prosody: How.
        generator: Source of the small irregularities of speech.
    """
    segments = list(_segments(syllables, vowels_hz, voice, prosody, generator))
    lengths = [max(1, round(segment.duration_s / FRAME_S)) for segment in segments]

    def track(name: str, smooth_s: float) -> Floats:
        values = np.array([getattr(segment, name) for segment in segments], dtype=float)
        return _smooth(np.repeat(values, lengths, axis=0), smooth_s)

    accent = track("accent", 0.09)
    semitones = _intonation(accent, np.repeat([segment.pause for segment in segments], lengths), prosody, generator)
    level_db = prosody.energy_db + (_STRESS_DB + prosody.stress_db) * (accent - 0.4)
    gain = 10 ** (level_db / 20)
    voicing = track("voicing", 0.03) * gain
    formants_hz = _formants(track("formants_hz", 0.07), vowels_hz.mean(axis=0), voice, prosody)
    # A louder voice is a brighter one; what is left of the tilt is the speaker's.
    brightness_hz = voice.brightness_hz * 2 ** (prosody.brightness_oct + 0.1 * (level_db - prosody.energy_db))
    return Articulation(
        pitch_hz=voice.pitch_hz * 2 ** (semitones / 12),
        voicing=voicing,
        breath=(voicing + 0.02) * voice.breath * 2**prosody.breath_oct,
        friction=track("friction", 0.02) * gain,
        friction_hz=track("friction_hz", 0.04),
        formants_hz=formants_hz,
        bandwidths_hz=np.broadcast_to(_BANDWIDTHS_HZ * (1 + 0.3 * voice.breath), formants_hz.shape),
        brightness_hz=brightness_hz.clip(200, 8000),
        jitter=min(voice.jitter * 2**prosody.jitter_oct, 0.05),
        shimmer=min(6 * voice.jitter * 2**prosody.jitter_oct, 0.3),
    )


def _segments(
    syllables: tuple[Syllable, ...],
    vowels_hz: Floats,
    voice: Voice,
    prosody: Prosody,
    generator: np.random.Generator,
) -> Iterator[_Segment]:
    syllable_s = 1 / (voice.syllables_per_s * 2**prosody.rate_oct)
    neutral = (500.0, 1500.0, 2500.0)
    yield _Segment(generator.uniform(0.1, 0.25), neutral, pause=True)
    for syllable in syllables:
        accent = 1.0 if syllable.stressed else 0.0
        first, second, third = (float(hz) for hz in vowels_hz[syllable.vowel])
        formants_hz = (first, second, third)
        unit_s = syllable_s * generator.uniform(0.85, 1.15)
        if syllable.consonant == "hiss":
            hz = generator.uniform(3000, 6500)
            yield _Segment(0.35 * unit_s, formants_hz, friction=0.15, friction_hz=hz, accent=accent)
        elif syllable.consonant == "burst":
            hz = generator.uniform(1200, 4500)
            yield _Segment(0.22 * unit_s, formants_hz, accent=accent)
            yield _Segment(0.02, formants_hz, friction=0.3, friction_hz=hz, accent=accent)
        elif syllable.consonant == "hum":
            yield _Segment(0.3 * unit_s, (270.0, 1200.0, 2400.0), voicing=0.35, accent=accent)
        lengthening = (1.2 if syllable.stressed else 0.85) * (1.5 if syllable.ends_phrase else 1.0)
        yield _Segment(0.7 * unit_s * lengthening, formants_hz, voicing=1.0, accent=accent)
        if syllable.ends_phrase:
            pause_s = _PAUSE_S * 2**prosody.pause_oct * generator.uniform(0.6, 1.5)
            yield _Segment(min(pause_s, 1.0), neutral, pause=True)


def _intonation(accent: Floats, paused: Floats, prosody: Prosody, generator: np.random.Generator) -> Floats:
    """Return the pitch relative to the voice's mean in semitones `[F]`.

    Phrases fall, with a bump on each accent.
    """
    frames = np.arange(len(accent))
    starts = np.flatnonzero(np.diff(paused.astype(int), prepend=1) == -1)
    ends = np.flatnonzero(np.diff(paused.astype(int), append=1) == 1)
    place = np.zeros(len(accent))
    for start, end in zip(starts, ends, strict=True):
        place[start : end + 1] = np.linspace(-0.5, 0.5, end + 1 - start)
    bumps = _ACCENT_ST * 2**prosody.range_oct * (accent - 0.4)
    drift = _smooth(generator.normal(0, 3.0, len(accent)), 0.2)
    tremor = prosody.tremor_st * np.sin(2 * np.pi * _TREMOR_HZ * FRAME_S * frames + generator.uniform(0, 6.28))
    semitones: Floats = prosody.pitch_st + (prosody.slope_st - 2.0) * place + bumps + drift + tremor
    return semitones


def _formants(targets_hz: Floats, center_hz: Floats, voice: Voice, prosody: Prosody) -> Floats:
    spread = center_hz + (targets_hz - center_hz) * (1 + prosody.clarity)
    high = np.broadcast_to(_HIGH_FORMANTS_HZ, (len(spread), 2))
    formants_hz: Floats = np.hstack([spread, high]) * voice.tract * (1 + prosody.smile)
    return formants_hz.clip(180, 7600)


def _smooth(track: Floats, width_s: float) -> Floats:
    """Average over a moving window of `width_s`, along the frames `[F, ...]`."""
    width = max(1, round(width_s / FRAME_S))
    padded = np.pad(track, [(width // 2, (width - 1) // 2), *[(0, 0)] * (track.ndim - 1)], mode="edge")
    sums = np.cumsum(np.concatenate([np.zeros_like(padded[:1]), padded]), axis=0)
    smooth: Floats = (sums[width:] - sums[:-width]) / width
    return smooth
