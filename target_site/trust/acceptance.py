"""Accept a bundle: verify, remember, sign a receipt, keep it.

The writes have this order:

1. The trust state, so that nothing is kept that the site's memory does not know.
2. The receipt among the keys, which fixes which bytes a grant has brought.
3. The receipt's copy beside the bundle.
4. The bundle.

If the process is killed in between, the same bytes end the same way next time. See
docs/decisions/0006-trust-state-and-sealing.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ecan_core.errors import ModelError
from protocol.announce import Announce
from protocol.bundle import frame as frames
from protocol.bundle.frame import MAX_BUNDLE_BYTES
from protocol.bundle.trust import ANY_AUDIT, Anchor, AuditTerms, VerifiedBundle, read_stated, verify
from protocol.bundle.weights import Buffer
from protocol.errors import Code, KeyFileError, MalformedError, ProtocolError, RefusedError, UnauthenticError
from protocol.files import read_bounded, write_atomic
from protocol.identity import signing
from protocol.identity.identities import MAX_CERTIFICATE_BYTES, Identity, endorsed_fingerprint
from protocol.statements.receipts import MAX_RECEIPT_BYTES, Receipt, Verdict, open_receipt, sign_receipt
from protocol.statements.revocations import open_revocations
from target_site.trust.checkpoints import SignedCheckpoint, keep_checkpoint
from target_site.trust.freshness import refuse_stale
from target_site.trust.keys import load_keys, own_fingerprint
from target_site.trust.request import REQUESTS, requested_grants
from target_site.trust.state import KnownSource, TrustState, load_trust_state, refuse_future, update_trust_state


@dataclass(frozen=True, kw_only=True)
class KeptReceipt:
    """Hold the receipt of an earlier run; it is never given differently.

    It may have been handed in already.
    """

    receipt: Receipt
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Site:
    """Hold what this site knows beforehand.

    Who it is, whom it trusts, what it asked for, and the day.

    Attributes:
        keys_dir: the target's keys and its memory.
        identity: its private keys.
        source: fingerprint of the release key that is trusted today, 32 bytes.
        grants: what it asked for, the latest first.
        today: days since 1970.
        audit: what it asks of the audit of a model.
        oldest_list_days: how old the source's newest revocation list may be; None for any age.
        suites: the suites that it accepts new bundles in.
        encoders: SHA-256 of each encoder that it has added: a new bundle may name one of them, and no other.
    """

    keys_dir: Path
    identity: Identity
    source: bytes
    grants: tuple[bytes, ...]
    today: int
    audit: AuditTerms
    oldest_list_days: int | None = None
    suites: tuple[str, ...] = signing.SUITES
    encoders: frozenset[bytes] = frozenset()

    def refuse_stale(self) -> None:
        """Refuse a source whose newest revocation list here is too old.

        See `target_site.trust.freshness`.
        """
        refuse_stale(self.keys_dir, self.source, oldest_days=self.oldest_list_days, today=self.today)

    def learn(self, revocations: bytes) -> None:
        """Remember the revocation list that the source shows.

        It is empty if the source says that there is none.

        Raises:
            UnauthenticError: it is not signed by the source.
            RefusedError: a newer one is known, it leaps ahead or is from the future, or it withdraws the source's key.
        """
        newest = open_revocations(revocations, self.source) if revocations else None
        refuse_future(newest, self.today)
        update_trust_state(self.keys_dir, lambda state: state.learned(self.source, newest)).follow(self.source)

    def refuse_withdrawn(self, statement: bytes) -> None:
        """Refuse an offer that was signed by a withdrawn online key."""
        if signing.parse_envelope(statement).signer in load_trust_state(self.keys_dir).revoked(self.source):
            raise RefusedError(
                Code.REVOKED, "The offer was signed with a key that the source has withdrawn; call its operator."
            )

    def kept_receipt(self, grant: bytes, out: Path) -> KeptReceipt | None:
        """Find the receipt that an earlier run gave for a grant.

        The one among the keys, or else the one beside OUT.
        """
        for path in (self._receipt_among_keys(grant), receipt_path(out)):
            try:
                data = read_bounded(path, MAX_RECEIPT_BYTES)
                receipt = open_receipt(data, signer=self.identity.fingerprint)
            except ProtocolError:
                continue
            if (receipt.grant, receipt.verdict) == (grant, Verdict.ACCEPTED):
                return KeptReceipt(receipt=receipt, data=data)
        return None

    def verify(self, plain: Buffer, grant: bytes, kept: KeptReceipt | None) -> VerifiedBundle:
        """Verify the bundle that a grant has brought.

        A bundle for which this site has a receipt was accepted earlier: only later withdrawals count against it.
        """
        state = load_trust_state(self.keys_dir)
        audience, grants = self.identity.fingerprint, frozenset({grant})
        if kept is None:
            self._refuse_older_key(plain, state)
            anchor = state.anchor(self.source, today=self.today, audience=audience, grants=grants)
            return verify(plain, replace(anchor, audit=self.audit, suites=self.suites, encoders=self.encoders))
        signer = read_stated(plain).issuer
        issuer = signer if state.is_same_source(signer, self.source) else self.source
        anchor = state.anchor_of_accepted(issuer, today=kept.receipt.day, audience=audience, grants=grants)
        verified = verify(plain, replace(anchor, audit=ANY_AUDIT))
        if verified.digest != kept.receipt.digest:
            raise UnauthenticError(
                Code.DIGEST, "These are not the bytes that this site has a receipt for; receive again."
            )
        return verified

    def keep(self, out: Path, verified: VerifiedBundle, sealed_sha256: bytes, kept: KeptReceipt | None) -> bytes:
        """Remember what was verified and write it to OUT.

        Returns:
            The receipt.
        """
        update_trust_state(self.keys_dir, lambda state: state.accepted(verified.manifest))
        receipt = self._sign(verified, sealed_sha256) if kept is None else kept.data
        write_atomic(self._receipt_among_keys(verified.manifest.grant), receipt)
        write_atomic(receipt_path(out), receipt)
        write_atomic(out, verified.data)
        return receipt

    def last_seen(self) -> KnownSource:
        """Return what is known of the source by now."""
        return load_trust_state(self.keys_dir).of(self.source)

    def saw(self, checkpoint: SignedCheckpoint, *, since: KnownSource) -> None:
        """Remember where the source's ledger stands, with its signed word.

        See `TrustState.saw`.

        The signed word is written first, while nobody else changes the memory. If the process is killed in between,
        the word is newer than the memory, and the next receipt makes both agree.
        """

        def change(state: TrustState) -> TrustState:
            seen = state.saw(self.source, checkpoint.stated, since=since)
            known = seen.of(self.source)
            if (known.seq, known.head) == (checkpoint.stated.seq, checkpoint.stated.head):
                keep_checkpoint(self.keys_dir, self.source, checkpoint)
            return seen

        update_trust_state(self.keys_dir, change)

    def _refuse_older_key(self, plain: Buffer, state: TrustState) -> None:
        """Refuse a new bundle of a key that has a successor, and say why.

        `verify` refuses it anyway.
        """
        signer = signing.parse_envelope(frames.split(plain).envelope).signer
        if signer != self.source and state.is_same_source(signer, self.source):
            raise UnauthenticError(
                Code.KEY_UNKNOWN, "The bundle was sealed before the source changed its keys; make a new request."
            )

    def _receipt_among_keys(self, grant: bytes) -> Path:
        return self.keys_dir / REQUESTS / f"{grant.hex()}.receipt"

    def _sign(self, verified: VerifiedBundle, sealed_sha256: bytes) -> bytes:
        receipt = Receipt(
            grant=verified.manifest.grant,
            sealed_sha256=sealed_sha256,
            digest=verified.digest,
            weights_sha256=verified.manifest.weights_sha256,
            verdict=Verdict.ACCEPTED,
            day=self.today,
        )
        return sign_receipt(receipt, self.identity.signing_key)


def open_site(
    keys_dir: Path, trust: str, today: int, announce: Announce, audit: AuditTerms, passphrase: bytes | None = None
) -> Site:
    """Read what this site knows.

    Args:
        keys_dir: the target's keys.
        trust: the source's fingerprint in hexadecimal, or the path of its ``identity.pem``; if it has handed over to
            a successor, the successor is trusted.
        today: days since 1970.
        announce: told about a successor.
        audit: what the site asks of the audit of a model.
        passphrase: opens the keys if they are encrypted.

    Raises:
        KeyFileError: the keys cannot be read, or ``trust`` names no source.
        UnauthenticError: the site's memory was lost.
        RefusedError: the source's key was withdrawn.
    """
    identity = load_keys(keys_dir, passphrase)
    trusted = trusted_fingerprint(trust)
    source = load_trust_state(keys_dir).follow(trusted)
    if source != trusted:
        announce(f"{trusted.hex()[:16]}... has handed over to {source.hex()}, which is trusted in its place")
    grants = requested_grants(keys_dir)
    return Site(keys_dir=keys_dir, identity=identity, source=source, grants=grants, today=today, audit=audit)


def open_accepted(bundle: Path, *, keys_dir: Path | None, audit: AuditTerms = ANY_AUDIT) -> VerifiedBundle:
    """Open a bundle that this site accepted, verifying all of it once more.

    The receipt beside the bundle is this site's signature over the digest of bytes that it verified against the
    source it trusted then; the same bytes can have no other issuer. Later withdrawals stand in the trust state, which
    is read only if ``keys_dir`` is given.

    Args:
        bundle: the file that `receive` wrote.
        keys_dir: the target's keys; if given, the receipt must be theirs and nothing may have been withdrawn.
        audit: what is asked of its audit today; nothing where that was decided before.

    Raises:
        UnauthenticError: this site did not accept these bytes.
        RefusedError: the source has withdrawn the model or its key, or its audit is less than is asked for.
    """
    data = read_bounded(bundle, MAX_BUNDLE_BYTES)
    stated = read_stated(data)
    issuer = stated.issuer
    audience = stated.audience if keys_dir is None else own_fingerprint(keys_dir)
    receipt = _receipt_beside(bundle, signer=audience)
    revoked = frozenset[bytes]() if keys_dir is None else load_trust_state(keys_dir).revoked(issuer)
    verified = verify(
        data,
        Anchor(
            issuer=issuer,
            today=receipt.day,
            audience=audience,
            grants=frozenset({receipt.grant}),
            revoked=revoked,
            audit=audit,
        ),
    )
    if (receipt.digest, receipt.verdict) != (verified.digest, Verdict.ACCEPTED):
        raise UnauthenticError(
            Code.RECEIPT, f"{bundle} is not what this site accepted; run `ecan-target receive` again."
        )
    return verified


def refuse_withdrawn(keys_dir: Path, origin: Mapping[str, object]) -> None:
    """Refuse an adapted model that its source has withdrawn since.

    It was adapted at this site.

    Args:
        keys_dir: the target's keys.
        origin: what the adapted model was made from: its ``issuer`` and ``weights_sha256`` in hexadecimal.

    Raises:
        RefusedError: the model or its source's key was withdrawn.
        UnauthenticError: this site's memory was lost.
        ModelError: the adapted model does not say what it was made from.
    """
    try:
        issuer, weights = (bytes.fromhex(str(origin[name])) for name in ("issuer", "weights_sha256"))
    except (KeyError, ValueError) as error:
        raise ModelError("the adapted model does not say what it was made from: adapt again from the bundle") from error
    if {issuer, weights} & load_trust_state(keys_dir).revoked(issuer):
        raise RefusedError(Code.REVOKED, "The source has withdrawn this model; ask for a new release and adapt that.")


def receipt_path(bundle: Path) -> Path:
    """Return the file of a bundle's receipt."""
    return bundle.with_name(f"{bundle.name}.receipt")


