"""Two sites for tests of the crossing: keys, a request and a bundle that answers it."""

import hashlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from protocol.bundle.egress import sign_bundle
from protocol.bundle.manifest import ManifestFields
from protocol.bundle.sealing import seal
from protocol.identity.identities import Identity, Role, create_identity
from protocol.identity.key_files import write_identity
from protocol.statements.receipts import Receipt, Verdict, sign_receipt
from protocol.statements.request import grant_id, sign_request
from target_site.trust.state import create_trust_state
from tests.protocol.samples import FIELDS, TODAY, random_model

__all__ = ["TODAY", "Site", "delivered_for", "der", "new_identity", "new_site", "receipt_for", "sealed_for"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A target that asked for a model."""

    identity: Identity
    request: bytes

    @property
    def grant(self) -> bytes:
        return grant_id(self.request)

    def write(self, keys_dir: Path) -> Path:
        """Lay out the keys folder as `ecan-target request` does."""
        create_trust_state(keys_dir)
        write_identity(self.identity, keys_dir)
        (keys_dir / "requests").mkdir()
        (keys_dir / "requests" / f"{self.grant.hex()}.request").write_bytes(self.request)
        return keys_dir


def new_identity(role: Role) -> Identity:
    return create_identity(role, datetime.now(UTC))


def new_site() -> Site:
    identity = new_identity(Role.TARGET)
    return Site(identity=identity, request=sign_request(identity, nonce=os.urandom(32), day=TODAY))


def sealed_for(site: Site, source: Identity, *, seed: int = 0, **fields: object) -> bytes:
    """The bundle that the source makes for the site; `fields` change what its manifest says."""
    stated: ManifestFields = replace(FIELDS, **{"audience": site.identity.fingerprint, "grant": site.grant, **fields})
    return sign_bundle(random_model(seed=seed), stated, source.signing_key)


def delivered_for(site: Site, source: Identity, *, plain: bytes | None = None, **fields: object) -> bytes:
    """The sealed file that the source lets out for the site: of a given bundle, or of `sealed_for`'s."""
    assert site.identity.sealing_key is not None
    plain = sealed_for(site, source, **fields) if plain is None else plain  # type: ignore[arg-type]
    return seal(plain, site.identity.sealing_key.public_key, site.grant)


def receipt_for(
    site: Site,
    data: bytes,
    weights_sha256: bytes,
    *,
    delivered: bytes | None = None,
    signer: Identity | None = None,
    **changes: object,
) -> bytes:
    """The site's word on a bundle and on the sealed file that held it, or a lie about them."""
    fields: dict[str, object] = {
        "grant": site.grant,
        "sealed_sha256": hashlib.sha256(data if delivered is None else delivered).digest(),
        "digest": hashlib.sha256(data).digest(),
        "weights_sha256": weights_sha256,
        "verdict": Verdict.ACCEPTED,
        "day": TODAY,
    }
    receipt = Receipt(**(fields | changes))  # type: ignore[arg-type]
    return sign_receipt(receipt, (signer or site.identity).signing_key)


def der(identity: Identity) -> bytes:
    return identity.certificate.public_bytes(Encoding.DER)
