"""Describe a case: what a site trusts, what it is given, how that ends.

A case is data. `write` lays it out as a folder that a client of any language can read; what is expected stays with
the suite. See docs/conformance.md.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from protocol.errors import Code

VERSION = 1
"""Version of `case.json` and of a client's answers."""
CASE_FILE = "case.json"
RECEIPT_KEY_FILE = "receipt.key"
SEALING_KEY_FILE = "sealing.key"


@dataclass(frozen=True)
class Ending:
    """Hold how a step must end.

    Attributes:
        exit: 0 for accepted, otherwise the exit class of the refusal.
        code: the code word of the refusal, empty for accepted.
    """

    exit: int
    code: str = ""

    def __str__(self) -> str:
        return f"{self.exit} {self.code}".strip()


ACCEPTED = Ending(0)


def peer(code: Code) -> Ending:
    """Return the ending of what a peer must not do, class 4."""
    return Ending(4, code)


def unauthentic(code: Code) -> Ending:
    """Return the ending of what is not authentic, class 10."""
    return Ending(10, code)


def refused(code: Code) -> Ending:
    """Return the ending of what the rules refuse, class 11."""
    return Ending(11, code)


def malformed(code: Code) -> Ending:
    """Return the ending of what is not in its form, class 12."""
    return Ending(12, code)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Describe one thing that a site is given.

    Attributes:
        kind: what is done with it, one of the kinds of docs/conformance.md.
        ending: how it must end.
        content: the bytes that are given, None where there are none.
        facts: what else the client is told, as JSON values.
        beside: further files by the name of the fact that tells their name.
    """

    kind: str
    ending: Ending
    content: bytes | None = None
    facts: dict[str, object] = field(default_factory=dict)
    beside: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SiteFacts:
    """Hold what the site of a case is and trusts.

    Attributes:
        source: fingerprint of the release key that it trusts, 32 bytes.
        audience: fingerprint of its own receipt key, 32 bytes.
        grants: what it has asked for, 16 bytes each.
        receipt_key: its private receipt key, PEM.
        sealing_key: its private sealing key, PEM.
        rules: its own rules, where they differ from the usual ones.
    """

    source: bytes
    audience: bytes
    grants: tuple[bytes, ...]
    receipt_key: bytes
    sealing_key: bytes
    rules: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Hold a case.

    Attributes:
        group: the class that it belongs to.
        name: its id within the group.
        rule: the rule that it is about: what a client lacks that fails it.
        proves: what it shows, in a few words.
        site: the site.
        steps: what it is given, in order.
    """

    group: str
    name: str
    rule: str
    proves: str
    site: SiteFacts
    steps: tuple[Step, ...]

    @property
    def id(self) -> str:
        """Return the id of the case, unique within the suite."""
        return f"{self.group}/{self.name}"

    @property
    def expected(self) -> tuple[Ending, ...]:
        """Return how its steps must end, in order."""
        return tuple(step.ending for step in self.steps)

    def write(self, folder: Path) -> None:
        """Lay the case out in a new folder, without what is expected."""
        folder.mkdir(parents=True)
        (folder / RECEIPT_KEY_FILE).write_bytes(self.site.receipt_key)
        (folder / SEALING_KEY_FILE).write_bytes(self.site.sealing_key)
        steps = [self._write_step(folder, place, step) for place, step in enumerate(self.steps, 1)]
        described = {"version": VERSION, "site": _described(self.site), "steps": steps}
        (folder / CASE_FILE).write_text(json.dumps(described, indent=1))

    def _write_step(self, folder: Path, place: int, step: Step) -> dict[str, object]:
        files = dict(step.beside)
        if step.content is not None:
            files["file"] = step.content
        named = {fact: f"{place}.{step.kind}.{fact}" for fact in files}
        for fact, name in named.items():
            (folder / name).write_bytes(files[fact])
        return {"kind": step.kind, **step.facts, **named}


def _described(site: SiteFacts) -> dict[str, object]:
    return {
        "source": site.source.hex(),
        "audience": site.audience.hex(),
        "grants": [grant.hex() for grant in site.grants],
        "receipt_key": RECEIPT_KEY_FILE,
        "sealing_key": SEALING_KEY_FILE,
        **site.rules,
    }
