"""Carry out a round of a model that several sites adapt, and its end.

This is contained work.

The site's own adaptation, by the default committee, comes first and is kept until the end like that of a killed run:
it tells how the utterances are normalized, and it is the panel that judges the common model.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from safetensors.numpy import load

from ecan_core.adaptation.shared import change_weights, update_of_site
from ecan_core.adaptation.site import SiteAdaptation
from ecan_core.command_line.console import Narrator
from ecan_core.model.network import Network
from protocol.bundle.trust import VerifiedBundle
from protocol.containment.walls import Containment
from protocol.federation.update import encode_update
from protocol.files import read_bounded, write_atomic
from target_site.containment.orders import AdaptOrder, ConcludeOrder, RoundOrder
from target_site.model.folder import CHANGE, MAX_BYTES, UPDATE
from target_site.tasks.adapt import adapt, panel_plan
from target_site.tasks.conclude import conclude
from target_site.tasks.task import Task, open_unchanged, prepare


def carry_out_round(order: RoundOrder, containment: Containment, narrator: Narrator) -> dict[str, Any]:
    """Adapt the common model for a round and write the update.

    It says how the weights changed, and is the only file that may leave.

    Raises:
        AudioError: no utterance can be used, or too few.
        ModelError: the adaptation diverged, or what came back is no change of this model.
        UnauthenticError: the bundle has changed since it was checked.
    """
    site = _prepare(order.adapt, narrator)
    inputs = site.panel.preparation.inputs(site.task.table.features, site.task.speakers)
    plan, card = order.adapt, site.task.card
    update = update_of_site(
        site.network, inputs, plan.settings, method=plan.method, seed=plan.seed, longest=order.longest
    )
    write_atomic(plan.out / UPDATE, encode_update(update, card.arch, len(card.classes)))
    return {}


def carry_out_end(order: ConcludeOrder, containment: Containment, narrator: Narrator) -> dict[str, Any]:
    """Judge the common model and write a new model into ADAPTED.

    It is judged on this site's recordings.

    Returns:
        The ``verdict`` and its ``reason``; where it is ``reverted``, the model is the one that was received.
    """
    site = _prepare(order.adapt, narrator)
    together = replace(site.panel, networks=(site.network,))
    return conclude(
        order.adapt,
        site.bundle,
        site.task,
        together,
        site.panel,
        containment,
        narrator,
        told={"together": order.rounds},
    )


class _Prepared(NamedTuple):
    """Hold what an adaptation of a common model needs.

    The bundle, this site's recordings, the common model as it came back, and this site's own committee.
    """

    bundle: VerifiedBundle
    task: Task
    network: Network
    panel: SiteAdaptation


def _prepare(order: AdaptOrder, narrator: Narrator) -> _Prepared:
    bundle = open_unchanged(order)
    task = prepare(bundle, order, narrator)
    panel = adapt(task, panel_plan(0), order.out, "epochs of this site's own committee", narrator)
    network = task.build()
    change_weights(network, load(read_bounded(order.out / CHANGE, MAX_BYTES)))
    return _Prepared(bundle, task, network, panel)
