"""Ask what a new site must say, and write its rules: ``ecan-target init``."""

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import click

from ecan_core.command_line.console import Narrator, one_line
from ecan_core.command_line.options import existing_file, quiet_option

WHO = {"care": ("patient", "clinician"), "service": ("caller", "agent"), "research": ("volunteer", "staff")}
"""By purpose: whose voices are looked at, and who speaks with them at work and is left out."""
KEPT_DAYS = {"care": 360, "service": 90, "research": 360}
PLACES = ("first", "second", "only")
QUESTIONS = {
    "site": "What is this site called?",
    "purpose": "What are the recordings listened to for (care, service to callers, research)?",
    "recordings": "Where are the recordings (a folder or a list)?",
    "channel": "Which channel holds the patient, caller or volunteer (first, second; only: nobody else is recorded)?",
    "source": "Where is the source, and what is its fingerprint (HOST:PORT FINGERPRINT; empty: not known yet)?",
}
"""All that is asked, by the option that answers it."""

_RULES = """\
purpose: {purpose}
subjects: {heard}
channels: [{channels}]{why}
approval: required               # ecan-target approve: a person puts a name to each model
least_level: 2                   # of containment, docs/containment.md
least_tier: 0                    # 1 or 2 where the source's speech is not public, docs/leakage.md
accept_overridden: false         # no model whose audit failed, whoever let it out
retention_days: {days:<16} # features and predictions go after so many days (ecan-target expire)
# oldest_revocations_days: 60    # if the source renews its list: stop where none is newer
"""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Hold what a person said about a new site.

    Attributes:
        site: what it is called.
        purpose: what the recordings are listened to for.
        recordings: where they are.
        channel: which channel holds those whose voices are looked at; ``only`` where nobody else is recorded.
        source: the source's address and fingerprint; empty where they are not known yet.
    """

    site: str
    purpose: Literal["care", "service", "research"]
    recordings: str
    channel: Literal["first", "second", "only"]
    source: str = ""


@click.command(epilog="Example: ecan-target init --out site.yaml")
@click.option("--site", metavar="NAME", help="What this site is called.")
@click.option("--purpose", type=click.Choice(list(WHO)), help="What the recordings are listened to for.")
@click.option("--recordings", metavar="PATH", help="Where the recordings are: a folder or a list.")
@click.option(
    "--channel",
    type=click.Choice(PLACES),
    help="The channel of the patient, caller or volunteer; `only` if nobody else is recorded.",
)
@click.option("--source", metavar="'HOST:PORT FINGERPRINT'", help="The source's address and fingerprint, if known.")
@click.option("--answers", type=existing_file, help="YAML with the five answers, named like the options.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("site.yaml"),
    show_default=True,
    help="File for the rules; must not exist.",
)
@quiet_option
def init(answers: Path | None, out: Path, quiet: bool, **given: str | None) -> None:
    """Ask at most five questions and write this site's rules.

    The file also holds the commands of this site, in order, for whoever works here later. Without a terminal nothing is
    asked: give the options, or --answers.
    """
    from ecan_core.errors import UsageError
    from protocol.files import write_atomic
    from target_site.site_policy import read_policy

    if out.exists():
        raise UsageError(f"{out} is there already; edit it, or name another file with --out.")
    told = _all_answers(answers, {name: value for name, value in given.items() if value is not None})
    _refuse_bad_source(told.source)
    commands = commands_of(told, out)
    write_atomic(out, rules_of(told, commands).encode())
    read_policy(out)
    Narrator(quiet=quiet).say(f"wrote {out}, which holds the rules and every command of this site")
    Narrator(quiet=quiet).suggest(*shlex.split(commands[0]))


def _all_answers(file: Path | None, given: Mapping[str, str]) -> Answers:
    """Return what was said in options, in a file, and at the terminal."""
    from ecan_core.errors import UsageError
    from ecan_core.settings.parse import parse_settings, read_yaml

    said: dict[str, Any] = ({} if file is None else read_yaml(file)) | dict(given)
    missing = [name for name in QUESTIONS if name not in said]
    if file is None and sys.stdin.isatty():
        said |= {name: _ask(name) for name in missing}
    elif unanswered := [f"--{name}" for name in missing if name != "source"]:
        raise UsageError(
            f"{', '.join(unanswered)} must be answered, and there is no terminal to ask at; give these options, or a "
            "file with --answers."
        )
    return parse_settings(Answers, said, "the answers")


def _ask(name: str) -> str:
    default = {"source": "", "channel": "second"}.get(name)
    return str(click.prompt(QUESTIONS[name], default=default, value_proc=_CHECKS.get(name, _text), err=True))


def _text(said: str) -> str:
    if not said.strip():
        raise click.UsageError("this needs an answer")
    return said.strip()


def _one_of(known: tuple[str, ...]) -> Callable[[str], str]:
    def check(said: str) -> str:
        if said.strip().lower() not in known:
            raise click.UsageError(f"answer one of {', '.join(known)}")
        return said.strip().lower()

    return check


def _known_source(said: str) -> str:
    from ecan_core.errors import EcanError
    from protocol.errors import ProtocolError

    try:
        _refuse_bad_source(said.strip())
    except (EcanError, ProtocolError) as fault:
        raise click.UsageError(str(fault)) from fault
    return said.strip()


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "purpose": _one_of(tuple(WHO)),
    "channel": _one_of(PLACES),
    "source": _known_source,
}


def _refuse_bad_source(source: str) -> None:
    """Refuse an address or a fingerprint that cannot be one.

    Raises:
        UsageError, KeyFileError: it says which, and how it is written.
    """
    from ecan_core.errors import UsageError
    from protocol.wire.address import parse_address
    from target_site.trust.acceptance import trusted_fingerprint

    address, _, fingerprint = source.partition(" ")
    if address and not fingerprint:
        raise UsageError(f"{one_line(source)!r} lacks the fingerprint; write HOST:PORT FINGERPRINT, or leave it out.")
    if address:
        parse_address(address)
        trusted_fingerprint(fingerprint.strip())


def commands_of(told: Answers, rules: Path) -> list[str]:
    """Return the commands of a site, from the request to the predictions."""
    address, _, fingerprint = told.source.partition(" ")
    source = f"--from {shlex.quote(address or 'HOST:PORT')} --trust {shlex.quote(fingerprint.strip() or 'FINGERPRINT')}"
    audio, config = shlex.quote(told.recordings), shlex.quote(str(rules))
    return [
        "ecan-target request --keys keys --out site.request",
        f"ecan-target receive --keys keys {source} --config {config} --out model.ecan",
        "ecan-target inspect --bundle model.ecan --format html --out model.html",
        f"ecan-target approve --bundle model.ecan --keys keys --by NAME --config {config}",
        f"ecan-target adapt --bundle model.ecan --audio {audio} --keys keys --config {config} --out adapted",
        f"ecan-target predict --model adapted --audio {audio} --out predictions",
        "ecan-target status --model adapted --predictions predictions",
    ]


def rules_of(told: Answers, commands: list[str]) -> str:
    """Return the file with the rules of a site, and its commands above them."""
    heard, at_work = WHO[told.purpose]
    channels = {"first": [heard, at_work], "second": [at_work, heard], "only": [heard]}[told.channel]
    why = f"   # the {at_work} is at work: that channel is discarded before anything is computed"
    head = [
        f"Rules of {told.site}, written by `ecan-target init` on {date.today().isoformat()}; see docs/operations.md.",
        "The commands of this site, in order; after the first, site.request goes to the source, and both compare",
        "fingerprints by telephone:",
        *(f"  {command}" for command in commands),
    ]
    rules = _RULES.format(
        purpose=told.purpose,
        heard=heard,
        channels=", ".join(channels),
        why=why if len(channels) > 1 else "",
        days=KEPT_DAYS[told.purpose],
    )
    return "".join(f"# {one_line(line)}\n" for line in head) + rules
