"""Answer a coordinator for a source site.

The site's own rules and its own book decide. Speech is not opened here.

What is asked goes through the same steps, whatever it is:

1. The run is bound to the first plan, classes and roster that were shown for it, and the site's rules allow them.
2. The book says that this step is next, or that the very same question was answered before.
3. The contained process trains or counts; what it wrote has to have the one form that an answer has.
4. What the answer spends of the promised epsilon still fits; it is written into the book.
5. The answer is masked, or given noise, or given as it is if the site's rules allow that, and leaves.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from ecan_core.corpora import read_corpus
from ecan_core.errors import SettingsError
from ecan_core.labels import check_classes
from protocol.errors import Code, RefusedError
from protocol.federation.messages import KEYS, OFFERS, Answer, Arrays, Question
from protocol.federation.site.answers import Answers, Step
from protocol.files import make_private_folder, read_bounded, write_atomic
from source_site.federation.orders import ANSWER_FILE, QUESTION_FILE, CountOrder, Order, RoundOrder, Site, TallyOrder
from source_site.federation.plan import EVERYBODY, HEARD, ConsortiumPlan, array_shapes, first_arrays, part
from source_site.federation.tasks import private_settings
from source_site.training.accountant import epsilon_of
from source_site.training.privacy import usual_delta
from source_site.training.run_folder import MAX_WEIGHTS_BYTES

PLAN, CLASSES, ROUND = "plan", "classes", "round"
"""Names of the fields of a question."""
COUNTS = "counts"
"""Name of what a tally answers: utterances, speakers, hours in hundredths, and two confusion matrices ``[C * C]``."""
LARGEST, LARGEST_COUNT = 8.0, 2.0**26
"""Magnitudes that no weight and no count of an answer exceeds."""
COUNT_UNIT = 2.0**-12
"""Counts travel in these units of a masked sum, so that large ones fit."""
NEAR = 20.0
"""No network is farther from what this site trained last, in steps as long as its own, or it is not heard."""
LONGEST_UTTERANCE_H = 1 / 60
"""What one utterance can add to the hours, for the noise on them."""
DEFAULT_RUNS = 10
SAME = 1e-6
"""Weights that every site computes alike differ by no more."""
_MOVED, _WORK = "moved ", "work"

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
class Terms:
    """Hold what a run is bound to.

    Attributes:
        plan: what was agreed on.
        classes: class names in the order of the head's rows.
    """

    plan: ConsortiumPlan
    classes: tuple[str, ...]

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the names and shapes of what a round exchanges."""
        return array_shapes(self.plan, len(self.classes))


