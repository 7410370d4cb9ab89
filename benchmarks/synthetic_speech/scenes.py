"""Describe how synthetic speakers show emotions, and where they speak.

Source: the directions of `EFFECTS` follow Banse & Scherer, Journal of Personality and Social Psychology 70, 1996,
and Juslin & Laukka, Psychological Bulletin 129, 2003.
Differs: the sizes are set by hand, so that a classifier knows strange speakers of its own corpus nearly always, and
those of the other corpus in about three of four cases.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.synthetic_speech.babble import Prosody

EFFECTS = {
    "anger": Prosody(
        pitch_st=1.6,
        range_oct=0.3,
        slope_st=-3.0,
        rate_oct=0.2,
        energy_db=6.0,
        stress_db=4.0,
        brightness_oct=1.2,
        breath_oct=-0.5,
        jitter_oct=0.9,
        pause_oct=-0.6,
        clarity=0.18,
    ),
    "fear": Prosody(
        pitch_st=4.6,
        range_oct=-0.7,
        slope_st=1.5,
        rate_oct=0.35,
        energy_db=-1.0,
        stress_db=-0.5,
        brightness_oct=0.2,
        breath_oct=1.0,
        jitter_oct=1.0,
        tremor_st=0.8,
        pause_oct=0.2,
        clarity=-0.03,
    ),
    "happiness": Prosody(
        pitch_st=3.6,
        range_oct=1.0,
        slope_st=2.5,
        energy_db=3.0,
        stress_db=1.5,
        brightness_oct=0.4,
        breath_oct=0.1,
        jitter_oct=-0.3,
        pause_oct=-0.3,
        smile=0.07,
        clarity=0.06,
    ),
    "neutral": Prosody(),
    "sadness": Prosody(
        pitch_st=-1.4,
        range_oct=-0.7,
        slope_st=-1.0,
        rate_oct=-0.32,
        energy_db=-5.0,
        stress_db=-1.5,
        brightness_oct=-0.9,
        breath_oct=0.9,
        jitter_oct=-0.1,
        tremor_st=0.1,
        pause_oct=0.8,
        clarity=-0.12,
    ),
}
"""What an emotion at full strength does to the voice."""

SPREAD = Prosody(
    pitch_st=0.5,
    range_oct=0.15,
    slope_st=0.6,
    rate_oct=0.06,
    energy_db=1.0,
    stress_db=0.5,
    brightness_oct=0.18,
    breath_oct=0.25,
    jitter_oct=0.2,
    tremor_st=0.05,
    pause_oct=0.25,
    smile=0.008,
    clarity=0.02,
)
"""Standard deviation among utterances of one emotion by one voice."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Hold what all recordings of one synthetic corpus share.

    Attributes:
        pitch_hz: Mean pitch of the low and of the high voices.
        tract: Formants of the low and of the high voices relative to a grown man's.
        syllables_per_s: Neutral tempo.
        vowels_hz: First three formants of each vowel of the language.
        manner: How emotions are shown here beyond `EFFECTS`.
        strength: Weakest and strongest emotion.
        gain_db: Level of the recording.
        noise_db: Background noise relative to a plain vowel.
        noise_slope: Exponent of the noise's amplitude over frequency; -1 hums, 0 hisses.
        band_hz: Pass band of the line.
        echo_s: Time constant of the room.
    """

    pitch_hz: tuple[float, float]
    tract: tuple[float, float]
    syllables_per_s: float
    vowels_hz: tuple[tuple[float, float, float], ...]
    manner: Mapping[str, Prosody]
    strength: tuple[float, float]
    gain_db: float
    noise_db: float
    noise_slope: float
    band_hz: tuple[float, float]
    echo_s: float


SCENES = {
    "harbor": Scene(
        pitch_hz=(112.0, 205.0),
        tract=(1.0, 1.16),
        syllables_per_s=4.6,
        vowels_hz=(
            (280, 2250, 2900),
            (400, 2000, 2600),
            (700, 1250, 2500),
            (450, 850, 2450),
            (310, 800, 2300),
            (520, 1450, 2450),
        ),
        manner={},
        strength=(0.65, 1.0),
        gain_db=-2.0,
        noise_db=-48.0,
        noise_slope=-0.5,
        band_hz=(60.0, 7600.0),
        echo_s=0.02,
    ),
    "valley": Scene(
        pitch_hz=(128.0, 238.0),
        tract=(1.06, 1.24),
        syllables_per_s=5.4,
        vowels_hz=(
            (300, 2100, 2800),
            (560, 1750, 2500),
            (780, 1400, 2450),
            (500, 950, 2500),
            (340, 1100, 2250),
            (310, 1800, 2350),
            (450, 1350, 2350),
        ),
        manner={
            "anger": Prosody(
                pitch_st=1.4,
                range_oct=0.5,
                slope_st=2.4,
                rate_oct=-0.5,
                brightness_oct=-0.7,
                breath_oct=0.7,
                pause_oct=1.0,
            ),
            "fear": Prosody(
                pitch_st=-1.4, slope_st=1.2, rate_oct=-0.36, brightness_oct=-0.5, jitter_oct=-0.6, tremor_st=0.6
            ),
            "happiness": Prosody(
                pitch_st=-1.4,
                range_oct=-0.7,
                slope_st=-1.7,
                rate_oct=0.42,
                energy_db=1.2,
                breath_oct=0.5,
                pause_oct=0.5,
            ),
            "neutral": Prosody(pitch_st=-0.7, slope_st=-1.0, rate_oct=0.24, brightness_oct=0.36, pause_oct=-0.36),
            "sadness": Prosody(pitch_st=2.2, range_oct=0.5, rate_oct=0.18, breath_oct=-0.8, pause_oct=-0.8),
        },
        strength=(0.65, 1.0),
        gain_db=-14.0,
        noise_db=-27.0,
        noise_slope=-1.0,
        band_hz=(280.0, 3500.0),
        echo_s=0.06,
    ),
}
"""The synthetic corpora."""
