"""Define node keys: the EC P-384 keys of a federation's sites.

The sites know each other by them.

The private half lies on the disk like every other key of a site, encrypted where the site has a passphrase.
Flower never reads the file: the one process that signs its calls gets the key through a pipe (`pem_of`).
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

from protocol.errors import Code, FileError, KeyFileError, MalformedError, UnauthenticError
from protocol.files import make_private_folder, read_bounded, write_atomic
from protocol.identity.identities import private_pem
from protocol.identity.key_files import PASSPHRASE_VARIABLE, is_encrypted, load_private_key, read_pem
from protocol.identity.passphrase import new_passphrase, read_passphrase

MAX_PUBLIC_BYTES = 4096
SIGNATURE_BYTES = 96
"""Two numbers of 48 bytes, big-endian, so that every signature has the same length."""

_HASH = ec.ECDSA(SHA384())


def make_node_key(path: Path) -> Path:
    """Make a node key, encrypted if `PASSPHRASE_VARIABLE` names a file.

    Args:
        path: the private key's file, which must not exist; its folder is made if need be.

    Returns:
        The file with the public half, for the coordinator and the other sites.

    Raises:
        KeyFileError: there is a key already, or the passphrase cannot be used.
        FileError: the folder cannot be written.
    """
    if path.exists():
        raise KeyFileError(Code.KEY_EXISTS, f"{path} is there already; use it or name another file.")
    passphrase = new_passphrase() if os.environ.get(PASSPHRASE_VARIABLE) else None
    key = ec.generate_private_key(ec.SECP384R1())
    make_private_folder(path.parent)
    public = path.with_suffix(".pub")
    write_atomic(public, public_line(key.public_key()), 0o644)
    write_atomic(path, private_pem(key, passphrase))
    return public


def load_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a node key, and its passphrase if the file is encrypted.

    Raises:
        KeyFileError: it is missing, damaged, locked, readable by others, or of another kind.
    """
    key = load_private_key(path, read_passphrase() if is_encrypted(path) else None, read_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _other_kind(path)
    return key


def load_public(path: Path) -> ec.EllipticCurvePublicKey:
    """Read the public half of a node key, as another site has sent it.

    Raises:
        KeyFileError: it is missing, damaged, or of another kind.
    """
    try:
        key = load_ssh_public_key(read_bounded(path, MAX_PUBLIC_BYTES))
    except (FileError, MalformedError) as error:
        raise KeyFileError(Code.KEY_MISSING, f"{path} cannot be read; ask its site for the file again.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _other_kind(path) from error
    if not is_node_key(key):
        raise _other_kind(path)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def is_node_key(key: object) -> bool:
    """Return whether a public key is one of P-384."""
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)


def public_line(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as OpenSSH writes it, with an end of line."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"


def sign(key: ec.EllipticCurvePrivateKey, statement: bytes) -> bytes:
    """Sign a statement by ECDSA with SHA-384, in `SIGNATURE_BYTES` bytes."""
    r, s = decode_dss_signature(key.sign(statement, _HASH))
    return r.to_bytes(SIGNATURE_BYTES // 2) + s.to_bytes(SIGNATURE_BYTES // 2)


def verify(key: ec.EllipticCurvePublicKey, statement: bytes, signature: bytes) -> None:
    """Verify what `sign` made.

    Raises:
        UnauthenticError: the signature is not this key's over this statement.
    """
    half = SIGNATURE_BYTES // 2
    pair = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
    try:
        if len(signature) != SIGNATURE_BYTES:
            raise InvalidSignature
        key.verify(pair, statement, _HASH)
    except InvalidSignature as error:
        raise UnauthenticError(
            Code.SIG_INVALID, "A signature is not of the node key that was pinned; ask that site for its public key."
        ) from error


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    """Write a node key as text, for a pipe and never for a file."""
    return private_pem(key).decode()


def _other_kind(path: Path) -> KeyFileError:
    return KeyFileError(Code.KEY_DAMAGED, f"{path} is no node key (EC P-384); let its site make a new one.")
