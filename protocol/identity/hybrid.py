"""Sign with ML-DSA-65 and Ed25519 together: the suite ``hybrid-1``.

A signature holds only if both halves do, so neither a quantum computer nor a flaw in the younger algorithm alone can
forge one. Both halves sign one message that names the pair of algorithms: a half that is cut off is no signature of
its own algorithm.

Source: draft-ietf-lamps-pq-composite-sigs-16, id-MLDSA65-Ed25519-SHA512, with an empty context.
Differs: a private key is the PKCS 8 texts of its halves, one after the other.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

PUBLIC_KEY_BYTES = 1952 + 32
SIGNATURE_BYTES = 3309 + 64

_LABEL = b"COMPSIG-MLDSA65-Ed25519-SHA512"
_PREFIX = b"CompositeAlgorithmSignatures2025"
_PEM_BEGINS = b"-----BEGIN "


@dataclass(frozen=True, kw_only=True, eq=False)
class HybridKey:
    """Hold a private key of two halves, which never sign apart.

    Attributes:
        mldsa: the ML-DSA-65 half.
        ed25519: the Ed25519 half.
    """

    mldsa: MLDSA65PrivateKey
    ed25519: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> Self:
        """Make a new pair."""
        return cls(mldsa=MLDSA65PrivateKey.generate(), ed25519=Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read what `pem` wrote.

        Raises:
            ValueError: it is something else.
        """
        second = pem.find(_PEM_BEGINS, 1)
        mldsa, ed25519 = (load_pem_private_key(half, None) for half in (pem[:second], pem[second:]))
        if not isinstance(mldsa, MLDSA65PrivateKey) or not isinstance(ed25519, Ed25519PrivateKey):
            raise ValueError("not the two halves of a hybrid key")
        return cls(mldsa=mldsa, ed25519=ed25519)

    def pem(self) -> bytes:
        """Return the private pair as text, not encrypted."""
        halves = (self.mldsa, self.ed25519)
        return b"".join(half.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for half in halves)

    def raw_public_key(self) -> bytes:
        """Return the public halves one after the other, 1984 bytes."""
        return self.mldsa.public_key().public_bytes_raw() + self.ed25519.public_key().public_bytes_raw()

    def sign(self, content: bytes) -> bytes:
        """Return the signatures of both halves one after the other, 3373 bytes."""
        message = _message(content)
        return self.mldsa.sign(message, _LABEL) + self.ed25519.sign(message)


def is_pair(pem: bytes) -> bool:
    """Return whether a private key's text has two halves."""
    return pem.count(_PEM_BEGINS) == 2


def verify(public_key: bytes, signature: bytes, content: bytes) -> None:
    """Verify a signature of both halves.

    Args:
        public_key: as from `HybridKey.raw_public_key`.
        signature: as from `HybridKey.sign`.
        content: what was signed.

    Raises:
        InvalidSignature: one of the halves does not hold.
        ValueError: the key or the signature is not of its length or form.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise ValueError("not a key or not a signature of two halves")
    message = _message(content)
    MLDSA65PublicKey.from_public_bytes(public_key[:1952]).verify(signature[:3309], message, _LABEL)
    Ed25519PublicKey.from_public_bytes(public_key[1952:]).verify(signature[3309:], message)


def _message(content: bytes) -> bytes:
    """Return what both halves sign; the zero is the length of the context."""
    return _PREFIX + _LABEL + b"\0" + hashlib.sha512(content).digest()
