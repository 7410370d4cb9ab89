"""Answer the cases of `ecan-conformance` as `ecan-target` would.

`python -m target_site.conformance CASE...` is the client that the suite tests first. It calls the functions that the
commands call, on a keys folder of its own per case; only the day is told and not looked up. See docs/conformance.md.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from protocol.bundle.frame import MAX_BUNDLE_BYTES
from protocol.bundle.trust import AuditTerms
from protocol.errors import Code, PeerError, ProtocolError
from protocol.files import read_bounded
from protocol.identity.identities import Identity, Role, create_identity
from protocol.identity.key_files import write_identity
from protocol.identity.sealing_keys import SealingKey
from protocol.identity.signing import SUITES
from protocol.statements.offers import open_checkpoint, open_offer
from protocol.statements.receipts import open_receipt
from protocol.statements.request import open_request
from target_site.receiving.receive import receive
from target_site.trust.acceptance import Site, open_accepted, open_site
from target_site.trust.checkpoints import SignedCheckpoint
from target_site.trust.manual import reset_by_hand, update_from_file
from target_site.trust.request import REQUESTS
from target_site.trust.state import create_trust_state, load_trust_state

MAX_CASE_BYTES = 1 << 20
MAX_STEP_BYTES = 1 << 24

Told = dict[str, Any]
"""What a case tells of its site or of a step."""


@dataclass(frozen=True, kw_only=True)
class _Desk:
    """Hold one case at work.

    Attributes:
        case: the folder of the case.
        site: what the case tells of the site.
        keys: the site's keys and its memory.
        accepted: where the accepted bundles lie.
    """

    case: Path
    site: Told
    keys: Path
    accepted: Path

    @property
    def source(self) -> str:
        """Return the fingerprint that the site trusts, in hexadecimal."""
        return str(self.site["source"])

    @property
    def audit(self) -> AuditTerms:
        """Return what the site asks of an audit."""
        return AuditTerms(
            least_tier=self.site.get("least_tier", 0), accept_overridden=self.site.get("accept_overridden", False)
        )

    @property
    def suites(self) -> tuple[str, ...]:
        """Return the suites that the site accepts new bundles in."""
        return tuple(self.site.get("signature_suites", SUITES))

    def path(self, step: Told, fact: str = "file") -> Path:
        """Return one of a step's files."""
        return self.case / str(step[fact])

    def content(self, step: Told, fact: str = "file") -> bytes:
        """Read one of a step's files."""
        return read_bounded(self.path(step, fact), MAX_STEP_BYTES)

    def open_site(self, today: int) -> Site:
        """Return the site as it is by now."""
        site = open_site(self.keys, self.source, today, _say_nothing, self.audit)
        return replace(site, oldest_list_days=self.site.get("oldest_revocations_days"), suites=self.suites)


def _say_nothing(_: str) -> None:
    """Tell nobody."""


def _take_bundle(desk: _Desk, step: Told) -> None:
    """Take a bundle whose seal somebody else has opened."""
    plain, grant = read_bounded(desk.path(step), MAX_BUNDLE_BYTES), bytes.fromhex(step["grant"])
    site = desk.open_site(step["today"])
    site.refuse_stale()
    verified = site.verify(plain, grant, None)
    site.keep(desk.accepted / grant.hex(), verified, verified.digest, None)


def _take_sealed(desk: _Desk, step: Told) -> None:
    path = desk.path(step)
    receive(
        str(path),
        desk.keys,
        desk.source,
        desk.accepted / path.name,
        today=step["today"],
        announce=_say_nothing,
        timeout_s=60,
        audit=desk.audit,
        oldest_list_days=desk.site.get("oldest_revocations_days"),
        suites=desk.suites,
    )


def _reopen(desk: _Desk, step: Told) -> None:
    """Open the accepted bundle with the same bytes once more."""
    content = desk.content(step)
    for path in desk.accepted.iterdir():
        if path.read_bytes() == content:
            open_accepted(path, keys_dir=desk.keys)
            return
    raise ProtocolError(Code.STATE, "The case reopens what was not accepted; report it.")


