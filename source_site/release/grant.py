"""Grant a trained model to sites: gate, ledger, then wire or file.

A bundle is sealed once for each request and kept in the outbox, so every later try, after a crash or a lost
connection, sends the same bytes. The process that works here holds no key and parses no tensor: the gate does both
(`source_site.release.gate`). It opens no socket: `source_site.release.exporter` does. See
docs/decisions/0004-once-over-grpc.md.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ecan_core.errors import ModelError, UsageError
from protocol.announce import Announce
from protocol.bundle import frame as bundle
from protocol.bundle import sealing, trust
from protocol.bundle.architecture import FRONT_ENDS
from protocol.bundle.manifest import EMOTIONS, ManifestFields, half_percents, label_mask, log2_bucket
from protocol.bundle.stated_audit import AuditFields
from protocol.bundle.trust import ANY_AUDIT, Anchor
from protocol.errors import Code, FileError, KeyFileError, MalformedError, ProtocolError, RefusedError
from protocol.files import lies_within, read_bounded, write_atomic
from protocol.identity.identities import PublicIdentity, Role
from protocol.identity.key_files import SIGNING_KEY_FILE, load_public
from protocol.ledger.grants import SECONDS_PER_DAY, GrantRecord, SealedFacts, ended_grant
from protocol.ledger.store import Ledger
from protocol.statements.receipts import MAX_RECEIPT_BYTES
from protocol.statements.request import MAX_REQUEST_BYTES, SiteRequest, grant_id, open_request
from source_site.keys.folder import (
    LEDGER_FOLDER,
    OUTBOX,
    PUBLIC,
    RELEASED,
    STAGED,
    open_ledger,
    outbox_file,
    refuse_half_rotated,
    released_file,
)
from source_site.release.budget import digest_of_book
from source_site.release.clearance import TIER_0, Cleared, Terms, clear
from source_site.release.gate import Answer, Task
from source_site.release.gate_client import failed_gate, run_gate
from source_site.release.outbox import clear_ended, request_file
from source_site.release.revoke import refuse_withdrawn, withdrawn
from source_site.training.run_folder import RunFacts

VALID_DAYS = 90
"""How long a target may accept a bundle, in days."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """Hold what stays the same while a model is granted and exported.

    Attributes:
        run_dir: folder of the trained model; read only when nothing is sealed yet for a request.
        keys_dir: the source's keys.
        now_s: seconds since 1970.
        announce: told what should be known before the model leaves, and if a bundle was sealed before.
        passphrase: what the release key is encrypted with.
        unconfined: whether the gate may go on where it cannot be confined.
        terms: on which terms the model leaves.
    """

    run_dir: Path
    keys_dir: Path
    now_s: int
    announce: Announce = lambda _: None
    passphrase: bytes | None = field(default=None, repr=False)
    unconfined: bool = False
    terms: Terms = TIER_0


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """Hold a request that is being worked on."""

    data: bytes
    site: SiteRequest
    grant: bytes


def grant(session: Session, request_paths: Sequence[Path]) -> tuple[GrantRecord, ...]:
    """Seal a model to some sites and issue their grants; nothing leaves.

    The sites are those of the requests.

    Args:
        session: the model, the keys and the terms.
        request_paths: the targets' requests.

    Returns:
        The grants in the order of the requests; one that is named twice is one.

    Raises:
        RefusedError: the model or the release key is withdrawn, the model may not leave, or a grant has ended.
        ContainmentError: the gate cannot be confined.
        KeyFileError: the keys are missing, damaged or locked.
    """
    keys_dir = session.keys_dir
    identity = _load_source(keys_dir)
    ledger = open_ledger(keys_dir)
    clear_ended(keys_dir, ledger.records())
    wanted = {one.grant: one for one in map(_read_request, request_paths)}.values()
    known = [record for one in wanted if (record := ledger.find(one.grant)) is not None]
    for record in known:
        _release(keys_dir, record)
        if record.state.has_ended:
            raise ended_grant(record.state)
    refuse_withdrawn(keys_dir, identity.fingerprint, known)
    cleared = functools.cache(
        lambda: clear(session.run_dir, keys_dir, session.terms, anchor=ledger.book(), announce=session.announce)
    )
    gate = functools.partial(_through_the_gate, session, identity)
    records = tuple(_issue(session, ledger, cleared, one, gate, identity) for one in wanted)
    refuse_withdrawn(keys_dir, identity.fingerprint, records)
    return records


def export_to_file(session: Session, request_path: Path, out_path: Path) -> GrantRecord:
    """Write a site's sealed bundle to a file that is carried by hand.

    The grant stays open until the site's receipt comes back, see `close_by_receipt`.

    Args:
        session: the model, the keys and the terms.
        request_path: the target's request.
        out_path: the file; one that is there may only be this very bundle, from an earlier try.

    Raises:
        UsageError: the file has no folder, lies among the keys, or is something else.
        RefusedError: the model or the release key is withdrawn, the model may not leave, or the grant has ended.
        FileError: the file cannot be written.
    """
    keys_dir = session.keys_dir
    _check_place(out_path, keys_dir)
    (record,) = grant(session, [request_path])
    data = read_bounded(outbox_file(keys_dir, record.grant), sealing.MAX_SEALED_BYTES)
    _refuse_overwriting(out_path, data)
    record = open_ledger(keys_dir).carry(record.grant, now_s=session.now_s)
    write_atomic(out_path, data)
    return record


def close_by_receipt(keys_dir: Path, request_path: Path, receipt_path: Path, *, now_s: int) -> GrantRecord:
    """Close the grant of a hand-carried bundle with the site's receipt.

    The receipt came back the same way.

    Args:
        keys_dir: the source's keys.
        request_path: the target's request.
        receipt_path: the target's signed receipt.
        now_s: seconds since 1970.

    Raises:
        RefusedError: nothing was exported for the request, it is closed, or the receipt does not accept it.
        UnauthenticError: the receipt is not signed by the site of the request.
    """
    from source_site.release.outbox import check_receipt  # brings gRPC, which nothing else here needs

    wanted = _read_request(request_path)
    ledger = open_ledger(keys_dir)
    record = ledger.find(wanted.grant)
    if record is None:
        raise RefusedError(Code.GRANT, "Nothing was exported for this request; name the request that it was for.")
    data = read_bounded(receipt_path, MAX_RECEIPT_BYTES)
    check_receipt(data, record)
    record = ledger.close(wanted.grant, data, now_s=now_s)
    clear_ended(keys_dir, [record])
    return record


def manifest_fields(
    facts: RunFacts, audit: AuditFields, *, audience: bytes, grant: bytes, release: int, today: int
) -> ManifestFields:
    """Return what the manifest says of a trained model.

    Rounded, and nothing else.

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
        uar_q_loss=max(0, math.ceil(round(200 * (facts.quantization_loss or 0.0), 6))),
        encoder=bytes.fromhex(facts.added_encoder),
        **vars(audit),
    )
    if facts.arch not in FRONT_ENDS or (fields.classes, fields.front_end) != (facts.classes, facts.frontend):
        raise ModelError("The model's architecture, front end or classes are of another version; train it again.")
    return fields


