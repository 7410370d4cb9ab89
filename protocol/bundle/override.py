"""Let a second officer release a model whose audit failed.

The officer signs with a key of their own, model by model.

The release key names the officer's key once. The officer then signs, for one set of weights and one tier, that they
may leave; the gate signs no manifest that says ``overridden`` without such a word.
"""

from dataclasses import asdict, dataclass
from typing import Any

from protocol import canonical
from protocol.bundle.stated_audit import TIERS
from protocol.errors import Code, RefusedError
from protocol.identity import signing

OFFICER_TYPE = "application/vnd.ecan.officer.v1+json"
OVERRIDE_TYPE = "application/vnd.ecan.override.v1+json"
MAX_STATEMENT_BYTES = 12 * 1024

_OFFICER: canonical.Schema = {"v": canonical.OneOf((1,)), "officer": canonical.Hex(32)}
_OVERRIDE: canonical.Schema = {
    "v": canonical.OneOf((1,)),
    "weights_sha256": canonical.Hex(32),
    "tier": canonical.OneOf(TIERS[1:]),
    "day": canonical.Int(0, 0xFFFF),
}


@dataclass(frozen=True, kw_only=True)
class Override:
    """Describe what an officer lets out.

    Attributes:
        weights_sha256: SHA-256 of the weights as a bundle holds them, 32 bytes.
        tier: the tier whose bars they miss.
        day: days since 1970.
    """

    weights_sha256: bytes
    tier: int
    day: int


def sign_officer(officer: bytes, release_key: signing.SigningKey) -> bytes:
    """Sign the fingerprint of the officer's key, 32 bytes.

    This is how the release key names the officer.

    Raises:
        RefusedError: it is the release key itself; two keys are asked for because two people are.
    """
    if officer == signing.fingerprint_of(signing.raw_public_key(release_key)):
        raise RefusedError(
            Code.KEY_UNKNOWN, "This is the release key, and a second one is asked for; name the officer's."
        )
    return signing.sign(
        OFFICER_TYPE, canonical.write_record({"v": 1, "officer": officer}, _OFFICER, what="officer"), release_key
    )


def open_officer(data: bytes, issuer: bytes) -> bytes:
    """Return the fingerprint of the officer's key, 32 bytes.

    The release key has named it.

    Raises:
        MalformedError: it is not the only encoding of such a statement.
        UnauthenticError: it is not signed by the issuer.
    """
    return bytes(_open(OFFICER_TYPE, data, _OFFICER, "officer", issuer)["officer"])


def sign_override(override: Override, officer_key: signing.SigningKey) -> bytes:
    """Sign that these weights may leave."""
    fields = {"v": 1, **asdict(override)}
    return signing.sign(OVERRIDE_TYPE, canonical.write_record(fields, _OVERRIDE, what="override"), officer_key)


def open_override(data: bytes, officer: bytes, issuer: bytes) -> Override:
    """Verify an override and read it.

    Args:
        data: what the officer has signed.
        officer: the statement that names the officer's key.
        issuer: fingerprint of the release key, 32 bytes.

    Raises:
        MalformedError: one of the two is not in its only encoding.
        UnauthenticError: the issuer has not named this officer, or a signature does not hold.
    """
    return Override(**_open(OVERRIDE_TYPE, data, _OVERRIDE, "override", open_officer(officer, issuer)))


def _open(kind: str, data: bytes, schema: canonical.Schema, what: str, signer: bytes) -> dict[str, Any]:
    payload = signing.verify_envelope(signing.parse_envelope(data), payload_type=kind, signer=signer)
    fields = canonical.read_record(payload, schema, what=what, max_bytes=MAX_STATEMENT_BYTES)
    del fields["v"]
    return fields
