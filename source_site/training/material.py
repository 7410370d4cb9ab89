"""Read what a source trains on, and train on it.

The released network and those of its audit are trained by the same function.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from ecan_core.audio.frontend import FrontEnd
from ecan_core.audio.telephone import TelephoneFrontEnd
from ecan_core.command_line.console import Narrator
from ecan_core.corpora import read_corpus
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import FeatureTable, extract_features
from ecan_core.data.inputs import Inputs, inputs_of
from ecan_core.data.labeled import Corpus, unused
from ecan_core.errors import AudioError, UsageError
from ecan_core.labels import check_classes
from ecan_core.model.architectures import ARCHITECTURES, Architecture, build_network
from ecan_core.model.network import Network
from ecan_core.model.weights import load_arrays, to_arrays
from ecan_core.normalization.normalize import fit_normalizer, require_speakers
from ecan_core.runtime.cage import bring
from ecan_core.training.private import PrivateSettings, hide_first_weights, train_private
from ecan_core.training.train import TrainSettings, train
from protocol.bundle import weights
from protocol.bundle.form import ModelForm
from protocol.sandbox.confine import confine_to_computing
from source_site.training.front_end import front_end_of


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Describe how a network is trained.

    Attributes:
        settings: the usual training.
        private: a private one in its place.
        telephone: whether each utterance is learned twice, once as a telephone gives it.
    """

    settings: TrainSettings = field(default_factory=TrainSettings)
    private: PrivateSettings | None = None
    telephone: bool = False


