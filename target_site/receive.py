"""Getting a model: fetch or read its bytes, verify them, keep them with this site's receipt, acknowledge them.

Killed at any moment, the same command ends the same way: the partial download goes on, a bundle that is there
is not fetched again, and a receipt that was not acknowledged is handed in once more. See
docs/decisions/0004-once-over-grpc.md.
"""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ecan_core.errors import UsageFault
from protocol.bundle import MAX_BUNDLE_BYTES
from protocol.description import Description, describe
from protocol.errors import Code, ConnectionFault, KeyFault, Malformed, ProtocolError, Refused, TimedOut, Unauthentic
from protocol.files import read_bounded, write_atomic
from protocol.identity import MAX_CERTIFICATE_BYTES, Identity, endorsed_fingerprint
from protocol.receipts import MAX_RECEIPT_BYTES, Receipt, Verdict, open_receipt, seal_receipt
from protocol.trust import VerifiedBundle, verify
from protocol.wire.address import Address, parse_address
from target_site.client import AcceptedOffer, Deadline, SourceClient, connect
from target_site.keys import load_keys
from target_site.partial import PartialDownload
from target_site.request import requested_grants

PAUSES_S = (0.2, 0.5, 1.0, 2.0)
"""How long to wait before each new try when the connection is cut in the middle of a download."""

Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Site:
    """What this site knows beforehand: who it is, whom it trusts, what it asked for, and the day."""

    identity: Identity
    trusted: bytes
    grants: tuple[bytes, ...]
    today: int

    def verify(self, data: bytes) -> VerifiedBundle:
        """Verify a bundle, which must be for one of this site's own requests."""
        verified = verify(data, issuer=self.trusted, audience=self.identity.fingerprint, grant=None, today=self.today)
        if verified.manifest.grant not in self.grants:
            raise Refused(
                Code.GRANT,
                "The bundle was released for no request of this site; send the source your request.",
            )
        return verified


def receive(
    source: str,
    keys_dir: Path,
    trust: str,
    out: Path,
    *,
    today: int,
    announce: Announce,
    timeout_s: float,
    replace: bool = False,
) -> VerifiedBundle:
    """Receive a bundle, verify it and write it with this site's receipt beside it.

    Args:
        source: ``HOST:PORT`` of an exporting source, or the path of a bundle that was carried by hand.
        keys_dir: the target's keys.
        trust: the source's fingerprint in hexadecimal, or the path of its ``identity.pem``.
        out: the bundle; the receipt gets ``.receipt`` at its end.
        today: days since 1970.
        announce: told what a person should know.
        timeout_s: how long all of it may take, in seconds.
        replace: whether something else at ``out`` may be overwritten.

    Raises:
        UsageFault: there is something else at ``out``.
        ConnectionFault: the source cannot be reached, or is not the trusted one.
        TimedOut: the time is up; run it again.
        Unauthentic, Malformed: the bundle does not verify.
        Refused: it is for another site or request, out of date, or delivered already.
        StorageFault: a file cannot be written, or another run is downloading to ``out``.
    """
    site = _site(keys_dir, trust, today)
    deadline = Deadline(timeout_s)
    if not Path(source).exists():
        address = _address(source)
        with PartialDownload(out).alone():
            return _receive_from(address, site, out, replace, announce, deadline)
    data = read_bounded(Path(source), MAX_BUNDLE_BYTES)
    _refuse_overwriting(out, hashlib.sha256(data).digest(), replace)
    verified, _ = _accept(data, site, out)
    announce(f"send {receipt_path(out)} to the source: it is this site's receipt and closes the grant")
    return verified