def trusted_fingerprint(trust: str) -> bytes:
    """Return the fingerprint that a person trusts.

    Args:
        trust: 64 hexadecimal digits, in groups or not, or the path of an ``identity.pem``.

    Raises:
        KeyFileError: it is neither.
    """
    if re.fullmatch(r"([0-9A-Fa-f]{4} ?){16}", trust):
        return bytes.fromhex(trust)
    try:
        return endorsed_fingerprint(read_bounded(Path(trust), MAX_CERTIFICATE_BYTES))
    except ProtocolError as error:
        raise KeyFileError(
            Code.KEY_UNKNOWN,
            f"{trust!r} names no source; give the source's fingerprint of 64 hexadecimal digits "
            "or the path of its identity.pem.",
        ) from error


def _receipt_beside(bundle: Path, *, signer: bytes) -> Receipt:
    path = receipt_path(bundle)
    if not path.exists():
        raise UnauthenticError(
            Code.RECEIPT,
            f"{path} is missing, so nobody verified {bundle} here; run `ecan-target receive` first.",
        )
    try:
        return open_receipt(read_bounded(path, MAX_RECEIPT_BYTES), signer=signer)
    except (MalformedError, UnauthenticError) as fault:
        if fault.code is Code.KEY_UNKNOWN:  # whole, but of another site
            raise
        raise UnauthenticError(
            Code.RECEIPT, f"The receipt {path} is damaged; run `ecan-target receive` again to write a new one."
        ) from fault
