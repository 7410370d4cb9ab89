"""Define the keys of sealing: a pair of ML-KEM-768 and X25519.

The pair is the target's. This module says how both halves are written down.

What is sealed to a pair stays closed while either half holds, so neither a quantum computer nor a flaw in the
younger algorithm alone opens it. Raw public keys are the two public keys one after the other; a private file is
their two PKCS8 texts one after the other, encrypted together if there is a passphrase (`locked_keys`).
"""

from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from protocol.errors import Code, MalformedError
from protocol.identity.locked_keys import BEGINS, lock, unlock

PUBLIC_KEY_BYTES = 1184 + 32

_MLKEM_BYTES = 1184
_X25519_PRIME = 2**255 - 19
_PEM_BEGINS = b"-----BEGIN "


@dataclass(frozen=True, kw_only=True)
class SealingPublicKey:
    """Hold a public key to which a bundle can be sealed.

    An object of this class has been checked.

    Attributes:
        raw: the ML-KEM-768 key and the X25519 key, 1184 + 32 bytes.

    Raises:
        MalformedError: wrong length, not the only encoding of its key, or a point of low order, to which everything is
            sealed alike.
    """

    raw: bytes
    hpke_key: MLKEM768X25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        mlkem, x25519 = self.raw[:_MLKEM_BYTES], self.raw[_MLKEM_BYTES:]
        try:
            _refuse_other_encoding(x25519)
            point = X25519PublicKey.from_public_bytes(x25519)
            X25519PrivateKey.generate().exchange(point)  # the library refuses points of low order here
            key = MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(mlkem), point)
        except ValueError as error:
            raise MalformedError(Code.VALUE, "The sealing key is not a valid key; ask for a new request.") from error
        object.__setattr__(self, "hpke_key", key)


@dataclass(frozen=True, kw_only=True, eq=False)
class SealingKey:
    """Hold what opens bundles sealed to a target; never leaves it.

    Attributes:
        mlkem: the ML-KEM-768 half.
        x25519: the X25519 half.
    """

    mlkem: MLKEM768PrivateKey
    x25519: X25519PrivateKey

    @classmethod
    def generate(cls) -> Self:
        """Make a new pair."""
        return cls(mlkem=MLKEM768PrivateKey.generate(), x25519=X25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: bytes | None = None) -> Self:
        """Read what `pem` wrote.

        Raises:
            ValueError: it is something else, or the passphrase is wrong.
            TypeError: it is encrypted and there is no passphrase, or the other way around.
        """
        if pem.startswith(BEGINS):
            pem, passphrase = unlock(pem, passphrase), None
        second = pem.find(_PEM_BEGINS, 1)
        if pem.count(_PEM_BEGINS) != 2 or not pem.startswith(_PEM_BEGINS):
            raise ValueError("not the two halves of a sealing key")
        mlkem = load_pem_private_key(pem[:second], passphrase)
        x25519 = load_pem_private_key(pem[second:], passphrase)
        if not isinstance(mlkem, MLKEM768PrivateKey) or not isinstance(x25519, X25519PrivateKey):
            raise ValueError("not the two halves of a sealing key")
        return cls(mlkem=mlkem, x25519=x25519)

    @property
    def public_key(self) -> SealingPublicKey:
        """Return the half that may be known."""
        return SealingPublicKey(
            raw=self.mlkem.public_key().public_bytes_raw() + self.x25519.public_key().public_bytes_raw()
        )

    @property
    def hpke_key(self) -> MLKEM768X25519PrivateKey:
        """Return the pair as the library's HPKE takes it."""
        return MLKEM768X25519PrivateKey(self.mlkem, self.x25519)

    def pem(self, passphrase: bytes | None = None) -> bytes:
        """Return the private pair as text, encrypted if there is a passphrase."""
        pem = b"".join(
            half.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for half in (self.mlkem, self.x25519)
        )
        return pem if passphrase is None else lock(pem, passphrase)


def _refuse_other_encoding(point: bytes) -> None:
    """Refuse a second encoding of an X25519 point.

    X25519 takes coordinates of the prime and above, and ignores the top bit; one key would have several names.
    """
    if int.from_bytes(point, "little") >= _X25519_PRIME:
        raise ValueError("not the canonical encoding of a point")
