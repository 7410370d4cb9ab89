"""Answer a coordinator for a source site, by the site's own rules and its own book. Speech is not opened here.

What is asked goes through the same steps, whatever it is:

1. The run is bound to the first plan, classes and roster that were shown for it, and the site's rules allow them.
2. The book says that this step is next, or that the very same question was answered before.
3. The contained process trains or counts; what it wrote has to have the one form that an answer has.
4. What the answer spends of the promised epsilon still fits; it is written into the book.
5. The answer is masked, or given noise, or given as it is if the site's rules allow that, and leaves.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from safetensors.numpy import load, save

from ecan_core.corpora import read_corpus
from ecan_core.errors import SettingsError
from protocol.errors import Code, Refused
from protocol.federation.book import Book
from protocol.federation.conduct import (
    Repeat,
    admit_run,
    admit_step,
    admit_tally,
    answer_entry,
    run_entry,
    spent,
    tally_number,
    terms_digest,
)
from protocol.federation.masking import Roster, to_integers
from protocol.federation.messages import (
    KEYS,
    MASKED,
    OFFERS,
    STEP,
    Answer,
    Arrays,
    Question,
    answer_frame,
    read_answer,
)
from protocol.federation.round_keys import RoundKeys
from protocol.files import make_private_folder, read_bounded, write_atomic
from source_site.accountant import epsilon_of
from source_site.federation.orders import ANSWER_FILE, QUESTION_FILE, CountOrder, Order, RoundOrder, Site, TallyOrder
from source_site.federation.plan import HEARD, Plan, array_shapes, part
from source_site.federation.tasks import private_settings
from source_site.privacy import usual_delta
from source_site.store import MAX_WEIGHTS_BYTES

PLAN, CLASSES, ROUND = "plan", "classes", "round"
"""Names of the fields of a question."""
COUNTS = "counts"
"""Name of what a tally answers: utterances, speakers, hours in hundredths, and two confusion matrices ``[C * C]``."""
LARGEST, LARGEST_COUNT = 8.0, 2.0**26
"""Magnitudes that no weight and no count of an answer exceeds."""
COUNT_UNIT = 2.0**-12
"""Counts travel in these units of a masked sum, so that large ones fit."""
NEAR = 20.0
"""A tally is made of no network that is farther from what this site trained last, in steps as long as its own."""
LONGEST_UTTERANCE_H = 1 / 60
"""What one utterance can add to the hours, for the noise on them."""
DEFAULT_RUNS = 10
_LOCAL = "moved"
_WORK, _KEPT = "work", "answer.frame"

CarryOut = Callable[[Order], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Hold what a site insists on; no plan can change it.

    Attributes:
        secure: whether it takes part in masked sums alone.
        max_epsilon: the largest promise that all its answers together may come to; 0 promises nothing.
        max_runs: how many runs it takes part in, over the whole book.
    """

    secure: bool = False
    max_epsilon: float = 0.0
    max_runs: int = DEFAULT_RUNS


@dataclass(frozen=True)
class _Step:
    """Hold one admitted step of a run.

    Attributes:
        plan: the plan that the run is bound to.
        classes: class names in the order of the head's rows.
        number: of the step; the tally's is one more than the rounds.
        name: its name, by which round keys are signed.
        digest: SHA-256 over all that was asked, the sites' fresh keys left out.
        kept: whether it was answered before.
    """

    plan: Plan
    classes: tuple[str, ...]
    number: int
    name: str
    digest: bytes
    kept: bool


