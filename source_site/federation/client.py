"""The site's half of the Flower app: it takes records apart, asks `source_site.federation.site`, answers in records.

A site can be asked for its classes, for a round of training and for a tally. What it answers is what each names.
"""

from collections.abc import Mapping
from typing import Any

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from protocol.averaging import ANSWER, ARRAYS, QUESTION, Arrays, answer, arrays_of, masked_if_asked
from source_site.federation.plan import Plan, array_names
from source_site.federation.site import accept, classes_of, site_from, tally, train_round

PLAN, CLASSES, ROUND = "plan", "classes", "round"
"""Names in the record that every question carries."""
COUNT, SPEAKERS, HOURS = "utterances", "speakers", "hours"
"""What a site tells of its corpus."""

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Tell the classes that this site has speech of."""
    site = site_from(context.node_config)
    return Message(RecordDict({QUESTION: ConfigRecord({CLASSES: ",".join(classes_of(site))})}), reply_to=message)


@app.train(mods=[masked_if_asked])
def train(message: Message, context: Context) -> Message:
    """Train a round."""
    site = site_from(context.node_config)

    def names(question: Mapping[str, Any]) -> list[str]:
        plan, classes = _agreed(question)
        return array_names(plan, len(classes))

    def trained(question: Mapping[str, Any], arrays: Arrays, secure: bool) -> Arrays:
        plan, classes = _agreed(question)
        accept(site, plan, secure=secure)
        return train_round(site, plan, classes, arrays, int(question[ROUND]))

    return answer(message, names, trained)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Count this site's speech, and how well the networks recognize speakers that they have not heard."""
    site = site_from(context.node_config)
    plan, classes = _agreed(message.content.config_records[QUESTION])
    counted = tally(site, plan, classes, arrays_of(message.content[ARRAYS]))
    told = MetricRecord({COUNT: counted.num_utterances, SPEAKERS: counted.num_speakers, HOURS: counted.hours})
    for name, counts in counted.confusions.items():
        told[name] = [int(count) for count in counts.ravel()]
    return Message(RecordDict({ANSWER: told}), reply_to=message)


def _agreed(question: Mapping[str, Any]) -> tuple[Plan, tuple[str, ...]]:
    return Plan.from_text(str(question[PLAN])), tuple(str(question[CLASSES]).split(","))
