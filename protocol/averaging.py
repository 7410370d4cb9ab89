"""Rounds of a federation as Flower carries them: arrays go out to all nodes, and the average of the answers comes back.

Both apps that average use this. A masked round is SecAgg+, where the coordinator learns the sum of the answers alone;
Flower has it for its older interface only. What the two need of Flower's interfaces is hidden here.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code as FlowerCode
from flwr.common import FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.constant import ErrorCode
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.compat.common.recorddict_compat import fitres_to_recorddict, recorddict_to_fitins
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_PARAMS_RECORD
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedProx

from protocol.errors import Code, ConnectionFault

Arrays = dict[str, np.ndarray]
Question = Mapping[str, str | int]
QUESTION, ARRAYS, ANSWER = "config", "arrays", "metrics"
"""Names of the records of a message."""
WEIGHT = "weight"
"""What a node's answer counts for: every node counts the same."""
EQUAL = 1
TRIES = 3
"""How often a node that died over a question is asked again."""
_OWN_FAULTS = (ErrorCode.LOAD_CLIENT_APP_EXCEPTION, ErrorCode.CLIENT_APP_RAISED_EXCEPTION)


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """How answers are averaged.

    Attributes:
        secure: whether the coordinator learns their sum alone.
        min_nodes: a round begins with so many nodes.
        patience_s: how long it waits for those that it began with; it goes on without those that died.
        largest: magnitude that no number of an answer exceeds; a masked sum is cut there.
        proximal: FedProx's mu; 0 is FedAvg.
    """

    secure: bool
    min_nodes: int
    patience_s: float
    largest: float
    proximal: float = 0.0


def average(grid: Grid, context: Context, how: Averaging, question: Question, arrays: Arrays) -> Arrays:
    """One round: send arrays to all nodes and average what each makes of them.

    Args:
        grid: Flower's way to the nodes.
        context: Flower's context of the run.
        how: how to average.
        question: what the nodes are told besides.
        arrays: what each of them starts from.

    Raises:
        ConnectionFault: too few nodes answered.
    """
    averaged = (_masked if how.secure else _plain)(grid, context, how, question, arrays)
    if averaged is None:
        raise ConnectionFault(
            Code.CONNECTION, "Too few nodes answered in a round; see their logs, start them again and run this again."
        )
    return averaged


def answer(
    message: Message,
    names: Callable[[Mapping[str, Any]], Sequence[str]],
    work: Callable[[Mapping[str, Any], Arrays, bool], Arrays],
) -> Message:
    """A node's part of a round; of a masked one, what Flower then masks (`masked_if_asked`) before it leaves.

    Args:
        message: what came.
        names: the arrays' names in their order, which a masked round does not carry, from the question.
        work: makes the answer of the question, the arrays, and whether it will be masked; its names are the same.
    """
    if not is_masked(message):
        question, arrays = message.content.config_records[QUESTION], arrays_of(message.content[ARRAYS])
        made = work(question, arrays, False)
        return Message(RecordDict({ARRAYS: record_of(made), ANSWER: MetricRecord({WEIGHT: EQUAL})}), reply_to=message)
    told = recorddict_to_fitins(message.content, keep_input=True)
    order = names(told.config)
    made = work(told.config, dict(zip(order, parameters_to_ndarrays(told.parameters), strict=True)), True)
    parameters = ndarrays_to_parameters([made[name] for name in order])
    result = FitRes(status=Status(FlowerCode.OK, ""), parameters=parameters, num_examples=EQUAL, metrics={})
    return Message(fitres_to_recorddict(result, keep_input=False), reply_to=message)


