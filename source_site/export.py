"""Handing a trained model to one site, once: through the gate, into the ledger, then out by wire or by file.

What is exported for a request is sealed at the first try and kept in the outbox, so every later try, after a
crash or a lost connection, sends the same bytes. See docs/decisions/0004-once-over-grpc.md.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ecan_core.errors import ModelError, UsageFault
from protocol import bundle
from protocol.architecture import FRONT_ENDS
from protocol.egress import seal_bundle
from protocol.errors import Code, ProtocolError, Refused, StorageFault
from protocol.files import lies_within, read_bounded, write_atomic
from protocol.identity import Identity
from protocol.ledger import GrantRecord, GrantState, closed_grant
from protocol.manifest import EMOTIONS, ManifestFields, half_percents, label_mask, log2_bucket
from protocol.receipts import MAX_RECEIPT_BYTES, Receipt
from protocol.request import MAX_REQUEST_BYTES, SiteRequest, grant_id, open_request
from protocol.wire.address import parse_address
from source_site.keys import OUTBOX, load_keys, open_ledger
from source_site.server import Delivery, check_receipt, serve_until_receipted
from source_site.store import RunFacts, load_run

VALID_DAYS = 90
"""How long a target may accept a bundle, in days."""

Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ExportOutcome:
    """What an export did.

    Attributes:
        grant: the grant that it was for, 16 bytes.
        audience: fingerprint of the site, 32 bytes.
        release: number of the release.
        digest: SHA-256 of the bundle.
        num_bytes: size of the bundle.
        receipt: the site's word; None for a file that is yet to be carried there.
    """

    grant: bytes
    audience: bytes
    release: int
    digest: bytes
    num_bytes: int
    receipt: Receipt | None

    def summary(self) -> dict[str, object]:
        """The outcome as JSON values."""
        return {
            "grant": self.grant.hex(),
            "audience": self.audience.hex(),
            "release": self.release,
            "sha256": self.digest.hex(),
            "bytes": self.num_bytes,
            "closed": self.receipt is not None,
        }


def serve_once(
    run_dir: Path,
    keys_dir: Path,
    request_path: Path,
    listen: str,
    *,
    today: int,
    announce: Announce,
    timeout_s: float | None,
) -> ExportOutcome:
    """Serve a model over gRPC to the site of a request until its receipt is here.

    Args:
        run_dir: folder of the trained model; read only when nothing is sealed for the request yet.
        keys_dir: the source's keys.
        request_path: the target's request.
        listen: ``HOST:PORT``; port 0 takes a free port.
        today: days since 1970.
        announce: told what is served and where.
        timeout_s: how long to wait for the receipt, in seconds; None waits for ever.

    Raises:
        Refused: the model may not leave, or the grant is closed.
        ConnectionFault: ``listen`` cannot be listened on.
        TimedOut: no receipt came in time; run it again.
    """
    address = parse_address(listen)
    identity = load_keys(keys_dir)
    delivery = _reserve(run_dir, keys_dir, identity, request_path, today, announce)
    announce(f"serving grant {delivery.grant.hex()} to site {delivery.site.fingerprint.hex()}")
    receipt = serve_until_receipted(
        delivery,
        open_ledger(keys_dir),
        identity,
        address,
        today=today,
        announce=announce,
        timeout_s=timeout_s,
    )
    _outbox_file(keys_dir, delivery.grant).unlink(missing_ok=True)
    return _outcome(delivery, receipt)


def export_to_file(
    run_dir: Path,
    keys_dir: Path,
    request_path: Path,
    out_path: Path,
    *,
    today: int,
    announce: Announce = lambda _: None,
) -> ExportOutcome:
    """Write the bundle for the site of a request to a file that is carried there by hand.

    The grant stays open until the site's receipt comes back, see `close_by_receipt`.

    Args:
        run_dir: folder of the trained model; read only when nothing is sealed for the request yet.
        keys_dir: the source's keys.
        request_path: the target's request.
        out_path: the file; one that is there may only be this very bundle, from an earlier try.
        today: days since 1970.
        announce: told if the bundle was sealed before.

    Raises:
        UsageFault: the file has no folder, lies among the keys, or is something else.
        Refused: the model may not leave, or the grant is closed.
        StorageFault: the file cannot be written.
    """
    _check_place(out_path, keys_dir)
    delivery = _reserve(run_dir, keys_dir, load_keys(keys_dir), request_path, today, announce)
    _refuse_overwriting(out_path, delivery.data)
    open_ledger(keys_dir).start(delivery.grant, today)
    write_atomic(out_path, delivery.data)
    return _outcome(delivery, None)


def close_by_receipt(keys_dir: Path, request_path: Path, receipt_path: Path, *, today: int) -> ExportOutcome:
    """Close the grant of a bundle that was carried by hand, with the receipt that came back the same way.

    Args:
        keys_dir: the source's keys.
        request_path: the target's request.
        receipt_path: the target's signed receipt.
        today: days since 1970.

    Raises:
        Refused: nothing was exported for the request, it is closed, or the receipt does not accept it.
        Unauthentic: the receipt is not signed by the site of the request.
    """
    site, grant = _read_request(request_path)
    ledger = open_ledger(keys_dir)
    record = ledger.find(grant)
    if record is None:
        raise Refused(Code.GRANT, "Nothing was exported for this request; name the request that it was for.")
    delivery = _delivery(keys_dir, site, record)
    data = read_bounded(receipt_path, MAX_RECEIPT_BYTES)
    receipt = check_receipt(data, delivery)
    ledger.close(grant, data, today)
    _outbox_file(keys_dir, grant).unlink(missing_ok=True)
    return _outcome(delivery, receipt)


def manifest_fields(facts: RunFacts, *, audience: bytes, grant: bytes, release: int, today: int) -> ManifestFields:
    """What the manifest says of a trained model: rounded, and nothing else than this.

    Raises:
        ModelError: the run is of another version than this one.
    """
    if not set(facts.classes) <= set(EMOTIONS):
        raise ModelError("The model has classes that this version does not know; train it again.")
    fields = ManifestFields(
        arch=facts.arch,
        norm=facts.normalization,
        labels=label_mask(facts.classes),
        audience=audience,
        grant=grant,
        release=release,
        day=today,
        valid_days=VALID_DAYS,
        n_utt=log2_bucket(facts.num_utterances),
        n_spk=log2_bucket(max(facts.num_speakers, 1)),
        hours=log2_bucket(facts.hours),
        uar_src=half_percents(facts.uar_source),
    )
    if facts.arch not in FRONT_ENDS or (fields.classes, fields.front_end) != (facts.classes, facts.frontend):
        raise ModelError("The model's architecture, front end or classes are of another version; train it again.")
    return fields


def _reserve(
    run_dir: Path, keys_dir: Path, identity: Identity, request_path: Path, today: int, announce: Announce
) -> Delivery:
    """The one delivery of a request: sealed now, or as it was sealed at the first try."""
    site, grant = _read_request(request_path)
    ledger = open_ledger(keys_dir)
    sealed_before = ledger.find(grant) is not None

    def seal(release: int) -> bytes:
        run = load_run(run_dir)
        fields = manifest_fields(run.facts, audience=site.fingerprint, grant=grant, release=release, today=today)
        data = seal_bundle(run.tensors, fields, identity.signing_key)
        write_atomic(_outbox_file(keys_dir, grant), data)
        return hashlib.sha256(data).digest()

    delivery = _delivery(keys_dir, site, ledger.reserve(grant, seal, today))
    if sealed_before:
        announce("this request was exported before: the bundle that was sealed then goes out, not a new one")
    return delivery


def _delivery(keys_dir: Path, site: SiteRequest, record: GrantRecord) -> Delivery:
    sealed = _outbox_file(keys_dir, record.grant)
    if record.state is GrantState.CLOSED:
        sealed.unlink(missing_ok=True)  # a crash may have come between the receipt and this
        raise closed_grant()
    data = read_bounded(sealed, bundle.MAX_BUNDLE_BYTES)
    if hashlib.sha256(data).digest() != record.digest:
        raise StorageFault(
            Code.STORAGE,
            f"{sealed} is not the bundle in the ledger; restore it or ask the site for a new request.",
        )
    return Delivery(
        grant=record.grant,
        release=record.release,
        site=site,
        data=data,
        digest=record.digest,
        weights_sha256=hashlib.sha256(bundle.split(data).weights).digest(),
    )


def _check_place(out_path: Path, keys_dir: Path) -> None:
    if not out_path.parent.is_dir():
        raise UsageFault(f"The folder {out_path.parent} does not exist; make it or name another.")
    if lies_within(out_path, keys_dir):
        raise UsageFault(f"{out_path} lies in the keys folder {keys_dir}; name a file elsewhere.")


def _refuse_overwriting(out_path: Path, data: bytes) -> None:
    try:
        is_same = read_bounded(out_path, bundle.MAX_BUNDLE_BYTES) == data
    except ProtocolError as fault:
        if fault.code is Code.NOT_FOUND:
            return
        is_same = False
    if not is_same:
        raise UsageFault(f"{out_path} is something else than this bundle; name a file that is not there yet.")


def _read_request(path: Path) -> tuple[SiteRequest, bytes]:
    request = read_bounded(path, MAX_REQUEST_BYTES)
    return open_request(request), grant_id(request)


def _outbox_file(keys_dir: Path, grant: bytes) -> Path:
    return keys_dir / OUTBOX / f"{grant.hex()}.ecan"


def _outcome(delivery: Delivery, receipt: Receipt | None) -> ExportOutcome:
    return ExportOutcome(
        grant=delivery.grant,
        audience=delivery.site.fingerprint,
        release=delivery.release,
        digest=delivery.digest,
        num_bytes=len(delivery.data),
        receipt=receipt,
    )
