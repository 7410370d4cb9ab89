"""Describe recordings and what a model makes of each, in numbers."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from ecan_core.audio.not_speech import KINDS

NOT_SPEECH = frozenset(reason for reason, _ in KINDS.values())
"""Reasons for which a stretch is left out that holds no speech."""

LEFT_OUT = {
    "channel": int | None,
    "begin_ms": int | None,
    "end_ms": int | None,
    "reason": str,
    "message": str,
}
"""What is told of a stretch that was left out."""

MOST_UNCERTAIN = 0.9
"""Share of the utterances from which a model that abstains is of little use."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """Describe one recording that was predicted.

    Attributes:
        recording: the file, as it was listed.
        place: digest of where it lies (`target_site.results.shards.place_of_path`).
        size_bytes: of the file; None where there was none.
        mtime_ns: when the file was last changed, in nanoseconds since 1970; None where there was none.
        sha256: of the file's bytes; None where it could not be read.
        listed: digest of what the list says of it: speakers, channels and times.
        supersedes: the day of an earlier hearing, such as ``2026-11-30``, that no longer counts; None for the first.
        utterances: how many were predicted.
        abstained: from how many of them the model abstains.
        predicted: how many of the others there are of each class.
        confidence: mean over the utterances; None where there is none.
        speech_ms: length of the utterances together.
        clipped: how many of them were recorded too loud.
        refused: what was left out: ``channel``, ``begin_ms``, ``end_ms``, ``reason``, ``message``.
        is_lost: nothing was heard that should have been.
    """

    recording: str
    place: str
    size_bytes: int | None
    mtime_ns: int | None
    sha256: str | None
    listed: str
    supersedes: str | None
    utterances: int
    abstained: int
    predicted: dict[str, int]
    confidence: float | None
    speech_ms: int
    clipped: int
    refused: list[Annotated[dict[str, Any], LEFT_OUT]]
    is_lost: bool

    def __post_init__(self) -> None:
        """Refuse what is no digest, which the index could not hold."""
        for digest in (self.place, self.listed, self.sha256 or ""):
            bytes.fromhex(digest)

    @property
    def not_speech_ms(self) -> Counter[str]:
        """Return how long was no speech, by kind."""
        return not_speech_ms(self.refused)

    @property
    def uncertain_share(self) -> float:
        """Return the share of its utterances that are uncertain."""
        return self.abstained / self.utterances if self.utterances else 0.0

    @property
    def not_speech_share(self) -> float:
        """Return the share of no speech in all that was loud enough."""
        other = self.not_speech_ms.total()
        return other / (other + self.speech_ms) if other else 0.0


def not_speech_ms(refused: Iterable[dict[str, Any]]) -> Counter[str]:
    """Return how long was no speech among what was left out."""
    lengths: Counter[str] = Counter()
    for one in refused:
        if one["reason"] in NOT_SPEECH and one["begin_ms"] is not None and one["end_ms"] is not None:
            lengths[one["reason"]] += one["end_ms"] - one["begin_ms"]
    return lengths


def uncertain_advice(abstained: int, utterances: int, least_confidence: str) -> str:
    """Say what to do where nearly everything is uncertain; else empty."""
    if not utterances or abstained < MOST_UNCERTAIN * utterances:
        return ""
    return (
        f"{abstained} of {utterances} utterances are uncertain, with a least_confidence of {least_confidence}: "
        "label some (`ecan-target sheet`) and run `adapt --labels`, or lower least_confidence in site.yaml"
    )


def format_calls(calls: Sequence[Call]) -> str:
    """Format one object per line."""
    return "".join(json.dumps(vars(call)) + "\n" for call in calls)
