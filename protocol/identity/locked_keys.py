"""Encrypt private keys with a passphrase, in a file form of our own.

The library writes encrypted PKCS 8 with a derivation of 2048 rounds, which a thief tries fast. Here scrypt makes each
try cost 32 MiB and some tenths of a second. One version has one set of figures, so that no file can ask for more.

Source: RFC 7914 (scrypt), RFC 8439 (ChaCha20-Poly1305).
Differs: nothing.
"""

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

BEGINS = b"-----BEGIN ECAN LOCKED KEY-----\n"
ENDS = b"-----END ECAN LOCKED KEY-----\n"
VERSION = b"\x01"
COST, BLOCK, LANES = 1 << 15, 8, 3
"""What scrypt is given in version 1."""
SALT_BYTES = 16

_NONCE = bytes(12)  # every key that is derived encrypts once: its salt is drawn anew


def lock(pem: bytes, passphrase: bytes) -> bytes:
    """Encrypt a private key."""
    salt = os.urandom(SALT_BYTES)
    sealed = ChaCha20Poly1305(_derived(salt, passphrase)).encrypt(_NONCE, pem, VERSION)
    return BEGINS + base64.encodebytes(VERSION + salt + sealed) + ENDS


def unlock(data: bytes, passphrase: bytes | None) -> bytes:
    """Decrypt what `lock` wrote.

    Raises:
        ValueError: it was changed, is of another version, or the passphrase is wrong.
        TypeError: there is no passphrase.
    """
    if passphrase is None:
        raise TypeError("an encrypted key needs a passphrase")
    if not (data.startswith(BEGINS) and data.endswith(ENDS)):
        raise ValueError("not an encrypted key")
    raw = base64.b64decode(data[len(BEGINS) : -len(ENDS)].replace(b"\n", b""), validate=True)
    version, salt, sealed = raw[:1], raw[1 : 1 + SALT_BYTES], raw[1 + SALT_BYTES :]
    if version != VERSION:
        raise ValueError("an encrypted key of another version")
    try:
        return ChaCha20Poly1305(_derived(salt, passphrase)).decrypt(_NONCE, sealed, VERSION)
    except InvalidTag as error:
        raise ValueError("changed, or another passphrase") from error


def _derived(salt: bytes, passphrase: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=COST, r=BLOCK, p=LANES).derive(passphrase)
