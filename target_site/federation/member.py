"""Answer a coordinator for a target site.

The site's own rules and its own book decide. No recording is opened here.

Every round is a contained process, whose one file passes the gate of `protocol.federation.update` before it is
written into the book and leaves.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save

from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.command_line.console import Narrator
from ecan_core.settings.checks import at_most, non_negative, positive
from ecan_core.settings.parse import parse_settings
from protocol.bundle.trust import VerifiedBundle
from protocol.containment.launcher import carry_out_contained
from protocol.containment.walls import Conditions
from protocol.errors import Code, RefusedError
from protocol.federation.messages import KEYS, Answer, Question
from protocol.federation.site.answers import Answers
from protocol.federation.update import LEFT, MAX_UPDATE_BYTES, check_update, keep_copy, refuse_foreign, refuse_spent
from protocol.files import make_private_folder, read_bounded, write_atomic
from protocol.identity.key_files import is_locked
from protocol.locks import writing_alone
from target_site.accountability.audit_log import log_of, today
from target_site.containment.orders import (
    AdaptOrder,
    ConcludeOrder,
    RememberedSite,
    RoundOrder,
    refuse_among_recordings,
    task_of,
)
from target_site.model.encoders import folder_for, reads_of_bundle
from target_site.model.folder import CACHE_FILE, CHANGE, UPDATE, finish_replacement
from target_site.model.forgotten import read_forgotten
from target_site.site_policy import SitePolicy, Together, read_policy
from target_site.trust.acceptance import open_accepted
from target_site.trust.approval import require_approval
from target_site.trust.freshness import refuse_stale
from target_site.trust.own_model import sign_model

WEIGHTS, ARCH, CLASSES = "weights", "arch", "classes"
"""What a site tells of its model: which release, and the form of an update of it."""
END = "query.end"
"""Kind of the question that ends a run."""
LARGEST = 1.0
"""No weight changes by more in a round."""
MOST_EPOCHS = 1000
"""A site is kept busy for so long by one round at most."""
MOST_RUNS = 10_000
"""What limits a site is how many updates of a model may leave it; runs alone let nothing leave."""
SEEDS = 1000
"""Seeds of rounds lie so far apart that no two runs share one."""
METHOD = "shot-im"
"""What sites adapt by together: one network, which needs no memory bank (docs/federation.md has the figures)."""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Hold how this site's operator set its node up; no round can change it.

    Attributes:
        keys: this site's keys, among which copies of what left are kept.
        bundle: what this site accepted.
        audio: the recordings.
        config: the site's rules, which say what may leave.
        out: folder of the adapted model.
        normalization: as ``--normalize``; empty decides by the model and the list.
        accepted: why somebody accepts that the process is not contained; None if nobody does.
    """

    keys: Path
    bundle: Path
    audio: Path
    config: Path
    out: Path
    normalization: str = ""
    accepted: str | None = None


@dataclass(frozen=True, kw_only=True)
class Round:
    """Hold what a coordinator asks for: when and how long to adapt.

    It can ask for nothing else.

    Attributes:
        weights: digest of the released weights, in hexadecimal, that all sites have.
        rounds: how many there are in the run.
        number: of the round, from 1.
        epochs: passes over the site's recordings.
        seed: of the run's shuffling and dropout.
    """

    weights: str
    rounds: int
    number: int
    epochs: int
    seed: int

    def __post_init__(self) -> None:
        positive(self, "rounds", "number", "epochs")
        at_most(self, "epochs", MOST_EPOCHS)
        non_negative(self, "seed")

    @staticmethod
    def parse(question: Question) -> "Round":
        """Read a question; what Flower and the masking add to it is left out.

        Raises:
            SettingsError: a part of it is missing or out of range.
        """
        known = {name: question.fields[name] for name in Round.__dataclass_fields__ if name in question.fields}
        return parse_settings(Round, known, "the round")

    @property
    def plan(self) -> str:
        """Return what a run is bound to, as text."""
        return f"{self.weights} {self.rounds} rounds of {self.epochs} epochs, seed {self.seed}"


class Terms(NamedTuple):
    """Hold what a site takes part on."""

    policy: SitePolicy
    together: Together
    bundle: VerifiedBundle

    @property
    def weights(self) -> bytes:
        """Return the digest of the released weights.

        All sites have these weights in bundles of their own.
        """
        return self.bundle.manifest.weights_sha256

    @property
    def form(self) -> tuple[str, int]:
        """Return architecture and number of classes."""
        return self.bundle.manifest.arch, len(self.bundle.manifest.classes)


