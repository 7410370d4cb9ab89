"""Offer the parts that a researcher puts together: docs/api.md.

Speech, a model, its adaptation to other speech, and how often it is right; no keys, bundles, containment or logs. What
a hospital or a call centre runs is `ecan-target`. Everything is computed on one thread, so that a seed gives the same
numbers again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ecan_core.adaptation.calibrate import soften, temperature_of
from ecan_core.adaptation.settings import DEFAULT_METHOD, MIN_UTTERANCES, AdaptSettings, check_settings, members_of
from ecan_core.adaptation.site import Preparation, SiteAdaptation, adapt_site
from ecan_core.adaptation.verdict import PANEL_SEED, Judgement, Verdict, judge_site
from ecan_core.adaptation.views import views_of
from ecan_core.corpora import read_corpus
from ecan_core.data.calls import cut_recordings
from ecan_core.data.features import FeatureTable, extract_features
from ecan_core.data.inputs import inputs_of
from ecan_core.data.unlabeled import list_utterances
from ecan_core.encoders.front_end import front_end_named
from ecan_core.errors import AudioError, ModelError, UsageError
from ecan_core.labels import EMOTIONS
from ecan_core.model.abstention import Abstention, is_uncertain
from ecan_core.model.architectures import ARCHITECTURES, architecture, build_network
from ecan_core.model.network import Network
from ecan_core.model.predict import committee_scores
from ecan_core.model.weights import Arrays, load_arrays, to_arrays
from ecan_core.normalization.normalize import fit_normalizer
from ecan_core.normalization.voices import normalization_for, possible_mode
from ecan_core.runtime.seeding import one_thread
from ecan_core.training import metrics
from ecan_core.training.train import TrainSettings
from ecan_core.training.train import train as train_network

__all__ = ["Adapted", "Labeled", "Model", "adapt", "read_labeled", "read_model", "read_speech", "train", "uar"]


class Labeled(NamedTuple):
    """Hold N utterances with their true emotions.

    Attributes:
        speech: the utterances and their features.
        labels: the emotion of each, a word of `ecan_core.labels.EMOTIONS`.
    """

    speech: FeatureTable
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """Hold a network that was trained on labelled speech.

    Attributes:
        arch: what it is, as a bundle names it, such as ``mlp-stats-v1``.
        normalization: how its training normalized: ``none``, ``corpus`` or ``speaker``.
        classes: the C emotions that it tells.
        weights: its tensors by name, float32.
    """

    arch: str
    normalization: str
    classes: tuple[str, ...]
    weights: Arrays = field(repr=False)

    @property
    def front_end(self) -> str:
        """Return the name of the front end that it reads."""
        return architecture(self.arch).front_end

    def network(self) -> Network:
        """Build a fresh copy of the network.

        Raises:
            ModelError: the weights do not fit it.
        """
        dim = front_end_named(self.front_end).dim
        network = _new_network(self.arch, dim, len(self.classes), self.normalization, seed=0)
        load_arrays(network, self.weights)
        return network

    def scores(self, speech: FeatureTable) -> np.ndarray:
        """Return the scores ``[N, C]`` without an adaptation.

        The utterances are normalized by their own corpus or speakers, as the model's training was.
        """
        speakers = _speakers(speech)
        preparation = Preparation(normalizer=fit_normalizer(self.normalization, speech.features, speakers))
        return committee_scores((self.network(),), preparation.inputs(speech.features, speakers))


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """Hold a model that was adapted to unlabelled speech.

    Attributes:
        classes: the C emotions that it tells.
        networks: the committee.
        preparation: how utterances are prepared for it.
        temperature: at which its scores are calibrated.
        judgement: the verdict, judged without labels, and its reason; where it is ``reverted``, this is the model as it
            was received.
    """

    classes: tuple[str, ...]
    networks: tuple[Network, ...] = field(repr=False)
    preparation: Preparation = field(repr=False)
    temperature: float
    judgement: Judgement

    def scores(self, speech: FeatureTable) -> np.ndarray:
        """Return the calibrated scores ``[N, C]`` of utterances."""
        inputs = self.preparation.inputs(speech.features, _speakers(speech))
        return soften(committee_scores(self.networks, inputs), self.temperature)

    def answers(self, speech: FeatureTable, bar: Abstention | None = None) -> list[str | None]:
        """Return the emotion of each utterance; None where it is uncertain.

        Args:
            speech: the utterances.
            bar: how sure the model must be; None decides by the number of classes, as the commands do.
        """
        scores = self.scores(speech)
        uncertain = is_uncertain(scores, (bar or Abstention()).by_class(self.classes))
        told = (self.classes[row] for row in scores.argmax(axis=1))
        return [None if is_unsure else name for name, is_unsure in zip(told, uncertain, strict=True)]


def read_speech(
    audio: str | Path, *, front_end: str = "stats-v1", encoder: Path | None = None, copies: bool = False
) -> FeatureTable:
    """Read recordings and compute their features; nobody's labels are read.

    Args:
        audio: a folder, a file, a pattern, or a list as CSV or JSON Lines. Long recordings are cut into utterances.
        front_end: what to compute, see `Model.front_end`.
        encoder: file of the public encoder, for a front end that has one.
        copies: whether a sound that is listed twice counts twice.

    Returns:
        The usable utterances with their features; the others are among its ``refusals``, with their reasons.

    Raises:
        UsageError, AudioError: there is nothing at the path, or nothing that can be used.
    """
    one_thread()
    cut = cut_recordings(list_utterances(Path(audio)).utterances)
    computes = front_end_named(front_end, encoder or Path(), _digest(encoder))
    table = extract_features(cut.utterances, computes, refused=cut.refusals)
    if not len(table):
        raise AudioError(f"no recording in {audio} can be used: {table.skipped}; look at their reasons.")
    return table if copies else table.without_copies()


def read_labeled(
    corpus: str | Path,
    *,
    recipe: str = "csv",
    relabel: Mapping[str, str] | None = None,
    front_end: str = "stats-v1",
    encoder: Path | None = None,
) -> Labeled:
    """Read a labelled corpus and compute its features.

    Args:
        corpus: its folder, or its list.
        recipe: how it is laid out, one of `ecan_core.corpora.RECIPES`; ``csv`` reads ``file,label,speaker``.
        relabel: what words count as (`ecan_core.labels.parse_relabel`).
        front_end: what to compute, see `Model.front_end`.
        encoder: file of the public encoder, for a front end that has one.

    Raises:
        UsageError, AudioError: there is no such corpus, or a label is not known.
    """
    one_thread()
    listed = read_corpus(recipe, Path(corpus), relabel)
    label_of = {item.utterance.id: item.label for item in listed.utterances}
    computes = front_end_named(front_end, encoder or Path(), _digest(encoder))
    table = extract_features(listed.without_labels(), computes)
    return Labeled(table, tuple(label_of[utterance.id] for utterance in table.utterances))


def train(
    corpus: Labeled,
    *,
    network: str = "mlp",
    normalization: str = "speaker",
    settings: TrainSettings | None = None,
    seed: int = 0,
) -> Model:
    """Train a model as `ecan-source train` does, on one corpus.

    Args:
        corpus: the utterances and their emotions.
        network: a key of `ecan_core.model.architectures.ARCHITECTURES`; it must read the corpus's front end.
        normalization: ``none``, ``corpus`` or ``speaker``.
        settings: how to train; None takes the defaults.
        seed: seed of the initialization, the shuffling and dropout.

    Raises:
        UsageError: there is one class alone, or nobody's name where speakers are to be known.
        SettingsError: the training diverged.
    """
    one_thread()
    classes = tuple(emotion for emotion in EMOTIONS if emotion in corpus.labels)
    if len(classes) < 2:
        raise UsageError("a model tells at least two emotions apart; give utterances of more than one.")
    features, speakers, arch = corpus.speech.features, _speakers(corpus.speech), ARCHITECTURES[network]
    values = fit_normalizer(normalization, features, speakers).apply(features, speakers)
    untrained = _new_network(arch.name, values[0].shape[-1], len(classes), normalization, seed=seed)
    if untrained.standardize is not None:
        untrained.standardize.fit(values)
    labels = torch.tensor([classes.index(label) for label in corpus.labels])
    train_network(untrained, inputs_of(values), labels, settings or TrainSettings(), seed=seed)
    return Model(arch=arch.name, normalization=normalization, classes=classes, weights=to_arrays(untrained))


def read_model(run: str | Path) -> Model:
    """Read the model that `ecan-source train --out RUN` wrote.

    Raises:
        UsageError: there is no finished training in the folder.
        ModelError: its files are damaged or do not fit together.
    """
    folder = Path(run)
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} holds no finished training; run `ecan-source train --out {folder}` first.")
    try:
        facts = json.loads((folder / "run.json").read_text())
        arch, normalization, classes = (facts[name] for name in ("arch", "normalization", "classes"))
        weights = load_file(folder / "weights.safetensors")
        model = Model(arch=arch, normalization=normalization, classes=tuple(classes), weights=weights)
        model.network()
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as fault:
        raise ModelError(f"The training run in {folder} is damaged ({fault}); train again.") from fault
    return model


def adapt(
    model: Model,
    speech: FeatureTable,
    *,
    method: str = DEFAULT_METHOD,
    normalization: str | None = None,
    settings: AdaptSettings | None = None,
    seed: int = 0,
) -> Adapted:
    """Adapt a model to unlabelled speech, judge it and calibrate its scores.

    The same as `ecan-target adapt` does, but for voices that a speaker encoder hears and for labels of an operator.

    Args:
        model: what was trained elsewhere; it stays as it is.
        speech: the utterances, of the model's front end.
        method: a key of `ecan_core.adaptation.settings.COMMITTEES` or ``READS``; docs/method.md compares them.
        normalization: ``none``, ``corpus``, ``speaker`` or ``voice``; None chooses as the command does.
        settings: how to adapt; None takes the defaults.
        seed: seed of shuffling and dropout.

    Raises:
        AudioError: there are too few utterances.
        UsageError: the model cannot be normalized like this.
        SettingsError: the method does not read a setting.
    """
    one_thread()
    if len(speech) < MIN_UTTERANCES:
        raise AudioError(f"only {len(speech)} usable utterances: adaptation needs at least {MIN_UTTERANCES}.")
    settings = settings or AdaptSettings()
    check_settings(method, settings)
    names = front_end_named(model.front_end).feature_names
    known = any(_speakers(speech))
    mode = possible_mode(
        normalization_for(model.normalization, names, normalization, speakers_known=known), len(speech)
    )
    site = _adapted(model, speech, names, mode, method, settings, seed)
    panel: SiteAdaptation | None = site
    if method == "none":
        panel = None
    elif (method, settings) != (DEFAULT_METHOD, AdaptSettings()):
        panel = _adapted(model, speech, names, mode, DEFAULT_METHOD, AdaptSettings(), seed + PANEL_SEED)
    return _concluded(model, speech, names, site, panel)


def uar(model: Model | Adapted, corpus: Labeled) -> float:
    """Return the unweighted average recall, from 0 to 1.

    Utterances whose emotion is no class of the model do not count.
    """
    kept = [row for row, label in enumerate(corpus.labels) if label in model.classes]
    true = [model.classes.index(corpus.labels[row]) for row in kept]
    answered = model.scores(corpus.speech).argmax(axis=1)[kept]
    return metrics.uar(metrics.confusion(true, answered, len(model.classes)))


def _adapted(
    model: Model, speech: FeatureTable, names: Sequence[str], mode: str, method: str, settings: AdaptSettings, seed: int
) -> SiteAdaptation:
    return adapt_site(
        model.network,
        speech.features,
        _speakers(speech),
        names,
        mode=mode,
        methods=members_of(method),
        settings=settings,
        seed=seed,
    )


def _concluded(
    model: Model, speech: FeatureTable, names: Sequence[str], site: SiteAdaptation, panel: SiteAdaptation | None
) -> Adapted:
    """Return the model that is kept, with its verdict and its temperature."""
    speakers, received = _speakers(speech), (model.network(),)
    before = committee_scores(received, site.unadapted.inputs(speech.features, speakers))
    after = committee_scores(site.networks, site.preparation.inputs(speech.features, speakers))
    views = None if panel is None else views_of(panel, speech.features, speakers, names)
    judgement = judge_site(site, panel, before, after, views=views)
    is_reverted = judgement.verdict is Verdict.REVERTED
    kept = before if is_reverted else after
    return Adapted(
        classes=model.classes,
        networks=received if is_reverted else site.networks,
        preparation=site.unadapted if is_reverted else site.preparation,
        temperature=temperature_of(kept, kept if panel is None else panel.scores, views),
        judgement=judgement,
    )


def _new_network(arch: str, dim: int, num_classes: int, normalization: str, *, seed: int) -> Network:
    known = architecture(arch)
    return build_network(known, input_dim=dim, num_classes=num_classes, normalization=normalization, seed=seed)


def _speakers(speech: FeatureTable) -> list[str | None]:
    return [utterance.speaker for utterance in speech.utterances]


def _digest(encoder: Path | None) -> str:
    return "" if encoder is None else sha256(encoder.read_bytes()).hexdigest()