def _learn(desk: _Desk, step: Told) -> None:
    is_known = bool(load_trust_state(desk.keys).sources)
    update_from_file(desk.keys, desk.path(step), None if is_known else desk.source, today=step["today"])


def _reset(desk: _Desk, step: Told) -> None:
    reset_by_hand(desk.keys, step["source"], step["release"], step["list"])


def _hear_checkpoint(desk: _Desk, step: Told) -> None:
    statement, endorsement = desk.content(step), desk.content(step, "endorsement")
    site = desk.open_site(0)
    stated = open_checkpoint(statement, endorsement, site.source)
    site.saw(SignedCheckpoint(stated=stated, statement=statement, endorsement=endorsement), since=site.last_seen())


def _hear_offer(desk: _Desk, step: Told) -> None:
    offer = open_offer(desk.content(step), desk.content(step, "endorsement"), desk.open_site(0).source)
    if (offer.grant.hex(), offer.nonce.hex()) != (step["grant"], step["nonce"]):
        raise PeerError(Code.OFFER, "The source made an offer for something else; tell its operator.")


def _open_request(desk: _Desk, step: Told) -> None:
    open_request(desk.content(step))


def _open_receipt(desk: _Desk, step: Told) -> None:
    open_receipt(desk.content(step), signer=bytes.fromhex(desk.site["audience"]))


_STEPS: dict[str, Callable[[_Desk, Told], None]] = {
    "bundle": _take_bundle,
    "sealed": _take_sealed,
    "reopen": _reopen,
    "statement": _learn,
    "reset": _reset,
    "checkpoint": _hear_checkpoint,
    "offer": _hear_offer,
    "request": _open_request,
    "receipt": _open_receipt,
}


def answer(folder: Path, workplace: Path) -> list[dict[str, object]]:
    """Return how each step of a case ends.

    Args:
        folder: the case.
        workplace: an empty folder for the site.
    """
    told = json.loads(read_bounded(folder / "case.json", MAX_CASE_BYTES))
    desk = _Desk(case=folder, site=told["site"], keys=workplace / "keys", accepted=workplace / "accepted")
    desk.accepted.mkdir()
    _lay_out_keys(desk)
    return [_ending(desk, step) for step in told["steps"]]


def _ending(desk: _Desk, step: Told) -> dict[str, object]:
    """Return how one step ends; `exit` is None for a kind that is not known."""
    if step["kind"] not in _STEPS:
        return {"exit": None}
    try:
        _STEPS[step["kind"]](desk, step)
    except ProtocolError as refusal:
        return {"exit": refusal.exit_code, "code": refusal.code.value}
    return {"exit": 0}


def _lay_out_keys(desk: _Desk) -> None:
    """Lay out the keys folder that `ecan-target request` would have made."""
    receipt_key, sealing_key = (desk.content(desk.site, name) for name in ("receipt_key", "sealing_key"))
    create_trust_state(desk.keys)
    write_identity(_identity(receipt_key, sealing_key), desk.keys)
    (desk.keys / REQUESTS).mkdir()
    for grant in desk.site["grants"]:
        (desk.keys / REQUESTS / f"{grant}.request").touch()


@cache
def _identity(receipt_key: bytes, sealing_key: bytes) -> Identity:
    """Return the identity of two keys in PEM; its certificate is new."""
    signing_key = load_pem_private_key(receipt_key, None)
    assert isinstance(signing_key, Ed25519PrivateKey)
    identity = create_identity(Role.TARGET, datetime.now(UTC), signing_key=signing_key)
    return replace(identity, sealing_key=SealingKey.from_pem(sealing_key))


def main() -> None:
    """Answer every case that is named, one line of JSON each."""
    for name in sys.argv[1:]:
        workplace = Path(tempfile.mkdtemp(prefix="ecan-conformance-"))
        try:
            print(json.dumps({"case": name, "answers": answer(Path(name), workplace)}), flush=True)
        finally:
            shutil.rmtree(workplace)


if __name__ == "__main__":
    main()
