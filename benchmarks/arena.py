"""Methods on equal terms: corpora, source networks and figures, in process, on features that are computed once.

Settings are the product's. A source network passes through the 8-bit grid of a bundle before anything adapts it. A
target falls into two objects: a `Site`, which is all that an adaptation is given, and its `Answers`, whose labels make
figures and nothing else.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import permutations
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from benchmarks.classes import CLASSES
from benchmarks.record import RESULTS, ROOT, circumstances
from ecan_core.adaptation.calibrate import guessed_accuracy_of_panel
from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.registry import SCORING_METHODS
from ecan_core.adaptation.settings import DEFAULT_METHOD, AdaptSettings, members_of
from ecan_core.adaptation.site import adapt_site
from ecan_core.adaptation.verdict import Verdict, estimated_gain, estimated_gain_of_panel, judge
from ecan_core.adaptation.views import views_of
from ecan_core.command_line.console import Narrator
from ecan_core.corpora import read_corpus
from ecan_core.corpora.recipes import LAYOUTS
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import extract_features
from ecan_core.data.inputs import inputs_of
from ecan_core.data.labeled import Corpus
from ecan_core.encoders.front_end import front_end_named
from ecan_core.labels import check_classes
from ecan_core.model.architectures import ARCHITECTURES, architecture, build_network
from ecan_core.model.network import Network
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import to_arrays
from ecan_core.normalization.normalize import fit_normalizer
from ecan_core.normalization.voices import possible_mode
from ecan_core.training.metrics import calibration_error, confusion, uar, war
from ecan_core.training.train import TrainSettings, train
from ecan_core.utterance import Utterance
from protocol.bundle import weights
from protocol.bundle.form import ModelForm
from protocol.encoders.registry import CAMPPLUS
from protocol.encoders.store import default_folder, place_of
from source_site.training.front_end import NETWORKS, choose_network, front_end_of
from target_site.model.load import ModelCard
from target_site.tasks.recordings import hear_voices

SOURCE_NORMALIZATION = {"speaker": "speaker", "corpus": "corpus", "voice": "corpus"}
"""How the source normalizes, by how the target does."""
PRODUCT = "product"
"""The default method as the product runs it, by a committee; it is also the panel that judges all others."""
SINGLE_SEED = 1000
"""Added to the seed of a single network, so that no panel holds a run that it judges."""

Row = dict[str, Any]
AnyJob = TypeVar("AnyJob")
Result = TypeVar("Result")


class Site(NamedTuple):
    """What an adaptation may know: N front-end outputs, who speaks, whose voice is heard. No field holds a label."""

    features: tuple[np.ndarray, ...]
    speakers: tuple[str | None, ...]
    heard: tuple[str | None, ...] | None = None


class Answers:
    """The true classes of a site, behind the questions that may be asked of them."""

    def __init__(self, classes: np.ndarray, num_classes: int) -> None:
        self._classes, self._num_classes = classes, num_classes

    def uar(self, scores: np.ndarray) -> float:
        """UAR of scores ``[N, C]`` over the classes that occur."""
        return uar(confusion(self._classes, scores.argmax(axis=1), self._num_classes))

    def accuracy(self, scores: np.ndarray) -> float:
        """Share of right answers of scores ``[N, C]``."""
        return war(confusion(self._classes, scores.argmax(axis=1), self._num_classes))

    def calibration_error(self, scores: np.ndarray) -> float:
        """How far the confidence of scores ``[N, C]`` lies from the share of right answers."""
        return calibration_error(self._classes, scores)

    def of(self, rows: np.ndarray) -> GivenLabels:
        """What a person who labels these rows writes down."""
        return GivenLabels(rows=rows, classes=self._classes[rows])

    def among(self, chosen: np.ndarray) -> "Answers":
        """Of some utterances alone, bool ``[N]``."""
        return Answers(self._classes[chosen], self._num_classes)


@dataclass(frozen=True, kw_only=True)
class LabeledSpeech:
    """A corpus as front-end outputs, speakers and labels, row by row.

    Attributes:
        name: of the corpus.
        features: N front-end outputs.
        speakers: who speaks, None where unknown.
        labels: the true emotions.
        network: short name of the network that reads such features.
        heard: whose voice a speaker encoder hears; None where there is none, and voices are estimated.
    """

    name: str
    features: tuple[np.ndarray, ...]
    speakers: tuple[str | None, ...]
    labels: tuple[str, ...]
    network: str = "mlp"
    heard: tuple[str | None, ...] | None = None

    def take(self, rows: Iterable[int]) -> "LabeledSpeech":
        """These rows alone."""
        rows = list(rows)
        return replace(
            self,
            features=tuple(self.features[row] for row in rows),
            speakers=tuple(self.speakers[row] for row in rows),
            labels=tuple(self.labels[row] for row in rows),
            heard=None if self.heard is None else tuple(self.heard[row] for row in rows),
        )

    def restrict(self, classes: Sequence[str]) -> "LabeledSpeech":
        """The utterances of these classes alone: tasks are closed-set, as in the literature."""
        return self.take(row for row, label in enumerate(self.labels) if label in classes)

    def indices(self, classes: Sequence[str]) -> np.ndarray:
        """Class of each row ``[N]``."""
        return np.array([classes.index(label) for label in self.labels])

    def split(self, classes: Sequence[str]) -> tuple[Site, Answers]:
        """What an adaptation is given, and what it is not."""
        return Site(self.features, self.speakers, self.heard), Answers(self.indices(classes), len(classes))


@dataclass(frozen=True, kw_only=True)
class Job:
    """One source network and what is asked of it.

    Attributes:
        source: the source's corpus, of the task's classes alone.
        target: the target's, of the same.
        classes: the task's classes.
        normalization: how the source normalizes.
        seed: of the source network and of every adaptation.
        epochs: in place of the product's for both, to try a benchmark out; None keeps them.
    """

    source: LabeledSpeech
    target: LabeledSpeech
    classes: tuple[str, ...]
    normalization: str
    seed: int
    epochs: int | None = None

    @property
    def pair(self) -> str:
        """Source and target by name."""
        return f"{self.source.name}-{self.target.name}"

    @property
    def modes(self) -> list[str]:
        """How the target may normalize beside such a source."""
        return [mode for mode, source in SOURCE_NORMALIZATION.items() if source == self.normalization]

    def settings(self, **changes: Any) -> AdaptSettings:
        """The product's settings of the adaptation with some changes."""
        return AdaptSettings(**changes) if self.epochs is None else AdaptSettings(**{"epochs": self.epochs} | changes)


