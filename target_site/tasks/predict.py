"""Predict emotions of a site's audio with an adapted model."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ecan_core.adaptation.calibrate import soften
from ecan_core.adaptation.site import Preparation
from ecan_core.command_line.console import Narrator
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import FeatureTable, Refusal
from ecan_core.data.forgotten import part
from ecan_core.data.unlabeled import list_utterances
from ecan_core.errors import AudioError, NothingUsableError, UsageError
from ecan_core.utterance import Utterance
from protocol.containment.walls import Containment
from target_site.containment.orders import PredictOrder
from target_site.model.adapted import AdaptedModel, load_adapted
from target_site.model.folder import weights_digest
from target_site.results.calls import Call
from target_site.results.days import Content
from target_site.results.index import Index
from target_site.results.predictions import Predictions, score_table
from target_site.results.runs import Run, write_run
from target_site.results.segments import Segment, segments_of
from target_site.tasks.choose import Choice, Found, choose
from target_site.tasks.recordings import (
    NOT_LOST,
    hear_voices,
    read_utterances,
    say_forgotten,
    say_ignored,
    say_left_out,
)


def carry_out(order: PredictOrder, containment: Containment, narrator: Narrator) -> dict[str, object]:
    """Predict the recordings that are new, and write a run.

    The process that started this one makes the run part of a day (`target_site.report.days`).

    Args:
        order: what to predict, and with which model.
        containment: how this process is contained, for the summary.
        narrator: tells a person what is skipped and how far the work has come.

    Returns:
        How many recordings were listed, new and lost, and why none could be used, if none could.
    """
    model = load_adapted(order.model)
    choice, num_left_out = _choose(order, model.preparation, narrator)
    heard = _hear(order, model, choice.heard, narrator)
    calls = [call for found, call in heard.calls if not (call.is_lost and found.is_tried_again(order.day))]
    names = {call.recording for call in calls}
    least = order.abstention.by_class(model.card.classes)
    content = Content(
        day=order.day,
        calls=tuple(calls),
        segments=tuple(one for one in heard.segments if one.recording in names),
        classes=model.card.classes,
        model_sha256=weights_digest(order.model).hex(),
        least_confidence=dict(zip(model.card.classes, least.tolist(), strict=True)),
        containment=containment.as_plain(),
        forgotten=num_left_out,
    )
    write_run(order.out, Run(content=content, touched=choice.touched))
    return {
        "recordings": len(calls),
        "known": choice.num_known,
        "still_lost": len(heard.calls) - len(calls),
        "lost": sum(call.is_lost for call in calls),
        "utterances": len(content.segments),
        "abstained": sum(call.abstained for call in calls),
        "forgotten": num_left_out,
        "nothing_usable": heard.nothing_usable if calls else "",
    }


def _choose(order: PredictOrder, preparation: Preparation, narrator: Narrator) -> tuple[Choice, int]:
    """Choose what has to be heard.

    Returns also how many utterances are left out because somebody was forgotten.

    Raises:
        UsageError: there is nothing at the path, a line of the list has no clear meaning, or the model does not let a
            share be predicted alone.
        NoRecordingError: it holds no recording.
        AudioError: it holds none that was not forgotten.
    """
    listing = list_utterances(order.audio)
    say_ignored(listing.ignored_columns, narrator)
    if not order.shard.is_whole and looks_at_others(preparation, listing.utterances):
        raise UsageError(
            "This model hears who speaks among all recordings of a run, so a share of them alone would be predicted "
            "otherwise: run without --shard, or adapt with --normalize corpus."
        )
    with Index(order.index, is_read_only=True) as index:
        choice = choose(listing.utterances, order.shard, index, order.day)
    utterances = [one for found in choice.heard for one in found.utterances]
    parted = part(utterances, order.left_out)
    say_forgotten(parted.num_left_out, narrator)
    if utterances and not parted.kept and not choice.num_known and order.shard.is_whole:
        raise AudioError("Everything that is listed here was forgotten; name other recordings.")
    kept = frozenset(parted.kept)
    heard = [replace(found, utterances=tuple(one for one in found.utterances if one in kept)) for found in choice.heard]
    return choice._replace(heard=tuple(found for found in heard if found.utterances)), parted.num_left_out


class _Heard(NamedTuple):
    """Hold what was made of the recordings that were heard.

    Attributes:
        calls: each of them as it was found, and what became of it.
        segments: their utterances.
        nothing_usable: why nothing could be used; empty if something could.
    """

    calls: list[tuple[Found, Call]]
    segments: list[Segment]
    nothing_usable: str


def _hear(order: PredictOrder, model: AdaptedModel, found: Sequence[Found], narrator: Narrator) -> _Heard:
    """Hear recordings and predict their utterances."""
    if not found:
        return _Heard([], [], "")
    listed = [one for recording in found for one in recording.utterances]
    front_end = model.card.front_end(order.encoders)
    try:
        with FeatureCache(order.cache) as cache:
            table = read_utterances(listed, front_end, cache, parties=order.parties, narrator=narrator)
    except NothingUsableError as fault:
        say_left_out(fault.refusals, narrator)
        return _Heard(_calls(found, [], fault.refusals, (), model.card.classes, order.day), [], str(fault))
    say_left_out(table.refusals, narrator)
    predictions = _predictions(order, model, table, narrator)
    segments = segments_of(table, predictions.scores, predictions.uncertain, model.card.classes)
    clipped = [segments[row].recording for row in table.clipped]
    calls = _calls(found, segments, table.refusals, clipped, model.card.classes, order.day)
    return _Heard(calls, segments, "")


def _predictions(order: PredictOrder, model: AdaptedModel, table: FeatureTable, narrator: Narrator) -> Predictions:
    """Predict the utterances of a table, calibrated."""
    preparation = model.preparation
    voices = hear_voices(table.utterances, order.encoders, narrator) if preparation.guessing else None
    if looks_at_others(preparation, table.utterances):
        scores = score_table(model.networks(), preparation, table, voices)
    else:
        scores = _scores_by_recording(model, table)
    predictions = Predictions(
        table=table,
        scores=soften(scores, model.temperature),
        least_confidence=order.abstention.by_class(model.card.classes),
        temperature=model.temperature,
    )
    if predictions.advice:
        narrator.say(predictions.advice)
    return predictions


def looks_at_others(preparation: Preparation, utterances: Sequence[Utterance]) -> bool:
    """Return whether an utterance's scores depend on the others of a run.

    They do where voices are told apart by a speaker encoder, and where the list names people whom the model was not
    adapted to: what these sound like is learned from all that is predicted of them.
    """
    if preparation.guessing:
        return True
    known = preparation.normalizer.speakers
    return preparation.normalizer.mode == "speaker" and any(
        one.speaker is not None and one.speaker not in known for one in utterances
    )


def _scores_by_recording(model: AdaptedModel, table: FeatureTable) -> np.ndarray:
    """Return the scores ``[N, C]`` of a table, each recording on its own.

    Sums of floats depend on what is computed together; so they do not depend on which recordings a run hears.
    """
    networks = model.networks()
    parts = [score_table(networks, model.preparation, part) for part in _by_recording(table)]
    return np.concatenate(parts)


def _by_recording(table: FeatureTable) -> Iterator[FeatureTable]:
    """Split a table where another recording begins."""
    for _, rows in groupby(range(len(table)), key=lambda row: table.utterances[row].path):
        own = list(rows)
        its = slice(own[0], own[-1] + 1)
        yield replace(
            table,
            utterances=table.utterances[its],
            features=table.features[its],
            durations_s=table.durations_s[its],
        )


def _calls(
    found: Sequence[Found],
    segments: Sequence[Segment],
    refusals: Sequence[Refusal],
    clipped: Sequence[str],
    classes: Sequence[str],
    day: int,
) -> list[tuple[Found, Call]]:
    """Count by recording what was heard and what was left out."""
    own: dict[str, list[Segment]] = {}
    for segment in segments:
        own.setdefault(segment.recording, []).append(segment)
    refused: dict[str, list[dict[str, Any]]] = {}
    for refusal in refusals:
        refused.setdefault(str(refusal.utterance.path), []).append(_refused(refusal))
    too_loud = Counter(clipped)
    names = [str(one.path) for one in found]
    return [
        (one, _call(one, own.get(name, []), refused.get(name, []), too_loud[name], classes, day))
        for one, name in zip(found, names, strict=True)
    ]


def _call(
    found: Found,
    segments: Sequence[Segment],
    refused: list[dict[str, Any]],
    clipped: int,
    classes: Sequence[str],
    day: int,
) -> Call:
    told = Counter(one.label for one in segments if not one.abstained)
    is_lost = not segments and any(one["reason"] not in NOT_LOST for one in refused)
    return Call(
        recording=str(found.path),
        place=found.place,
        size_bytes=found.size_bytes,
        mtime_ns=found.mtime_ns,
        sha256=found.sha256,
        listed=found.listed,
        supersedes=found.supersedes(day),
        utterances=len(segments),
        abstained=sum(one.abstained for one in segments),
        predicted={name: told[name] for name in classes},
        confidence=round(float(np.mean([one.confidence for one in segments])), 4) if segments else None,
        speech_ms=sum(one.end_ms - one.begin_ms for one in segments),
        clipped=clipped,
        refused=refused,
        is_lost=is_lost,
    )


def _refused(refusal: Refusal) -> dict[str, Any]:
    """Describe what was left out; times are in milliseconds within the file."""
    place = refusal.utterance
    times = {"begin_ms": place.start_s, "end_ms": place.end_s}
    return {
        "channel": place.channel,
        **{name: None if time_s is None else round(1000 * time_s) for name, time_s in times.items()},
        "reason": refusal.reason,
        "message": refusal.message,
    }