def open_accepted(bundle: Path, *, keys_dir: Path | None, trust: str | None, today: int) -> VerifiedBundle:
    """Open a bundle that this site accepted, verifying all of it once more.

    The receipt beside the bundle is this site's signature over the digest of bytes that it verified against the
    source it trusted then; the same bytes can have no other issuer.

    Args:
        bundle: the file that `receive` wrote.
        keys_dir: the target's keys; if given, the receipt must be theirs.
        trust: as in `receive`; if given together with ``keys_dir``, they are used instead of a receipt.
        today: days since 1970; counts only where there is no receipt, for what was accepted in time stays so.

    Raises:
        Unauthentic: this site did not accept these bytes.
    """
    data = read_bounded(bundle, MAX_BUNDLE_BYTES)
    if keys_dir is not None and trust is not None:
        return _site(keys_dir, trust, today).verify(data)
    described = describe(data)
    audience = _stated_audience(described) if keys_dir is None else load_keys(keys_dir).fingerprint
    issuer = described.signer if trust is None else trusted_fingerprint(trust)
    receipt = _receipt_beside(bundle, signer=audience)
    verified = verify(data, issuer=issuer, audience=audience, grant=receipt.grant, today=receipt.day)
    if (receipt.digest, receipt.verdict) != (verified.digest, Verdict.ACCEPTED):
        raise Unauthentic(Code.RECEIPT, f"{bundle} is not what this site accepted; run `ecan-target receive` again.")
    return verified


def receipt_path(bundle: Path) -> Path:
    """Where the receipt of a bundle lies."""
    return bundle.with_name(f"{bundle.name}.receipt")


def trusted_fingerprint(trust: str) -> bytes:
    """The fingerprint that a person trusts.

    Args:
        trust: 64 hexadecimal digits, or the path of an ``identity.pem``.

    Raises:
        KeyFault: it is neither.
    """
    if re.fullmatch(r"[0-9A-Fa-f]{64}", trust):
        return bytes.fromhex(trust)
    try:
        return endorsed_fingerprint(read_bounded(Path(trust), MAX_CERTIFICATE_BYTES))
    except ProtocolError as error:
        raise KeyFault(
            Code.KEY_UNKNOWN,
            f"{trust!r} names no source; give the source's fingerprint of 64 hexadecimal digits "
            "or the path of its identity.pem.",
        ) from error


def _site(keys_dir: Path, trust: str, today: int) -> _Site:
    return _Site(
        identity=load_keys(keys_dir),
        trusted=trusted_fingerprint(trust),
        grants=requested_grants(keys_dir),
        today=today,
    )


def _address(source: str) -> Address:
    try:
        return parse_address(source)
    except ConnectionFault as fault:
        raise ConnectionFault(
            fault.code,
            f"{source!r} is neither an existing file nor HOST:PORT; check the path, or write the address such as "
            "192.0.2.7:7443 or [2001:db8::7]:7443.",
        ) from fault


def _receive_from(
    address: Address, site: _Site, out: Path, replace: bool, announce: Announce, deadline: Deadline
) -> VerifiedBundle:
    pauses = iter(PAUSES_S)
    in_contact = False
    while True:
        try:
            with connect(address, site.identity, site.trusted, deadline) as source:
                offer = source.open(site.grants)
                in_contact = True
                return _take_delivery(source, offer, site, out, replace)
        except (ConnectionFault, TimedOut, Refused) as fault:
            was_cut = in_contact and fault.code is Code.CONNECTION
            pause_s = next(pauses, None) if was_cut else None
            if pause_s is None:
                return _received_before(out, site, fault, announce)
            announce(f"the connection was cut, trying again in {pause_s} s")
            time.sleep(pause_s)


def _take_delivery(source: SourceClient, offer: AcceptedOffer, site: _Site, out: Path, replace: bool) -> VerifiedBundle:
    """Everything from the offer to the acknowledged receipt; what an earlier run has done is not done again."""
    partial = PartialDownload(out)
    if _digest_of(out) == offer.digest:
        data = read_bounded(out, MAX_BUNDLE_BYTES)
    else:
        _refuse_overwriting(out, offer.digest, replace)
        data = _download(source, offer, partial)
    try:
        verified, receipt = _accept(data, site, out)
    finally:
        partial.discard()
    source.ack(receipt)
    return verified