def terms_of(setting: Setting) -> Terms:
    """Look up what a site takes part on, anew for every question.

    Raises:
        RefusedError: its rules let nothing leave, it has not approved the bundle, the source has withdrawn it, or the
            source's newest revocation list here is too old.
        UnauthenticError: it did not accept the bundle.
        SettingsError: a rule is unknown or out of range.
    """
    policy = read_policy(setting.config)
    if policy.together is None:
        raise RefusedError(
            Code.POLICY,
            f"{setting.config} lets no update leave this site; add `together: {{rounds: 5}}` if it may adapt a model "
            "together with other sites.",
        )
    bundle = open_accepted(setting.bundle, keys_dir=setting.keys)
    issuer, oldest_days = bundle.manifest.issuer, policy.oldest_revocations_days
    refuse_stale(setting.keys, issuer, oldest_days=oldest_days, today=today())
    if policy.approval == "required":
        require_approval(setting.bundle, bundle, purpose=policy.purpose)
    refuse_among_recordings(setting.out, setting.out / CACHE_FILE, setting.audio)
    return Terms(policy, policy.together, bundle)


class Member:
    """Answer for one site.

    Args:
        setting: how its operator set it up.
        answers: what it has answered so far.
        announce: tells a person.
    """

    def __init__(self, setting: Setting, *, answers: Answers, announce: Callable[[str], None]) -> None:
        self._setting, self._answers, self._announce = setting, answers, announce

    def answer(self, question: Question) -> Answer:
        """Answer one question.

        Raises:
            RefusedError: the site's rules or its book forbid it, or what was made is no update.
            SettingsError: the question is incomplete.
        """
        answers = {"query": self._model, KEYS: self._answers.offer, "train": self._round, END: self._end}
        if question.kind not in answers:
            raise RefusedError(Code.PROTOCOL, f"Nobody asks a target site for {question.kind!r}; see who asks this.")
        return answers[question.kind](question)

    def _model(self, question: Question) -> Answer:
        terms = terms_of(self._setting)
        arch, num_classes = terms.form
        return Answer(fields={WEIGHTS: terms.weights.hex(), ARCH: arch, CLASSES: num_classes})

    def _round(self, question: Question) -> Answer:
        terms, wanted = terms_of(self._setting), Round.parse(question)
        self._answers.require_masked(question, required=terms.together.secure)
        self._begin(question, wanted, terms)
        step = self._answers.round(question, wanted.number)
        if step.is_answered:
            given = self._answers.given(step.run, step.number)
            return self._answers.leave(question, step, given.arrays, largest=LARGEST)
        self._refuse_spent(terms)
        update = adapt_round(self._setting, terms, wanted, question.arrays)
        self._answers.write_down(step, Answer(arrays=update), noise_multiplier=0.0, steps=1)
        return self._answers.leave(question, step, update, largest=LARGEST)

    def _end(self, question: Question) -> Answer:
        terms, wanted = terms_of(self._setting), Round.parse(question)
        step = self._answers.last(question, "end")
        if not step.is_answered:
            self._announce(f"verdict: {conclude(self._setting, terms, wanted, question.arrays)}")
            self._answers.write_down(step, Answer(), noise_multiplier=0.0, steps=0)
        return Answer(fields={WEIGHTS: terms.weights.hex()})

    def _begin(self, question: Question, wanted: Round, terms: Terms) -> None:
        """Bind the run to its terms, or check that it still has them."""
        if wanted.weights != terms.weights.hex():
            raise RefusedError(Code.POLICY, "The sites have different models; give all of them the same release.")
        budget = terms.together.rounds
        if self._answers.is_begun(question, wanted.plan, (), wanted.rounds, max_runs=MOST_RUNS):
            return
        if self._answers.count_about(wanted.weights) + wanted.rounds > budget:
            raise RefusedError(
                Code.POLICY,
                f"{wanted.rounds} updates are asked for and {budget} of this model may leave the site in all; raise "
                "`rounds` under `together` in the site's settings, or ask for fewer.",
            )
        refuse_foreign(question.arrays, *terms.form, longest=0.0)
        self._answers.begin(question, wanted.plan, (), wanted.rounds, number=wanted.number, about=wanted.weights)
        self._announce(f"run {question.run} begins: {wanted.rounds} rounds of {wanted.epochs} epochs")

    def _refuse_spent(self, terms: Terms) -> None:
        """Refuse another update of a model whose budget is spent.

        The book and the copies are counted.
        """
        refuse_spent(self._setting.keys, terms.weights, budget=terms.together.rounds)
        if self._answers.count_about(terms.weights.hex()) >= terms.together.rounds:
            raise RefusedError(
                Code.POLICY, "As many updates of this model have left as the site allows; adapt alone from here on."
            )


