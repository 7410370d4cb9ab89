"""The site's half of the Flower app: it takes records apart, asks `source_site.federation.site`, answers in records.

A site can be asked for its classes, for a round of training and for a tally. What it answers is what each names.
"""

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.compat.common.recorddict_compat import fitres_to_recorddict, recorddict_to_fitins

from source_site.federation.plan import Arrays, Plan, array_names
from source_site.federation.site import accept, classes_of, site_from, tally, train_round

PLAN, CLASSES, ROUND = "plan", "classes", "server-round"
"""Names in the record that every question carries."""
QUESTION, ARRAYS, ANSWER = "config", "arrays", "metrics"
"""Names of records."""
COUNT, SPEAKERS, HOURS = "utterances", "speakers", "hours"
"""What a site tells of its corpus."""
WEIGHT = "weight"
"""What a site's network counts for. Every site counts the same: a large corpus is no better a picture of others."""
EQUAL = 1

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Tell the classes that this site has speech of."""
    site = site_from(context.node_config)
    return Message(RecordDict({QUESTION: ConfigRecord({CLASSES: ",".join(classes_of(site))})}), reply_to=message)


def _masked_if_asked(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Flower's SecAgg+ where the message is a step of it."""
    if RECORD_KEY_CONFIGS in message.content.config_records:
        return secaggplus_mod(message, context, call_next)
    return call_next(message, context)


@app.train(mods=[_masked_if_asked])
def train(message: Message, context: Context) -> Message:
    """Train a round; in secure aggregation Flower masks what this returns before it leaves."""
    site = site_from(context.node_config)
    secure = RECORD_KEY_CONFIGS in message.content.config_records
    if not secure:
        plan, classes, round_number = _question(message.content.config_records[QUESTION])
        accept(site, plan, secure=False)
        trained = train_round(site, plan, classes, arrays_of(message.content[ARRAYS]), round_number)
        answer = RecordDict({ARRAYS: record_of(trained), ANSWER: MetricRecord({WEIGHT: EQUAL})})
        return Message(answer, reply_to=message)
    told = recorddict_to_fitins(message.content, keep_input=True)
    plan, classes, round_number = _question(told.config)
    accept(site, plan, secure=True)
    names = array_names(plan, len(classes))
    arrays = dict(zip(names, parameters_to_ndarrays(told.parameters), strict=True))
    trained = train_round(site, plan, classes, arrays, round_number)
    parameters = ndarrays_to_parameters([trained[name] for name in names])
    result = FitRes(status=Status(Code.OK, ""), parameters=parameters, num_examples=EQUAL, metrics={})
    return Message(fitres_to_recorddict(result, keep_input=False), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Count this site's speech, and how well the networks recognize speakers that they have not heard."""
    site = site_from(context.node_config)
    plan, classes, _ = _question(message.content.config_records[QUESTION])
    counted = tally(site, plan, classes, arrays_of(message.content[ARRAYS]))
    answer = MetricRecord({COUNT: counted.num_utterances, SPEAKERS: counted.num_speakers, HOURS: counted.hours})
    for name, counts in counted.confusions.items():
        answer[name] = [int(count) for count in counts.ravel()]
    return Message(RecordDict({ANSWER: answer}), reply_to=message)


def record_of(arrays: Arrays) -> ArrayRecord:
    """Weights as Flower carries them."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def arrays_of(record: object) -> Arrays:
    """Weights as Flower brought them."""
    return {name: np.array(array.numpy()) for name, array in cast(ArrayRecord, record).items()}


def _question(record: Mapping[str, object]) -> tuple[Plan, tuple[str, ...], int]:
    plan, classes = Plan.from_text(str(record[PLAN])), tuple(str(record[CLASSES]).split(","))
    return plan, classes, int(cast(int, record.get(ROUND, 0)))
