"""Run the rounds of a federation at its coordinator.

A question goes to all sites, and the average of the answers comes back.

A plain round is averaged by Flower's FedAvg. A masked one is `protocol.federation.masking`: the coordinator learns the
sum of the answers alone. Every site has to answer in both; one that died is waited for.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Message
from flwr.app.message_type import MessageType
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from protocol.errors import Code, PeerError, ProtocolError
from protocol.federation.masking import Vector, from_integers, sum_masked
from protocol.federation.messages import KEYS, MASKED, OFFER, OFFERS, STEP, Answer, Arrays, Field
from protocol.federation.records import WEIGHT, answer_of, arrays_of, content_of

TRIES = 5
"""How often a masked step is begun anew because a site died over it."""
_OWN_FAULTS = (ErrorCode.LOAD_CLIENT_APP_EXCEPTION, ErrorCode.CLIENT_APP_RAISED_EXCEPTION)
_ASK_AGAIN_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """Hold how answers are averaged.

    Attributes:
        secure: whether the coordinator learns their sum alone.
        patience_s: how long a round waits for a site that died.
        largest: magnitude that no number of an answer exceeds in a masked round.
    """

    secure: bool
    patience_s: float
    largest: float


def average(
    grid: Grid, nodes: Sequence[int], how: Averaging, fields: Mapping[str, Field], arrays: Arrays, *, step: str
) -> Arrays:
    """Send arrays to all sites and average what each makes of them.

    Args:
        grid: Flower's way to the nodes.
        nodes: Flower's numbers of the sites.
        how: how to average.
        fields: what the sites are told besides.
        arrays: what each of them starts from.
        step: name of the step in its run, such as ``round 3``.

    Raises:
        PeerError: too few sites answered.
    """
    if not how.secure:
        return _plain(_gathered(grid, nodes, MessageType.TRAIN, fields, arrays, how.patience_s))
    total = masked_sum(grid, nodes, MessageType.TRAIN, fields, arrays, step=step, patience_s=how.patience_s)
    shapes = {name: array.shape for name, array in arrays.items()}
    return from_integers(total, shapes, num_sites=len(nodes), largest=how.largest)


def masked_sum(
    grid: Grid,
    nodes: Sequence[int],
    kind: str,
    fields: Mapping[str, Field],
    arrays: Arrays,
    *,
    step: str,
    patience_s: float,
) -> Vector:
    """Ask all sites one question and sum their masked answers.

    A site that died is waited for, and all begin again.

    Raises:
        PeerError: a site does not come back, or refuses.
    """
    for _ in range(TRIES):
        offers = [_text(answer, OFFER) for answer in ask(grid, nodes, KEYS, {STEP: step}, {}, patience_s)]
        replies = _asked(grid, nodes, kind, {**fields, STEP: step, OFFERS: ",".join(offers)}, arrays, patience_s)
        if len(replies) == len(nodes):
            return sum_masked([_masked_of(answer_of(replies[node])) for node in nodes])
    raise PeerError(Code.CONNECTION, "A site died over a masked step again and again; see its log, then run again.")


def ask(
    grid: Grid, nodes: Sequence[int], kind: str, fields: Mapping[str, Field], arrays: Arrays, patience_s: float
) -> list[Answer]:
    """Ask all sites one question; all must answer.

    One that died is asked again until patience has run out.

    Returns:
        The answers in the order of ``nodes``.

    Raises:
        PeerError: a site did not answer, or refused.
    """
    return [answer_of(reply) for reply in _gathered(grid, nodes, kind, fields, arrays, patience_s)]


def wait_for_nodes(grid: Grid, num_nodes: int, patience_s: float) -> list[int]:
    """Wait for so many nodes up to a time limit; return those there are."""
    deadline = time.monotonic() + patience_s
    while len(nodes := sorted(grid.get_node_ids())) < num_nodes and time.monotonic() < deadline:
        time.sleep(0.5)
    return nodes


def _gathered(
    grid: Grid, nodes: Sequence[int], kind: str, fields: Mapping[str, Field], arrays: Arrays, patience_s: float
) -> list[Message]:
    """Gather one reply of every site, in the order of ``nodes``."""
    deadline, replies = time.monotonic() + patience_s, dict[int, Message]()
    while missing := [node for node in nodes if node not in replies]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise PeerError(Code.CONNECTION, f"{len(missing)} of {len(nodes)} sites did not answer; start them again.")
        replies |= _asked(grid, missing, kind, fields, arrays, left)
        if len(replies) < len(nodes):
            time.sleep(_ASK_AGAIN_S)
    return [replies[node] for node in nodes]


def _asked(
    grid: Grid, nodes: Sequence[int], kind: str, fields: Mapping[str, Field], arrays: Arrays, patience_s: float
) -> dict[int, Message]:
    """Ask once; returns the replies of the sites that answered."""
    content = content_of(fields, arrays)
    questions = [Message(content=content, dst_node_id=node, message_type=kind) for node in nodes]
    replies = {}
    for reply in grid.send_and_receive(questions, timeout=patience_s):
        if not reply.has_error():
            replies[reply.metadata.src_node_id] = reply
        elif reply.error.code in _OWN_FAULTS:
            raise PeerError(
                Code.CONNECTION, f"A site does not answer {kind!r} by its own rules; its operator's log says why."
            )
    return replies


def _masked_of(answer: Answer) -> Vector:
    try:
        return answer.arrays[MASKED]
    except KeyError as error:
        raise _incomplete(MASKED) from error


def _text(answer: Answer, name: str) -> str:
    if name not in answer.fields:
        raise _incomplete(name)
    return str(answer.fields[name])


def _incomplete(name: str) -> ProtocolError:
    return PeerError(Code.PROTOCOL, f"A site's answer has no {name!r}; let all sites install the same version.")


def _plain(replies: Sequence[Message]) -> Arrays:
    """Average by Flower's FedAvg, in which every site counts the same."""
    averaged, _ = FedAvg(weighted_by_key=WEIGHT).aggregate_train(1, replies)
    if averaged is None:
        raise _incomplete("arrays")
    return arrays_of(averaged)
