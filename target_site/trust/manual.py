"""List, update or reset the trust state for a person."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from protocol.errors import Code, UnauthenticError
from protocol.files import read_bounded
from protocol.identity import signing
from protocol.statements import revocations, succession
from protocol.statements.revocations import MAX_REVOCATIONS_BYTES, open_revocations
from protocol.statements.succession import open_succession
from target_site.trust.acceptance import trusted_fingerprint
from target_site.trust.checkpoints import checkpoint_path
from target_site.trust.keys import own_fingerprint
from target_site.trust.state import (
    NONE,
    THEN_UPDATE,
    KnownSource,
    TrustState,
    load_trust_state,
    refuse_future,
    reset_trust,
    update_trust_state,
)

_EPOCH = date(1970, 1, 1)

Change = Callable[[TrustState], TrustState]


def listing(keys_dir: Path) -> list[dict[str, Any]]:
    """Return what is known of every source, as JSON values.

    The path of its last signed checkpoint is among them if there is one.

    None stands for a revocation list that was lost and not learned again.

    Raises:
        KeyFileError: there are no keys of a target.
        UnauthenticError: this site's memory was lost.
    """
    own_fingerprint(keys_dir)
    state = load_trust_state(keys_dir)
    return [_listed(source, checkpoint_path(keys_dir, source.issuer), was_lost=state.lost) for source in state.sources]


def format_text(sources: list[dict[str, Any]]) -> str:
    """Format the listing for people."""
    if not sources:
        return "nothing was received from any source yet"
    return "\n".join(line for source in sources for line in _lines(source))


def update_from_file(keys_dir: Path, path: Path, trust: str | None, *, today: int) -> dict[str, object]:
    """Learn a revocation list or a succession that came by hand.

    Args:
        keys_dir: the target's keys.
        path: the signed statement.
        trust: the source, if nothing is known of it yet: its fingerprint or the path of its ``identity.pem``.
        today: days since 1970.

    Returns:
        What was learned, and a sentence about it.

    Raises:
        KeyFileError: there are no keys of a target, or ``trust`` names no source.
        UnauthenticError: it is not signed by a source that is known or named, or it is no such statement.
        MalformedError: it is damaged.
        RefusedError: something newer is known, or the key has a successor or was withdrawn.
    """
    own_fingerprint(keys_dir)
    data = read_bounded(path, MAX_REVOCATIONS_BYTES)
    envelope = signing.parse_envelope(data)
    issuer = envelope.signer if trust is None else trusted_fingerprint(trust)
    if trust is None and not load_trust_state(keys_dir).knows(issuer):
        raise UnauthenticError(
            Code.KEY_UNKNOWN,
            f"The statement is signed by {issuer.hex()}, of which this site knows nothing; if you trust this source, "
            "name it with --trust.",
        )
    learn = _READERS.get(envelope.payload_type)
    if learn is None:
        raise UnauthenticError(
            Code.PAYLOAD_TYPE,
            f"{path} is neither a revocation list nor a succession statement; ask the source for one of them.",
        )
    change, outcome = learn(data, issuer, today)
    update_trust_state(keys_dir, change)
    return {"source": issuer.hex(), **outcome}


def reset_by_hand(keys_dir: Path, trust: str, release: int, newest_list: int | None = None) -> dict[str, object]:
    """Begin anew with one source, see `reset_trust`.

    Raises:
        KeyFileError: there are no keys of a target, or ``trust`` names no source.
    """
    own_fingerprint(keys_dir)
    issuer = trusted_fingerprint(trust)
    reset_trust(keys_dir, issuer, release, newest_list)
    name = f"{issuer.hex()[:16]}..."
    rule = f"releases of {name} before {release} are refused" if release else f"any release of {name} may come"
    if newest_list is not None:
        rule += f", its revocation lists begin with {newest_list}" if newest_list else ", and it has withdrawn nothing"
    said = f"{rule} from now on; run {THEN_UPDATE}"
    return {"source": issuer.hex(), "release": release, "list": newest_list, "said": said}


def _learn_revocations(data: bytes, issuer: bytes, today: int) -> tuple[Change, dict[str, object]]:
    newest = open_revocations(data, issuer)
    refuse_future(newest, today)
    said = (
        f"list {newest.version} of {_EPOCH + timedelta(days=newest.day)}: {len(newest.weights)} models and "
        f"{len(newest.keys)} keys are withdrawn"
    )
    return (lambda state: state.learned(issuer, newest)), {
        "kind": "revocations",
        "version": newest.version,
        "weights": sorted(digest.hex() for digest in newest.weights),
        "keys": sorted(key.hex() for key in newest.keys),
        "said": said,
    }


def _learn_succession(data: bytes, issuer: bytes, _: int) -> tuple[Change, dict[str, object]]:
    statement = open_succession(data, issuer)
    said = f"{issuer.hex()[:16]}... has handed over to {statement.new.hex()}, which is trusted in its place"
    return (lambda state: state.succeeded(statement)), {
        "kind": "succession",
        "number": statement.number,
        "successor": statement.new.hex(),
        "said": said,
    }


_READERS = {
    revocations.PAYLOAD_TYPE: _learn_revocations,
    succession.PAYLOAD_TYPE: _learn_succession,
    succession.OLD_PAYLOAD_TYPE: _learn_succession,
    succession.HYBRID_PAYLOAD_TYPE: _learn_succession,
}


def _listed(source: KnownSource, checkpoint: Path, *, was_lost: bool) -> dict[str, Any]:
    return {
        "source": source.issuer.hex(),
        "release": source.release,
        "weights_sha256": _shown(source.weights),
        "revocation_list": None if was_lost and not source.version else source.version,
        "revocation_day": str(_EPOCH + timedelta(days=source.day)) if source.day else None,
        "revoked_weights": sorted(digest.hex() for digest in source.revoked_weights),
        "revoked_keys": sorted(key.hex() for key in source.revoked_keys),
        "ledger_entry": source.seq,
        "ledger_head": _shown(source.head),
        "checkpoint": str(checkpoint) if checkpoint.is_file() else None,
        "successor": _shown(source.successor),
    }


def _shown(digest: bytes) -> str | None:
    return None if digest == NONE else digest.hex()


def _lines(source: dict[str, Any]) -> list[str]:
    of_day = f" of {source['revocation_day']}" if source["revocation_day"] else ""
    withdrawn = (
        f"{len(source['revoked_weights'])} models, {len(source['revoked_keys'])} keys "
        f"(list {source['revocation_list'] or 'none'}{of_day})"
    )
    if source["revocation_list"] is None:
        withdrawn = "was reset; revocation list not known yet"
    lines = [
        f"source {source['source']}",
        f"  release    {source['release'] or 'none accepted'}",
        f"  withdrawn  {withdrawn}",
        f"  ledger     {_ledger_line(source)}",
        f"  checkpoint {source['checkpoint'] or 'none kept: receipts that were carried by hand bring none'}",
    ]
    if source["successor"]:
        lines.append(f"  successor  {source['successor']}")
    return lines


def _ledger_line(source: dict[str, Any]) -> str:
    if not source["ledger_entry"]:
        return "never seen"
    return f"entry {source['ledger_entry']}, head {source['ledger_head']}"
