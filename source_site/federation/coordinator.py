"""The coordinator's half of the Flower app: it asks the sites, lets Flower average, and writes the run folder.

It has no speech of its own. What it ends with goes through the same gate as the model of a single site.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.message_type import MessageType
from flwr.common import ndarrays_to_parameters
from flwr.common.constant import ErrorCode
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_PARAMS_RECORD
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedProx

from ecan_core.errors import AudioError, SettingsError
from ecan_core.labels import EMOTIONS, check_classes
from ecan_core.metrics import uar
from ecan_core.model.architectures import ARCHITECTURES
from ecan_core.model.weights import snapshot, to_arrays
from source_site.federation.client import (
    ANSWER,
    ARRAYS,
    CLASSES,
    COUNT,
    HOURS,
    PLAN,
    QUESTION,
    ROUND,
    SPEAKERS,
    WEIGHT,
    arrays_of,
    record_of,
)
from source_site.federation.plan import EVERYBODY, HEARD, Arrays, Plan, first_arrays, named, network_of, part
from source_site.material import quantize_network
from source_site.store import RunFacts, save_run
from source_site.train import NOT_ESTIMATED

GATHERING_S = 3600.0
"""How long the coordinator waits until enough sites are there."""
TRIES = 3
"""How often a site that died over a question is asked again."""
CLIPPING_RANGE = 8.0
"""Weights are within this range of 0, or secure aggregation would cut them."""
_OWN_FAULTS = (ErrorCode.LOAD_CLIENT_APP_EXCEPTION, ErrorCode.CLIENT_APP_RAISED_EXCEPTION)
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
        SettingsError: too few sites answered.
    """
    nodes = _wait_for_sites(grid, plan.min_sites)
    classes = agree_on_classes(grid, nodes, plan)
    question = {PLAN: plan.to_text(), CLASSES: ",".join(classes)}
    start = first_arrays(plan, len(classes))
    train = _train_masked if plan.secure else _train_plain
    trained = train(grid, context, plan, question, start)
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
    answers = _ask(grid, nodes, MessageType.QUERY, RecordDict({QUESTION: ConfigRecord({})}), plan.patience_s)
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


def _train_plain(grid: Grid, context: Context, plan: Plan, question: dict[str, str], start: Arrays) -> Arrays:
    common = {
        "fraction_evaluate": 0.0,
        "min_train_nodes": plan.min_sites,
        "min_available_nodes": plan.min_sites,
        "weighted_by_key": WEIGHT,
    }
    strategy = FedProx(proximal_mu=plan.mu, **common) if plan.mu else FedAvg(**common)  # type: ignore[arg-type]
    result = strategy.start(
        grid=grid,
        initial_arrays=record_of(start),
        num_rounds=plan.rounds,
        timeout=plan.patience_s,
        train_config=ConfigRecord(dict(question)),
    )
    if len(result.train_metrics_clientapp) < plan.rounds:
        missing = plan.rounds - len(result.train_metrics_clientapp)
        raise SettingsError(f"no site answered in {missing} of {plan.rounds} rounds; see the logs of the sites' nodes")
    return arrays_of(result.arrays)


class _Averaged(LegacyFedAvg):
    """Flower's averaging, for the workflow of SecAgg+, that tells in how many rounds it got a sum."""

    rounds_done = 0

    def aggregate_fit(self, server_round, results, failures):  # type: ignore[no-untyped-def]
        aggregated = super().aggregate_fit(server_round, results, failures)
        self.rounds_done += aggregated[0] is not None
        return aggregated


def _train_masked(grid: Grid, context: Context, plan: Plan, question: dict[str, str], start: Arrays) -> Arrays:
    strategy = _Averaged(
        fraction_evaluate=0.0,
        min_fit_clients=plan.min_sites,
        min_available_clients=plan.min_sites,
        initial_parameters=ndarrays_to_parameters(list(start.values())),
        on_fit_config_fn=lambda number: {**question, ROUND: number},
    )
    legacy = LegacyContext(context=context, config=ServerConfig(num_rounds=plan.rounds), strategy=strategy)
    secure = SecAggPlusWorkflow(
        num_shares=1.0,
        reconstruction_threshold=2 / 3,
        clipping_range=CLIPPING_RANGE,
        max_weight=1.0,
        timeout=plan.patience_s,
    )
    DefaultWorkflow(fit_workflow=secure)(grid, legacy)
    if strategy.rounds_done < plan.rounds:
        missing = plan.rounds - strategy.rounds_done
        raise SettingsError(
            f"{missing} of {plan.rounds} rounds gave no sum, because too few sites answered; see the nodes' logs"
        )
    arrays = legacy.state.array_records[MAIN_PARAMS_RECORD].to_numpy_ndarrays()
    return dict(zip(start, (array.astype(np.float32) for array in arrays), strict=True))


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
        answer.metric_records[ANSWER] for answer in _ask(grid, nodes, MessageType.EVALUATE, content, plan.patience_s)
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


def _wait_for_sites(grid: Grid, num_sites: int) -> list[int]:
    import time

    deadline = time.monotonic() + GATHERING_S
    while len(nodes := sorted(grid.get_node_ids())) < num_sites:
        if time.monotonic() > deadline:
            raise SettingsError(f"{len(nodes)} of {num_sites} sites came; start the nodes of the others and run again")
        time.sleep(1.0)
    return nodes


def _ask(grid: Grid, nodes: list[int], kind: str, content: RecordDict, patience_s: float) -> list[RecordDict]:
    """One question to all sites; all must answer. A site whose node died over it is asked again.

    Raises:
        SettingsError: a site did not, or could not.
    """
    answers: dict[int, RecordDict] = {}
    for _ in range(TRIES):
        missing = [node for node in nodes if node not in answers]
        questions = [Message(content=content, dst_node_id=node, message_type=kind) for node in missing]
        for reply in grid.send_and_receive(questions, timeout=patience_s):
            if not reply.has_error():
                answers[reply.metadata.src_node_id] = reply.content
            elif reply.error.code in _OWN_FAULTS:
                raise SettingsError("a site could not answer; see the logs of the sites' nodes")
        if len(answers) == len(nodes):
            return [answers[node] for node in nodes]
    raise SettingsError(f"{len(nodes) - len(answers)} of {len(nodes)} sites did not answer; start their nodes again")
