"""Adapt a verified bundle to a site's own unlabelled audio, and report what happened."""

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from ecan_core.adapt import AdaptSettings, EpochRecord
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import FeatureTable, extract_features
from ecan_core.data.inputs import inputs_of
from ecan_core.data.unlabeled import list_utterances
from ecan_core.errors import UsageFault
from ecan_core.methods import METHODS
from ecan_core.model.network import Network
from ecan_core.model.weights import to_arrays
from ecan_core.narrator import Narrator
from ecan_core.normalize import Normalizer, fit_normalizer
from ecan_core.predict import run
from ecan_core.select import Judgement, Verdict, judge
from protocol.files import write_atomic
from protocol.trust import VerifiedBundle
from target_site.adapted import AdaptedModel, save_adapted
from target_site.load import choose_normalization, model_card
from target_site.predict import Predictions, say_ignored, segments_csv

MIN_UTTERANCES = 8
"""Fewer utterances than this are no corpus: neighbors and class shares mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an adaptation produced.

    Attributes:
        model: the model that was kept: the adapted one, or the source's where the verdict is ``reverted``.
        judgement: verdict and reason.
        records: one per epoch.
        before: the source model's predictions on this audio.
        after: the kept model's predictions.
        feature_maps: two-dimensional views of the features before and after, each ``[N, 2]``.
    """

    model: AdaptedModel
    judgement: Judgement
    records: list[EpochRecord]
    before: Predictions
    after: Predictions
    feature_maps: tuple[np.ndarray, np.ndarray]


def adapt_bundle(
    bundle: VerifiedBundle,
    audio: Path,
    out: Path,
    *,
    normalization: str | None,
    method: str,
    settings: AdaptSettings,
    seed: int,
    cache_path: Path | None,
    narrator: Narrator,
) -> Outcome:
    """Adapt to ``audio`` and write the folder ADAPTED.

    Args:
        bundle: a bundle that this site accepted.
        audio: folder, file or list of utterances; labels in a list are never read.
        out: folder of the adapted model.
        normalization: ``corpus`` or ``speaker``; None decides by the model and the list.
        method: a name in ``METHODS``.
        settings: how to adapt.
        seed: seed of the shuffling and of dropout.
        cache_path: where features are kept; None keeps them in ``out``.
        narrator: tells a person what is skipped and how far the work has come.

    Raises:
        AudioError: no utterance can be used.
        UsageFault: too few utterances, or a normalization that this model cannot have.
    """
    card = model_card(bundle)
    listing = list_utterances(audio)
    say_ignored(listing.ignored_columns, narrator)
    out.mkdir(parents=True, exist_ok=True)
    with FeatureCache(cache_path or out / "features.cache") as cache:
        with narrator.progress("features") as tick:
            table = extract_features(listing.utterances, card.front_end(), cache, on_progress=tick)
    if method != "none" and len(table.utterances) < MIN_UTTERANCES:
        raise UsageFault(
            f"only {len(table.utterances)} usable utterances: adaptation needs at least {MIN_UTTERANCES}, "
            "use --method none to predict without it"
        )
    speakers = [utterance.speaker for utterance in table.utterances]
    mode = choose_normalization(card.normalization, normalization, speakers_known=any(speakers))
    normalizer = fit_normalizer(mode, table.features, speakers)
    narrator.say(f"{len(table.utterances)} utterances, normalized by {mode}, method {method}")

    network = card.build(bundle.tensors)
    before, map_before = _look(network, normalizer, table)

    inputs = inputs_of(normalizer.apply(table.features, speakers))
    with narrator.progress("adaptation epochs") as tick:
        records = METHODS[method](
            network, inputs, settings, seed=seed, on_epoch=lambda record: tick(record.epoch, settings.epochs)
        )
    after, map_after = _look(network, normalizer, table)
    judgement = judge(before.scores, after.scores) if records else _not_adapted()
    if judgement.verdict is Verdict.REVERTED:
        network, after, map_after = card.build(bundle.tensors), before, map_before
    model = AdaptedModel(
        card=card,
        weights=to_arrays(network),
        source_weights=dict(bundle.tensors),
        normalizer=normalizer,
        receipt={
            "bundle_sha256": bundle.digest.hex(),
            "method": method,
            "settings": asdict(settings),
            "seed": seed,
            "threads": torch.get_num_threads(),
            "verdict": judgement.verdict.value,
            "reason": judgement.reason,
            "utterances": len(table.utterances),
            "versions": {
                "ecan-ser": version("ecan-ser"),
                "torch": version("torch"),
                "numpy": version("numpy"),
                "python": platform.python_version(),
            },
        },
    )
    return Outcome(
        model=model,
        judgement=judgement,
        records=records,
        before=before,
        after=after,
        feature_maps=(map_before, map_after),
    )


def _not_adapted() -> Judgement:
    return Judgement(verdict=Verdict.INCONCLUSIVE, reason="no adaptation was asked for")


def _look(network: Network, normalizer: Normalizer, table: FeatureTable) -> tuple[Predictions, np.ndarray]:
    """Predictions of a table and a two-dimensional view of its features."""
    speakers = [utterance.speaker for utterance in table.utterances]
    features, logits = run(network, inputs_of(normalizer.apply(table.features, speakers)))
    return Predictions(table=table, scores=logits.softmax(dim=1).numpy()), plane(features.numpy())


def plane(features: np.ndarray) -> np.ndarray:
    """The first two principal components ``[N, 2]`` of features ``[N, D]``."""
    centered = features - features.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    # The sign of a component is arbitrary: fix it, so that a replay draws the same picture.
    axes = axes[:2] * np.sign(axes[:2].sum(axis=1, keepdims=True))
    return np.asarray(centered @ axes.T)
