"""Train the source model: labelled corpora -> RUN (weights and the few facts that the manifest needs)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.corpora import read_corpus
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import FeatureTable, extract_features
from ecan_core.data.inputs import Inputs, inputs_of
from ecan_core.data.labeled import Corpus
from ecan_core.errors import AudioError, UsageFault
from ecan_core.labels import check_classes
from ecan_core.metrics import confusion, uar
from ecan_core.model.architectures import ARCHITECTURES, Architecture, build_network
from ecan_core.model.network import Network
from ecan_core.model.weights import load_arrays, to_arrays
from ecan_core.narrator import Narrator
from ecan_core.normalize import fit_normalizer, require_speakers
from ecan_core.predict import predict_scores
from ecan_core.train import TrainSettings, train
from protocol import weights
from source_site.store import RunFacts, save_run

HELD_OUT_SHARE = 4
"""One speaker in this many is held out to estimate the source model's UAR; with fewer there is no estimate."""
NOT_ESTIMATED = 0.0


@dataclass(frozen=True, kw_only=True)
class LabeledTable:
    """Front-end outputs of one corpus with their labels, in the same order."""

    table: FeatureTable
    labels: tuple[str, ...]


def train_run(
    corpora: Sequence[tuple[str, Path]],
    out: Path,
    *,
    classes: Sequence[str] | None,
    normalization: str,
    encoder: str,
    settings: TrainSettings,
    seed: int,
    cache_path: Path | None,
    narrator: Narrator,
) -> RunFacts:
    """Train on labelled corpora and write the run folder.

    The recognition rate that the manifest will state is measured by a first network, on speakers that it has not
    heard, before and after quantization; the network that leaves is then trained on everybody.

    Args:
        corpora: recipe and path of each corpus.
        out: run folder.
        classes: the classes to learn; None takes those that all corpora share.
        normalization: ``none``, ``corpus`` or ``speaker``.
        encoder: short name of the architecture.
        settings: how to train.
        seed: seed of initialization, shuffling and dropout.
        cache_path: where front-end outputs are kept between runs; None keeps them in the run folder.
        narrator: tells a person what is left out and how far the work has come.

    Raises:
        UsageFault: a class is in none of the corpora, or a corpus is named twice.
        AudioError: fewer than two classes have usable speech.
        SettingsError: the training diverged.
        Malformed: a weight is too large for the grid of a bundle.
    """
    arch = ARCHITECTURES[encoder]
    _require_distinct([path for _, path in corpora])
    read = [read_corpus(recipe, path) for recipe, path in corpora]
    chosen = _choose_classes(read, classes)
    for corpus in read:
        require_speakers(normalization, [item.utterance.speaker for item in corpus.utterances])
    out.mkdir(parents=True, exist_ok=True)
    with FeatureCache(cache_path or out / "features.cache") as cache:
        tables = [_load(corpus, chosen, arch, cache, narrator) for corpus in read]
    labels = np.concatenate([[chosen.index(label) for label in part.labels] for part in tables])
    _require_every_class(labels, chosen)
    values = [row for part in tables for row in _normalized(part.table, normalization)]
    speakers = [utterance.speaker for part in tables for utterance in part.table.utterances]

    def fit(rows: np.ndarray) -> Network:
        chosen_values = [values[row] for row in rows]
        network = build_network(
            arch, input_dim=values[0].shape[-1], num_classes=len(chosen), normalization=normalization, seed=seed
        )
        if network.standardize is not None:
            network.standardize.fit(chosen_values)
        train(network, inputs_of(chosen_values), torch.from_numpy(labels[rows]), settings, seed=seed)
        return network

    held_out = _held_out_rows(speakers, labels, seed)
    uar_float = uar_quantized = NOT_ESTIMATED
    if len(held_out):
        narrator.say("estimating the recognition rate on held-out speakers")
        network = fit(np.setdiff1d(np.arange(len(labels)), held_out))
        unheard = inputs_of([values[row] for row in held_out])
        uar_float = _uar_of(network, unheard, labels[held_out])
        _quantize(network, arch.name, len(chosen), normalization)
        uar_quantized = _uar_of(network, unheard, labels[held_out])
    narrator.say("training on all speakers")
    network = fit(np.arange(len(labels)))
    facts = RunFacts(
        arch=arch.name,
        frontend=arch.front_end,
        normalization=normalization,
        classes=chosen,
        num_utterances=len(labels),
        num_speakers=len(set(speakers) - {None}),
        hours=sum(sum(part.table.durations_s) for part in tables) / 3600.0,
        uar_source=round(uar_quantized, 4),
        uar_float=round(uar_float, 4),
        seed=seed,
    )
    save_run(out, to_arrays(network), facts)
    return facts


