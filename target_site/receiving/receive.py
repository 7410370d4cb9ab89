"""Receive a model: fetch, unseal, verify, keep, acknowledge.

The sealed bytes may also be read from a file.

Killed at any moment, the same command ends the same way: the partial download goes on, a bundle that is there
is not fetched again, and a receipt that was not acknowledged is handed in once more. See
docs/decisions/0004-once-over-grpc.md.
"""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from ecan_core.errors import UsageError
from protocol.announce import Announce
from protocol.bundle.frame import MAX_BUNDLE_BYTES
from protocol.bundle.sealing import HEAD, MAGIC, MAX_SEALED_BYTES, check_recipient, outline, unseal
from protocol.bundle.trust import USUAL_AUDIT, AuditTerms, VerifiedBundle
from protocol.bundle.weights import Buffer
from protocol.errors import Code, PeerError, ProtocolError, RefusedError, TimedOutError, UnauthenticError
from protocol.files import lies_within, read_blocks, read_bounded
from protocol.identity.signing import SUITES
from protocol.wire.address import Address, parse_address
from protocol.wire.codec import decoder
from protocol.wire.ecan.v1.release_pb2 import Offer
from target_site.receiving.client import AcceptedOffer, Deadline, SourceClient, connect
from target_site.receiving.partial import PartialDownload
from target_site.trust.acceptance import Site, open_accepted, open_site, receipt_path, trusted_fingerprint

__all__ = ["PAUSES_S", "open_accepted", "receipt_path", "receive", "trusted_fingerprint"]

