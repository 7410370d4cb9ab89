"""Coordinate the sites of a federation and write the run folder.

They are asked, and Flower averages.

The coordinator has no speech of its own. What it ends with goes through the same gate as the model of a single site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app.message_type import MessageType
from flwr.serverapp import Grid

from ecan_core.errors import AudioError
from ecan_core.labels import EMOTIONS, check_classes
from ecan_core.model.architectures import ARCHITECTURES
from ecan_core.model.weights import to_arrays
from ecan_core.training.metrics import uar
from protocol.errors import Code, PeerError
from protocol.federation.masking import mean_of
from protocol.federation.messages import Field
from protocol.federation.rounds import Averaging, ask, average, masked_sum, wait_for_nodes
from source_site.federation.member import (
    CLASSES,
    COUNT_UNIT,
    COUNTS,
    LARGEST,
    LARGEST_COUNT,
    PLAN,
    ROUND,
)
from source_site.federation.plan import EVERYBODY, HEARD, Arrays, ConsortiumPlan, first_arrays, network_of, part
from source_site.training.run_folder import RunFacts, save_run
from source_site.training.train import NOT_ESTIMATED

GATHERING_S = 3600.0
"""How long the coordinator waits until enough sites are there."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Hold what a federation ends with.

    Attributes:
        arrays: the weights that leave, as `ecan_core.model.weights.to_arrays` gives them.
        facts: what the manifest will state.
    """

    arrays: Arrays
    facts: RunFacts


def federate(grid: Grid, plan: ConsortiumPlan) -> Outcome:
    """Train one network at all sites that ``grid`` reaches.

    Args:
        grid: Flower's way to the sites.
        plan: what was agreed on.

    Raises:
        AudioError: the sites share fewer than two classes.
        PeerError: too few sites came or answered.
    """
    nodes = wait_for_nodes(grid, plan.min_sites, GATHERING_S)
    if len(nodes) < plan.min_sites:
        raise PeerError(
            Code.CONNECTION,
            f"{len(nodes)} of {plan.min_sites} sites came; start the nodes of the others and run again.",
        )
    classes = agree_on_classes(grid, nodes, plan)
    fields: dict[str, Field] = {PLAN: plan.to_text(), CLASSES: ",".join(classes)}
    how = Averaging(secure=plan.secure, patience_s=plan.patience_s, largest=LARGEST)
    trained = first_arrays(plan, len(classes))
    for number in range(1, plan.rounds + 1):
        trained = average(grid, nodes, how, fields | {ROUND: number}, trained, step=f"round {number}")
    return _outcome(plan, classes, trained, _tally(grid, nodes, plan, fields, trained))


def write_outcome(outcome: Outcome, out: Path) -> None:
    """Write the run folder that `grant` and `export` read."""
    out.mkdir(parents=True, exist_ok=True)
    save_run(out, outcome.arrays, outcome.facts)


def agree_on_classes(grid: Grid, nodes: Sequence[int], plan: ConsortiumPlan) -> tuple[str, ...]:
    """Choose the classes of the plan, or those that every site has speech of.

    Raises:
        AudioError: the sites share fewer than two classes, or one has none of a class that was asked for.
    """
    answers = ask(grid, nodes, MessageType.QUERY, {}, {}, plan.patience_s)
    present = [set(str(answer.fields.get(CLASSES, "")).split(",")) for answer in answers]
    shared = set.intersection(*present)
    missing = sorted(set(plan.classes) - {name for names in present for name in names})
    if missing:
        raise AudioError(f"no site has speech of the class {missing[0]!r}; leave it out with --classes")
    if plan.classes:
        return check_classes(plan.classes)
    if len(shared) < 2:
        raise AudioError(f"the sites share {len(shared)} class(es) and two are needed; let a site map its labels")
    return tuple(name for name in EMOTIONS if name in shared)


def _tally(
    grid: Grid, nodes: Sequence[int], plan: ConsortiumPlan, fields: Mapping[str, Field], trained: Arrays
) -> np.ndarray:
    """Sum what the sites count.

    Utterances, speakers, hours in hundredths, and two matrices ``[C * C]``.
    """
    asked = part(trained, HEARD) if plan.is_estimated else {}
    if plan.secure:
        total = masked_sum(grid, nodes, MessageType.EVALUATE, fields, asked, step="tally", patience_s=plan.patience_s)
        mean = mean_of(total, num_sites=len(nodes), largest=LARGEST_COUNT * COUNT_UNIT)
        return np.asarray(np.rint(mean * len(nodes) / COUNT_UNIT))
    answers = ask(grid, nodes, MessageType.EVALUATE, fields, asked, plan.patience_s)
    try:
        return np.asarray(np.sum([answer.arrays[COUNTS] for answer in answers], axis=0))
    except (KeyError, ValueError) as error:
        raise PeerError(
            Code.PROTOCOL, "A site's tally is none of this plan; let all sites install the same version."
        ) from error


def _outcome(plan: ConsortiumPlan, classes: tuple[str, ...], trained: Arrays, counts: np.ndarray) -> Outcome:
    arch, num_classes = ARCHITECTURES[plan.encoder], len(classes)
    utterances, speakers, hundredths = counts[:3]
    by_float, by_quantized = np.split(counts[3:], 2)
    facts = RunFacts(
        arch=arch.name,
        frontend=arch.front_end,
        normalization=plan.normalization,
        classes=classes,
        num_utterances=max(1, round(float(utterances))),
        num_speakers=round(float(speakers)),
        hours=max(0.01, float(hundredths) / 100),
        uar_source=_rate(by_quantized, num_classes),
        uar_float=_rate(by_float, num_classes),
        seed=plan.seed,
    )
    return Outcome(arrays=to_arrays(network_of(plan, num_classes, part(trained, EVERYBODY))), facts=facts)


def _rate(counts: np.ndarray, num_classes: int) -> float:
    """Return the UAR over the held-out speakers of all sites together."""
    if not counts.sum():
        return NOT_ESTIMATED
    return round(uar(counts.reshape(num_classes, num_classes)), 4)