class Member:
    """Answer for one site.

    Args:
        site: its corpus.
        rules: what it insists on.
        home: folder for its work and for the answer that it may have to repeat.
        book: what it has answered so far.
        roster: the node keys of all sites, for masked sums; None where none were named.
        node_key: this site's.
        carry_out: has an order carried out in the contained process.
        announce: tells a person.
    """

    def __init__(
        self,
        site: Site,
        rules: Rules,
        *,
        home: Path,
        book: Book,
        roster: Roster | None,
        node_key: EllipticCurvePrivateKey,
        carry_out: CarryOut,
        announce: Callable[[str], None],
    ) -> None:
        self._site, self._rules, self._book = site, rules, book
        self._carry_out, self._announce = carry_out, announce
        self._work, self._kept = home / _WORK, home / _KEPT
        self._roster, self._round_keys = roster, RoundKeys(roster, node_key)
        self._counted: Mapping[str, Any] = {}

    def answer(self, question: Question) -> Answer:
        """Answer one question.

        Raises:
            Refused: the site's rules or its book forbid it.
            SettingsError: the plan is damaged, or gives less protection than the site insists on.
        """
        answers = {"query": self._classes, KEYS: self._offer, "train": self._round, "evaluate": self._tally}
        if question.kind not in answers:
            raise Refused(Code.PROTOCOL, f"Nobody asks a source site for {question.kind!r}; see who asks this.")
        return answers[question.kind](question)

    def _classes(self, question: Question) -> Answer:
        return Answer(fields={CLASSES: ",".join(self._count()["classes"])})

    def _offer(self, question: Question) -> Answer:
        return self._round_keys.offer(question)

    def _round(self, question: Question) -> Answer:
        plan, classes = self._agreed(question)
        number = question.fields.get(ROUND)
        digest = question.digest(without=frozenset({OFFERS}))
        is_kept = isinstance(admit_step(self._book.entries(), _run(question), _number(number), digest), Repeat)
        step = _Step(plan, classes, _number(number), f"round {number}", digest, is_kept)
        _refuse_foreign(question.arrays, array_shapes(plan, len(classes)))
        trained = self._repeated(step) if step.kept else self._trained(question, step)
        return self._masked_or_plain(question, step, trained.arrays, largest=LARGEST)

    def _tally(self, question: Question) -> Answer:
        plan, classes = self._agreed(question)
        digest = question.digest(without=frozenset({OFFERS}))
        run, entries = _run(question), self._book.entries()
        is_kept = isinstance(admit_tally(entries, run, digest), Repeat)
        step = _Step(plan, classes, tally_number(entries, run), "tally", digest, is_kept)
        counted = self._repeated(step) if step.kept else self._tallied(question, step)
        counts = {COUNTS: counted.arrays[COUNTS] * (COUNT_UNIT if OFFERS in question.fields else 1.0)}
        return self._masked_or_plain(question, step, counts, largest=LARGEST_COUNT * COUNT_UNIT)

    def _agreed(self, question: Question) -> tuple[Plan, tuple[str, ...]]:
        """Bind the run to its terms, or check that it still has them."""
        text, names = str(question.fields.get(PLAN, "")), str(question.fields.get(CLASSES, ""))
        plan, classes = Plan.from_text(text), tuple(names.split(","))
        roster = self._roster.digest if self._roster else b""
        terms, run = terms_digest(text, classes, roster), _run(question)
        self._accept(plan, masked=OFFERS in question.fields)
        if not isinstance(admit_run(self._book.entries(), run, terms, plan.rounds, self._rules.max_runs), Repeat):
            self._refuse_overspent([(_noise(plan, self._count()["utterances"]), _steps(plan))])
            self._book.append(run_entry(run, terms, plan.rounds))
            self._announce(f"run {run} begins: {plan.rounds} rounds for {', '.join(classes)}, epsilon {plan.epsilon:g}")
        return plan, classes

    def _accept(self, plan: Plan, *, masked: bool) -> None:
        """Refuse a plan that gives less protection than the site insists on."""
        if (self._rules.secure or plan.secure) and not masked:
            raise SettingsError("this site takes part in masked sums alone; plan it with --secure")
        if masked and self._roster is None:
            raise SettingsError("this site knows no other sites to mask with; name their node keys with --peer")
        if self._rules.max_epsilon and not 0 < plan.epsilon <= self._rules.max_epsilon:
            raise SettingsError(
                f"this site promises its utterances an epsilon of {self._rules.max_epsilon:g}; plan for that"
            )

    def _trained(self, question: Question, step: _Step) -> Answer:
        """Train a round, and write down that it was answered."""
        order = RoundOrder(
            site=self._site, plan=_text(step.plan), classes=step.classes, number=step.number, work=self._work
        )
        told = self._carried_out(order, question.arrays)
        trained = load(read_bounded(self._work / ANSWER_FILE, MAX_WEIGHTS_BYTES))
        _refuse_foreign(trained, array_shapes(step.plan, len(step.classes)))
        moved = _length(part(trained, HEARD), part(question.arrays, HEARD))
        return self._written_down(question, step, Answer(fields={_LOCAL: moved}, arrays=trained), told)

    def _tallied(self, question: Question, step: _Step) -> Answer:
        """Count, and write down that it was answered."""
        self._refuse_strange(question.arrays, step)
        order = TallyOrder(
            site=self._site, plan=_text(step.plan), classes=step.classes, number=step.number, work=self._work
        )
        told = self._carried_out(order, question.arrays)
        counts = np.array([told["utterances"], told["speakers"], 100 * told["hours"]], dtype=np.float64)
        if noise := told.get("noise"):
            counts = _noisy(counts, noise / 100)
        matrices = [*told.get("float", ()), *told.get("quantized", ())]
        arrays = {COUNTS: np.concatenate([np.rint(counts), np.array(matrices, dtype=np.float64)])}
        return self._written_down(question, step, Answer(arrays=arrays), told)

    def _carried_out(self, order: Order, arrays: Arrays) -> Mapping[str, Any]:
        make_private_folder(self._work)
        for name in (QUESTION_FILE, ANSWER_FILE):
            (self._work / name).unlink(missing_ok=True)
        if arrays:
            write_atomic(self._work / QUESTION_FILE, save(arrays))
        return self._carry_out(order)

    def _written_down(self, question: Question, step: _Step, answer: Answer, told: Mapping[str, Any]) -> Answer:
        """Keep an answer and write it into the book: only then may it leave."""
        noise, steps = told.get("noise", 0) / 100, told.get("steps", 0)
        self._refuse_overspent([(noise, steps)])
        frame = answer_frame(answer)
        write_atomic(self._kept, frame)
        digest = hashlib.sha256(frame).digest()
        entry = answer_entry(
            _run(question), step.number, step.digest, digest, noise_multiplier=noise, steps=steps
        )
        self._book.append(entry)
        return answer

    def _repeated(self, step: _Step) -> Answer:
        """Return the answer that was given before, from the disk."""
        frame = read_bounded(self._kept, 2 * MAX_WEIGHTS_BYTES)
        if hashlib.sha256(frame).hexdigest() != self._book.entries()[-1]["answer"]:
            raise Refused(Code.STATE, "The answer that was given is no longer there; begin a new run.")
        answer = read_answer(BytesIO(frame))
        assert answer is not None
        return answer

    def _masked_or_plain(self, question: Question, step: _Step, arrays: Arrays, *, largest: float) -> Answer:
        if OFFERS not in question.fields:
            return Answer(arrays=arrays)
        values = to_integers(arrays, largest)
        return Answer(arrays={MASKED: self._round_keys.mask(question, step.name, values, step.digest)})

    def _refuse_overspent(self, more: Sequence[tuple[float, int]]) -> None:
        """Refuse what would spend more than the site promises, over all that its book says."""
        spending = [(noise, steps) for noise, steps in more if steps]
        if not self._rules.max_epsilon or not spending:
            return
        total = epsilon_of([*spent(self._book.entries()), *spending], usual_delta(self._count()["utterances"]))
        if total > self._rules.max_epsilon:
            raise Refused(
                Code.POLICY,
                f"This would bring what the site has promised to an epsilon of {total:g}, above "
                f"{self._rules.max_epsilon:g}; its utterances have been asked for enough.",
            )

    def _refuse_strange(self, arrays: Arrays, step: _Step) -> None:
        """Refuse to tally a network that is not the one which this site helped to train."""
        expected = {
            name.removeprefix(HEARD): shape
            for name, shape in array_shapes(step.plan, len(step.classes)).items()
            if name.startswith(HEARD)
        }
        _refuse_foreign(arrays, expected)
        if not expected:
            return
        last = read_answer(BytesIO(read_bounded(self._kept, 2 * MAX_WEIGHTS_BYTES)))
        assert last is not None
        if not _length(arrays, part(last.arrays, HEARD)) <= NEAR * float(last.fields[_LOCAL]):
            raise Refused(Code.EGRESS, "That network is far from the one that this site helped to train; see who asks.")

    def _count(self) -> Mapping[str, Any]:
        """Count the site's utterances and classes; once as long as the process lives."""
        if not self._counted:
            self._counted = self._carry_out(CountOrder(site=self._site))
        return self._counted


