"""Adapt a verified bundle to a site's own audio, and report it.

The audio has no labels.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ecan_core.adaptation.calibrate import temperature_of
from ecan_core.adaptation.ecan import EpochRecord
from ecan_core.adaptation.settings import DEFAULT_METHOD, AdaptSettings, Plan, members_of
from ecan_core.adaptation.site import Preparation, SiteAdaptation, adapt_site, num_epochs
from ecan_core.adaptation.verdict import PANEL_SEED, Judgement, Verdict, estimated_gain, estimated_gain_of_panel, judge
from ecan_core.command_line.narrator import Narrator
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import FeatureTable
from ecan_core.data.unlabeled import list_utterances
from ecan_core.errors import AudioError
from ecan_core.model.network import Network
from ecan_core.model.predict import committee_scores, run
from ecan_core.model.weights import Arrays, to_arrays
from ecan_core.normalization.normalize import require_speakers
from ecan_core.normalization.voices import MIN_GUESSES, possible_mode
from ecan_core.utterance import Utterance
from protocol.bundle.trust import VerifiedBundle
from protocol.containment.walls import Containment
from protocol.errors import Code, Unauthentic
from protocol.inspection.leakage import in_words
from protocol.inspection.listing import listed_rows
from target_site.containment.orders import AdaptOrder
from target_site.model.adapted import AdaptedModel, save_adapted
from target_site.model.folder import new_model
from target_site.model.load import ModelCard, choose_normalization, model_card
from target_site.report.content import ReportContent, class_shares, shares_by_group
from target_site.report.files import save_report
from target_site.tasks.predict import Predictions, read_utterances, say_ignored
from target_site.tasks.resume import UnfinishedRun, forget_unfinished, versions
from target_site.trust.acceptance import open_accepted

DEFAULTS = asdict(AdaptSettings())
NOT_ADAPTED = Judgement(verdict=Verdict.INCONCLUSIVE, reason="no adaptation was asked for")
GROUPS: Mapping[str, Callable[[Utterance], str | None]] = {
    "channel": lambda utterance: utterance.channel_name,
    "speaker": lambda utterance: utterance.speaker,
}
"""What the report shows class shares by."""
MIN_UTTERANCES = 8
"""Fewer utterances than this are no corpus: neighbors and class shares mean nothing."""


class Task(NamedTuple):
    """Hold the received model and what it is to be adapted to.

    Attributes:
        bundle: digest of the bundle.
        card: how to rebuild the network.
        weights: as they were received.
        table: the target corpus as front-end outputs.
        inputs: digest of that table.
        mode: what its features are to be normalized by.
    """

    bundle: bytes
    card: ModelCard
    weights: Arrays
    table: FeatureTable
    inputs: bytes
    mode: str

    def build(self) -> Network:
        """Build a fresh copy of the received network."""
        return self.card.build(self.weights)

    @property
    def speakers(self) -> list[str | None]:
        """Return who speaks, row by row; None where unknown."""
        return [utterance.speaker for utterance in self.table.utterances]


def carry_out(order: AdaptOrder, containment: Containment, narrator: Narrator) -> dict[str, Any]:
    """Adapt to recordings and write a new model into the folder ADAPTED.

    Labels in a list are never read. The model takes the place of an older one by
    `target_site.model.folder.finish_replacement`.

    Args:
        order: what to adapt, to what and how.
        containment: how this process is contained, for the receipt and the report.
        narrator: tells a person what is skipped and how far the work has come.

    Returns:
        The ``verdict`` and its ``reason``; where it is ``reverted``, the model is the one that was received.

    Raises:
        AudioError: no utterance can be used, or too few.
        UsageFault: a normalization that this model cannot have.
        Unauthentic: the bundle has changed since it was checked.
    """
    bundle = open_unchanged(order)
    plan = Plan(order.method, order.settings, order.seed)
    task = prepare(bundle, order, narrator)
    site = adapt(task, plan, order.out, "adaptation epochs", narrator)
    narrator.say(f"normalized by {site.preparation.normalizer.mode}")
    panel = _panel(task, plan, order.out, site, narrator)
    return conclude(order, bundle, task, site, panel, containment)


def open_unchanged(order: AdaptOrder) -> VerifiedBundle:
    """Open the order's bundle and verify it once more.

    Raises:
        Unauthentic: it has changed since it was checked.
    """
    bundle = open_accepted(order.bundle, keys_dir=None)
    if bundle.digest.hex() != order.sha256:
        raise Unauthentic(Code.DIGEST, f"{order.bundle} has changed since it was checked; run the command again.")
    return bundle


def conclude(
    order: AdaptOrder,
    bundle: VerifiedBundle,
    task: Task,
    site: SiteAdaptation,
    panel: SiteAdaptation | None,
    containment: Containment,
    told: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Judge what was adapted and write a new model with its report.

    Args:
        order: what was asked for.
        bundle: the received model.
        task: what it was adapted to.
        site: what became of it.
        panel: what judges that; None where nothing was adapted.
        containment: how this process is contained.
        told: what the receipt says besides.

    Returns:
        The ``verdict`` and its ``reason``.
    """
    received = _look((task.build(),), site.unadapted, task)
    adapted = _look(site.networks, site.preparation, task)
    judgement = _judge(site, panel, received, adapted)
    kept = received if judgement.verdict is Verdict.REVERTED else adapted
    temperature = 1.0 if panel is None else temperature_of(kept.scores, panel.scores)
    answers = kept.predictions.at(temperature, order.least_confidence)
    receipt = _receipt(bundle, order, task, kept, judgement, containment) | dict(told or {})
    with new_model(order.out) as folder:
        answers.write(folder, task.card.classes)
        save_report(folder, _content(bundle, received, kept, answers, site.members[0].records, judgement, receipt))
        save_adapted(
            folder,
            AdaptedModel(
                card=task.card,
                weights=tuple(to_arrays(network) for network in kept.networks),
                received_weights=task.weights,
                preparation=kept.preparation,
                unadapted=received.preparation,
                temperature=answers.temperature,
                receipt=receipt,
            ),
        )
    forget_unfinished(order.out)
    return {"verdict": judgement.verdict.value, "reason": judgement.reason}


