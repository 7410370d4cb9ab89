"""Decide what a site may answer, by its own book alone.

No file is touched here.

A run is bound to the first terms that were shown for it. Its steps are numbered by the site: rounds from 1, and the
tally after the last. A step is answered once; the same question again gets the same answer again.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from protocol import canonical
from protocol.errors import Code, RefusedError
from protocol.federation.site.book import Entry

MAX_ROUNDS = 1000
RUN, ANSWER = "run", "answer"
"""Kinds of entries that are written here."""


@dataclass(frozen=True)
class Fresh:
    """Hold that nothing was answered yet: write the entry, and answer then."""


@dataclass(frozen=True)
class Repeat:
    """Hold that this was answered: answer the same again, and write nothing.

    Attributes:
        entry: what was written down then.
    """

    entry: Entry


def terms_digest(plan: str, classes: Sequence[str], roster_digest: bytes) -> bytes:
    """Return the SHA-256 of what a run is bound to: plan, classes, sites."""
    terms = {"plan": _sha256(plan.encode()), "classes": _sha256(*(name.encode() for name in classes))}
    return hashlib.sha256(canonical.encode(terms | {"roster": roster_digest.hex()})).digest()


def run_entry(run: str, terms: bytes, num_rounds: int, *, about: str = "") -> Entry:
    """Return what is written down when a run is begun.

    Args:
        run: its id.
        terms: what `terms_digest` returned.
        num_rounds: rounds of its plan.
        about: what its answers are counted by, such as the digest of a model; empty where they are not.
    """
    return {"kind": RUN, "run": run, "terms": terms.hex(), "rounds": num_rounds, "about": about}


def answer_entry(
    run: str, number: int, question: bytes, answer: bytes, *, noise_multiplier: float, steps: int
) -> Entry:
    """Return what is written down before an answer leaves.

    Args:
        run: the run's id.
        number: of the step; the tally's is one more than the rounds.
        question: SHA-256 over all that was asked.
        answer: SHA-256 of the answer, which is kept elsewhere.
        noise_multiplier: of the training steps; 0 without noise; written down in hundredths, never more than it was.
        steps: how often the speech was used for it; 0 only if the answer has nothing of it.
    """
    noise = {"noise_hundredths": math.floor(noise_multiplier * 100 + 1e-6), "steps": steps}
    return {"kind": ANSWER, "run": run, "number": number, "question": question.hex(), "answer": answer.hex()} | noise


def admit_run(entries: Sequence[Entry], run: str, terms: bytes, num_rounds: int, max_runs: int) -> Fresh | Repeat:
    """Admit a run to this site.

    Args:
        entries: all of the book.
        run: its id.
        terms: what `terms_digest` returned.
        num_rounds: rounds of its plan.
        max_runs: so many runs may this site's speech be asked in, over the whole book.

    Raises:
        RefusedError: the run had other terms before, its rounds are none, or there were enough runs.
    """
    known = _run(entries, run)
    if known is not None:
        if (known["terms"], known["rounds"]) != (terms.hex(), num_rounds):
            raise RefusedError(
                Code.SWAP, "This run was begun with another plan, other classes or other sites; begin a new run."
            )
        return Repeat(known)
    if type(num_rounds) is not int or not 1 <= num_rounds <= MAX_ROUNDS:
        raise RefusedError(Code.RANGE, f"A run has 1 to {MAX_ROUNDS} rounds; plan for that.")
    if sum(entry.get("kind") == RUN for entry in entries) >= max_runs:
        raise RefusedError(
            Code.QUOTA, f"This site takes part in {max_runs} runs at most and has done so; ask its operator for more."
        )
    return Fresh()


def admit_step(entries: Sequence[Entry], run: str, number: int, question: bytes) -> Fresh | Repeat:
    """Admit a round of a run that was admitted.

    Args:
        entries: all of the book.
        run: the run's id.
        number: of the round, as the coordinator gives it.
        question: SHA-256 over all that is asked.

    Raises:
        RefusedError: it is neither the next round nor the last answered one with the same question.
    """
    known = _admitted(entries, run)
    if type(number) is not int or not 1 <= number <= known["rounds"]:
        raise RefusedError(
            Code.RANGE, f"The plan of this run has the rounds 1 to {known['rounds']}; ask for one of them."
        )
    return _admit(entries, run, number, question)


def admit_tally(entries: Sequence[Entry], run: str, question: bytes) -> Fresh | Repeat:
    """Admit the tally of a run, which follows its last round.

    Raises:
        RefusedError: a round is still to come, or the tally was given for another question.
    """
    return _admit(entries, run, tally_number(entries, run), question)


def tally_number(entries: Sequence[Entry], run: str) -> int:
    """Return the number by which `answer_entry` writes a tally down.

    Raises:
        RefusedError: the run was not admitted.
    """
    return int(_admitted(entries, run)["rounds"]) + 1


def answers_about(entries: Sequence[Entry], about: str) -> int:
    """Count the rounds that were answered in runs about something."""
    rounds = {
        entry["run"]: entry["rounds"] for entry in entries if entry.get("kind") == RUN and entry["about"] == about
    }
    answers = [entry for entry in entries if entry.get("kind") == ANSWER and entry["run"] in rounds]
    return sum(entry["number"] <= rounds[entry["run"]] for entry in answers)


def spent(entries: Sequence[Entry]) -> list[tuple[float, int]]:
    """Return noise multiplier and number of steps of all answers of a book.

    A multiplier of 0 says that an answer was made of speech without noise, for which no epsilon can be stated.
    """
    answers = [entry for entry in entries if entry.get("kind") == ANSWER and entry["steps"]]
    return [(entry["noise_hundredths"] / 100, entry["steps"]) for entry in answers]


def _admit(entries: Sequence[Entry], run: str, number: int, question: bytes) -> Fresh | Repeat:
    answered = [entry for entry in entries if entry.get("kind") == ANSWER and entry["run"] == run]
    last = answered[-1]["number"] if answered else 0
    if number == last + 1:
        return Fresh()
    if number != last:
        raise RefusedError(
            Code.ROLLBACK if number < last else Code.FAST_FORWARD,
            f"This site has answered {last} steps of the run, so step {number} is not next; ask for step {last + 1}.",
        )
    if answered[-1]["question"] != question.hex():
        raise RefusedError(
            Code.SWAP, f"Step {number} was answered for another question; ask the same again, or begin a new run."
        )
    return Repeat(answered[-1])


def _run(entries: Sequence[Entry], run: str) -> Entry | None:
    return next((entry for entry in entries if entry.get("kind") == RUN and entry["run"] == run), None)


def _admitted(entries: Sequence[Entry], run: str) -> Entry:
    known = _run(entries, run)
    if known is None:
        raise RefusedError(Code.STATE, "This site has not taken part in the run so far; begin a run with its plan.")
    return known


def _sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).hexdigest()