def extended(kind: type[AnyJob], job: Job, **more: Any) -> AnyJob:
    """The same job as one of another kind, with what that asks for besides."""
    return kind(**{field.name: getattr(job, field.name) for field in fields(job)}, **more)


class SourceModel(NamedTuple):
    """What crosses: the card and the 8-bit weights, here as the floats that they stand for."""

    card: ModelCard
    weights: dict[str, np.ndarray]

    def build(self) -> Network:
        """A fresh copy."""
        return self.card.build(self.weights)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What each number of an utterance is."""
        return front_end_named(architecture(self.card.arch).front_end).feature_names


def train_source(job: Job) -> SourceModel:
    """Train on the whole source corpus as `ecan-source train` does, and put the weights on the grid of a bundle."""
    source, arch = job.source, ARCHITECTURES[job.source.network]
    form = ModelForm(arch.name, len(job.classes), job.normalization)
    normalizer = fit_normalizer(job.normalization, source.features, source.speakers)
    inputs = inputs_of(normalizer.apply(source.features, source.speakers))
    network = build_network(
        arch,
        input_dim=source.features[0].shape[-1],
        num_classes=len(job.classes),
        normalization=job.normalization,
        seed=job.seed,
    )
    settings = TrainSettings() if job.epochs is None else TrainSettings(epochs=job.epochs)
    train(network, inputs, torch.from_numpy(source.indices(job.classes)), settings, seed=job.seed)
    crossed = weights.dequantize(weights.unpack(weights.pack(to_arrays(network), form), form), form)
    return SourceModel(ModelCard(arch=arch.name, normalization=job.normalization, classes=job.classes), crossed)


class Outcome(NamedTuple):
    """What a method made of a site.

    Attributes:
        source_scores: of the model as it was received ``[N, C]``.
        scores: of the committee after the last epoch.
        members: the same of each of its networks.
        epochs: of the committee after each epoch of each round.
        seconds: how long it took.
        views: how often two views tell the scores' answers alike; None with one view, or where nobody asked.
        voices: whose voice is heard, as far as the product asks for its verdict.
    """

    source_scores: np.ndarray
    scores: np.ndarray
    members: tuple[np.ndarray, ...]
    epochs: list[np.ndarray]
    seconds: float
    views: float | None = None
    voices: tuple[str | None, ...] | None = None


def adapt_to(
    model: SourceModel,
    site: Site,
    *,
    mode: str,
    settings: AdaptSettings,
    seed: int,
    method: str | None = None,
    given: GivenLabels | None = None,
    with_views: bool = False,
) -> Outcome:
    """Adapt as `ecan-target adapt` does, without the shell around it: the product, or one network by one method."""
    methods = members_of(DEFAULT_METHOD) if method is None else (method,)
    after_epochs: list[np.ndarray] = []
    started = time.monotonic()
    adapted = adapt_site(
        model.build,
        site.features,
        site.speakers,
        model.feature_names,
        mode=possible_mode(mode, len(site.features)),
        methods=("none",) if method in SCORING_METHODS else methods,
        settings=settings,
        seed=seed,
        on_epoch=lambda _, scores: after_epochs.append(scores),
        heard=site.heard,
        given=given,
    )
    inputs = adapted.unadapted.inputs(site.features, site.speakers)
    scores, of_members = adapted.scores, tuple(member.scores for member in adapted.members)
    if method is not None and method in SCORING_METHODS:
        scores = SCORING_METHODS[method](model.build(), inputs, settings, seed=seed).scores
        of_members = (scores,)
    seconds = time.monotonic() - started
    speakers = site.heard if mode == "voice" and site.heard is not None else site.speakers
    views = views_of(adapted, site.features, speakers, model.feature_names) if with_views else None
    epochs = committee_epochs(after_epochs, len(methods), len(adapted.members[0].records))
    voices = None if mode == "speaker" else site.heard
    return Outcome(predict_scores(model.build(), inputs), scores, of_members, epochs, seconds, views, voices)


def committee_epochs(heard: Sequence[np.ndarray], members: int, num_epochs: int) -> list[np.ndarray]:
    """Scores of the committee after each epoch, from those of its members in the order round, member, epoch."""
    if not heard:
        return []
    by_member = np.stack(heard).reshape(-1, members, num_epochs, *heard[0].shape)
    return list(by_member.mean(axis=1).reshape(-1, *heard[0].shape))


class Kept(NamedTuple):
    """What the product keeps of an outcome, without labels: estimated gain in points, verdict, scores ``[N, C]``."""

    gain: float
    verdict: Verdict
    scores: np.ndarray


def keep(outcome: Outcome, panel: Outcome | None) -> Kept:
    """Judge an outcome by a panel that does not hold it, or, where it is the panel, by its own members.

    Without a panel nothing was adapted and nothing is judged.
    """
    source_scores, scores = outcome.source_scores, outcome.scores
    if panel is None:
        return Kept(0.0, Verdict.INCONCLUSIVE, scores)
    if panel is outcome:
        gain = estimated_gain_of_panel(source_scores, outcome.members)
    else:
        gain = estimated_gain(source_scores, scores, panel.scores)
    right = None if panel.views is None else guessed_accuracy_of_panel(panel.scores, panel.views)
    verdict = judge(source_scores, scores, gain, outcome.voices, right).verdict
    return Kept(gain, verdict, source_scores if verdict is Verdict.REVERTED else scores)


def figures(outcome: Outcome, answers: Answers, panel: Outcome | None) -> Row:
    """The figures of an outcome; the labels are opened here."""
    kept = keep(outcome, panel)
    candidates = [outcome.source_scores, *outcome.epochs, outcome.scores]
    return {
        "uar": round(answers.uar(outcome.scores), 5),
        "uar_selected": round(answers.uar(kept.scores), 5),
        "uar_oracle": round(max(map(answers.uar, candidates)), 5),
        "uar_source": round(answers.uar(outcome.source_scores), 5),
        "verdict": kept.verdict.value,
        "gain": round(kept.gain, 3),
        "members": len(outcome.members),
        "seconds": round(outcome.seconds, 2),
    }


def benchmark_parser(name: str, description: str | None, *, seeds: int) -> argparse.ArgumentParser:
    """The options that the benchmarks in process share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora")
    parser.add_argument(
        "--front-end", choices=("auto", *NETWORKS), default="auto", help="as of `ecan-source train`; default: auto"
    )
    parser.add_argument("--encoders", type=Path, default=default_folder(), help="folder of public encoders")
    parser.add_argument("--pair", action="append", help="such as emodb-nemo; may be repeated; default: all")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="in place of the product's, to try the benchmark out")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes, of one thread each")
    parser.add_argument("--cache", type=Path, help="folder of features, kept; default: a temporary one")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.jsonl")
    parser.add_argument("--table", action="store_true", help="only rewrite the documents' tables from --out")
    return parser


