"""Tell in plain words what an audit log says: when, who and what."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecan_core.command_line.console import one_line
from protocol.errors import Code, MalformedError
from protocol.files import read_bounded
from target_site.accountability.audit_log import LOG, MAX_LOG_BYTES, verify_log

_SHOWN_DIGITS = 16
_TIME = "%Y-%m-%dT%H:%M:%SZ"

Facts = Mapping[str, Any]
Sentence = Callable[[Facts], str]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Hold one line of a log.

    Attributes:
        at: when, in UTC.
        command: what was run, a key of `COMMANDS`.
        state: ``begun``, ``done`` or ``failed``.
        facts: the whole line.
    """

    at: datetime
    command: str
    state: str
    facts: Facts = field(repr=False)

    @property
    def exit_code(self) -> int:
        """Return what the command ended with; 0 for success."""
        code = self.facts.get("exit_code")
        return 0 if self.state == "done" else code if isinstance(code, int) and code else 1

    @property
    def line(self) -> str:
        """Return it as one line for people."""
        return f"{self.at:%Y-%m-%d %H:%M} UTC  {one_line(self._sentence())}"

    def _sentence(self) -> str:
        if self.state == "failed":
            return f"{self.command} failed with exit code {self.exit_code}"
        about = COMMANDS.get(self.command, {})
        with suppress(KeyError, TypeError, ValueError):  # whoever may write the log may write any value
            if self.state in about:
                return about[self.state](self.facts)
        return f"{self.command} {self.state}"


def read_events(folder: Path) -> list[Event]:
    """Read the log of a folder, whose lines must hold together.

    Raises:
        UnauthenticError: a line was changed, removed or put in.
        FileError: there is no log, or it cannot be read.
        MalformedError: it is too long, no file, or a line says nothing of a command.
    """
    verify_log(folder)
    try:
        return [_event(json.loads(line)) for line in read_bounded(folder / LOG, MAX_LOG_BYTES).split(b"\n")[:-1]]
    except (KeyError, TypeError, ValueError) as fault:
        said = f"A line of {folder / LOG} says nothing of a command; compare the log with a copy."
        raise MalformedError(Code.VALUE, said) from fault


def _event(line: Facts) -> Event:
    at = datetime.strptime(line["at"], _TIME).replace(tzinfo=UTC)
    return Event(at=at, command=str(line["event"]), state=str(line.get("state", "done")), facts=line)


def _short(facts: Facts, name: str) -> str:
    return str(facts.get(name, "unknown"))[:_SHOWN_DIGITS]


def _left_out(facts: Facts) -> str:
    return f", {facts['forgotten']} of the forgotten left out" if facts.get("forgotten") else ""


def _judged(facts: Facts) -> str:
    lost = f"; {facts['lost']} of {facts['recordings']} recordings lost" if facts.get("lost") else ""
    return f"{facts.get('verdict')}, {facts.get('reason')}{lost}{_left_out(facts)}"


def _together(facts: Facts) -> str:
    if "verdict" in facts:
        return f"made a model together with other sites: {_judged(facts)}"
    return f"update {facts.get('left')} of {facts.get('bytes')} bytes left for the other sites"


COMMANDS: Mapping[str, Mapping[str, Sentence]] = {
    "receive": {
        "done": lambda facts: (
            f"received bundle {_short(facts, 'bundle_sha256')} from source {_short(facts, 'issuer')}, "
            f"grant {_short(facts, 'grant')}"
        ),
    },
    "approve": {
        "done": lambda facts: (
            f"{facts.get('by')} approved bundle {_short(facts, 'bundle_sha256')} for {facts.get('purpose')}"
        ),
    },
    "adapt": {
        "begun": lambda facts: (
            f"began to adapt bundle {_short(facts, 'bundle_sha256')} to recordings {_short(facts, 'audio')}"
        ),
        "done": lambda facts: f"adapted: {_judged(facts)}",
    },
    "predict": {
        "begun": lambda facts: f"began to predict recordings {_short(facts, 'audio')} into {_short(facts, 'out')}",
        "done": lambda facts: f"predicted {facts.get('utterances')} utterances{_left_out(facts)}",
    },
    "evaluate": {
        "begun": lambda facts: f"began to measure the model on the list {_short(facts, 'labels')}",
        "done": lambda facts: f"measured the model on {facts.get('utterances')} utterances",
    },
    "onnx": {
        "begun": lambda facts: f"began to write the model for other programs to {_short(facts, 'out')}",
        "done": lambda _: "wrote the model for other programs",
    },
    "sheet": {
        "done": lambda facts: f"drew {facts.get('utterances')} utterances to label into {_short(facts, 'out')}",
    },
    "forget": {
        "begun": lambda facts: (
            f"began to forget {', '.join(facts.get('who', ()))}: {facts.get('utterances')} utterances, "
            f"model of bundle {_short(facts, 'bundle_sha256')}"
        ),
        "done": lambda facts: f"forgot, and adapted again: {_judged(facts)}",
    },
    "expire": {
        "done": lambda facts: f"deleted what was older than {facts.get('days')} days: {len(facts.get('removed', ()))}",
    },
    "replay": {
        "begun": lambda facts: f"began to adapt bundle {_short(facts, 'bundle_sha256')} once more, to compare",
        "done": lambda facts: f"compared: {', '.join(facts.get('different', ())) or 'nothing'} came out differently",
    },
    "together": {
        "begun": lambda facts: (
            f"began round {facts.get('round')} with other sites, model of bundle {_short(facts, 'bundle_sha256')}"
        ),
        "done": _together,
    },
    "repair": {
        "done": lambda facts: f"took away {facts.get('bytes')} bytes of a line that a killed command had left",
    },
}
"""What a line says in plain words, by command and state; who it speaks of is named by a pseudonym."""
