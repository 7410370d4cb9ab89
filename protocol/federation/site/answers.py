"""Keep a site's answers, and let the next one leave by one door.

This module admits what the site may answer.

A step of a run is admitted by the site's own book (`conduct`). Its answer is kept on the disk, then
written into the book, and only then may leave: masked where the question brings the other sites' offers. A step that
was answered before gets the answer that was given, masked anew.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from protocol.errors import Code, RefusedError
from protocol.federation.masking import Roster, to_integers
from protocol.federation.messages import (
    MASKED,
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    OFFERS,
    Answer,
    Arrays,
    Question,
    answer_frame,
    read_answer,
)
from protocol.federation.site.book import Book
from protocol.federation.site.conduct import (
    Repeat,
    admit_run,
    admit_step,
    admit_tally,
    answer_entry,
    answers_about,
    run_entry,
    spent,
    tally_number,
    terms_digest,
)
from protocol.federation.site.round_keys import RoundKeys
from protocol.files import make_private_folder, read_bounded, write_atomic

KEPT = "answer.frame"
_MAX_KEPT_BYTES = MAX_BODY_BYTES + 2 * MAX_HEAD_BYTES
_NOT_ASKED = frozenset({OFFERS})
"""Fields that belong to one try of a step and not to the question."""


@dataclass(frozen=True)
class Step:
    """Hold one admitted step of a run.

    Attributes:
        run: Flower's number of the run.
        number: of the step; that of the last one, the tally or the end, is one more than the rounds.
        name: its name, by which fresh keys are signed.
        digest: SHA-256 over all that was asked.
        is_answered: whether it was answered before.
    """

    run: str
    number: int
    name: str
    digest: bytes
    is_answered: bool


class Answers:
    """Hold a site's record of its answers.

    Args:
        book: what it has answered so far.
        home: folder for the answer that it may have to repeat.
        roster: the node keys of all sites, for masked sums; None where none were named.
        node_key: this site's.
    """

    def __init__(self, book: Book, home: Path, roster: Roster | None, node_key: EllipticCurvePrivateKey) -> None:
        self._book, self._kept = book, home / KEPT
        self._roster, self._round_keys = roster, RoundKeys(roster, node_key)

    def offer(self, question: Question) -> Answer:
        """Answer with a fresh key for a masked step."""
        return self._round_keys.offer(question)

    def require_masked(self, question: Question, *, required: bool) -> None:
        """Refuse a question whose answer would leave unprotected.

        It would leave as it is, or masked with sites that nobody named.

        Raises:
            RefusedError: masking is required and not asked for, or asked for and not possible.
        """
        if required and OFFERS not in question.fields:
            raise RefusedError(Code.POLICY, "This site takes part in masked sums alone; ask for them (--secure).")
        if OFFERS in question.fields and self._roster is None:
            raise RefusedError(
                Code.POLICY, "This site knows no other sites to mask with; name their node keys with --peer."
            )

    def is_begun(self, question: Question, plan: str, classes: Sequence[str], num_rounds: int, max_runs: int) -> bool:
        """Return whether a run was begun before, on the same terms.

        Other terms are refused.

        Raises:
            RefusedError: its terms have changed, its rounds are none, or there were enough runs.
        """
        terms = terms_digest(plan, classes, self._digest())
        return isinstance(admit_run(self._book.entries(), str(question.run), terms, num_rounds, max_runs), Repeat)

    def begin(
        self,
        question: Question,
        plan: str,
        classes: Sequence[str],
        num_rounds: int,
        *,
        number: object,
        about: str = "",
    ) -> None:
        """Bind a run to its terms, for good.

        Args:
            question: the first of the run.
            plan: what was agreed on, as text.
            classes: class names in the order of the head's rows.
            num_rounds: rounds of the plan.
            number: of the step that is asked for.
            about: what the run is about, to count its answers by.

        Raises:
            RefusedError: that is not round 1; a question that is never answered uses up none of the site's runs.
        """
        if type(number) is not int or number != 1:
            raise RefusedError(Code.FAST_FORWARD, "A run begins with its round 1; ask for that first.")
        terms = terms_digest(plan, classes, self._digest())
        self._book.append(run_entry(str(question.run), terms, num_rounds, about=about))

    def round(self, question: Question, number: object) -> Step:
        """Admit a round, by the number that the coordinator gives it.

        Raises:
            RefusedError: it is not the next round, nor the last one with the same question.
        """
        if type(number) is not int:
            raise RefusedError(Code.PROTOCOL, "The question does not say which round it is; install the same version.")
        digest, run = question.digest(without=_NOT_ASKED), str(question.run)
        is_answered = isinstance(admit_step(self._book.entries(), run, number, digest), Repeat)
        return Step(run, number, f"round {number}", digest, is_answered)

    def last(self, question: Question, name: str) -> Step:
        """Admit what follows the last round of a run, such as its tally; once.

        Raises:
            RefusedError: a round is still to come, or it was answered for another question.
        """
        digest, run, entries = question.digest(without=_NOT_ASKED), str(question.run), self._book.entries()
        is_answered = isinstance(admit_tally(entries, run, digest), Repeat)
        return Step(run, tally_number(entries, run), name, digest, is_answered)

    def spent(self) -> list[tuple[float, int]]:
        """Return noise multiplier and steps of every private answer in the book."""
        return spent(self._book.entries())

    def count_about(self, about: str) -> int:
        """Count the rounds that were answered in runs about something."""
        return answers_about(self._book.entries(), about)

    def write_down(self, step: Step, answer: Answer, *, noise_multiplier: float = 0.0, steps: int = 0) -> Answer:
        """Keep an answer and write it into the book; it may leave from now on.

        Raises:
            FileError: it cannot be written.
            UnauthenticError: the book was taken away meanwhile.
        """
        frame = answer_frame(answer)
        make_private_folder(self._kept.parent)
        write_atomic(self._kept, frame)
        digest = hashlib.sha256(frame).digest()
        self._book.append(
            answer_entry(step.run, step.number, step.digest, digest, noise_multiplier=noise_multiplier, steps=steps)
        )
        return answer

    def given(self, run: str, number: int) -> Answer:
        """Return the last answer that was given, as it was before it was masked.

        Args:
            run: the run that it has to be of.
            number: the step that it has to be of.

        Raises:
            RefusedError: the last answer was to something else, or it is no longer there, or was changed.
        """
        frame, last = read_bounded(self._kept, _MAX_KEPT_BYTES), self._book.entries()[-1]
        wanted = {"run": run, "number": number, "answer": hashlib.sha256(frame).hexdigest()}
        answer = read_answer(BytesIO(frame))
        if answer is None or {name: last.get(name) for name in wanted} != wanted:
            raise RefusedError(Code.STATE, "The answer that was given is no longer there; begin a new run.")
        return answer

    def leave(self, question: Question, step: Step, arrays: Arrays, *, largest: float) -> Answer:
        """Return what leaves: the arrays, masked where the question asks for it.

        It asks by bringing the other sites' offers.

        Args:
            question: what is answered.
            step: as it was admitted.
            arrays: what was written down.
            largest: magnitude that no number of a masked answer exceeds.

        Raises:
            RefusedError: the offers are not one valid offer of every site, or a number is too large.
        """
        if OFFERS not in question.fields:
            return Answer(arrays=arrays)
        values = to_integers(arrays, largest)
        return Answer(arrays={MASKED: self._round_keys.mask(question, step.name, values, step.digest)})

    def _digest(self) -> bytes:
        return self._roster.digest if self._roster else b""