class Hearing(NamedTuple):
    """How a corpus is heard: by the front end of a network, and with a speaker encoder beside Whisper.

    Attributes:
        network: short name of the network.
        encoders: folder of the public encoders.
    """

    network: str
    encoders: Path

    @property
    def hears_voices(self) -> bool:
        """Whether an encoder hears voices; the front end of before has the estimate of before beside it."""
        return self.network != NETWORKS["stats-v1"] and place_of(self.encoders, CAMPPLUS).exists()


def hearing_of(arguments: argparse.Namespace) -> Hearing:
    """What the options ask for."""
    reading = choose_network("mlp", arguments.front_end, arguments.encoders)
    if reading.lost:
        print(reading.lost, file=sys.stderr)
    return Hearing(reading.network, arguments.encoders)


@contextmanager
def cache_folder(kept: Path | None) -> Iterator[Path]:
    """Where features lie: a folder that stays, or one that goes."""
    if kept is not None:
        yield kept
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def find_corpora(folder: Path) -> dict[str, Corpus]:
    """The corpora of a folder by name: those with a ``labels.csv``, and those named after a layout."""
    found = {}
    for path in sorted(folder.iterdir()):
        if (path / "labels.csv").exists():
            found[path.name] = replace(read_corpus("csv", path), name=path.name)
        elif path.is_dir() and path.name in LAYOUTS:
            found[path.name] = read_corpus(path.name, path)
    return found


