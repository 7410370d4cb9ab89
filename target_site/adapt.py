"""Adapt a verified bundle to a site's own unlabelled audio, and report what happened."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ecan_core.adapt import AdaptSettings, EpochRecord
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import FeatureTable, extract_features
from ecan_core.data.inputs import Inputs
from ecan_core.data.unlabeled import list_utterances
from ecan_core.errors import AudioError
from ecan_core.methods import DEFAULT_METHOD, members_of
from ecan_core.model.network import Network
from ecan_core.model.weights import to_arrays
from ecan_core.narrator import Narrator
from ecan_core.normalize import require_speakers
from ecan_core.predict import committee_scores, run
from ecan_core.rounds import SiteAdaptation, adapt_site, num_epochs
from ecan_core.select import PANEL_SEED, Judgement, Verdict, estimated_gain, estimated_gain_of_panel, judge
from ecan_core.voices import MIN_VOICE_UTTERANCES
from protocol.files import write_atomic
from protocol.trust import VerifiedBundle
from target_site.adapted import CACHE_FILE, AdaptedModel, discard_adapted, save_adapted
from target_site.load import choose_normalization, model_card
from target_site.predict import Predictions, say_ignored, segments_csv
from target_site.report_content import ReportContent
from target_site.report_files import save_report

DEFAULTS = asdict(AdaptSettings())
NOT_ADAPTED = Judgement(verdict=Verdict.INCONCLUSIVE, reason="no adaptation was asked for")
MIN_UTTERANCES = 8
"""Fewer utterances than this are no corpus: neighbors and class shares mean nothing."""


def adapt_bundle(
    bundle: VerifiedBundle,
    audio: Path,
    out: Path,
    *,
    crossed: list[dict[str, Any]],
    normalization: str | None,
    method: str,
    settings: AdaptSettings,
    seed: int,
    cache_path: Path | None,
    narrator: Narrator,
) -> Judgement:
    """Adapt to ``audio`` and write the folder ADAPTED.

    Args:
        bundle: a bundle that this site accepted.
        audio: folder, file or list of utterances; labels in a list are never read.
        out: folder of the adapted model.
        crossed: every run of bytes of the bundle, as ``protocol.inspect`` lists them, for the report.
        normalization: ``corpus``, ``speaker`` or ``voice``; None decides by the model and the list.
        method: a name in ``METHODS``.
        settings: how to adapt.
        seed: seed of the shuffling and of dropout.
        cache_path: where features are kept; None keeps them in ``out``.
        narrator: tells a person what is skipped and how far the work has come.

    Returns:
        The verdict; where it is ``reverted``, the folder holds the model as it was received.

    Raises:
        AudioError: no utterance can be used, or too few.
        UsageFault: a normalization that this model cannot have.
    """
    card = model_card(bundle)
    listing = list_utterances(audio)
    say_ignored(listing.ignored_columns, narrator)
    mode = choose_normalization(card, normalization, speakers_known=any(item.speaker for item in listing.utterances))
    require_speakers(mode, [item.speaker for item in listing.utterances])
    weights = bundle.tensors()
    out.mkdir(parents=True, exist_ok=True)
    with FeatureCache(cache_path or out / CACHE_FILE) as cache, narrator.progress("features") as tick:
        table = extract_features(listing.utterances, card.front_end(), cache, on_progress=tick)
    if table.refusals:
        narrator.say(f"skipped unusable utterances: {table.skipped}")
    if method != "none" and len(table.utterances) < MIN_UTTERANCES:
        raise AudioError(
            f"only {len(table.utterances)} usable utterances: adaptation needs at least {MIN_UTTERANCES}, "
            "use --method none to predict without it"
        )
    speakers = [utterance.speaker for utterance in table.utterances]
    if mode == "voice" and len(table.utterances) < MIN_VOICE_UTTERANCES:
        mode = "corpus"
        narrator.say(f"fewer than {MIN_VOICE_UTTERANCES} utterances tell no voices apart: normalizing by corpus")
    narrator.say(f"{len(table.utterances)} utterances, normalized by {mode}, method {method}")

    def adapted(by: str, by_settings: AdaptSettings, by_seed: int, what: str) -> SiteAdaptation:
        methods = members_of(by)
        total = num_epochs(mode, methods, by_settings)
        with narrator.progress(what) as tick:
            return adapt_site(
                lambda: card.build(weights),
                table.features,
                speakers,
                card.front_end().feature_names,
                mode=mode,
                methods=methods,
                settings=by_settings,
                seed=by_seed,
                on_epoch=lambda record, _: tick(record.epoch, total),
            )

    site = adapted(method, settings, seed, "adaptation epochs")
    source, unadapted = card.build(weights), site.unadapted
    before = _look((source,), unadapted.inputs(table.features, speakers), table)
    after = _look(site.networks, site.preparation.inputs(table.features, speakers), table)
    if method == "none":
        judgement = NOT_ADAPTED
    else:
        if (method, settings) == (DEFAULT_METHOD, AdaptSettings()):
            gain = estimated_gain_of_panel(before.predictions.scores, [member.scores for member in site.members])
        else:
            panel = adapted(DEFAULT_METHOD, AdaptSettings(), seed + PANEL_SEED, "epochs of the panel that judges it")
            gain = estimated_gain(before.predictions.scores, after.predictions.scores, panel.scores)
        judgement = judge(before.predictions.scores, after.predictions.scores, gain)
    networks, preparation = site.networks, site.preparation
    if judgement.verdict is Verdict.REVERTED:
        networks, preparation, after = (source,), unadapted, before
    receipt = {
        "bundle_sha256": bundle.digest.hex(),
        "weights_sha256": bundle.manifest.weights_sha256.hex(),
        "issuer": bundle.manifest.issuer.hex(),
        "method": method,
        "settings": asdict(settings),
        "seed": seed,
        "members": len(networks),
        "threads": torch.get_num_threads(),
        "utterances": len(table.utterances),
        "normalization": preparation.normalizer.mode,
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "versions": {
            "ecan-ser": version("ecan-ser"),
            "torch": version("torch"),
            "numpy": version("numpy"),
            "python": platform.python_version(),
        },
    }
    discard_adapted(out)
    write_atomic(out / "segments.csv", segments_csv(after.predictions, card.classes))
    save_report(out, _content(bundle, crossed, before, after, site.members[0].records, judgement, receipt))
    save_adapted(
        out,
        AdaptedModel(
            card=card,
            weights=tuple(to_arrays(network) for network in networks),
            source_weights=weights,
            preparation=preparation,
            unadapted=unadapted,
            receipt=receipt,
        ),
    )
    return judgement


class View(NamedTuple):
    """What a committee makes of the target corpus.

    Attributes:
        predictions: scores of all utterances.
        plane: the first two principal components of its first member's features ``[N, 2]``.
    """

    predictions: Predictions
    plane: np.ndarray


def _look(networks: Sequence[Network], inputs: Inputs, table: FeatureTable) -> View:
    predictions = Predictions(table=table, scores=committee_scores(networks, inputs))
    return View(predictions, principal_plane(run(networks[0], inputs).features.numpy()))


def principal_plane(features: np.ndarray) -> np.ndarray:
    """The first two principal components ``[N, 2]`` of features ``[N, D]``."""
    if not np.isfinite(features).all():  # a diverged adaptation has no picture, but must still be judged
        return np.zeros((len(features), 2))
    centered = features - features.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    # The sign of a component is arbitrary: fix it, so that a repetition draws the same picture.
    axes = axes[:2] * np.sign(axes[:2].sum(axis=1, keepdims=True))
    return np.asarray(centered @ axes.T)


def _content(
    bundle: VerifiedBundle,
    crossed: list[dict[str, Any]],
    before: View,
    after: View,
    records: list[EpochRecord],
    judgement: Judgement,
    receipt: dict[str, Any],
) -> ReportContent:
    classes = bundle.manifest.classes
    views = {"before": before, "after": after}
    predicted = {name: view.predictions.scores.argmax(axis=1) for name, view in views.items()}
    return ReportContent(
        verdict=judgement.verdict.value,
        reason=judgement.reason,
        classes=list(classes),
        shares={
            name: (np.bincount(rows, minlength=len(classes)) / len(rows)).tolist() for name, rows in predicted.items()
        },
        maps={name: view.plane.round(4).tolist() for name, view in views.items()},
        predicted={name: rows.tolist() for name, rows in predicted.items()},
        epochs=[
            {
                "losses": record.losses,
                "balance": record.health.balance,
                "confidence": record.health.confidence,
                "agreement": record.health.agreement,
            }
            for record in records
        ],
        refused=[
            {"file": str(refusal.utterance.path), "reason": refusal.reason}
            for refusal in after.predictions.table.refusals
        ],
        crossed=crossed,
        facts=_facts(bundle, receipt),
    )


def _facts(bundle: VerifiedBundle, receipt: dict[str, Any]) -> dict[str, str]:
    stated = bundle.manifest
    changed = {key: value for key, value in receipt["settings"].items() if value != DEFAULTS[key]}
    return {
        "bundle SHA-256": bundle.digest.hex(),
        "source fingerprint": stated.issuer.hex(),
        "architecture": stated.arch,
        "source's own UAR (held-out speakers, as it states)": f"{stated.uar_src / 2:.1f} %"
        if stated.uar_src
        else "not estimated",
        "utterances": str(receipt["utterances"]),
        "normalized by": receipt["normalization"],
        "method": receipt["method"],
        "settings": ", ".join(f"{key} = {value}" for key, value in changed.items()) or "defaults",
        "seed, threads": f"{receipt['seed']}, {receipt['threads']}",
        "versions": ", ".join(f"{name} {number}" for name, number in receipt["versions"].items()),
    }
