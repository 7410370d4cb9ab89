"""What a site does where several sites adapt one model together. Flower is not known here; what is returned leaves.

This process holds the site's settings and has a way out, so it opens no recording: every round is a sealed process,
whose one file passes the gate of `protocol.update` before anything is returned.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from ecan_core.checks import non_negative, positive
from ecan_core.data.unlabeled import LeftOut
from ecan_core.narrator import Narrator
from ecan_core.plan import AdaptSettings
from ecan_core.settings import parse_settings
from protocol.errors import Code, Refused
from protocol.files import make_private_folder, read_bounded, write_atomic
from protocol.key_files import is_locked
from protocol.trust import VerifiedBundle
from protocol.update import LEFT, MAX_UPDATE_BYTES, check_update, keep_copy, refuse_foreign, refuse_spent
from target_site.acceptance import open_accepted
from target_site.approval import require_approval
from target_site.commands import log_of
from target_site.containment import Conditions
from target_site.locks import writing_alone
from target_site.model_folder import CACHE_FILE, CHANGE, UPDATE, finish_replacement
from target_site.orders import AdaptOrder, ConcludeOrder, RoundOrder, refuse_among_recordings
from target_site.own_model import sign_model
from target_site.seal import carry_out_sealed
from target_site.site_policy import SitePolicy, Together, read_policy

METHOD = "shot-im"
"""What sites adapt by together: one network, which needs no memory bank (docs/federation.md has the figures)."""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Member:
    """How this site's operator set its node up; no round can change it.

    Attributes:
        keys: this site's keys, among which copies of what left are kept.
        bundle: what this site accepted.
        audio: the recordings.
        config: the site's rules, which say what may leave.
        out: folder of the adapted model.
        normalization: as ``--normalize``; empty decides by the model and the list.
    """

    keys: Path
    bundle: Path
    audio: Path
    config: Path
    out: Path
    normalization: str = ""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a coordinator asks for: nothing but when and how long to adapt.

    Attributes:
        weights: digest of the released weights, in hexadecimal, that all sites have.
        number: of the round, from 1.
        epochs: passes over the site's recordings.
        seed: seed of shuffling and dropout.
    """

    weights: str
    number: int
    epochs: int
    seed: int

    def __post_init__(self) -> None:
        positive(self, "number", "epochs")
        non_negative(self, "seed")

    @staticmethod
    def parse(question: Mapping[str, Any]) -> "Round":
        """Read a question; what Flower adds to it is left out.

        Raises:
            SettingsError: a part of it is missing or out of range.
        """
        known = {name: question[name] for name in Round.__dataclass_fields__ if name in question}
        return parse_settings(Round, known, "the round")


class Terms(NamedTuple):
    """What a site takes part on."""

    policy: SitePolicy
    together: Together
    bundle: VerifiedBundle

    @property
    def weights(self) -> bytes:
        """Digest of the released weights, which all sites have though each has a bundle of its own."""
        return self.bundle.manifest.weights_sha256

    @property
    def form(self) -> tuple[str, int]:
        """Architecture and number of classes."""
        return self.bundle.manifest.arch, len(self.bundle.manifest.classes)


def terms_of(member: Member) -> Terms:
    """What a site takes part on, looked up anew for every question.

    Raises:
        Refused: its rules let nothing leave, or it has not approved the bundle, or the source has withdrawn it.
        Unauthentic: it did not accept the bundle.
        SettingsError: a rule is unknown or out of range.
    """
    policy = read_policy(member.config)
    if policy.together is None:
        raise Refused(
            Code.POLICY,
            f"{member.config} lets no update leave this site; add `together: {{rounds: 5}}` if it may adapt a model "
            "together with other sites.",
        )
    bundle = open_accepted(member.bundle, keys_dir=member.keys)
    if policy.approval == "required":
        require_approval(member.bundle, bundle, purpose=policy.purpose)
    refuse_among_recordings(member.out, member.out / CACHE_FILE, member.audio)
    return Terms(policy, policy.together, bundle)