PAUSES_S = (0.2, 0.5, 1.0, 2.0)
"""How long to wait before each new try when the connection is cut in the middle of a download."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Place:
    """Hold where a bundle goes, and the download on its way there.

    Attributes:
        out: the bundle.
        partial: the download in progress beside it.
        replace: whether something else at ``out`` may be overwritten.
    """

    out: Path
    partial: PartialDownload
    replace: bool


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
    audit: AuditTerms = USUAL_AUDIT,
    oldest_list_days: int | None = None,
    suites: tuple[str, ...] = SUITES,
    encoders: frozenset[bytes] = frozenset(),
    passphrase: bytes | None = None,
) -> VerifiedBundle:
    """Receive a sealed bundle, unseal it, verify it and write it.

    This site's receipt is written beside it.

    Args:
        source: ``HOST:PORT`` of an exporting source, or the path of a sealed file that was carried by hand.
        keys_dir: the target's keys.
        trust: the source's fingerprint in hexadecimal, or the path of its ``identity.pem``.
        out: the bundle; the receipt gets ``.receipt`` at its end.
        today: days since 1970.
        announce: told what a person should know.
        timeout_s: how long all of it may take, in seconds.
        replace: whether something else at ``out`` may be overwritten.
        audit: what this site asks of the audit of a model.
        oldest_list_days: how old the source's newest revocation list may be; None for any age.
        suites: the suites that a new bundle may be signed in.
        encoders: SHA-256 of each encoder that this site has added.
        passphrase: opens the keys if they are encrypted.

    Raises:
        UsageError: there is something else at ``out``.
        PeerError: the source cannot be reached, is not the trusted one, or its ledger has lost entries.
        TimedOutError: the time is up; run it again.
        UnauthenticError, MalformedError: the bundle does not open or does not verify, or this site's memory was lost.
        RefusedError: it is not sealed, for another site or request, withdrawn, out of date, older than what was
            accepted before, or delivered already, with less of an audit than is asked for, or read by an encoder that
            this site has not added.
        FileError: a file cannot be written, or another run is downloading to ``out``.
    """
    site = open_site(keys_dir, trust, today, announce, audit, passphrase)
    site = dataclasses.replace(site, oldest_list_days=oldest_list_days, suites=suites, encoders=encoders)
    deadline = Deadline(timeout_s)
    by_hand = Path(source).exists()
    address = None if by_hand else _address(source)
    if lies_within(out, keys_dir):
        raise UsageError(f"{out} lies in the keys folder {keys_dir}; choose another --out.")
    partial = PartialDownload(out)
    if by_hand and _is_written_for(out, partial, Path(source)):
        raise UsageError(f"{source} would be written over by what is inside; choose another --out.")
    place = _Place(out=out, partial=partial, replace=replace)
    with partial.alone():
        if address is None:
            return _read_carried(Path(source), site, place, announce)
        return _receive_from(address, site, place, announce, deadline)


def _is_written_for(out: Path, partial: PartialDownload, source: Path) -> bool:
    """Return whether receiving to OUT changes a file."""
    written = (out, receipt_path(out), *partial.files)
    return any(path.exists() and path.samefile(source) for path in written)


def _address(source: str) -> Address:
    try:
        return parse_address(source)
    except PeerError as fault:
        raise PeerError(
            fault.code,
            f"{source!r} is neither an existing file nor HOST:PORT; check the path, or write the address such as "
            "192.0.2.7:7443 or [2001:db8::7]:7443.",
        ) from fault


def _read_carried(path: Path, site: Site, place: _Place, announce: Announce) -> VerifiedBundle:
    """Receive a file by a copy of ours.

    The copy is opened, because the file's medium may vanish.
    """
    site.refuse_stale()
    head, digest = _head_and_digest(path)
    if not head.startswith(MAGIC):
        outline(head)  # says what it is instead
    partial = place.partial

    def copy() -> None:
        partial.begin()
        try:
            partial.append(read_blocks(path, MAX_SEALED_BYTES))
            if partial.sha256() != digest:
                raise UnauthenticError(
                    Code.DIGEST, f"{path} changed while it was read; copy it here and receive the copy."
                )
        except BaseException:
            partial.discard()
            raise

    verified, _ = _take(site, place, _claimed_grant(head), digest, copy)
    announce(f"send {receipt_path(place.out)} to the source: it is this site's receipt and closes the grant")
    return verified


def _receive_from(
    address: Address, site: Site, place: _Place, announce: Announce, deadline: Deadline
) -> VerifiedBundle:
    in_contact = False
    pauses = iter(PAUSES_S[:1])  # before its first answer, a source is too busy or serves others: ask once more
    while True:
        is_there = False
        try:
            with connect(address, site.identity, site.source, deadline) as source:
                is_there = True
                site.learn(source.trust())
                site.refuse_stale()
                pauses = pauses if in_contact else iter(PAUSES_S)
                in_contact = True
                return _take_delivery(source, site, place)
        except (PeerError, TimedOutError, RefusedError) as fault:
            was_cut = is_there and fault.code is Code.CONNECTION
            pause_s = next(pauses, None) if was_cut else None
            if pause_s is None:
                return _received_before(place, site, fault, announce)
            announce(f"the connection was cut, trying again in {pause_s} s")
            time.sleep(pause_s)


def _take_delivery(source: SourceClient, site: Site, place: _Place) -> VerifiedBundle:
    """Take delivery, from the offer to the acknowledged receipt.

    What an earlier run has done is not done again.
    """
    offer = source.open(site.grants)
    site.refuse_withdrawn(decoder(Offer)(offer.message).statement)
    kept = site.kept_receipt(offer.grant, place.out)
    if kept is not None and kept.receipt.sealed_sha256 != offer.digest:
        raise _second_answer()
    fetch = functools.partial(_download, source, offer, place.partial)
    verified, receipt = _take(site, place, offer.grant, offer.digest, fetch)
    known = site.last_seen()
    site.saw(source.ack(receipt, seen=known.seq), since=known)
    return verified


def _download(source: SourceClient, offer: AcceptedOffer, partial: PartialDownload) -> None:
    present = partial.resume(offer)
    if present < offer.size:
        partial.append(source.fetch(offer, present))
    if partial.sha256() == offer.digest:
        return
    partial.discard()
    if present:  # what an earlier run had left was damaged
        _download(source, offer, partial)
        return
    raise UnauthenticError(Code.DIGEST, "The source sent other bytes than it offered; tell its operator.")


def _take(
    site: Site, place: _Place, grant: bytes, sealed_sha256: bytes, fetch: Callable[[], None]
) -> tuple[VerifiedBundle, bytes]:
    """Verify and keep what a grant brings, fetching it if need be.

    Args:
        site: what is known beforehand.
        place: where the bundle goes.
        grant: 16 bytes.
        sealed_sha256: SHA-256 of the sealed bytes.
        fetch: brings them into the partial download.

    Returns:
        The bundle and this site's receipt.
    """
    out = place.out
    kept = site.kept_receipt(grant, out)
    is_second_answer = kept is not None and kept.receipt.sealed_sha256 != sealed_sha256
    if is_second_answer:
        kept = None  # but a damaged copy of the first answer shall be called damaged
    is_here = kept is not None and _digest_of(out) == kept.receipt.digest
    if not is_here:
        if out.exists() and not place.replace:
            raise UsageError(f"{out} is something else; choose another --out or give --replace.")
        fetch()
    try:
        plain = read_bounded(out, MAX_BUNDLE_BYTES) if is_here else _opened(place.partial, site, grant)
        verified = site.verify(plain, grant, kept)
        if is_second_answer:
            raise _second_answer()
        return verified, site.keep(out, verified, sealed_sha256, kept)
    finally:
        place.partial.discard()


def _second_answer() -> RefusedError:
    return RefusedError(
        Code.GRANT,
        "This request was answered before, with other bytes; call the source's operator, or make a new request.",
    )


def _opened(partial: PartialDownload, site: Site, grant: bytes) -> Buffer:
    """Open the seal; nothing of what is inside is verified yet."""
    assert site.identity.sealing_key is not None  # every target has one
    with partial.mapped() as sealed:
        outside = outline(sealed)
        check_recipient(outside, site.grants)
        if outside.grant != grant:
            raise RefusedError(
                Code.GRANT, "The sealed bytes are for another request than was offered; tell the source."
            )
        return unseal(sealed, site.identity.sealing_key)


def _received_before(place: _Place, site: Site, fault: ProtocolError, announce: Announce) -> VerifiedBundle:
    """Return the bundle at OUT if an earlier run got all of it.

    It has to be that of the latest request; otherwise the fault is raised.
    """
    if fault.code not in (Code.STATE, Code.CONNECTION, Code.DEADLINE) or not site.grants:
        raise fault
    out = place.out
    kept = site.kept_receipt(site.grants[0], out)
    if kept is None or _digest_of(out) != kept.receipt.digest:
        raise fault
    verified = site.verify(read_bounded(out, MAX_BUNDLE_BYTES), site.grants[0], kept)
    site.keep(out, verified, kept.receipt.sealed_sha256, kept)  # its receipt may have been lost or damaged since
    place.partial.discard()
    if fault.code is Code.STATE:
        announce(
            f"{out} was received and acknowledged before; if the source still waits for the receipt, "
            f"send it {receipt_path(out)}"
        )
    else:
        announce(
            f"{out} is here, but the source does not answer: if it still waits for the receipt, "
            f"run this again while it exports, or send it {receipt_path(out)}"
        )
    return verified


def _head_and_digest(path: Path) -> tuple[bytes, bytes]:
    head, digest = b"", hashlib.sha256()
    for block in read_blocks(path, MAX_SEALED_BYTES):
        head = head or block[: HEAD.size]
        digest.update(block)
    return head, digest.digest()


def _claimed_grant(head: bytes) -> bytes:
    """Return the grant that a sealed file says it answers.

    Empty if it is cut short, as `outline` will say.
    """
    return bytes(HEAD.unpack(head)[3]) if len(head) == HEAD.size else b""


def _digest_of(path: Path) -> bytes | None:
    """Return the SHA-256 of a file that can be a bundle, else None."""
    digest = hashlib.sha256()
    try:
        for block in read_blocks(path, MAX_BUNDLE_BYTES):
            digest.update(block)
    except ProtocolError:
        return None
    return digest.digest()
