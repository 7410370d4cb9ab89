"""Tell how a site stands, for people, for programs and for Prometheus.

A measure is a number with a name; what needs a person's attention is a word with a sentence. The names are those of
Prometheus: their last word is the unit, by which people are shown the number as well.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, TypeVar

from ecan_core.command_line.console import one_line
from ecan_core.errors import EcanError


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Hold one number about a site.

    Attributes:
        name: in small letters, without the program; ends in its unit.
        about: what it is, in a few words of ASCII, as a person reads it before the labels.
        value: the number.
        labels: what tells it from others of its name.
    """

    name: str
    about: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def measure(name: str, about: str, value: float, **labels: str) -> Measure:
    """Return a measure; see `Measure` for what is what."""
    return Measure(name=name, about=about, value=value, labels=labels)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Hold what a person has to look at.

    Attributes:
        reason: one word, which alerts go by.
        said: one sentence with the remedy.
    """

    reason: str
    said: str


Found = Measure | Attention
Site = TypeVar("Site")


class NeedsAttentionError(EcanError):
    """Report that a site needs a person's attention."""

    exit_code = 19


@dataclass(frozen=True, kw_only=True)
class Status:
    """Hold all that was found.

    Attributes:
        program: the command line that tells it, such as ``ecan-target``.
        at: when it was looked at, in UTC.
        reasons: all words that there are, also of what is well.
        found: the measures, those of one name side by side, and what needs attention.
    """

    program: str
    at: datetime
    reasons: Sequence[str]
    found: tuple[Found, ...]

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Return what needs attention."""
        return tuple(one for one in self.found if isinstance(one, Attention))

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return the measures, those of one name side by side."""
        known = (one for one in self.found if isinstance(one, Measure))
        order: dict[str, list[Measure]] = {}
        for one in known:
            order.setdefault(one.name, []).append(one)
        return tuple(one for of_name in order.values() for one in of_name)

    def in_form(self, form: str) -> str:
        """Return it as ``text``, ``json`` or ``prometheus``, whole lines."""
        if form == "prometheus":
            return self.as_prometheus()
        return f"{json.dumps(self.as_plain()) if form == 'json' else self.as_text()}\n"

    def as_text(self) -> str:
        """Return it for people, what needs attention first."""
        lines = [f"attention  {one.reason}: {one_line(one.said)}" for one in self.attentions] or ["healthy"]
        rows = [(_named(one), shown(one, self.at)) for one in self.measures]
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join([*lines, *(f"{one_line(name):<{width}}  {value}".rstrip() for name, value in rows)])

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "at": self.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "healthy": not self.attentions,
            "attention": [{"reason": one.reason, "said": one.said} for one in self.attentions],
            "measures": [{"name": one.name, "labels": dict(one.labels), "value": one.value} for one in self.measures],
        }

    def as_prometheus(self) -> str:
        """Return it as Prometheus reads it, such as from a text file."""
        raised = {one.reason for one in self.attentions}
        looked_at = measure("status_timestamp_seconds", "when the site was looked at", int(self.at.timestamp()))
        about = "whether something needs attention"
        reasons = (measure("attention", about, reason in raised, reason=reason) for reason in self.reasons)
        prefix = self.program.replace("-", "_")
        families = groupby((looked_at, *reasons, *self.measures), key=lambda one: one.name)
        return "".join(line for name, family in families for line in _family(f"{prefix}_{name}", list(family)))

    def raise_attention(self) -> None:
        """Raise what needs attention, if there is anything.

        Raises:
            NeedsAttentionError: there is; the command then ends with its exit code.
        """
        if self.attentions:
            words = ", ".join(dict.fromkeys(one.reason for one in self.attentions))
            raise NeedsAttentionError(f"this site needs attention ({words}); `{self.program} status` says what to do.")


def looked(
    looks: Iterable[tuple[str, Callable[[Site], Iterable[Found]]]], site: Site, faults: tuple[type[Exception], ...]
) -> tuple[Found, ...]:
    """Return what was found; a fault becomes what needs attention, once.

    Args:
        looks: the word that stands for a fault, and what looks.
        site: what is looked at.
        faults: the errors whose message is a sentence with the remedy.
    """
    found: list[Found] = []
    for reason, look in looks:
        try:
            for one in look(site):
                found.append(one)  # one by one: what came before a fault is kept
        except faults as fault:
            if not any(isinstance(one, Attention) and one.said == str(fault) for one in found):
                found.append(Attention(reason=reason, said=str(fault)))
    return tuple(found)


def shown(measure: Measure, at: datetime) -> str:
    """Return a number as people read it, by the unit in its name."""
    if isinstance(measure.value, bool):
        return "yes" if measure.value else "no"
    if measure.name.endswith(_LABELS_ALONE):
        return ", ".join(measure.labels.values())
    for unit, show in _SHOWN.items():
        if measure.name.endswith(unit):
            return show(measure.value, at)
    return f"{measure.value:g}"


def duration(seconds: float) -> str:
    """Return a length of time as people say it, in its largest unit."""
    for length_s, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if abs(seconds) >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _when(seconds: float, at: datetime) -> str:
    when = datetime.fromtimestamp(seconds, UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC, {duration(at.timestamp() - seconds)} ago"


_LABELS_ALONE = "_info"
"""Ends the name of what is told by its labels; its number is 1."""
_SHOWN: Mapping[str, Callable[[float, datetime], str]] = {
    "_timestamp_seconds": _when,
    "_seconds": lambda value, _: duration(value),
    "_bytes": lambda value, _: f"{value / (1 << 30):.1f} GiB",
    "_days": lambda value, _: f"{value:g} days",
    "_share": lambda value, _: f"{100 * value:.1f} %",
}


def _named(one: Measure) -> str:
    labels = {} if one.name.endswith(_LABELS_ALONE) else one.labels
    return f"{one.about} ({', '.join(labels.values())})" if labels else one.about


def _family(name: str, measures: Sequence[Measure]) -> list[str]:
    """Return the lines of one name: what it is, its kind, and every value."""
    about = measures[0].about
    told = f"{about[0].upper()}{about[1:]}."
    values = (f"{name}{_labels(one.labels)} {float(one.value):.17g}\n" for one in measures)
    return [f"# HELP {name} {told}\n", f"# TYPE {name} gauge\n", *values]


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
