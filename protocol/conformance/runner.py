"""Run a client on cases and compare its answers.

A client is a command. It is called with the folders of some cases and writes one line of JSON for each; a process for
every case would cost more than the cases. What a call leaves unanswered is asked again, one case at a time.
"""

import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.conformance.case import Case, Ending

MAX_LINE_CHARS = 1 << 16
BATCH = 200
"""How many cases a client is given in one call."""
TIMEOUT_S = 300.0

Answers = tuple[Ending | None, ...]
"""How a client says that the steps of a case end; None for a kind of step that it does not know."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Hold how a client did in one case.

    Attributes:
        case: the case.
        answers: what it said; None where it said nothing that can be read.
        are_codes_compared: whether the code words count, and not the exit classes alone.
    """

    case: Case
    answers: Answers | None
    are_codes_compared: bool

    @property
    def is_skipped(self) -> bool:
        """Whether the client does not know a kind of step in it."""
        return self.answers is not None and None in self.answers

    @property
    def has_passed(self) -> bool:
        """Whether every step has ended as it must."""
        return not self.is_skipped and self.fault == ""

    @property
    def fault(self) -> str:
        """Return what is wrong, in a few words; empty if nothing is."""
        if self.answers is None:
            return "no answer that can be read"
        if len(self.answers) != len(self.case.steps):
            return f"{len(self.answers)} answers to {len(self.case.steps)} steps"
        return "; ".join(
            self._fault_of(place, answer) for place, answer in enumerate(self.answers) if self._differs(place)
        )

    def _differs(self, place: int) -> bool:
        answer, ending = (self.answers or ())[place], self.case.steps[place].ending
        if answer is None:
            return False
        return answer != ending if self.are_codes_compared else answer.exit != ending.exit

    def _fault_of(self, place: int, answer: Ending | None) -> str:
        step = self.case.steps[place]
        return f"step {place + 1} ({step.kind}) must end with {step.ending} and ends with {answer}"


def run_client(
    command: str, cases: Sequence[Case], *, are_codes_compared: bool = False, batch: int = BATCH
) -> list[Result]:
    """Run a client on cases.

    Args:
        command: how it is started; the folders of the cases follow.
        cases: the cases.
        are_codes_compared: whether code words count, and not the exit classes alone.
        batch: how many cases a call is given.
    """
    with tempfile.TemporaryDirectory(prefix="ecan-conformance-") as workplace:
        folders = write_cases(cases, Path(workplace))
        said = ask(command, list(folders), batch=batch)
    return [
        Result(case=case, answers=said.get(folder), are_codes_compared=are_codes_compared)
        for folder, case in folders.items()
    ]


def write_cases(cases: Sequence[Case], workplace: Path) -> dict[str, Case]:
    """Lay cases out for a client; their names tell nothing.

    Returns:
        The case in each folder.
    """
    folders = {str(workplace / f"{place:04}"): case for place, case in enumerate(cases)}
    for folder, case in folders.items():
        case.write(Path(folder))
    return folders


def ask(command: str, folders: Sequence[str], *, batch: int = BATCH) -> dict[str, Answers]:
    """Return what a client says of cases, by folder."""
    said: dict[str, Answers] = {}
    for start in range(0, len(folders), batch):
        said |= _ask_once(command, folders[start : start + batch])
    for folder in folders:
        if folder not in said and batch > 1:
            said |= _ask_once(command, [folder])
    return said


def _ask_once(command: str, folders: Sequence[str]) -> dict[str, Answers]:
    try:
        done = subprocess.run(
            [*shlex.split(command), *folders], stdout=subprocess.PIPE, check=False, timeout=TIMEOUT_S, text=True
        )
    except subprocess.TimeoutExpired:
        return {}
    return dict(_read_lines(done.stdout.splitlines(), set(folders)))


def _read_lines(lines: Iterable[str], folders: set[str]) -> Iterable[tuple[str, Answers]]:
    """Yield the answers in a client's output; other lines are left out."""
    for line in lines:
        try:
            value = json.loads(line[:MAX_LINE_CHARS])
            folder, answers = value["case"], tuple(_read_answer(answer) for answer in value["answers"])
        except (ValueError, TypeError, KeyError):
            continue
        if folder in folders:
            yield folder, answers


def _read_answer(answer: dict[str, object]) -> Ending | None:
    ended = answer["exit"]
    if ended is None:
        return None
    if type(ended) is not int:
        raise TypeError("an exit class is an integer")
    return Ending(ended, str(answer.get("code", "")))
