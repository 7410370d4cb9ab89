"""Run ``ecan-conformance``: test an implementation as a black box.

Exit codes: 0 every case ended as it must, 2 wrong usage, 4 the client has answered nothing, 12 a case ended otherwise.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from shlex import split

from protocol.conformance.case import Case
from protocol.conformance.report import list_json, list_text, outcome, result_json, result_junit, result_text
from protocol.conformance.runner import BATCH, run_client
from protocol.conformance.suite import make_cases

PASSED, USAGE, UNANSWERED, FAILED = 0, 2, 4, 12

_RESULTS = {"text": result_text, "json": result_json, "junit": result_junit}
_LISTS = {"text": list_text, "json": list_json}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    told = _parser().parse_args(words)
    cases = [case for case in make_cases(told.group) if told.case in (None, case.id)]
    if not cases:
        return _say("there is no such case; see `ecan-conformance list`.", USAGE)
    if told.command == "list":
        print(_LISTS[told.format](cases))
        return PASSED
    return _write(cases, told.out) if told.command == "write" else _run(cases, told)


def _run(cases: Sequence[Case], told: argparse.Namespace) -> int:
    command = split(told.client)
    if not command or shutil.which(command[0]) is None:
        return _say(f"the client {told.client!r} is no command; check --client.", USAGE)
    results = run_client(told.client, cases, are_codes_compared=told.codes, batch=told.batch)
    print(_RESULTS[told.format](results))
    if all(result.answers is None for result in results):
        return _say("the client has answered nothing; docs/conformance.md says what it must write.", UNANSWERED)
    return FAILED if any(outcome(result) == "failed" for result in results) else PASSED


def _write(cases: Sequence[Case], out: Path) -> int:
    """Lay cases out as a client gets them, and beside them how they must end."""
    if out.exists():
        return _say(f"{out} is there already; name a new folder.", USAGE)
    for case in cases:
        case.write(out / case.group / case.name)
    (out / "expected.json").write_text(list_json(cases))
    return PASSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ecan-conformance",
        description="Test an implementation of ECAN-SER's files as a black box; see docs/conformance.md.",
        epilog='Example: ecan-conformance run --client "python -m target_site.conformance"',
    )
    parser.add_argument("--version", action="version", version=f"ecan-conformance {version('ecan-ser')}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = _command(commands, "run", "Run a client on the cases and compare its answers.")
    run.add_argument("--client", required=True, metavar="COMMAND", help="starts the client; folders of cases follow")
    run.add_argument("--codes", action="store_true", help="compare code words too, not the exit classes alone")
    run.add_argument("--batch", type=_positive, default=BATCH, metavar="N", help="cases per call of the client")
    run.add_argument("--format", choices=tuple(_RESULTS), default="text", help="form of the results")
    listed = _command(commands, "list", "List the cases and how they must end.")
    listed.add_argument("--format", choices=tuple(_LISTS), default="text", help="form of the list")
    written = _command(commands, "write", "Write the cases into a folder, as a client gets them.")
    written.add_argument("--out", type=Path, required=True, help="a new folder")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("--class", dest="group", metavar="CLASS", help="the cases of one class alone")
    command.add_argument("--case", metavar="ID", help="one case alone")
    return command


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _say(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def run_and_exit() -> None:
    """Run the command line and leave the process."""
    sys.exit(main())


if __name__ == "__main__":
    run_and_exit()
