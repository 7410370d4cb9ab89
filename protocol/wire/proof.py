"""Prove that whoever opens a grant holds the site's receipt key.

The proof holds for this moment and this very pair of certificates.

TLS proves the certificates' keys. This proves the identity behind the target's, and cannot be carried over to
another grant, another source or another connection's nonce.
"""

import hashlib

from protocol.errors import Code, UnauthenticError
from protocol.identity import signing

NONCE_BYTES = 32
PROOF_BYTES = 96

_TYPE = "ecan/open/v1"
_PUBLIC_KEY_BYTES = 32


def prove(
    key: signing.SigningKey,
    *,
    grant: bytes,
    nonce: bytes,
    server_certificate: bytes,
    client_certificate: bytes,
) -> bytes:
    """Sign the opening of a grant.

    Args:
        key: the site's receipt key.
        grant: 16 bytes.
        nonce: 32 fresh random bytes.
        server_certificate: the certificate that the source shows, DER.
        client_certificate: the certificate that the target shows, DER.

    Returns:
        The raw public key and the signature, 96 bytes, as in the endorsement of a certificate.
    """
    payload = _payload(grant, nonce, server_certificate, client_certificate)
    return signing.raw_public_key(key) + signing.bare_signature(_TYPE, payload, key)


def check_proof(
    proof: bytes,
    signer: bytes,
    *,
    grant: bytes,
    nonce: bytes,
    server_certificate: bytes,
    client_certificate: bytes,
) -> None:
    """Verify what `prove` gave.

    Args:
        proof: 96 bytes.
        signer: fingerprint of the site that the grant is for, 32 bytes.
        grant: as in `prove`.
        nonce: as in `prove`.
        server_certificate: as in `prove`.
        client_certificate: as in `prove`.

    Raises:
        UnauthenticError: another key signed, or the signature does not hold.
    """
    public_key, signature = proof[:_PUBLIC_KEY_BYTES], proof[_PUBLIC_KEY_BYTES:]
    if signing.fingerprint_of(public_key) != signer:
        raise UnauthenticError(
            Code.KEY_UNKNOWN, "The grant is for another site's key; use the keys that made the request."
        )
    payload = _payload(grant, nonce, server_certificate, client_certificate)
    signing.verify_signature(public_key, signature, _TYPE, payload)


def _payload(grant: bytes, nonce: bytes, server_certificate: bytes, client_certificate: bytes) -> bytes:
    """Join the parts; all have a fixed length, so the result is unambiguous."""
    certificates = (hashlib.sha256(certificate).digest() for certificate in (server_certificate, client_certificate))
    return b"".join((grant, nonce, *certificates))