class Member:
    """Answer for one site.

    Args:
        site: its corpus.
        rules: what it insists on.
        home: folder for its work.
        answers: what it has answered so far.
        carry_out: has an order carried out in the contained process.
        announce: tells a person.
    """

    def __init__(
        self,
        site: Site,
        rules: Rules,
        *,
        home: Path,
        answers: Answers,
        carry_out: CarryOut,
        announce: Callable[[str], None],
    ) -> None:
        self._site, self._rules, self._answers = site, rules, answers
        self._carry_out, self._announce, self._work = carry_out, announce, home / _WORK
        self._counted: Mapping[str, Any] = {}

    def answer(self, question: Question) -> Answer:
        """Answer one question.

        Raises:
            RefusedError: the site's rules or its book forbid it.
            SettingsError: the plan is damaged, or gives less protection than the site insists on.
            UsageError: a class is none.
        """
        answers = {"query": self._classes, KEYS: self._answers.offer, "train": self._round, "evaluate": self._tally}
        if question.kind not in answers:
            raise RefusedError(Code.PROTOCOL, f"Nobody asks a source site for {question.kind!r}; see who asks this.")
        return answers[question.kind](question)

    def _classes(self, question: Question) -> Answer:
        return Answer(fields={CLASSES: ",".join(self._count()["classes"])})

    def _round(self, question: Question) -> Answer:
        terms = self._terms(question)
        _refuse_foreign(question.arrays, terms.shapes)
        self._bind(question, terms)
        step = self._answers.round(question, question.fields.get(ROUND))
        if not step.is_answered:
            self._refuse_made_up(question.arrays, terms, step)
        trained = (
            self._answers.given(step.run, step.number) if step.is_answered else self._trained(question, terms, step)
        )
        return self._answers.leave(question, step, trained.arrays, largest=LARGEST)

    def _tally(self, question: Question) -> Answer:
        terms = self._terms(question)
        self._bind(question, terms)
        step = self._answers.last(question, "tally")
        counted = (
            self._answers.given(step.run, step.number) if step.is_answered else self._tallied(question, terms, step)
        )
        counts = counted.arrays[COUNTS] * (COUNT_UNIT if OFFERS in question.fields else 1.0)
        return self._answers.leave(question, step, {COUNTS: counts}, largest=LARGEST_COUNT * COUNT_UNIT)

    def _terms(self, question: Question) -> Terms:
        """Read a run's terms, and refuse those that this site does not accept."""
        plan, names = ConsortiumPlan.from_text(_plan_of(question)), str(question.fields.get(CLASSES, ""))
        self._accept(plan, question)
        return Terms(plan, check_classes(names.split(",")))

    def _bind(self, question: Question, terms: Terms) -> None:
        """Bind the run to its terms, or check that it still has them."""
        text, rounds, names = _plan_of(question), terms.plan.rounds, ",".join(terms.classes)
        if not self._answers.is_begun(question, text, terms.classes, rounds, self._rules.max_runs):
            self._refuse_overspent(self._whole_run(terms.plan))
            self._answers.begin(question, text, terms.classes, rounds, number=question.fields.get(ROUND))
            self._announce(f"run {question.run} begins: {rounds} rounds for {names}, epsilon {terms.plan.epsilon:g}")

    def _accept(self, plan: ConsortiumPlan, question: Question) -> None:
        """Refuse a plan that gives less protection than the site insists on."""
        self._answers.require_masked(question, required=self._rules.secure or plan.secure)
        if self._rules.max_epsilon and not 0 < plan.epsilon <= self._rules.max_epsilon:
            raise SettingsError(
                f"this site promises its utterances an epsilon of {self._rules.max_epsilon:g}; plan for that"
            )

    def _trained(self, question: Question, terms: Terms, step: Step) -> Answer:
        """Train a round, and write down that it was answered."""
        told = self._carried_out(RoundOrder, question.arrays, terms, step)
        trained = load(read_bounded(self._work / ANSWER_FILE, MAX_WEIGHTS_BYTES))
        _refuse_foreign(trained, terms.shapes)
        moved = {
            _MOVED + name: _distance(part(trained, name), part(question.arrays, name)) for name in (EVERYBODY, HEARD)
        }
        return self._written_down(step, Answer(fields=moved, arrays=trained), told)

    def _tallied(self, question: Question, terms: Terms, step: Step) -> Answer:
        """Count, and write down that it was answered."""
        self._refuse_strange(question.arrays, terms, step)
        told = self._carried_out(TallyOrder, question.arrays, terms, step)
        counts = np.array([told["utterances"], told["speakers"], 100 * told["hours"]], dtype=np.float64)
        if noise := told.get("noise"):
            counts = _noisy(counts, noise / 100)
        matrices = [*told.get("float", ()), *told.get("quantized", ())]
        arrays = {COUNTS: np.concatenate([np.rint(counts), np.array(matrices, dtype=np.float64)])}
        return self._written_down(step, Answer(arrays=arrays), told)

    def _carried_out(self, kind: type[RoundOrder], arrays: Arrays, terms: Terms, step: Step) -> Mapping[str, Any]:
        make_private_folder(self._work)
        for name in (QUESTION_FILE, ANSWER_FILE):
            (self._work / name).unlink(missing_ok=True)
        if arrays:
            write_atomic(self._work / QUESTION_FILE, save(arrays))
        order = kind(
            site=self._site,
            plan=terms.plan.to_text(),
            classes=terms.classes,
            number=step.number,
            utterances=self._count()["utterances"],
            work=self._work,
        )
        return self._carry_out(order)

    def _written_down(self, step: Step, answer: Answer, told: Mapping[str, Any]) -> Answer:
        noise, steps = told.get("noise", 0) / 100, told.get("steps", 1)
        self._refuse_overspent((noise, steps))
        return self._answers.write_down(step, answer, noise_multiplier=noise, steps=steps)

    def _refuse_overspent(self, more: tuple[float, int]) -> None:
        """Refuse what would spend more than the site promises.

        All that the book says counts.
        """
        if not self._rules.max_epsilon:
            return
        spending = [*self._answers.spent(), more]
        if any(noise == 0 for noise, _ in spending):
            raise RefusedError(
                Code.POLICY,
                "This node has answered without noise before, so that no epsilon can be promised; let a person begin "
                "anew with speech that was not asked for yet.",
            )
        total = epsilon_of(spending, usual_delta(self._count()["utterances"]))
        if total > self._rules.max_epsilon:
            raise RefusedError(
                Code.POLICY,
                f"This would bring what the site has promised to an epsilon of {total:g}, above "
                f"{self._rules.max_epsilon:g}; its utterances have been asked for enough.",
            )

    def _whole_run(self, plan: ConsortiumPlan) -> tuple[float, int]:
        """Return noise multiplier and steps of a whole run with its tally."""
        if not plan.epsilon:
            return 0.0, 1
        private = private_settings(plan, self._count()["utterances"])
        return private.noise_multiplier, private.steps + 1

    def _refuse_made_up(self, arrays: Arrays, terms: Terms, step: Step) -> None:
        """Refuse to train weights that were made up to tell of single utterances.

        The first round starts from weights that this site can compute itself, any other near what it trained last.
        Source: Boenisch et al., EuroS&P 2023 (arXiv 2112.02918), for the attack.
        """
        if step.number == 1:
            expected = first_arrays(terms.plan, len(terms.classes))
            if not all(np.allclose(arrays[name], expected[name], rtol=0, atol=SAME) for name in expected):
                raise RefusedError(
                    Code.EGRESS, "The first round starts from other weights than the plan's; see who asks."
                )
            return
        last = self._answers.given(step.run, step.number - 1)
        for name in (EVERYBODY, HEARD):
            self._refuse_far(part(arrays, name), last, name)

    def _refuse_far(self, arrays: Arrays, last: Answer, name: str) -> None:
        """Refuse one of the networks if it is far from this site's last answer."""
        if not _distance(arrays, part(last.arrays, name)) <= NEAR * float(last.fields[_MOVED + name]):
            raise RefusedError(
                Code.EGRESS, "That network is far from the one that this site helped to train; see who asks."
            )

    def _refuse_strange(self, arrays: Arrays, terms: Terms, step: Step) -> None:
        """Refuse to tally a network that this site did not help to train."""
        expected = {name.removeprefix(HEARD): shape for name, shape in terms.shapes.items() if name.startswith(HEARD)}
        _refuse_foreign(arrays, expected)
        if not expected:
            return
        self._refuse_far(arrays, self._answers.given(step.run, step.number - 1), HEARD)

    def _count(self) -> Mapping[str, Any]:
        """Count the site's utterances and classes, once in a process."""
        if not self._counted:
            self._counted = self._carry_out(CountOrder(site=self._site))
        return self._counted


