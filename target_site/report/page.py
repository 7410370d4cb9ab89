"""Draw the report: one self-contained HTML page.

An operator can read, print and keep it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from ecan_core.audio.not_speech import KINDS
from target_site.report import figures
from target_site.report.content import MAX_GROUPS, ReportContent
from target_site.report.evaluation import with_abstention

SHOWN_DIGITS = 16
"""Hexadecimal digits shown of a hash; the page holds all of them as tool tips."""

REASONS = {
    "NOT_FOUND": "the list names a file that does not exist",
    "NOT_REGULAR": "no file: a folder, a device, a pipe, or a link that leads nowhere or out of the folder",
    "UNREADABLE": "not audio that can be decoded, or no permission to read it",
    "EMPTY": "no samples inside",
    "MALFORMED": "its header contradicts itself: damaged, or no recording",
    "TRUNCATED": "ends before its header says so: copied or recorded incompletely",
    "CONTAINER": "another kind of file: convert it to WAV or FLAC",
    "CODEC": "a WAV file that is compressed in a way that is not decoded: export it as PCM",
    "NO_SUCH_CHANNEL": "the list names a channel that the file does not have",
    "NO_SUCH_SEGMENT": "the list names a stretch outside the file",
    "LOW_RATE": "sampled too slowly for speech",
    "TOO_SHORT": "too short to hold speech",
    "TOO_LONG": "too long for one utterance",
    "NON_FINITE": "holds values that are not numbers",
    "SILENT": "holds no sound: check the microphone or the channel",
    "NO_SPEECH": "nobody speaks in it, or not louder than the noise",
    **{reason: f"{what}, and no speech" for reason, what in KINDS.values()},
    "MIXED": "the same sound for several parties, one of whom may not be listened to",
    "NO_ROLE": "has more channels than the site's policy names roles for",
    "BLEED": "heard on another channel, where it is louder or counts already",
    "COPY": "the same recording as another one; it counts once",
    "CHANGED": "was changed while it was read: let the recording end, then run again",
    "LOST": "killed the process that read it, for want of memory or time",
}
CATEGORIES = {
    "learned": "weights that were learned from the source's recordings, rounded to small integers",
    "stated": "the manifest: what the source states and signs about the model",
    "signature": "shows who sent the bundle and that nobody changed it",
    "sealed": "encrypted to this site: what is inside was listed once it was opened",
    "fixed": "follows from the format, the architecture and the signer: nothing to choose",
}


class Headline(NamedTuple):
    """Hold the verdict in words.

    Attributes:
        tone: ``good``, ``unclear``, ``bad`` or ``plain``: the color.
        mark: one character that tells the tones apart without color.
        title: the verdict.
        meaning: what it means for whoever uses the model.
    """

    tone: str
    mark: str
    title: str
    meaning: str


HEADLINES = {
    "improved": Headline(
        "good",
        "✓",
        "The adaptation shows signs of improvement",
        "The adapted model is kept. By signs that need no labels it fits these recordings better than the model as "
        "received.",
    ),
    "inconclusive": Headline(
        "unclear",
        "?",
        "The signs of the adaptation are inconclusive",
        "The adapted model is kept, but no label-free sign shows that it is better than the model as received. Label "
        "fifty utterances to know (`sheet`, `evaluate`), adapt again with more recordings, or use the received model "
        "(--method none).",
    ),
    "reverted": Headline(
        "plain",
        "↺",
        "The adaptation was undone",
        "The adapted model looked worse, so it was discarded. This folder holds the model as it was received: it can "
        "be used, but it is not fitted to these recordings. Try more recordings or another --method.",
    ),
}
NOT_ADAPTED = Headline(
    "plain",
    "–",
    "The model is as received",
    "No adaptation was asked for. The predictions are those of the source's model on these recordings.",
)


class Measurement(NamedTuple):
    """Hold what labelled utterances say about the model.

    Attributes:
        tone: as in ``Headline``.
        title: the finding in a few words; begins in lower case.
        note: how sure it is, and what to do.
    """

    tone: str
    title: str
    note: str


class Recall(NamedTuple):
    """Hold the recall of one class before and after.

    None where nobody spoke the class.
    """

    name: str
    num_utterances: int
    before: float | None
    after: float | None


def render_report(content: ReportContent, evaluation: Mapping[str, Any] | None) -> str:
    """Render the page as HTML.

    No script, nothing fetched; equal content gives equal bytes.

    Args:
        content: what the adaptation did.
        evaluation: figures as ``evaluate_model`` returns them; None where no labels were given.
    """
    adapted = bool(content.epochs) and content.verdict != "reverted"
    views = {"before": "as received", "after": "adapted"} if adapted else {"before": "as received"}
    measured = _measure(evaluation, adapted) if evaluation else None
    template = environment().get_template("report.html")
    page = template.render(
        content=content,
        views=views,
        headline=_headline(content, measured),
        measured=measured,
        evaluation=evaluation,
        recalls=_recalls(evaluation) if evaluation else [],
        confusion=_confusion(evaluation) if evaluation else [],
        refusals=[(reason, number, REASONS.get(reason, "")) for reason, number in _count_reasons(content)],
        totals=_totals(content.crossed),
        num_bytes=sum(row["bytes"] for row in content.crossed),
        num_shown=min(figures.MAX_POINTS, len(content.predicted["before"])),
        abstention=with_abstention(evaluation) if evaluation else "",
        max_groups=MAX_GROUPS,
        shown_digits=SHOWN_DIGITS,
        uar_figure=figures.uar_figure(evaluation, views) if evaluation else "",
        shares_figure=figures.shares_figure(content.classes, content.shares, views),
        map_figure=figures.map_figure(content.classes, content.maps, content.predicted, views),
        losses_figure=figures.losses_figure(content.epochs),
        health_figure=figures.health_figure(content.epochs),
    )
    # A file name need not be UTF-8: what cannot be encoded is shown as an escape.
    return page.encode(errors="backslashreplace").decode()


def percent(value: float | None) -> str:
    """Format a share as text; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def environment() -> Environment:
    """Return what renders the templates of this site."""
    drawing = Environment(
        loader=PackageLoader("target_site"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawing.filters |= {"percent": percent, "thousands": "{:,}".format}
    return drawing


def _headline(content: ReportContent, measured: Measurement | None) -> Headline:
    """Return the verdict beside what a measurement says.

    A contrary measurement is shown too, lest a reader stops at a green tick.
    """
    headline = HEADLINES[content.verdict] if content.epochs else NOT_ADAPTED
    if measured is None or measured.tone not in ("good", "bad") or measured.tone == headline.tone:
        return headline
    return headline._replace(tone=measured.tone, mark="!", title=f"{headline.title}, but {measured.title}")


def _measure(evaluation: Mapping[str, Any], adapted: bool) -> Measurement:
    before, after = evaluation["before"]["uar"], evaluation["uar"]
    low, high = evaluation["uar_interval"]
    if not adapted:
        return Measurement("plain", "recognition was measured", "There is no adapted model to compare with.")
    if low <= before <= high:
        return Measurement(
            "unclear",
            "measured recognition did not clearly change",
            "The UAR of the received model lies inside the interval of the adapted one: the difference may be "
            "chance. More labelled utterances would narrow the interval.",
        )
    if after > before:
        return Measurement(
            "good",
            "measured recognition rose",
            "The UAR of the received model lies below the interval of the adapted one, which speaks against chance.",
        )
    return Measurement(
        "bad",
        "measured recognition fell",
        "The UAR of the received model lies above the interval of the adapted one. A measurement outweighs signs: "
        "prefer the model as received (--method none), or adapt again with more recordings and measure again.",
    )


def _recalls(evaluation: Mapping[str, Any]) -> list[Recall]:
    return [
        Recall(name, sum(counts), evaluation["before"]["recall"][name], evaluation["recall"][name])
        for name, counts in zip(evaluation["classes"], evaluation["confusion"], strict=True)
    ]


def _confusion(evaluation: Mapping[str, Any]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Return per true class its name and the row of the confusion.

    Each cell holds the count and its share of the row.
    """
    return [
        (name, [(count, count / max(sum(counts), 1)) for count in counts])
        for name, counts in zip(evaluation["classes"], evaluation["confusion"], strict=True)
    ]


def _count_reasons(content: ReportContent) -> list[tuple[str, int]]:
    return Counter(item["reason"] for item in content.refused).most_common()


def _totals(crossed: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, str]]:
    """Sum the bytes by category, most first.

    Each row holds category, bytes and meaning.
    """
    totals = Counter[str]()
    for row in crossed:
        totals[row["class"]] += row["bytes"]
    return [(name, num_bytes, CATEGORIES.get(name, "")) for name, num_bytes in totals.most_common()]