@dataclass(frozen=True, kw_only=True)
class FirstWeights:
    """Say what weights a training begins with.

    Attributes:
        seed: seed of the initialization.
        noise_key: what a private training hides them by.
    """

    seed: int
    noise_key: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Hold N labelled utterances of all corpora as a network reads them.

    Attributes:
        arch: the architecture that they are for.
        normalization: ``none``, ``corpus`` or ``speaker``.
        classes: class names in the order of the head's rows, C.
        values: normalized front-end outputs, N arrays ``[S]`` or ``[F, M]``.
        labels: class indices ``[N]``.
        speakers: who speaks; None where that is unknown.
        durations_s: length of each in seconds.
        digests: SHA-256 of each one's features, label and speaker, in hexadecimal: tells utterances apart and names
            none.
        paths: where each was read, for the source's own eyes.
        copies: what some of them, by their index, are over the telephone; normalized among each other.
        added_encoder: SHA-256 of the added encoder that they are read by, in hexadecimal; empty where there is none.
    """

    arch: Architecture
    normalization: str
    classes: tuple[str, ...]
    values: tuple[np.ndarray, ...]
    labels: np.ndarray
    speakers: tuple[str | None, ...]
    durations_s: tuple[float, ...]
    digests: tuple[str, ...]
    paths: tuple[Path, ...]
    copies: Mapping[int, np.ndarray] = field(default_factory=dict)
    added_encoder: str = ""

    @property
    def form(self) -> ModelForm:
        """Return the form of a network that is trained on them."""
        return ModelForm(self.arch.name, len(self.classes), self.normalization)

    def __len__(self) -> int:
        """Return the number of utterances, N."""
        return len(self.labels)

    @property
    def num_speakers(self) -> int:
        """Return the number of known speakers."""
        return len(set(self.speakers) - {None})

    @property
    def speaker_numbers(self) -> np.ndarray:
        """Return a number for each utterance's speaker ``[N]``.

        -1 where that is unknown.
        """
        number = {speaker: place for place, speaker in enumerate(sorted({one for one in self.speakers if one}))}
        return np.array([number.get(speaker, -1) if speaker else -1 for speaker in self.speakers])

    @property
    def hours(self) -> float:
        """Return the length of the speech in hours."""
        return sum(self.durations_s) / 3600.0

    @property
    def vectors(self) -> np.ndarray:
        """Return each utterance as one vector ``[N, V]``.

        The vector holds its statistics, or means and deviations over its frames.
        """
        if self.values[0].ndim == 1:
            return np.stack(self.values)
        return np.stack([np.concatenate([value.mean(axis=0), value.std(axis=0)]) for value in self.values])

    def inputs(self, rows: Sequence[int] | np.ndarray | None = None) -> Inputs:
        """Return the utterances of some rows for a network; None takes all."""
        return inputs_of(self.values if rows is None else [self.values[row] for row in rows])


def read_material(
    corpora: Sequence[tuple[str, Path]],
    *,
    classes: Sequence[str] | None,
    normalization: str,
    encoder: str,
    cache_path: Path,
    narrator: Narrator,
    relabel: Mapping[str, str] | None = None,
    encoders: Path | None = None,
    added_encoder: str = "",
    telephone: bool = False,
) -> Material:
    """Read labelled corpora and normalize their front-end outputs.

    Args:
        corpora: recipe and path of each corpus.
        classes: the classes to learn; None takes those that all corpora share.
        normalization: ``none``, ``corpus`` or ``speaker``.
        encoder: short name of the architecture.
        cache_path: where front-end outputs are kept between runs.
        narrator: tells a person what is left out and how far the work has come.
        relabel: what some of the corpora's labels are to count as, such as calm as neutral.
        encoders: folder of public encoders; None takes the user's.
        added_encoder: SHA-256 of the added encoder that the architecture is read by, in hexadecimal.
        telephone: also hear each utterance as a telephone gives it.

    Raises:
        RefusedError: the public encoder that the architecture is read by is missing, or the file is another one.
        UsageError: a class is in none of the corpora, or a corpus is named twice.
        AudioError: fewer than two classes have usable speech.
    """
    arch = ARCHITECTURES[encoder]
    front_end = front_end_of(arch, encoders, added_encoder)
    _require_distinct([path for _, path in corpora])
    read = [read_corpus(recipe, path, relabel) for recipe, path in corpora]
    if warning := unused(relabel or {}, read):
        narrator.say(warning)
    chosen = _choose_classes(read, classes)
    for corpus in read:
        require_speakers(normalization, [item.utterance.speaker for item in corpus.utterances])
    with FeatureCache(cache_path) as cache:
        parts = [_load(corpus, chosen, front_end, cache, narrator) for corpus in read]
        copies = [
            _over_telephone(part, front_end, cache, normalization, narrator) if telephone else [None] * len(part.labels)
            for part in parts
        ]
    labels = np.concatenate([[chosen.index(label) for label in part.labels] for part in parts])
    _require_every_class(labels, chosen)
    utterances = [utterance for part in parts for utterance in part.table.utterances]
    return Material(
        arch=arch,
        normalization=normalization,
        classes=chosen,
        values=tuple(row for part in parts for row in _normalized(part.table, normalization)),
        labels=labels,
        speakers=tuple(utterance.speaker for utterance in utterances),
        durations_s=tuple(seconds for part in parts for seconds in part.table.durations_s),
        digests=tuple(digest for part in parts for digest in _digests(part)),
        paths=tuple(utterance.path for utterance in utterances),
        copies={row: copy for row, copy in enumerate(chain.from_iterable(copies)) if copy is not None},
        added_encoder=added_encoder,
    )


def fit_network(
    material: Material,
    rows: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    noise_key: int = 0,
    first: FirstWeights | None = None,
) -> Network:
    """Train a fresh network on some utterances.

    Args:
        material: all utterances.
        rows: indices of those to train on.
        recipe: how to train.
        seed: seed of initialization, shuffling and dropout.
        noise_key: 128 bits that a private training draws its first weights and its noise from; secret if the network
            leaves.
        first: the weights to begin with; None draws them from ``seed`` and ``noise_key``.

    Raises:
        SettingsError: the training diverged, or private training does not go with the normalization.
    """
    first = first or FirstWeights(seed=seed, noise_key=noise_key)
    learned = np.concatenate([rows, [row for row in rows if row in material.copies]]).astype(np.int64)
    chosen = [*(material.values[row] for row in rows), *(material.copies[row] for row in learned[len(rows) :])]
    network = build_network(
        material.arch,
        input_dim=chosen[0].shape[-1],
        num_classes=len(material.classes),
        normalization=material.normalization,
        seed=first.seed,
    )
    if network.standardize is not None:
        network.standardize.fit(chosen)
    labels = torch.from_numpy(material.labels[learned])
    if recipe.private is None:
        train(network, inputs_of(chosen), labels, recipe.settings, seed=seed)
    else:
        hide_first_weights(network, first.noise_key)
        speakers = torch.from_numpy(material.speaker_numbers[learned])
        train_private(network, inputs_of(chosen), labels, recipe.private, noise_key=noise_key, speakers=speakers)
    return network


def quantize_network(network: Network, form: ModelForm) -> bytes:
    """Replace a network's weights by what a bundle would hold of them.

    Returns:
        The weights of that bundle; their SHA-256 is the one that its manifest states.

    Raises:
        MalformedError: a weight is too large for the grid of a bundle.
    """
    packed = weights.pack(to_arrays(network), form)
    load_arrays(network, weights.dequantize(weights.unpack(packed, form), form))
    return packed


@dataclass(frozen=True, kw_only=True)
class _LabeledTable:
    """Hold front-end outputs of one corpus with their labels, in order."""

    table: FeatureTable
    labels: tuple[str, ...]


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
        raise UsageError(
            f"no corpus has the class {missing[0]!r}; present are {', '.join(sorted(set.union(*present)))}"
        )
    return chosen


def _load(
    corpus: Corpus,
    classes: tuple[str, ...],
    front_end: FrontEnd,
    cache: FeatureCache,
    narrator: Narrator,
) -> _LabeledTable:
    for reason, count in sorted(corpus.left_out.items()):
        narrator.say(f"{corpus.name}: left out {count} files or rows ({reason})")
    corpus, left_out = corpus.restrict(classes)
    if left_out:
        counts = ", ".join(f"{count} {label}" for label, count in sorted(left_out.items()))
        narrator.say(f"{corpus.name}: left out {sum(left_out.values())} utterances of other classes ({counts})")
    bring(confine_to_computing)
    with narrator.progress(f"features of {corpus.name}") as tick:
        table = extract_features(
            corpus.without_labels(),
            front_end,
            cache,
            on_progress=tick,
        )
    if table.refusals:
        narrator.say(f"{corpus.name}: skipped unusable utterances: {table.skipped}")
    label_of = {item.utterance.id: item.label for item in corpus.utterances}
    return _LabeledTable(table=table, labels=tuple(label_of[u.id] for u in table.utterances))


def _over_telephone(
    part: _LabeledTable, front_end: FrontEnd, cache: FeatureCache, mode: str, narrator: Narrator
) -> list[np.ndarray | None]:
    """Return each utterance as a telephone gives it; None if it is gone."""
    with narrator.progress("the same over the telephone") as tick:
        heard = extract_features(part.table.utterances, TelephoneFrontEnd(front_end), cache, on_progress=tick)
    copy_of = dict(zip(heard.utterances, _normalized(heard, mode), strict=True))
    return [copy_of.get(utterance) for utterance in part.table.utterances]


def _normalized(table: FeatureTable, mode: str) -> list[np.ndarray]:
    speakers = [utterance.speaker for utterance in table.utterances]
    return fit_normalizer(mode, table.features, speakers).apply(table.features, speakers)


def _digests(part: _LabeledTable) -> list[str]:
    """Return the digests of utterances; speakers count by their order.

    The order in which they first speak: their names hold the name of a folder.
    """
    speakers = [utterance.speaker for utterance in part.table.utterances]
    number = {speaker: str(place).encode() for place, speaker in enumerate(dict.fromkeys(speakers))}
    return [
        hashlib.sha256(b"\0".join((features.tobytes(), label.encode(), number[speaker]))).hexdigest()
        for features, label, speaker in zip(part.table.features, part.labels, speakers, strict=True)
    ]


def _require_every_class(labels: np.ndarray, classes: tuple[str, ...]) -> None:
    for index, name in enumerate(classes):
        if not (labels == index).any():
            raise AudioError(f"no usable utterance is left of the class {name!r}: leave it out with --classes")


def _require_distinct(paths: Sequence[Path]) -> None:
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("a corpus is named twice: name each once")
