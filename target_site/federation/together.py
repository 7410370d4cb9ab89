"""The Flower app of a model that several sites adapt together: what a site answers, and what the coordinator asks.

The coordinator has neither recordings nor the bundle, which is sealed to each site. Round by round it averages how the
sites would change the weights that all of them have, and tells them what that has come to.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.message_type import MessageType
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from ecan_core.checks import at_least, non_negative, positive
from ecan_core.settings import parse_settings
from protocol.averaging import (
    ARRAYS,
    QUESTION,
    Arrays,
    Averaging,
    answer,
    arrays_of,
    ask,
    average,
    masked_if_asked,
    record_of,
    wait_for_nodes,
)
from protocol.errors import Code, ConnectionFault, Refused
from protocol.federation.masking import FEWEST_FOR_SECRECY
from protocol.update import shapes
from target_site.federation.member import Member, Round, adapt_round, conclude, terms_of

WEIGHTS, ARCH, CLASSES = "weights", "arch", "classes"
"""What a site tells of its model: which release, and the form of an update of it."""
END = "end"
"""The question that ends it."""
SEEDS = 1000
"""Seeds of rounds lie so far apart that no two runs share one."""
LARGEST = 1.0
"""No weight changes by more in a round, or secure aggregation would cut it."""
GATHERING_S = 3600.0

client = ClientApp()
server = ServerApp()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an operator asks of the sites.

    Attributes:
        rounds: how often updates are averaged.
        epochs: passes over a site's recordings in between.
        secure: whether the sum of the updates alone is learned (SecAgg+).
        sites: how many there are; a round begins with all of them.
        patience_s: how long a round waits; it goes on without a site that died.
        seed: of shuffling and dropout.
    """

    rounds: int = 5
    epochs: int = 3
    secure: bool = True
    sites: int = FEWEST_FOR_SECRECY
    patience_s: float = 3600.0
    seed: int = 0

    def __post_init__(self) -> None:
        positive(self, "rounds", "epochs", "patience_s")
        non_negative(self, "seed")
        at_least(self, "sites", FEWEST_FOR_SECRECY if self.secure else 2)

    def round(self, weights: str, number: int) -> Round:
        """What the sites are asked for in a round."""
        return Round(weights=weights, number=number, epochs=self.epochs, seed=SEEDS * self.seed + number)


@client.query()
def tell_model(message: Message, context: Context) -> Message:
    """Tell which released model this site has."""
    terms = terms_of(_member(context))
    arch, num_classes = terms.form
    told = ConfigRecord({WEIGHTS: terms.weights.hex(), ARCH: arch, CLASSES: num_classes})
    return Message(RecordDict({QUESTION: told}), reply_to=message)


@client.train(mods=[masked_if_asked])
def take_part(message: Message, context: Context) -> Message:
    """Adapt for a round; what is returned is the update, which Flower masks where that was asked for."""
    member = _member(context)

    def names(_: Mapping[str, Any]) -> Sequence[str]:
        return list(shapes(*terms_of(member).form))

    def work(question: Mapping[str, Any], change: Arrays, secure: bool) -> Arrays:
        return adapt_round(member, Round.parse(question), change, secure=secure)

    return answer(message, names, work)


@client.query(END)
def end(message: Message, context: Context) -> Message:
    """Make the common model this site's own; what its recordings say of it stays here."""
    content = message.content
    conclude(_member(context), Round.parse(content.config_records[QUESTION]), arrays_of(content[ARRAYS]))
    return Message(RecordDict({QUESTION: ConfigRecord({})}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Adapt by the plan of the run's configuration; writes how many sites have the model."""
    plan = parse_settings(Plan, json.loads(str(context.run_config["plan"])), "the plan")
    done = adapt_together(grid, context, plan)
    Path(str(context.run_config["out"])).write_text(json.dumps({"sites": plan.sites, "have_the_model": done}))


def adapt_together(grid: Grid, context: Context, plan: Plan) -> int:
    """Have the sites adapt one model; returns how many of them have it in the end.

    Args:
        grid: Flower's way to the sites.
        context: Flower's context of the run.
        plan: what is asked of them.

    Raises:
        ConnectionFault: too few sites came or answered.
        Refused: the sites have different models.
    """
    nodes = wait_for_nodes(grid, plan.sites, GATHERING_S)
    if len(nodes) < plan.sites:
        raise ConnectionFault(
            Code.CONNECTION, f"{len(nodes)} of {plan.sites} sites came; start the others' nodes and run again."
        )
    weights, form = _agree(grid, nodes, plan)
    how = Averaging(secure=plan.secure, min_nodes=plan.sites, patience_s=plan.patience_s, largest=LARGEST)
    change = {name: np.zeros(shape, np.float32) for name, shape in shapes(*form).items()}
    for number in range(1, plan.rounds + 1):
        question = asdict(plan.round(weights, number))
        update = average(grid, context, how, question, change)
        change = {name: (change[name] + update[name]).astype(np.float32) for name in change}
    content = RecordDict({QUESTION: ConfigRecord(asdict(plan.round(weights, plan.rounds))), ARRAYS: record_of(change)})
    questions = [Message(content=content, dst_node_id=node, message_type=f"query.{END}") for node in nodes]
    replies = grid.send_and_receive(questions, timeout=plan.patience_s)
    return sum(not reply.has_error() for reply in replies)


def _agree(grid: Grid, nodes: list[int], plan: Plan) -> tuple[str, tuple[str, int]]:
    """The release that all sites have, and the form of an update of it."""
    asked = RecordDict({QUESTION: ConfigRecord({})})
    told = [reply.config_records[QUESTION] for reply in ask(grid, nodes, MessageType.QUERY, asked, plan.patience_s)]
    models = {(str(one[WEIGHTS]), str(one[ARCH]), int(str(one[CLASSES]))) for one in told}
    if len(models) > 1:
        raise Refused(Code.POLICY, "The sites have different models; give all of them the same release.")
    [(weights, arch, num_classes)] = models
    return weights, (arch, num_classes)


def _member(context: Context) -> Member:
    engine = ("partition-id", "num-partitions")
    settings = {name: value for name, value in context.node_config.items() if name not in engine}
    return parse_settings(Member, settings, "the node")