def _plan_of(question: Question) -> str:
    return str(question.fields.get(PLAN, ""))


def speech_of(recipe: str, path: Path, relabel: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """List what must be within reach to read a corpus.

    That is its folder, or its list and the very files that it names; none is opened.

    Raises:
        UsageError: the recipe or the path does not exist, or a label of a list is unknown.
    """
    if path.is_dir() and recipe != "csv":
        return (path.resolve(),)
    files = {item.utterance.path.resolve() for item in read_corpus(recipe, path, relabel).utterances}
    return (path.resolve(), *sorted(files))


def _refuse_foreign(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse arrays that are not those of the plan.

    Names, shapes and types have to be the same, and numbers within range.
    """
    found = {name: array.shape for name, array in arrays.items() if array.dtype == np.float32}
    if found != dict(shapes) or len(found) != len(arrays):
        raise RefusedError(
            Code.EGRESS, "These are no weights of the plan's network; let all sites install the same version."
        )
    if not all(np.all(np.abs(array) <= LARGEST) for array in arrays.values()):
        raise RefusedError(Code.RANGE, f"A weight is not finite or exceeds {LARGEST:g}; plan a smaller learning rate.")


def _distance(arrays: Arrays, others: Arrays) -> float:
    """Return the Euclidean distance of two networks, each as one vector."""
    squares = [np.square(arrays[name].astype(np.float64) - others[name]).sum() for name in sorted(others)]
    return float(np.sqrt(sum(squares)))


def _noisy(counts: np.ndarray, noise_multiplier: float) -> np.ndarray:
    """Add Gaussian noise to utterances, speakers and hundredths of hours.

    One utterance changes each of the three by one of its units at most.
    """
    units = np.array([1.0, 1.0, 100 * LONGEST_UTTERANCE_H])
    drawn = np.random.default_rng(secrets.randbits(128)).standard_normal(3)
    return np.asarray(np.maximum(counts + drawn * units * noise_multiplier * np.sqrt(3.0), 0.0))