def adapt_round(setting: Setting, terms: Terms, wanted: Round, change: Arrays) -> Arrays:
    """Adapt the common model on this site's recordings for a round.

    Args:
        setting: the site.
        terms: what it takes part on.
        wanted: the round.
        change: how all rounds so far have changed the released weights.

    Returns:
        The update: how this site would change the weights next. A copy of it is kept.

    Raises:
        RefusedError: the site's rules forbid it, its budget is used up, or what was made is no update.
    """
    order = RoundOrder(adapt=_order(setting, terms, wanted), longest=terms.together.longest)
    with _carried_out(setting, terms, order, wanted, change, rounds=wanted.number - 1) as noted:
        data = read_bounded(setting.out / UPDATE, MAX_UPDATE_BYTES)
        (setting.out / UPDATE).unlink()
        update = check_update(data, *terms.form, terms.together.longest)
        copy = keep_copy(setting.keys, terms.weights, data, budget=terms.together.rounds)
        noted |= {"left": copy.name, "bytes": len(data), "sha256": sha256(data).hexdigest()}
    return update


def conclude(setting: Setting, terms: Terms, wanted: Round, change: Arrays) -> str:
    """Make the common model this site's own, if it does good.

    Returns the verdict, and how many utterances were left out because somebody was forgotten; both stay here.

    Args:
        setting: the site.
        terms: what it takes part on.
        wanted: the last round.
        change: how all rounds have changed the released weights.

    Raises:
        RefusedError: the site's rules forbid it, or the change is none of this model.
    """
    order = ConcludeOrder(adapt=_order(setting, terms, wanted), rounds=wanted.number)
    with _carried_out(setting, terms, order, wanted, change, rounds=wanted.number) as noted:
        if not is_locked(setting.keys):
            sign_model(setting.out, setting.keys, None)
        finish_replacement(setting.out)
    left_out = f"; {noted['forgotten']} utterances of the forgotten were left out" if noted["forgotten"] else ""
    return f"{noted['verdict']}{left_out}"


@contextmanager
def _carried_out(
    setting: Setting, terms: Terms, order: RoundOrder | ConcludeOrder, wanted: Round, change: Arrays, *, rounds: int
) -> Iterator[dict[str, object]]:
    """Have an order carried out by a contained process, alone in its folder.

    The change is what so many rounds have come to.
    """
    refuse_foreign(change, *terms.form, longest=min(rounds, terms.together.rounds) * terms.together.longest)
    narrator = Narrator(quiet=True)
    with writing_alone(setting.keys / LEFT), writing_alone(setting.out):
        finish_replacement(setting.out)
        task = task_of(order, (setting.keys, setting.config))
        for place in order.writable:
            make_private_folder(place)
        (setting.out / UPDATE).unlink(missing_ok=True)
        write_atomic(setting.out / CHANGE, save(change))
        audit_log = log_of(setting.out, narrator)
        facts = {"bundle_sha256": order.adapt.sha256, "audio": audit_log.pseudonym(setting.audio)}
        with audit_log.recorded("together", round=wanted.number, **facts) as noted:
            conditions = Conditions(least=terms.policy.least_level, accepted=setting.accepted)
            noted |= carry_out_contained(task, conditions=conditions, announce=narrator.say, quiet=True)
            yield noted
        (setting.out / CHANGE).unlink()


def _order(setting: Setting, terms: Terms, wanted: Round) -> AdaptOrder:
    return AdaptOrder(
        bundle=setting.bundle,
        sha256=terms.bundle.digest.hex(),
        audio=setting.audio,
        parties=terms.policy.parties,
        out=setting.out,
        normalization=setting.normalization or None,
        method=METHOD,
        settings=AdaptSettings(epochs=wanted.epochs),
        seed=SEEDS * wanted.seed + wanted.number,
        abstention=terms.policy.abstention,
        cache=setting.out / CACHE_FILE,
        left_out=read_forgotten(setting.out),
        encoders=folder_for(reads_of_bundle(terms.bundle), None),
        added_encoder=terms.bundle.manifest.encoder.hex(),
        site=RememberedSite(rules=terms.policy, keys=setting.keys),
    )
