"""The coordinator's half of the Flower app: it asks the sites, lets Flower average, and writes the run folder.

It has no speech of its own. What it ends with goes through the same gate as the model of a single site.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Context, MetricRecord, RecordDict
from flwr.app.message_type import MessageType
from flwr.serverapp import Grid

from ecan_core.errors import AudioError
from ecan_core.labels import EMOTIONS, check_classes
from ecan_core.metrics import uar
from ecan_core.model.architectures import ARCHITECTURES
from ecan_core.model.weights import snapshot, to_arrays
from protocol.averaging import ANSWER, ARRAYS, QUESTION, Averaging, ask, average, record_of, wait_for_nodes
from protocol.errors import Code, ConnectionFault
from source_site.federation.client import CLASSES, COUNT, HOURS, PLAN, ROUND, SPEAKERS
from source_site.federation.plan import EVERYBODY, HEARD, Arrays, Plan, first_arrays, named, network_of, part
from source_site.material import quantize_network
from source_site.store import RunFacts, save_run
from source_site.train import NOT_ESTIMATED

GATHERING_S = 3600.0
"""How long the coordinator waits until enough sites are there."""
LARGEST = 8.0
"""Weights are within this range of 0, or secure aggregation would cut them."""
FLOAT, QUANTIZED = "float/", "quantized/"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a federation ends with.

    Attributes:
        arrays: the weights that leave, as `ecan_core.model.weights.to_arrays` gives them.
        facts: what the manifest will state.
    """

    arrays: Arrays
    facts: RunFacts


def federate(grid: Grid, context: Context, plan: Plan) -> Outcome:
    """Train one network at all sites that ``grid`` reaches.

    Args:
        grid: Flower's way to the sites.
        context: Flower's context of the run.
        plan: what was agreed on.

    Raises:
        AudioError: the sites share fewer than two classes.
        ConnectionFault: too few sites came or answered.
    """
    nodes = wait_for_nodes(grid, plan.min_sites, GATHERING_S)
    if len(nodes) < plan.min_sites:
        raise ConnectionFault(
            Code.CONNECTION,
            f"{len(nodes)} of {plan.min_sites} sites came; start the nodes of the others and run again.",
        )
    classes = agree_on_classes(grid, nodes, plan)
    question = {PLAN: plan.to_text(), CLASSES: ",".join(classes)}
    how = Averaging(
        secure=plan.secure,
        min_nodes=plan.min_sites,
        patience_s=plan.patience_s,
        largest=LARGEST,
        proximal=plan.mu,
    )
    trained = first_arrays(plan, len(classes))
    for number in range(1, plan.rounds + 1):
        trained = average(grid, context, how, question | {ROUND: number}, trained)
    return _outcome(grid, nodes, plan, classes, question, trained)


def write_outcome(outcome: Outcome, out: Path) -> None:
    """Write the run folder that `grant` and `export` read."""
    out.mkdir(parents=True, exist_ok=True)
    save_run(out, outcome.arrays, outcome.facts)


def agree_on_classes(grid: Grid, nodes: list[int], plan: Plan) -> tuple[str, ...]:
    """The classes of the plan, or those that every site has speech of.

    Raises:
        AudioError: the sites share fewer than two classes, or one has none of a class that was asked for.
    """
    answers = ask(grid, nodes, MessageType.QUERY, RecordDict({QUESTION: ConfigRecord({})}), plan.patience_s)
    present = [set(str(answer.config_records[QUESTION][CLASSES]).split(",")) for answer in answers]
    shared = set.intersection(*present)
    missing = sorted(set(plan.classes) - {name for names in present for name in names})
    if missing:
        raise AudioError(f"no site has speech of the class {missing[0]!r}; leave it out with --classes")
    if plan.classes:
        return check_classes(plan.classes)
    if len(shared) < 2:
        raise AudioError(f"the sites share {len(shared)} class(es) and two are needed; let a site map its labels")
    return tuple(name for name in EMOTIONS if name in shared)


def _outcome(
    grid: Grid, nodes: list[int], plan: Plan, classes: tuple[str, ...], question: dict[str, str], trained: Arrays
) -> Outcome:
    asked: Arrays = {}
    if plan.is_estimated:
        network = network_of(plan, len(classes), part(trained, HEARD))
        asked = named(snapshot(network), FLOAT)
        quantize_network(network, ARCHITECTURES[plan.encoder].name, len(classes), plan.normalization)
        asked |= named(snapshot(network), QUANTIZED)
    content = RecordDict({QUESTION: ConfigRecord(dict(question)), ARRAYS: record_of(asked)})
    answers = [
        answer.metric_records[ANSWER] for answer in ask(grid, nodes, MessageType.EVALUATE, content, plan.patience_s)
    ]
    arch = ARCHITECTURES[plan.encoder]
    facts = RunFacts(
        arch=arch.name,
        frontend=arch.front_end,
        normalization=plan.normalization,
        classes=classes,
        num_utterances=round(_total(answers, COUNT)),
        num_speakers=round(_total(answers, SPEAKERS)),
        hours=_total(answers, HOURS),
        uar_source=_rate(answers, QUANTIZED, len(classes)),
        uar_float=_rate(answers, FLOAT, len(classes)),
        seed=plan.seed,
    )
    return Outcome(arrays=to_arrays(network_of(plan, len(classes), part(trained, EVERYBODY))), facts=facts)


def _total(answers: Sequence[MetricRecord], name: str) -> float:
    return float(sum(np.array(answer[name]).sum() for answer in answers))


def _rate(answers: Sequence[MetricRecord], name: str, num_classes: int) -> float:
    """UAR over the held-out speakers of all sites together."""
    counts = [np.array(answer[name]) for answer in answers if name in answer]
    total = np.sum(counts, axis=0).reshape(num_classes, num_classes) if counts else np.zeros((1, 1))
    return round(uar(total), 4) if total.sum() else NOT_ESTIMATED
