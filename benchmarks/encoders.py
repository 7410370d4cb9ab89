"""What public encoders add: `stats-v1` against `stats-whisper-v1`, and voices estimated against voices heard.

In process, by the product's committee and settings, on development corpora; the encoders lie in a folder that
``ecan-source encoder fetch`` fills. Embeddings of speakers are dropped as soon as the voices are named. One JSON line
per run; ``--speed`` measures the encoders' CPU time on real speech instead.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.arena import (
    PRODUCT,
    Job,
    LabeledSpeech,
    Outcome,
    Row,
    Site,
    benchmark_parser,
    cache_folder,
    figures,
    find_corpora,
    in_processes,
    make_jobs,
    ordered_pairs,
)
from benchmarks.frontend import hear, seconds
from benchmarks.record import circumstances
from ecan_core.adaptation.settings import DEFAULT_METHOD, members_of
from ecan_core.adaptation.site import adapt_site
from ecan_core.audio.decode import decode, resample
from ecan_core.audio.frontend import FRONT_ENDS, FrontEnd
from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.audio.waveform import Waveform
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import extract_features
from ecan_core.data.inputs import inputs_of
from ecan_core.data.labeled import Corpus
from ecan_core.encoders import campplus
from ecan_core.encoders.campplus import CamPlusPlus
from ecan_core.encoders.front_end import WhisperFrontEnd, load_whisper
from ecan_core.encoders.voices import embed_voices, group_voices
from ecan_core.encoders.weights import read_weights
from ecan_core.model.architectures import ARCHITECTURES, Architecture, build_network
from ecan_core.model.network import Network
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import load_arrays, to_arrays
from ecan_core.normalization.normalize import fit_normalizer
from ecan_core.training.train import TrainSettings, train
from protocol.bundle import weights
from protocol.encoders.registry import CAMPPLUS, WHISPER
from protocol.encoders.store import default_folder, place_of

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class HeardSpeech(LabeledSpeech):
    """A corpus with the voice of each utterance beside it, as a speaker encoder hears it."""

    heard: tuple[str, ...]

    def take(self, rows: Iterable[int]) -> "HeardSpeech":
        """These rows alone."""
        rows = list(rows)
        taken = super().take(rows)
        assert isinstance(taken, HeardSpeech)
        return replace(taken, heard=tuple(self.heard[row] for row in rows))


class Setup(NamedTuple):
    """A front end with its network, and whether the speaker encoder's voices are used."""

    architecture: Architecture
    front_end: FrontEnd
    is_heard: bool


def main() -> None:
    parser = benchmark_parser("encoders", __doc__, seeds=2)
    parser.add_argument("--encoders", type=Path, default=default_folder())
    parser.add_argument("--speed", action="store_true", help="measure CPU time and nothing else")
    parser.add_argument("--mode", action="append", choices=["speaker", "corpus", "voice"])
    arguments = parser.parse_args()
    if arguments.speed:
        print(json.dumps(speed(arguments.corpora, arguments.encoders) | circumstances()))
        return
    corpora = find_corpora(arguments.corpora)
    names = {name for pair in ordered_pairs(corpora, arguments.pair) for name in pair}
    jobs = []
    with cache_folder(arguments.cache) as cache:
        voices = {name: heard_voices(corpora[name], arguments.encoders, cache) for name in sorted(names)}
        for setup in setups(arguments.encoders):
            speech = {name: extract(corpora[name], setup.front_end, cache, voices[name]) for name in sorted(names)}
            jobs += [(job, setup) for job in make_jobs(speech, arguments)]
    work = partial(run_job, modes=arguments.mode)
    common = circumstances()
    with arguments.out.open("w") as file:
        for rows in in_processes(work, jobs, arguments.workers):
            file.writelines(json.dumps(row | common) + "\n" for row in rows)
            file.flush()


def setups(folder: Path) -> list[Setup]:
    """Both front ends, the product of today first."""
    whisper = WhisperFrontEnd(path=place_of(folder, WHISPER), encoder_sha256=WHISPER.sha256)
    mlp = ARCHITECTURES["mlp"]
    return [Setup(mlp, FRONT_ENDS[mlp.front_end], False), Setup(ARCHITECTURES["mlp-whisper"], whisper, True)]


def extract(corpus: Corpus, front_end: FrontEnd, cache: Path, voices: dict[str, str]) -> HeardSpeech:
    """The features of a corpus, computed once, with the voice of each utterance."""
    with FeatureCache(cache / f"{corpus.name}.cache") as features:
        table = extract_features(corpus.without_labels(), front_end, features)
    label_of = {item.utterance.id: item.label for item in corpus.utterances}
    return HeardSpeech(
        name=corpus.name,
        features=table.features,
        speakers=tuple(utterance.speaker for utterance in table.utterances),
        labels=tuple(label_of[utterance.id] for utterance in table.utterances),
        heard=tuple(voices[utterance.id] for utterance in table.utterances),
    )