def _issue(
    session: Session,
    ledger: Ledger,
    cleared: Callable[[], Cleared],
    wanted: _Wanted,
    gate: Callable[[Cleared, _Wanted, int], Answer],
    identity: PublicIdentity,
) -> GrantRecord:
    """Return the one grant of a request, sealed now or earlier.

    A bundle that was sealed at the first try stays as it is.
    """
    keys_dir = session.keys_dir
    record = ledger.find(wanted.grant)
    if record is None:

        def seal(release: int) -> SealedFacts:
            book = digest_of_book(keys_dir, ledger.book())
            answer = _kept_once(session, identity, wanted, gate(cleared(), wanted, release), release)
            return SealedFacts(
                sealed_sha256=hashlib.sha256(answer.sealed).digest(),
                size=len(answer.sealed),
                bundle_sha256=hashlib.sha256(answer.bundle).digest(),
                weights_sha256=_weights_sha256(answer.bundle),
                book=book,
            )

        record = ledger.issue(wanted.grant, wanted.site.fingerprint, cleared().run.digest, seal, now_s=session.now_s)
    else:
        session.announce("this request was granted before: the bundle that was sealed then goes out, not a new one")
    _release(keys_dir, record)
    _check_outbox(keys_dir, record)
    return record


def _kept_once(session: Session, identity: PublicIdentity, wanted: _Wanted, fresh: Answer, release: int) -> Answer:
    """Keep what was sealed for a grant, and return it.

    Where the ledger has forgotten the grant, that is what was sealed then.

    What was released is put in its place after the ledger's line. So where it lies and the ledger knows nothing of the
    grant, an older ledger was restored, and the site may have the file: there must be no second one.

    Raises:
        RefusedError: what was sealed then is gone, or was another model, another release or of another key.
    """
    keys_dir, grant = session.keys_dir, wanted.grant
    released, outbox = released_file(keys_dir, grant), outbox_file(keys_dir, grant)
    if not released.exists():
        write_atomic(_staged(keys_dir, grant), fresh.bundle)
        write_atomic(request_file(keys_dir, grant), wanted.data)
        write_atomic(outbox, fresh.sealed)
        return fresh
    try:
        kept = replace(
            fresh,
            bundle=read_bounded(released, bundle.MAX_BUNDLE_BYTES),
            sealed=read_bounded(outbox, sealing.MAX_SEALED_BYTES),
        )
        stated = trust.verify(kept.bundle, _anchor(session, identity, wanted)).manifest
        outside = sealing.outline(kept.sealed)
    except ProtocolError as fault:
        raise _forgotten() from fault
    if (outside.grant, outside.plain_bytes, stated.release) != (grant, len(kept.bundle), release):
        raise _forgotten()
    if _weights_sha256(kept.bundle) != _weights_sha256(fresh.bundle):
        raise _forgotten()
    write_atomic(request_file(keys_dir, grant), wanted.data)
    session.announce("the ledger has forgotten this grant: the bundle that was sealed then goes out, not a new one")
    return kept


