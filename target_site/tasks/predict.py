"""Predict emotions of a site's audio with an adapted model."""

import json

from ecan_core.adaptation.calibrate import soften
from ecan_core.command_line.console import Narrator
from ecan_core.data.cache import FeatureCache
from protocol.containment.walls import Containment
from protocol.files import write_atomic
from target_site.containment.orders import PredictOrder
from target_site.model.adapted import load_adapted
from target_site.model.folder import weights_digest
from target_site.results.predictions import Predictions, score_table, summarize
from target_site.results.segments import SUMMARY
from target_site.tasks.recordings import count_lost, hear_voices, list_recordings, read_utterances, say_left_out


def carry_out(order: PredictOrder, containment: Containment, narrator: Narrator) -> dict[str, object]:
    """Predict recordings and write segments and a summary.

    ``segments.csv``, ``.jsonl`` and ``.rttm``, and ``summary.json``.

    Args:
        order: what to predict, and with which model.
        containment: how this process is contained, for the summary.
        narrator: tells a person what is skipped and how far the work has come.

    Returns:
        The summary: counts per class, refusals with reasons.
    """
    model = load_adapted(order.model)
    listed, num_left_out, _ = list_recordings(order.audio, order.left_out, narrator)
    with FeatureCache(order.cache) as cache:
        table = read_utterances(
            listed, model.card.front_end(order.encoders), cache, parties=order.parties, narrator=narrator
        )
    say_left_out(table.refusals, narrator)
    voices = hear_voices(table.utterances, order.encoders, narrator) if model.preparation.guessing else None
    scores = score_table(model.networks(), model.preparation, table, voices)
    least = order.abstention.by_class(model.card.classes)
    predictions = Predictions(
        table=table,
        scores=soften(scores, model.temperature),
        least_confidence=least,
        temperature=model.temperature,
    )
    if predictions.advice:
        narrator.say(predictions.advice)
    summary = summarize(predictions, model.card.classes)
    summary |= count_lost(listed, table) | {"forgotten": num_left_out}
    summary |= {"model_sha256": weights_digest(order.model).hex(), "containment": containment.as_plain()}
    predictions.write(order.out, model.card.classes)
    write_atomic(order.out / SUMMARY, json.dumps(summary, indent=2).encode())
    return summary
