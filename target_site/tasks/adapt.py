"""Adapt a verified bundle to a site's own audio, and report it.

The audio has no labels.
"""

from pathlib import Path
from typing import Any

from ecan_core.adaptation.settings import DEFAULT_METHOD, AdaptPlan, AdaptSettings, members_of
from ecan_core.adaptation.site import SiteAdaptation, adapt_site, num_epochs
from ecan_core.adaptation.verdict import PANEL_SEED
from ecan_core.command_line.console import Narrator
from protocol.containment.walls import Containment
from target_site.containment.orders import AdaptOrder
from target_site.model.encoders import HEARD
from target_site.tasks.conclude import conclude
from target_site.tasks.resume import UnfinishedRun
from target_site.tasks.task import Task, open_unchanged, prepare


def carry_out(order: AdaptOrder, containment: Containment, narrator: Narrator) -> dict[str, Any]:
    """Adapt to recordings and write a new model into the folder ADAPTED.

    Labels in a list are never read; what the operator handed over is in the order. The model takes the place of an
    older one by
    `target_site.model.folder.finish_replacement`.

    Args:
        order: what to adapt, to what and how.
        containment: how this process is contained, for the provenance and the report.
        narrator: tells a person what is skipped and how far the work has come.

    Returns:
        The ``verdict`` and its ``reason``; where it is ``reverted``, the model is the one that was received.

    Raises:
        AudioError: no utterance can be used, or too few.
        UsageError: a normalization that this model cannot have.
        UnauthenticError: the bundle has changed since it was checked.
    """
    bundle = open_unchanged(order)
    plan = AdaptPlan(order.method, order.settings, order.seed)
    task = prepare(bundle, order, narrator)
    site = adapt(task, plan, order.out, "adaptation epochs", narrator)
    narrator.say(f"normalized by {site.preparation.normalizer.mode}")
    panel = _panel(task, plan, order.out, site, narrator)
    return conclude(order, bundle, task, site, panel, containment, narrator)


def adapt(task: Task, plan: AdaptPlan, out: Path, what: str, narrator: Narrator) -> SiteAdaptation:
    """Adapt fresh copies of the received model, or resume.

    ``what`` names the progress that a person sees.
    """
    methods = members_of(plan.method)
    finished = UnfinishedRun(
        out,
        bundle=task.bundle,
        plan=plan,
        mode=task.mode if task.heard is None else f"{task.mode} {HEARD}",
        inputs=task.inputs,
        given=task.given,
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
            heard=task.heard,
            given=task.given,
        )


def panel_plan(seed: int) -> AdaptPlan:
    """Return how the panel adapts that judges a run of this seed.

    It is the default committee.
    """
    return AdaptPlan(DEFAULT_METHOD, AdaptSettings(), seed + PANEL_SEED)


def _panel(task: Task, plan: AdaptPlan, out: Path, site: SiteAdaptation, narrator: Narrator) -> SiteAdaptation | None:
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
