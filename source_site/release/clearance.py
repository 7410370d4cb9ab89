"""Decide whether a trained model may leave, and what is stated of it.

The manifest states the result of the audit.

At a tier above 0 the audit has to clear the tier, or a second officer has to override it with a key of their own. The
model then counts against the budget of its speech. At tier 0 an audit is stated where there is one.
"""

from dataclasses import dataclass
from pathlib import Path

from ecan_core.errors import UsageError
from protocol.announce import Announce
from protocol.bundle.override import MAX_STATEMENT_BYTES, Override, open_override, sign_override
from protocol.bundle.stated_audit import MEASURED, OVERRIDDEN, PASSED, AuditFields
from protocol.errors import Code, RefusedError
from protocol.files import read_bounded, write_atomic
from protocol.identity.key_files import SIGNING_KEY_FILE, load_ed25519_key, load_public
from protocol.ledger.grants import SECONDS_PER_DAY
from source_site.audit.report import AuditReport, state
from source_site.audit.tiers import ASKED, audit_of, findings, require_tier, require_weights
from source_site.keys.officer import officer_statement
from source_site.release.budget import RELEASES, spend
from source_site.training.run_folder import StoredRun, load_run

MAX_QUANTIZATION_LOSS = 0.005
"""The UAR that a model may lose by quantization, 0 to 1; one that loses more does not leave."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Set the terms on which a model is granted.

    Attributes:
        tier: what its audit must have shown, see `source_site.audit.tiers`; 0 asks for nothing.
        releases: models that may leave of the same speech at a tier above 0.
        override: file with an officer's word that the audit may have failed.
    """

    tier: int = 0
    releases: int = RELEASES
    override: Path | None = None

    def __post_init__(self) -> None:
        if self.override is not None and not self.tier:
            raise UsageError("at tier 0 nothing is asked of an audit and there is nothing to override: name the --tier")


TIER_0 = Terms()


@dataclass(frozen=True, kw_only=True)
class Cleared:
    """Describe a trained model that may leave.

    Attributes:
        run: the model.
        audit: what its manifest says of its audit.
        report: the audit; None if there is none.
        officer: the statement that names the officer who has overridden it; empty if nobody has.
        override: what that officer has signed; likewise.
    """

    run: StoredRun
    audit: AuditFields
    report: AuditReport | None = None
    officer: bytes = b""
    override: bytes = b""

    def require_weights(self, weights_sha256: bytes) -> None:
        """Refuse an audit, if there is one, of other weights than the bundle's.

        Raises:
            RefusedError: it is about others.
        """
        if self.report is not None:
            require_weights(self.report, weights_sha256)


def clear(run_dir: Path, keys_dir: Path, terms: Terms, *, anchor: bytes, announce: Announce) -> Cleared:
    """Refuse a model that may not leave, and count one that may.

    Args:
        run_dir: its folder.
        keys_dir: the source's keys.
        terms: on which terms.
        anchor: what the ledger says of the book of the budget, see `source_site.release.budget`.
        announce: called with what the operator should know before the model leaves.

    Raises:
        RefusedError: it does not clear its tier, quantization costs too much, or the budget of its speech is spent.
        UsageError: there is no model.
        ModelError: the model or its audit is damaged.
        UnauthenticError: the override is not signed by the officer whom the release key has named.
    """
    run = load_run(run_dir)
    cleared = _judge(run_dir, keys_dir, run, terms, announce) if terms.tier else _look(run_dir, run, announce)
    _refuse_loss(run)
    if terms.tier:
        most_epsilon = ASKED[terms.tier].epsilon
        spend(
            keys_dir,
            run_dir,
            run,
            anchor=anchor,
            releases=terms.releases,
            most_epsilon=most_epsilon,
            announce=announce,
        )
    return cleared


def override_audit(
    run_dir: Path,
    key_dir: Path,
    tier: int,
    out: Path,
    *,
    now_s: int,
    announce: Announce,
    passphrase: bytes | None,
) -> None:
    """Sign as second officer that a model may leave despite its audit.

    Args:
        run_dir: folder of the trained model.
        key_dir: folder of the officer's key.
        tier: the tier whose bars it misses.
        out: the file for `Terms.override`.
        now_s: seconds since 1970.
        announce: told each bar that it misses.
        passphrase: opens the key if it is encrypted.

    Raises:
        UsageError: the model clears the tier, or there is none.
        RefusedError: it was not audited.
        KeyFileError: the key cannot be read.
        FileError: the file cannot be written.
    """
    report = audit_of(run_dir, load_run(run_dir))
    missed = list(findings(report, tier))
    if not missed:
        raise UsageError(f"The model's audit clears tier {tier}: there is nothing to override; grant it at that tier.")
    for finding in missed:
        announce(f"it misses tier {tier}: {finding.why}")
    word = Override(weights_sha256=bytes.fromhex(report.weights_sha256), tier=tier, day=now_s // SECONDS_PER_DAY)
    write_atomic(out, sign_override(word, load_ed25519_key(key_dir / SIGNING_KEY_FILE, passphrase)))


def _look(run_dir: Path, run: StoredRun, announce: Announce) -> Cleared:
    """State an audit of these weights at tier 0, or announce its absence."""
    try:
        report = audit_of(run_dir, run)
    except RefusedError as refusal:
        about = "no audit" if refusal.code is Code.AUDIT else "an audit of other weights"
        announce(f"tier 0, {about}: nobody has measured what this model remembers, and its manifest says so")
        return Cleared(run=run, audit=AuditFields())
    announce("tier 0: nothing is asked of the audit, and the manifest states what it has found")
    return Cleared(run=run, audit=state(report, 0, MEASURED), report=report)


def _judge(run_dir: Path, keys_dir: Path, run: StoredRun, terms: Terms, announce: Announce) -> Cleared:
    """Judge at a tier above 0: cleared by the audit or by an officer.

    The officer has overridden the audit.
    """
    report = audit_of(run_dir, run)
    missed = list(findings(report, terms.tier))
    if terms.override is None or not missed:
        require_tier(report, terms.tier)
        return Cleared(run=run, audit=state(report, terms.tier, PASSED), report=report)
    officer = officer_statement(keys_dir)
    signed = read_bounded(terms.override, MAX_STATEMENT_BYTES)
    word = open_override(signed, officer, load_public(keys_dir).fingerprint)
    _refuse_other_word(word, report, terms.tier)
    for finding in missed:
        announce(f"overridden by the officer: {finding.why}")
    stated = state(report, terms.tier, OVERRIDDEN)
    return Cleared(run=run, audit=stated, report=report, officer=officer, override=signed)


def _refuse_other_word(word: Override, report: AuditReport, tier: int) -> None:
    if (word.weights_sha256.hex(), word.tier) != (report.weights_sha256, tier):
        raise RefusedError(
            Code.AUDIT_BINDING,
            f"The officer has overridden the audit of other weights or at another tier than {tier}; have these looked "
            "at, with `ecan-source officer override`.",
        )


def _refuse_loss(run: StoredRun) -> None:
    loss = run.facts.quantization_loss
    if loss is not None and loss > MAX_QUANTIZATION_LOSS:
        raise RefusedError(
            Code.UTILITY,
            f"Quantization costs the model {100 * loss:.1f} points of its recognition rate, more than "
            f"{100 * MAX_QUANTIZATION_LOSS:g}; train longer, with weight decay or with another seed.",
        )