def _download(source: SourceClient, offer: AcceptedOffer, partial: PartialDownload) -> bytes:
    present = partial.resume(offer)
    if present < offer.size:
        partial.append(source.fetch(offer, present))
    data = partial.read()
    if hashlib.sha256(data).digest() == offer.digest:
        return data
    partial.discard()
    if present:  # what an earlier run had left was damaged
        return _download(source, offer, partial)
    raise Unauthentic(Code.DIGEST, "The source sent other bytes than it offered; tell its operator.")


def _accept(data: bytes, site: _Site, out: Path) -> tuple[VerifiedBundle, bytes]:
    """Verify a bundle and write first the receipt, then the very bytes that were verified."""
    verified = site.verify(data)
    receipt = _kept_receipt(out, site, verified.digest) or seal_receipt(
        Receipt(
            grant=verified.manifest.grant,
            digest=verified.digest,
            weights_sha256=verified.manifest.weights_sha256,
            verdict=Verdict.ACCEPTED,
            day=site.today,
        ),
        site.identity.signing_key,
    )
    write_atomic(receipt_path(out), receipt)
    write_atomic(out, data)
    return verified, receipt


def _received_before(out: Path, site: _Site, fault: ProtocolError, announce: Announce) -> VerifiedBundle:
    """The bundle at OUT if an earlier run got all of it for the latest request; otherwise the fault stands."""
    if fault.code not in (Code.STATE, Code.CONNECTION, Code.DEADLINE):
        raise fault
    try:
        data = read_bounded(out, MAX_BUNDLE_BYTES)
        grant = site.verify(data).manifest.grant
    except ProtocolError:
        raise fault from None
    if grant != site.grants[0]:
        raise fault
    verified, _ = _accept(data, site, out)  # its receipt may have been lost or damaged since
    PartialDownload(out).discard()
    if fault.code is Code.STATE:
        announce(f"{out} was received and acknowledged before")
    else:
        announce(
            f"{out} is here, but the source does not answer: if it still waits for the receipt, "
            f"run this again while it exports, or send it {receipt_path(out)}"
        )
    return verified


def _refuse_overwriting(out: Path, digest: bytes, replace: bool) -> None:
    if out.exists() and not replace and _digest_of(out) != digest:
        raise UsageFault(f"{out} is something else; choose another --out or give --replace.")


def _digest_of(path: Path) -> bytes | None:
    """SHA-256 of a file that can be a bundle, None for anything else."""
    try:
        return hashlib.sha256(read_bounded(path, MAX_BUNDLE_BYTES)).digest()
    except ProtocolError:
        return None


def _kept_receipt(out: Path, site: _Site, digest: bytes) -> bytes | None:
    """The receipt of an earlier run, which may have been handed in already."""
    try:
        data = read_bounded(receipt_path(out), MAX_RECEIPT_BYTES)
        receipt = open_receipt(data, signer=site.identity.fingerprint)
    except ProtocolError:
        return None
    return data if receipt.digest == digest else None


def _stated_audience(described: Description) -> bytes:
    (audience,) = (field.value for field in described.fields if field.name == "audience")
    return bytes.fromhex(str(audience))


def _receipt_beside(bundle: Path, *, signer: bytes) -> Receipt:
    path = receipt_path(bundle)
    if not path.exists():
        raise Unauthentic(
            Code.RECEIPT,
            f"{path} is missing, so nobody verified {bundle} here; run `ecan-target receive` first.",
        )
    try:
        return open_receipt(read_bounded(path, MAX_RECEIPT_BYTES), signer=signer)
    except (Malformed, Unauthentic) as fault:
        if fault.code is Code.KEY_UNKNOWN:  # whole, but of another site
            raise
        raise Unauthentic(
            Code.RECEIPT, f"The receipt {path} is damaged; run `ecan-target receive` again to write a new one."
        ) from fault
