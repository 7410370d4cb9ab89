"""Write synthetic emotional speech for demonstrations and tests.

It sounds like babble and holds no real voice.

Two corpora, "harbor" and "valley", differ in voices, vowels, tempo, room, line and noise, and a little in how
emotions are shown, as real corpora do. Each speaker shows them in an own way and no two utterances are alike,
so a classifier trained on one corpus is mediocre on the other.

    python -m benchmarks.synthetic_speech.synthetic --name harbor --out DIR --speakers 8 --utterances-per-emotion 8
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.synthetic_speech.babble import Prosody, Syllable, Voice, articulate, sentence
from benchmarks.synthetic_speech.scenes import EFFECTS, SCENES, SPREAD, Scene
from benchmarks.synthetic_speech.synthesizer import SAMPLE_RATE, Floats, synthesize
from ecan_core.command_line.console import run
from ecan_core.errors import EcanError

_NUM_SENTENCES = 10
_HABIT = 0.4
"""Deviation of a speaker's own manner, in units of `SPREAD`."""
_SHOW = 0.1
"""Deviation of how strongly a speaker shows a part of an emotion, logarithmic."""


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Describe a voice and its own way to show emotions.

    Attributes:
        voice: The voice at rest.
        show: How strongly this speaker shows each part of an emotion `[P]`.
        habit: What this speaker adds to each emotion, neutral included `[P]`.
    """

    voice: Voice
    show: Floats
    habit: Mapping[str, Floats]


def write_corpus(name: str, folder: Path, *, num_speakers: int, num_per_emotion: int, seed: int) -> Path:
    """Write a synthetic corpus as 16 kHz WAV files and a list of their labels.

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
    """Return one recorded utterance `[T]` at 16 kHz within ±1."""
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
    """Send speech `[T]` through the room and over the line."""
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


@click.command()
@click.option("--name", type=click.Choice(sorted(SCENES)), required=True, help="Which of the two corpora.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where to write.")
@click.option("--speakers", type=click.IntRange(1, 99), default=8, show_default=True)
@click.option("--utterances-per-emotion", type=click.IntRange(1, 199), default=8, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(name: str, out: Path, speakers: int, utterances_per_emotion: int, seed: int) -> None:
    """Write a synthetic emotional corpus as WAV files and labels.csv."""
    write_corpus(name, out, num_speakers=speakers, num_per_emotion=utterances_per_emotion, seed=seed)


if __name__ == "__main__":
    run(main, prog_name="python -m benchmarks.synthetic_speech.synthetic", error_types=(EcanError,))
