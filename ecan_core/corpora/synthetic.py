"""Synthetic emotional speech for demonstrations and tests: it sounds like babble and holds no real voice.

Two corpora, "harbor" and "valley", differ in voices, vowels, tempo, room, line and noise, and a little in how
emotions are shown, as real corpora do. Each speaker shows them in an own way and no two utterances are alike,
so a classifier trained on one corpus is mediocre on the other.

    python -m ecan_core.corpora.synthetic --name harbor --out DIR --speakers 8 --utterances-per-emotion 8

Source: the directions of `EFFECTS` follow Banse & Scherer, Journal of Personality and Social Psychology 70, 1996,
and Juslin & Laukka, Psychological Bulletin 129, 2003.
Differs: their sizes are chosen by hand.
"""

import argparse
import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecan_core.corpora.babble import Prosody, Syllable, Voice, articulate, sentence
from ecan_core.corpora.synthesizer import SAMPLE_RATE, Floats, synthesize

EFFECTS = {
    "anger": Prosody(
        pitch_st=2.6,
        range_oct=0.6,
        slope_st=-1.5,
        rate_oct=0.12,
        energy_db=6.0,
        stress_db=2.5,
        brightness_oct=1.0,
        breath_oct=-0.5,
        jitter_oct=0.4,
        pause_oct=-0.6,
        clarity=0.12,
    ),
    "fear": Prosody(
        pitch_st=3.6,
        range_oct=-0.3,
        slope_st=1.5,
        rate_oct=0.28,
        energy_db=-1.0,
        stress_db=-0.5,
        brightness_oct=0.2,
        breath_oct=0.7,
        jitter_oct=1.0,
        tremor_st=0.5,
        pause_oct=0.2,
        clarity=-0.03,
    ),
    "happiness": Prosody(
        pitch_st=3.2,
        range_oct=0.8,
        slope_st=1.5,
        rate_oct=0.08,
        energy_db=3.0,
        stress_db=1.5,
        brightness_oct=0.5,
        breath_oct=0.1,
        pause_oct=-0.3,
        smile=0.05,
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
    pitch_st=1.0,
    range_oct=0.3,
    slope_st=1.2,
    rate_oct=0.12,
    energy_db=2.0,
    stress_db=1.0,
    brightness_oct=0.35,
    breath_oct=0.5,
    jitter_oct=0.4,
    tremor_st=0.1,
    pause_oct=0.5,
    smile=0.015,
    clarity=0.04,
)
"""Standard deviation among utterances of one emotion by one voice."""

_NUM_SENTENCES = 10
_HABIT, _SHOW = 0.4, 0.2


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What all recordings of one synthetic corpus share.

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
        strength=(0.4, 1.1),
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
            "anger": Prosody(pitch_st=-1.2, rate_oct=-0.15, stress_db=-1.0, pause_oct=0.5),
            "fear": Prosody(pitch_st=-1.0, slope_st=-1.0, rate_oct=-0.1, breath_oct=-0.4),
            "happiness": Prosody(range_oct=-0.4, rate_oct=0.15, stress_db=1.0, smile=-0.02),
            "sadness": Prosody(pitch_st=1.0, rate_oct=0.1, breath_oct=-0.4, pause_oct=-0.4),
        },
        strength=(0.4, 1.1),
        gain_db=-14.0,
        noise_db=-26.0,
        noise_slope=-1.0,
        band_hz=(280.0, 3500.0),
        echo_s=0.06,
    ),
}
"""The synthetic corpora."""


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A voice and its own way to show emotions.

    Attributes:
        voice: The voice at rest.
        show: How strongly this speaker shows each part of an emotion `[P]`.
        habit: How this speaker departs from neutral in every emotion but neutral `[P]`.
    """

    voice: Voice
    show: Floats
    habit: dict[str, Floats]


def write_corpus(name: str, folder: Path, *, num_speakers: int, num_per_emotion: int, seed: int) -> Path:
    """Writes a synthetic corpus as 16 kHz WAV files and a list of their labels.

    Args:
        name: One of `SCENES`.
        folder: Where to write; made if it does not exist.
        num_speakers: Voices, low and high in turn.
        num_per_emotion: Utterances of each emotion by each voice.
        seed: Equal arguments give equal recordings.

    Returns:
        The list `labels.csv` with the columns file,label,speaker.
    """
    import soundfile

    path = folder / "labels.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["file", "label", "speaker"])
        for speaker, number, label, samples in _recordings(name, num_speakers, num_per_emotion, seed):
            file = Path(f"{name}_{speaker:02}", f"{number:03}.wav")
            (folder / file.parent).mkdir(exist_ok=True)
            soundfile.write(folder / file, samples, SAMPLE_RATE, subtype="PCM_16")
            rows.writerow([file.as_posix(), label, f"{name}_{speaker:02}"])
    return path


def _recordings(
    name: str, num_speakers: int, num_per_emotion: int, seed: int
) -> Iterator[tuple[int, int, str, Floats]]:
    scene, corpus = SCENES[name], sorted(SCENES).index(name)
    script = np.random.default_rng([seed, corpus])
    sentences = [sentence(len(scene.vowels_hz), script) for _ in range(_NUM_SENTENCES)]
    for number_of_speaker in range(1, num_speakers + 1):
        generator = np.random.default_rng([seed, corpus, number_of_speaker])
        speaker = _speaker(scene, high=number_of_speaker % 2 == 0, generator=generator)
        takes = [(label, take) for label in EFFECTS for take in range(num_per_emotion)]
        for number, place in enumerate(generator.permutation(len(takes)), start=1):
            label, take = takes[place]
            samples = record(sentences[take % _NUM_SENTENCES], label, speaker, scene, generator)
            yield number_of_speaker, number, label, samples


def record(
    syllables: tuple[Syllable, ...], label: str, speaker: Speaker, scene: Scene, generator: np.random.Generator
) -> Floats:
    """Returns one recorded utterance `[T]` at 16 kHz within ±1."""
    prosody = _prosody(label, speaker, scene, generator)
    articulation = articulate(syllables, np.array(scene.vowels_hz), speaker.voice, prosody, generator)
    return _transmit(synthesize(articulation, generator), scene, generator)


def _speaker(scene: Scene, *, high: bool, generator: np.random.Generator) -> Speaker:
    tract = scene.tract[high] * np.exp(generator.normal(0, 0.04) + generator.normal(0, 0.02, 5))
    voice = Voice(
        pitch_hz=scene.pitch_hz[high] * 2 ** (generator.normal(0, 2.0) / 12),
        tract=tract,
        syllables_per_s=scene.syllables_per_s * 2 ** generator.normal(0, 0.12),
        breath=0.05 * 2 ** generator.normal(0.5 * high, 0.5),
        jitter=0.006 * 2 ** generator.normal(0, 0.4),
        brightness_hz=1500 * 2 ** generator.normal(0, 0.4),
    )
    size = len(SPREAD)
    habits = {label: generator.normal(0, _HABIT, size) * SPREAD for label in EFFECTS}
    return Speaker(voice=voice, show=np.exp(generator.normal(0, _SHOW, size)), habit=habits)


def _prosody(label: str, speaker: Speaker, scene: Scene, generator: np.random.Generator) -> Prosody:
    strength = generator.uniform(*scene.strength)
    shown = strength * np.add(EFFECTS[label], scene.manner.get(label, Prosody())) * speaker.show
    chance = generator.standard_normal(len(SPREAD)) * SPREAD
    return Prosody(*(shown + speaker.habit[label] + chance))


def _transmit(samples: Floats, scene: Scene, generator: np.random.Generator) -> Floats:
    """Sends speech `[T]` through the room and over the line."""
    size = 1 << (len(samples) + SAMPLE_RATE // 2 - 1).bit_length()
    hz = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 1.0)
    seconds = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    echo = generator.standard_normal(len(seconds)) * np.exp(-seconds / scene.echo_s)
    echo *= 0.5 * np.sqrt(scene.echo_s / 0.06) / np.linalg.norm(echo)
    echo[0] = 1.0
    noise = generator.standard_normal(len(samples))
    noise_shape = (hz / 500) ** scene.noise_slope
    noise_gain = 0.1 * 10 ** (scene.noise_db / 20)
    low, high = scene.band_hz
    band = 1 / np.sqrt((1 + (low / hz) ** 8) * (1 + (hz / high) ** 12))
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(echo, size)
    spectrum += noise_gain * noise_shape * np.fft.rfft(noise, size)
    heard = np.fft.irfft(spectrum * band, size)[: len(samples)]
    loud: Floats = np.tanh(heard * 10 ** (scene.gain_db / 20))
    return loud


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write a synthetic corpus of emotional babble.")
    parser.add_argument("--name", choices=sorted(SCENES), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the recordings and labels.csv")
    parser.add_argument("--speakers", type=int, default=8)
    parser.add_argument("--utterances-per-emotion", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_corpus(
        arguments.name,
        arguments.out,
        num_speakers=arguments.speakers,
        num_per_emotion=arguments.utterances_per_emotion,
        seed=arguments.seed,
    )


if __name__ == "__main__":
    _main()