def adapt_round(member: Member, wanted: Round, change: Arrays, *, secure: bool) -> Arrays:
    """Adapt the common model on this site's recordings for a round.

    Args:
        member: the site.
        wanted: the round.
        change: how all rounds so far have changed the released weights.
        secure: whether what is returned will be masked.

    Returns:
        The update: how this site would change the weights next. A copy of it is kept.

    Raises:
        Refused: the site's rules forbid it, its budget is used up, or what was made is no update.
    """
    terms = terms_of(member)
    if terms.together.secure and not secure:
        raise Refused(Code.POLICY, "This site takes part in secure aggregation alone; leave out --plain.")
    refuse_spent(member.keys, terms.weights, budget=terms.together.rounds)
    order = RoundOrder(adapt=_order(member, terms, wanted), longest=terms.together.longest)
    with _carried_out(member, terms, order, wanted, change, rounds=wanted.number - 1) as noted:
        data = read_bounded(member.out / UPDATE, MAX_UPDATE_BYTES)
        (member.out / UPDATE).unlink()
        update = check_update(data, *terms.form, terms.together.longest)
        copy = keep_copy(member.keys, terms.weights, data, budget=terms.together.rounds)
        noted |= {"left": copy.name, "bytes": len(data), "sha256": sha256(data).hexdigest()}
    return update


def conclude(member: Member, wanted: Round, change: Arrays) -> str:
    """Make the common model this site's own, if it does good; returns the verdict, which stays here.

    Args:
        member: the site.
        wanted: the last round.
        change: how all rounds have changed the released weights.

    Raises:
        Refused: the site's rules forbid it, or the change is none of this model.
    """
    terms = terms_of(member)
    order = ConcludeOrder(adapt=_order(member, terms, wanted), rounds=wanted.number)
    with _carried_out(member, terms, order, wanted, change, rounds=wanted.number) as noted:
        if not is_locked(member.keys):
            sign_model(member.out, member.keys, None)
        finish_replacement(member.out)
    return str(noted["verdict"])


@contextmanager
def _carried_out(
    member: Member, terms: Terms, order: RoundOrder | ConcludeOrder, wanted: Round, change: Arrays, *, rounds: int
) -> Iterator[dict[str, object]]:
    """Have an order carried out by a sealed process, and look after what it made while nobody else can write there.

    The change is what so many rounds have come to.
    """
    if wanted.weights != terms.weights.hex():
        raise Refused(Code.POLICY, "The sites have different models; give all of them the same release.")
    refuse_foreign(change, *terms.form, longest=min(rounds, terms.together.rounds) * terms.together.longest)
    narrator = Narrator(quiet=True)
    with writing_alone(member.keys / LEFT), writing_alone(member.out):
        finish_replacement(member.out)
        for place in order.writable:
            make_private_folder(place)
        (member.out / UPDATE).unlink(missing_ok=True)
        write_atomic(member.out / CHANGE, save(change))
        audit_log = log_of(member.out, narrator)
        facts = {"bundle_sha256": order.adapt.sha256, "audio": audit_log.pseudonym(member.audio)}
        with audit_log.recorded("together", round=wanted.number, **facts) as noted:
            conditions = Conditions(least=terms.policy.least_level)
            noted |= carry_out_sealed(order, conditions=conditions, narrator=narrator, quiet=True)
            yield noted
        (member.out / CHANGE).unlink()


def _order(member: Member, terms: Terms, wanted: Round) -> AdaptOrder:
    return AdaptOrder(
        bundle=member.bundle,
        sha256=terms.bundle.digest.hex(),
        audio=member.audio,
        parties=terms.policy.parties,
        out=member.out,
        normalization=member.normalization or None,
        method=METHOD,
        settings=AdaptSettings(epochs=wanted.epochs),
        seed=wanted.seed,
        least_confidence=terms.policy.least_confidence,
        cache=member.out / CACHE_FILE,
        left_out=LeftOut(),
    )