def heard_voices(corpus: Corpus, folder: Path, cache: Path) -> dict[str, str]:
    """The voice of every utterance by its id; the name alone is kept."""
    kept = cache / f"{corpus.name}.voices.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    encoder = speaker_encoder(folder)
    utterances = [item.utterance for item in corpus.utterances]
    sounds = (resample(decode(utterance.path), SAMPLE_RATE).samples for utterance in utterances)
    found = group_voices(embed_voices(encoder, sounds), seed=0).found
    named = {utterance.id: name for utterance, name in zip(utterances, found, strict=True)}
    kept.write_text(json.dumps(named))
    return named


def speaker_encoder(folder: Path) -> CamPlusPlus:
    """CAM++ from a folder of encoders."""
    return CamPlusPlus(read_weights(place_of(folder, CAMPPLUS), CAMPPLUS.sha256, campplus.tensor_shapes()))


def run_job(task: tuple[Job, Setup], modes: Sequence[str] | None) -> list[Row]:
    """One source network and the product on it, in every normalization that fits."""
    job, setup = task
    trained, (site, answers) = train_source(job, setup), job.target.split(job.classes)
    assert isinstance(job.target, HeardSpeech)
    rows = []
    for mode in [mode for mode in job.modes if not modes or mode in modes]:
        heard = job.target.heard if setup.is_heard and mode == "voice" else None
        outcome = adapt(trained, site, mode, heard, job, setup)
        place = {"pair": job.pair, "normalization": mode, "seed": job.seed, "front_end": setup.front_end.name}
        rows.append(place | {"method": PRODUCT} | figures(outcome, answers, outcome))
    return rows


def train_source(job: Job, setup: Setup) -> dict[str, np.ndarray]:
    """Train as `ecan-source train` does; the weights pass through the grid of a bundle."""
    source, form = job.source, (setup.architecture.name, len(job.classes), job.normalization)
    normalizer = fit_normalizer(job.normalization, source.features, source.speakers)
    inputs = inputs_of(normalizer.apply(source.features, source.speakers))
    network = empty(job, setup)
    settings = TrainSettings() if job.epochs is None else TrainSettings(epochs=job.epochs)
    train(network, inputs, torch.from_numpy(source.indices(job.classes)), settings, seed=job.seed)
    return weights.dequantize(weights.unpack(weights.pack(to_arrays(network), *form), *form), *form)


def empty(job: Job, setup: Setup) -> Network:
    """A network without anything learned."""
    return build_network(
        setup.architecture,
        input_dim=setup.front_end.dim,
        num_classes=len(job.classes),
        normalization=job.normalization,
        seed=job.seed,
    )


def adapt(
    crossed: dict[str, np.ndarray],
    site: Site,
    mode: str,
    heard: Sequence[str | None] | None,
    job: Job,
    setup: Setup,
) -> Outcome:
    """Adapt as `ecan-target adapt` does, without the shell around it."""

    def build() -> Network:
        network = empty(job, setup)
        load_arrays(network, crossed)
        return network

    started = time.monotonic()
    adapted = adapt_site(
        build,
        site.features,
        site.speakers,
        setup.front_end.feature_names,
        mode=mode,
        methods=members_of(DEFAULT_METHOD),
        settings=job.settings(),
        seed=job.seed,
        heard=heard,
    )
    inputs = adapted.unadapted.inputs(*site)
    members = tuple(member.scores for member in adapted.members)
    return Outcome(predict_scores(build(), inputs), adapted.scores, members, [], time.monotonic() - started)


def speed(corpora: Path, folder: Path) -> Row:
    """CPU seconds that an hour of speech takes, the least of three rounds, on one thread."""
    sounds = [sound for name in ("emodb", "ravdess", "nemo") for sound in hear(corpora / name, 40)]
    hours = sum(map(len, sounds)) / SAMPLE_RATE / SECONDS_PER_HOUR
    statistics = FRONT_ENDS["stats-v1"]
    whisper = load_whisper(place_of(folder, WHISPER), WHISPER.sha256)
    speaker = speaker_encoder(folder)
    by_length = sorted(sounds, key=len)
    works = {
        "stats-v1": lambda: [statistics.compute(Waveform(samples=s, sample_rate=SAMPLE_RATE)) for s in sounds],
        "whisper": lambda: [whisper.embed([sound]) for sound in sounds],
        "whisper, 8 at a time": lambda: [whisper.embed(by_length[at : at + 8]) for at in range(0, len(sounds), 8)],
        "campplus": lambda: embed_voices(speaker, sounds),
    }
    torch.set_num_threads(1)
    return {name: round(min(seconds(work) for _ in range(3)) / hours, 1) for name, work in works.items()}


if __name__ == "__main__":
    main()