def load(arguments: argparse.Namespace) -> dict[str, LabeledSpeech]:
    """The corpora that the wanted pairs need, by name."""
    corpora = find_corpora(arguments.corpora)
    names = {name for pair in ordered_pairs(corpora, arguments.pair) for name in pair}
    hearing = hearing_of(arguments)
    with cache_folder(arguments.cache) as cache:
        return {name: extract(corpora[name], hearing, cache / f"{name}.cache") for name in corpora if name in names}


def ordered_pairs(names: Iterable[str], wanted: Sequence[str] | None) -> list[tuple[str, str]]:
    """All ordered pairs, or of these the wanted ones."""
    return [pair for pair in permutations(names, 2) if not wanted or "-".join(pair) in wanted]


def extract(corpus: Corpus, hearing: Hearing, cache_path: Path) -> LabeledSpeech:
    """The features of a corpus, computed once; utterances that the front end refuses are left out."""
    front_end = front_end_of(ARCHITECTURES[hearing.network], hearing.encoders)
    with FeatureCache(cache_path) as cache:
        table = extract_features(corpus.without_labels(), front_end, cache)
    voices = None
    if hearing.hears_voices:
        voices = heard_voices(table.utterances, hearing.encoders, cache_path.with_suffix(".voices"))
    label_of = {item.utterance.id: item.label for item in corpus.utterances}
    return LabeledSpeech(
        name=corpus.name,
        features=table.features,
        speakers=tuple(utterance.speaker for utterance in table.utterances),
        labels=tuple(label_of[utterance.id] for utterance in table.utterances),
        network=hearing.network,
        heard=voices,
    )


def heard_voices(utterances: Sequence[Utterance], encoders: Path, kept: Path) -> tuple[str | None, ...]:
    """The voice of each utterance; its name alone is kept in a file, and no embedding."""
    if kept.exists():
        return tuple(json.loads(kept.read_text()))
    found = hear_voices(utterances, encoders, Narrator(quiet=True))
    kept.write_text(json.dumps(found))
    return tuple(found)


def classes_of(source: LabeledSpeech, target: LabeledSpeech) -> tuple[str, ...]:
    """The classes of a task."""
    stated = CLASSES.get(frozenset({source.name, target.name}))
    return check_classes(stated.split(",") if stated else sorted({*source.labels} & {*target.labels}))


def make_jobs(speech: dict[str, LabeledSpeech], arguments: argparse.Namespace) -> list[Job]:
    """A job for every pair, normalization of the source and seed; whole seeds come one after the other."""
    jobs = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for normalization in dict.fromkeys(SOURCE_NORMALIZATION.values()):
            for source, target in ordered_pairs(speech, arguments.pair):
                classes = classes_of(speech[source], speech[target])
                jobs.append(
                    Job(
                        source=speech[source].restrict(classes),
                        target=speech[target].restrict(classes),
                        classes=classes,
                        normalization=normalization,
                        seed=seed,
                        epochs=arguments.epochs,
                    )
                )
    return jobs


def run_jobs(work: Callable[[AnyJob], list[Row]], jobs: Sequence[AnyJob], out: Path, workers: int) -> None:
    """Do the jobs in processes of one thread each and write their rows as JSON lines, in the order of the jobs."""
    common = circumstances()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") as file:
        for rows in in_processes(work, jobs, workers):
            file.writelines(json.dumps(row | common) + "\n" for row in rows)
            file.flush()


def in_processes(work: Callable[[AnyJob], Result], jobs: Sequence[AnyJob], workers: int) -> Iterator[Result]:
    """Do the jobs in processes of one thread each and yield what comes of them, in their order."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for number, result in enumerate(pool.map(work, jobs), start=1):
            print(f"{number}/{len(jobs)}", file=sys.stderr)
            yield result