def masked_if_asked(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Flower's SecAgg+ where the message is a step of it."""
    if is_masked(message):
        return secaggplus_mod(message, context, call_next)
    return call_next(message, context)


def is_masked(message: Message) -> bool:
    """Whether a message is a step of SecAgg+."""
    return RECORD_KEY_CONFIGS in message.content.config_records


def record_of(arrays: Arrays) -> ArrayRecord:
    """Arrays as Flower carries them."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def arrays_of(record: object) -> Arrays:
    """Arrays as Flower brought them."""
    return {name: np.array(array.numpy()) for name, array in cast(ArrayRecord, record).items()}


def wait_for_nodes(grid: Grid, num_nodes: int, patience_s: float) -> list[int]:
    """Wait until so many nodes are there, but no longer than that; returns those that are."""
    deadline = time.monotonic() + patience_s
    while len(nodes := sorted(grid.get_node_ids())) < num_nodes and time.monotonic() < deadline:
        time.sleep(1.0)
    return nodes


def ask(grid: Grid, nodes: Sequence[int], kind: str, content: RecordDict, patience_s: float) -> list[RecordDict]:
    """One question to all nodes; all must answer. A node that died over it is asked again.

    Raises:
        ConnectionFault: one did not, or could not.
    """
    answers: dict[int, RecordDict] = {}
    for _ in range(TRIES):
        missing = [node for node in nodes if node not in answers]
        questions = [Message(content=content, dst_node_id=node, message_type=kind) for node in missing]
        for reply in grid.send_and_receive(questions, timeout=patience_s):
            if not reply.has_error():
                answers[reply.metadata.src_node_id] = reply.content
            elif reply.error.code in _OWN_FAULTS:
                raise ConnectionFault(Code.CONNECTION, "A node could not answer; see the logs of the nodes.")
        if len(answers) == len(nodes):
            return [answers[node] for node in nodes]
    raise ConnectionFault(
        Code.CONNECTION, f"{len(nodes) - len(answers)} of {len(nodes)} nodes did not answer; start them again."
    )


def _plain(grid: Grid, context: Context, how: Averaging, question: Question, arrays: Arrays) -> Arrays | None:
    common = {
        "fraction_evaluate": 0.0,
        "min_train_nodes": how.min_nodes,
        "min_available_nodes": how.min_nodes,
        "weighted_by_key": WEIGHT,
    }
    strategy = FedProx(proximal_mu=how.proximal, **common) if how.proximal else FedAvg(**common)  # type: ignore[arg-type]
    result = strategy.start(
        grid=grid,
        initial_arrays=record_of(arrays),
        num_rounds=1,
        timeout=how.patience_s,
        train_config=ConfigRecord(dict(question)),
    )
    return arrays_of(result.arrays) if result.train_metrics_clientapp else None


class _Averaged(LegacyFedAvg):
    """Flower's averaging, for the workflow of SecAgg+, that tells whether it got a sum."""

    has_sum = False

    def aggregate_fit(self, server_round, results, failures):  # type: ignore[no-untyped-def]
        aggregated = super().aggregate_fit(server_round, results, failures)
        self.has_sum = aggregated[0] is not None
        return aggregated


def _masked(grid: Grid, context: Context, how: Averaging, question: Question, arrays: Arrays) -> Arrays | None:
    strategy = _Averaged(
        fraction_evaluate=0.0,
        min_fit_clients=how.min_nodes,
        min_available_clients=how.min_nodes,
        initial_parameters=ndarrays_to_parameters(list(arrays.values())),
        on_fit_config_fn=lambda _: dict(question),
    )
    legacy = LegacyContext(context=context, config=ServerConfig(num_rounds=1), strategy=strategy)
    secure = SecAggPlusWorkflow(
        num_shares=1.0,
        reconstruction_threshold=2 / 3,
        clipping_range=how.largest,
        max_weight=float(EQUAL),
        timeout=how.patience_s,
    )
    DefaultWorkflow(fit_workflow=secure)(grid, legacy)
    if not strategy.has_sum:
        return None
    averaged = legacy.state.array_records[MAIN_PARAMS_RECORD].to_numpy_ndarrays()
    return dict(zip(arrays, (array.astype(np.float32) for array in averaged), strict=True))