def _forgotten() -> RefusedError:
    return RefusedError(
        Code.LEDGER,
        "This request was granted before, and the ledger does not know of it any more; restore the newest ledger, or "
        "ask the site for a new request.",
    )


def _staged(keys_dir: Path, grant: bytes) -> Path:
    """Return where a plain copy waits for the ledger's line."""
    released = released_file(keys_dir, grant)
    return released.with_name(released.name + STAGED)


def _release(keys_dir: Path, record: GrantRecord) -> None:
    """Put the plain copy of what the ledger has a line of in its place."""
    staged = _staged(keys_dir, record.grant)
    if staged.exists() and _sha256_of(staged) == record.bundle_sha256:
        staged.replace(released_file(keys_dir, record.grant))


def _sha256_of(path: Path) -> bytes:
    return hashlib.sha256(read_bounded(path, bundle.MAX_BUNDLE_BYTES)).digest()


def _through_the_gate(
    session: Session, identity: PublicIdentity, cleared: Cleared, wanted: _Wanted, release: int
) -> Answer:
    """Have a bundle sealed, and check it as its target will.

    The gate is not simply believed.
    """
    today = session.now_s // SECONDS_PER_DAY
    home = session.keys_dir.resolve()
    audience = wanted.site.fingerprint
    run = cleared.run
    fields = manifest_fields(
        run.facts, cleared.audit, audience=audience, grant=wanted.grant, release=release, today=today
    )
    task = Task(
        fields=fields,
        issuer=identity.fingerprint,
        recipient=wanted.site.sealing_key,
        key_path=home / SIGNING_KEY_FILE,
        passphrase=session.passphrase,
        out_of_reach=(home / LEDGER_FOLDER, home / OUTBOX, home / RELEASED, home / PUBLIC, session.run_dir.resolve()),
        unconfined=session.unconfined,
        weights=run.weights,
        officer=cleared.officer,
        override=cleared.override,
    )
    answer = run_gate(task, session.run_dir)
    stated = trust.verify(answer.bundle, _anchor(session, identity, wanted)).manifest
    cleared.require_weights(stated.weights_sha256)
    outside = sealing.outline(answer.sealed)
    if any(getattr(stated, name) != value for name, value in vars(fields).items()):
        raise failed_gate()
    if (outside.grant, outside.plain_bytes) != (wanted.grant, len(answer.bundle)):
        raise failed_gate()
    return answer


def _anchor(session: Session, identity: PublicIdentity, wanted: _Wanted) -> Anchor:
    """Return what the target of a request will measure its bundle by."""
    return Anchor(
        issuer=identity.fingerprint,
        today=session.now_s // SECONDS_PER_DAY,
        audience=wanted.site.fingerprint,
        grants=frozenset({wanted.grant}),
        revoked=withdrawn(session.keys_dir, identity.fingerprint),
        audit=ANY_AUDIT,
    )


def _load_source(keys_dir: Path) -> PublicIdentity:
    refuse_half_rotated(keys_dir)
    identity = load_public(keys_dir)
    if identity.role is not Role.SOURCE:
        raise KeyFileError(Code.KEY_DAMAGED, f"{keys_dir} holds a target's keys; name the source's keys folder.")
    return identity


def _read_request(path: Path) -> _Wanted:
    data = read_bounded(path, MAX_REQUEST_BYTES)
    try:
        return _Wanted(data=data, site=open_request(data), grant=grant_id(data))
    except MalformedError as fault:
        raise MalformedError(
            fault.code, f"{path} is not a request; name the file that the site wrote with `ecan-target request`."
        ) from fault


def _weights_sha256(signed: bytes) -> bytes:
    return hashlib.sha256(bundle.split(signed).weights).digest()


def _check_outbox(keys_dir: Path, record: GrantRecord) -> None:
    sealed = outbox_file(keys_dir, record.grant)
    if hashlib.sha256(read_bounded(sealed, sealing.MAX_SEALED_BYTES)).digest() != record.sealed_sha256:
        raise FileError(
            Code.STORAGE,
            f"{sealed} is not the sealed bundle in the ledger; restore it or ask the site for a new request.",
        )


def _check_place(out_path: Path, keys_dir: Path) -> None:
    if not out_path.parent.is_dir():
        raise UsageError(f"The folder {out_path.parent} does not exist; make it or name another.")
    if lies_within(out_path, keys_dir):
        raise UsageError(f"{out_path} lies in the keys folder {keys_dir}; name a file elsewhere.")


def _refuse_overwriting(out_path: Path, data: bytes) -> None:
    try:
        is_same = read_bounded(out_path, sealing.MAX_SEALED_BYTES) == data
    except (FileError, MalformedError) as fault:
        if fault.code is Code.NOT_FOUND:
            return
        is_same = False
    if not is_same:
        raise UsageError(f"{out_path} is something else than this bundle; name a file that is not there yet.")
