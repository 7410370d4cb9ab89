"""Keep sealed bundles with their requests until each grant has ended.

::

    outbox/GRANT.sealed       the sealed bundle
    outbox/GRANT.request      whom it is for
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from protocol.errors import Code, FileError, RefusedError
from protocol.files import read_bounded
from protocol.ledger.grants import GrantRecord, GrantState
from protocol.statements.receipts import Receipt, Verdict, open_receipt
from protocol.statements.request import MAX_REQUEST_BYTES, SiteRequest, grant_id, open_request
from source_site.keys.folder import OUTBOX, outbox_file


def request_file(keys_dir: Path, grant: bytes) -> Path:
    """Return the file of the request that a grant answers."""
    return keys_dir / OUTBOX / f"{grant.hex()}.request"


def read_kept_request(keys_dir: Path, grant: bytes) -> SiteRequest:
    """Read the site's request, as kept when the grant was issued.

    Raises:
        FileError: it is missing, or it is not the request of this grant.
    """
    path = request_file(keys_dir, grant)
    data = read_bounded(path, MAX_REQUEST_BYTES)
    if grant_id(data) != grant:
        raise FileError(
            Code.STORAGE, f"{path} is not the request of its grant; restore it or ask the site for a new request."
        )
    return open_request(data)


def clear_ended(keys_dir: Path, records: Iterable[GrantRecord]) -> None:
    """Remove the files of grants that have ended.

    A crash may have come between their end and this.
    """
    for record in records:
        if record.state.has_ended:
            for path in (outbox_file(keys_dir, record.grant), request_file(keys_dir, record.grant)):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()


def summary(record: GrantRecord) -> dict[str, object]:
    """Return what became of a grant, as JSON values."""
    return {
        "grant": record.grant.hex(),
        "audience": record.audience.hex(),
        "release": record.release,
        "sha256": record.sealed_sha256.hex(),
        "bytes": record.size,
        "bundle_sha256": record.bundle_sha256.hex(),
        "state": record.state.value,
        "closed": record.state is GrantState.CLOSED,
    }


def check_receipt(data: bytes, record: GrantRecord) -> Receipt:
    """Verify that a receipt accepts the very bundle of a grant.

    Raises:
        MalformedError: it is not a receipt.
        UnauthenticError: another key signed it.
        RefusedError: it speaks of another bundle, or does not accept it.
    """
    receipt = open_receipt(data, signer=record.audience)
    said = (receipt.grant, receipt.sealed_sha256, receipt.digest, receipt.weights_sha256, receipt.verdict)
    known = (record.grant, record.sealed_sha256, record.bundle_sha256, record.weights_sha256, Verdict.ACCEPTED)
    if said != known:
        raise RefusedError(
            Code.RECEIPT,
            "The receipt does not accept this bundle; ask the site for the receipt of this grant.",
        )
    return receipt