def _choose_classes(corpora: Sequence[Corpus], wanted: Sequence[str] | None) -> tuple[str, ...]:
    present = [{item.label for item in corpus.utterances} for corpus in corpora]
    if wanted is None:
        shared = set.intersection(*present)
        if len(shared) < 2:
            raise AudioError(
                f"the corpora share {len(shared)} class(es) and at least two are needed: choose corpora that "
                "have classes in common"
            )
        return check_classes(sorted(shared))
    chosen = check_classes(wanted)
    missing = [name for name in chosen if not any(name in labels for labels in present)]
    if missing:
        raise UsageFault(
            f"no corpus has the class {missing[0]!r}; present are {', '.join(sorted(set.union(*present)))}"
        )
    return chosen


def _load(
    corpus: Corpus,
    classes: tuple[str, ...],
    arch: Architecture,
    cache: FeatureCache,
    narrator: Narrator,
) -> LabeledTable:
    for reason, count in sorted(corpus.left_out.items()):
        narrator.say(f"{corpus.name}: left out {count} files or rows ({reason})")
    corpus, left_out = corpus.restrict(classes)
    if left_out:
        counts = ", ".join(f"{count} {label}" for label, count in sorted(left_out.items()))
        narrator.say(f"{corpus.name}: left out {sum(left_out.values())} utterances of other classes ({counts})")
    with narrator.progress(f"features of {corpus.name}") as tick:
        table = extract_features(
            corpus.without_labels(),
            FRONT_ENDS[arch.front_end],
            cache,
            on_progress=tick,
        )
    if table.refusals:
        narrator.say(f"{corpus.name}: skipped unusable utterances: {table.skipped}")
    label_of = {item.utterance.id: item.label for item in corpus.utterances}
    return LabeledTable(table=table, labels=tuple(label_of[u.id] for u in table.utterances))


def _normalized(table: FeatureTable, mode: str) -> list[np.ndarray]:
    speakers = [utterance.speaker for utterance in table.utterances]
    return fit_normalizer(mode, table.features, speakers).apply(table.features, speakers)


def _require_every_class(labels: np.ndarray, classes: tuple[str, ...]) -> None:
    for index, name in enumerate(classes):
        if not (labels == index).any():
            raise AudioError(f"no usable utterance is left of the class {name!r}: leave it out with --classes")


def _require_distinct(paths: Sequence[Path]) -> None:
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageFault("a corpus is named twice: name each once")


def _held_out_rows(speakers: Sequence[str | None], labels: np.ndarray, seed: int) -> np.ndarray:
    """Rows of a quarter of the speakers, none where speakers are too few or unknown.

    A speaker who is the last one to speak a class stays in training: a class that was never heard cannot be
    recognized, and would be no measure of anything.
    """
    of_speaker = np.array([speaker or "" for speaker in speakers])
    names = sorted(set(of_speaker) - {""})
    held_out = np.zeros(len(labels), dtype=bool)
    num_wanted = len(names) // HELD_OUT_SHARE
    for name in np.random.default_rng(seed).permutation(names):
        wider = held_out | (of_speaker == name)
        if num_wanted and set(labels[~wider]) == set(labels):
            held_out, num_wanted = wider, num_wanted - 1
    return np.flatnonzero(held_out)


def _uar_of(network: Network, inputs: Inputs, labels: np.ndarray) -> float:
    predicted = predict_scores(network, inputs).argmax(axis=1)
    return uar(confusion(labels, predicted, network.head.bias.shape[0]))


def _quantize(network: Network, arch: str, num_classes: int, normalization: str) -> None:
    """Replace a network's weights by what a bundle would hold of them."""
    form = (arch, num_classes, normalization)
    packed = weights.pack(to_arrays(network), *form)
    load_arrays(network, weights.dequantize(weights.unpack(packed, *form), *form))