def speech_of(recipe: str, path: Path) -> tuple[Path, ...]:
    """List what must be within reach to read a corpus: its list, and the folders of its recordings; opens none.

    Raises:
        UsageFault: the recipe or the path does not exist.
    """
    if path.is_dir() and recipe != "csv":
        return (path.resolve(),)
    folders = {item.utterance.path.resolve().parent for item in read_corpus(recipe, path).utterances}
    return (path.resolve(), *sorted(folders))


def _run(question: Question) -> str:
    return str(question.run)


def _number(stated: object) -> int:
    if type(stated) is not int:
        raise Refused(Code.PROTOCOL, "The question does not say which round it is; let all sites install one version.")
    return stated


def _text(plan: Plan) -> str:
    return plan.to_text()


def _noise(plan: Plan, num_utterances: int) -> float:
    return private_settings(plan, num_utterances).noise_multiplier if plan.epsilon else 0.0


def _steps(plan: Plan) -> int:
    """Return how many private steps a whole run spends, its tally included."""
    return private_settings(plan, 2).steps + 1 if plan.epsilon else 0


def _refuse_foreign(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays that have other names, shapes or types than those of the plan, or numbers out of range."""
    found = {name: array.shape for name, array in arrays.items() if array.dtype == np.float32}
    if found != dict(shapes) or len(found) != len(arrays):
        raise Refused(Code.EGRESS, "These are no weights of the plan's network; let all sites install the same version.")
    if not all(np.all(np.abs(array) <= LARGEST) for array in arrays.values()):
        raise Refused(Code.RANGE, f"A weight is not finite or exceeds {LARGEST:g}; plan a smaller learning rate.")


def _length(arrays: Arrays, others: Arrays) -> float:
    """Return the Euclidean distance of two networks, all arrays taken as one vector."""
    squares = [np.square(arrays[name].astype(np.float64) - others[name]).sum() for name in sorted(others)]
    return float(np.sqrt(sum(squares)))


def _noisy(counts: np.ndarray, noise_multiplier: float) -> np.ndarray:
    """Add Gaussian noise to three counts, each of which one utterance changes by at most one of its units."""
    units = np.array([1.0, 1.0, 100 * LONGEST_UTTERANCE_H])
    drawn = np.random.default_rng(secrets.randbits(128)).standard_normal(3)
    return np.maximum(counts + drawn * units * noise_multiplier * np.sqrt(3.0), 0.0)