class View(NamedTuple):
    """Describe what a committee makes of the target corpus.

    Attributes:
        networks: the committee; the received network alone is one, too.
        preparation: how it is given the utterances.
        predictions: scores of all utterances.
        plane: the first two principal components of its first member's features ``[N, 2]``.
    """

    networks: tuple[Network, ...]
    preparation: Preparation
    predictions: Predictions
    plane: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Return the scores of all utterances ``[N, C]``."""
        return self.predictions.scores


def prepare(bundle: VerifiedBundle, order: AdaptOrder, narrator: Narrator) -> Task:
    """List the utterances, choose the normalization, then read the audio."""
    card, weights = model_card(bundle), bundle.tensors()
    listing = list_utterances(order.audio, order.left_out)
    say_ignored(listing.ignored_columns, narrator)
    speakers = [utterance.speaker for utterance in listing.utterances]
    wanted = choose_normalization(card, order.normalization, speakers_known=any(speakers))
    require_speakers(wanted, speakers)
    with FeatureCache(order.cache) as cache:
        table = read_utterances(listing.utterances, card.front_end(), cache, parties=order.parties, narrator=narrator)
    table = table.without_copies()
    if table.refusals:
        narrator.say(f"skipped unusable utterances: {table.skipped}")
    num_utterances = len(table.utterances)
    if order.method != "none" and num_utterances < MIN_UTTERANCES:
        raise AudioError(
            f"only {num_utterances} usable utterances: adaptation needs at least {MIN_UTTERANCES}, "
            "use --method none to predict without it"
        )
    mode = possible_mode(wanted, num_utterances)
    if mode != wanted:
        narrator.say(f"fewer than {MIN_GUESSES} utterances tell no voices apart: normalizing by {mode}")
    narrator.say(f"{num_utterances} utterances, method {order.method}")
    return Task(bundle=bundle.digest, card=card, weights=weights, table=table, inputs=table.digest(), mode=mode)


def adapt(task: Task, plan: Plan, out: Path, what: str, narrator: Narrator) -> SiteAdaptation:
    """Adapt fresh copies of the received model, or resume.

    ``what`` names the progress that a person sees.
    """
    methods = members_of(plan.method)
    finished = UnfinishedRun(
        out,
        bundle=task.bundle,
        plan=plan,
        mode=task.mode,
        inputs=task.inputs,
    )
    total = num_epochs(task.mode, len(task.table), methods, plan.settings)
    with narrator.progress(what) as tick:
        return adapt_site(
            task.build,
            task.table.features,
            task.speakers,
            task.card.front_end().feature_names,
            mode=task.mode,
            methods=methods,
            settings=plan.settings,
            seed=plan.seed,
            on_epoch=lambda record, _: tick(record.epoch, total),
            finished=finished,
        )


def _look(networks: tuple[Network, ...], preparation: Preparation, task: Task) -> View:
    inputs = preparation.inputs(task.table.features, task.speakers)
    predictions = Predictions(table=task.table, scores=committee_scores(networks, inputs))
    plane = principal_plane(run(networks[0], inputs).features.numpy())
    return View(networks, preparation, predictions, plane)


def panel_plan(seed: int) -> Plan:
    """Return how the panel adapts that judges a run of this seed.

    It is the default committee.
    """
    return Plan(DEFAULT_METHOD, AdaptSettings(), seed + PANEL_SEED)


def _panel(task: Task, plan: Plan, out: Path, site: SiteAdaptation, narrator: Narrator) -> SiteAdaptation | None:
    """Adapt the panel, or reuse the committee that was adapted.

    The panel is the default committee, and adapts for the verdict alone if the plan was another. None where nothing was
    adapted.
    """
    if plan.method == "none":
        return None
    judging = panel_plan(plan.seed)
    if (plan.method, plan.settings) == (judging.method, judging.settings):
        return site
    return adapt(task, judging, out, "epochs of the panel that judges it", narrator)


def _judge(site: SiteAdaptation, panel: SiteAdaptation | None, received: View, adapted: View) -> Judgement:
    """Judge the adaptation by its gain, as the panel estimates it.

    Where the panel itself was adapted, each of its members is judged by the others.
    """
    if panel is None:
        return NOT_ADAPTED
    if panel is site:
        gain = estimated_gain_of_panel(received.scores, [member.scores for member in site.members])
    else:
        gain = estimated_gain(received.scores, adapted.scores, panel.scores)
    return judge(received.scores, adapted.scores, gain)


def _receipt(
    bundle: VerifiedBundle,
    order: AdaptOrder,
    task: Task,
    kept: View,
    judgement: Judgement,
    containment: Containment,
) -> dict[str, Any]:
    """Return the provenance: what the kept model was made from, and how."""
    return {
        "bundle_sha256": bundle.digest.hex(),
        "weights_sha256": bundle.manifest.weights_sha256.hex(),
        "issuer": bundle.manifest.issuer.hex(),
        "method": order.method,
        "settings": asdict(order.settings),
        "seed": order.seed,
        "least_confidence": order.least_confidence,
        "asked": {
            "normalization": order.normalization,
            "parties": None if order.parties is None else asdict(order.parties),
        },
        "members": len(kept.networks),
        "threads": torch.get_num_threads(),
        "utterances": len(kept.scores),
        "normalization": kept.preparation.normalizer.mode,
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "containment": containment.as_plain(),
        "versions": versions(),
        "inputs_sha256": task.inputs.hex(),
    }


def principal_plane(features: np.ndarray) -> np.ndarray:
    """Return the first two principal components ``[N, 2]`` of embeddings.

    The embeddings are ``[N, D]``.
    """
    if not np.isfinite(features).all():  # a diverged adaptation has no picture, but must still be judged
        return np.zeros((len(features), 2))
    centered = features - features.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    # The sign of a component is arbitrary: fix it, so that a repetition draws the same picture.
    axes = axes[:2] * np.sign(axes[:2].sum(axis=1, keepdims=True))
    return np.asarray(centered @ axes.T)


def _content(
    bundle: VerifiedBundle,
    received: View,
    kept: View,
    answers: Predictions,
    records: list[EpochRecord],
    judgement: Judgement,
    receipt: dict[str, Any],
) -> ReportContent:
    classes = bundle.manifest.classes
    views, heard = {"before": received, "after": kept}, kept.predictions.table.utterances
    predicted = {name: view.scores.argmax(axis=1) for name, view in views.items()}
    return ReportContent(
        verdict=judgement.verdict.value,
        reason=judgement.reason,
        classes=list(classes),
        shares={name: class_shares(rows, len(classes)) for name, rows in predicted.items()},
        maps={name: view.plane.round(4).tolist() for name, view in views.items()},
        predicted={name: rows.tolist() for name, rows in predicted.items()},
        abstained=answers.abstained,
        least_confidence=answers.least_confidence,
        temperature=answers.temperature,
        groups={
            what: shares_by_group([name(utterance) for utterance in heard], predicted["after"], len(classes))
            for what, name in GROUPS.items()
        },
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
            for refusal in kept.predictions.table.refusals
        ],
        crossed=listed_rows(bundle.data),
        leakage=list(in_words(bundle.manifest)),
        containment=receipt["containment"],
        facts=_facts(bundle, receipt, len(kept.predictions.table.clipped)),
    )


def _facts(bundle: VerifiedBundle, receipt: dict[str, Any], clipped: int) -> dict[str, str]:
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
        "recorded too loud (clipped)": str(clipped),
        "normalized by": receipt["normalization"],
        "method": receipt["method"],
        "committee": ", ".join(members_of(receipt["method"])) if "together" not in receipt else "one network",
        "settings": ", ".join(f"{key} = {value}" for key, value in changed.items()) or "defaults",
        **_made_together(receipt),
        "seed, threads": f"{receipt['seed']}, {receipt['threads']}",
        "versions": ", ".join(f"{name} {number}" for name, number in receipt["versions"].items()),
    }


def _made_together(receipt: dict[str, Any]) -> dict[str, str]:
    if "together" not in receipt:
        return {}
    return {
        "made together": f"in {receipt['together']} rounds with other sites; the curves are those of this site's own "
        "committee, which judges it"
    }
