"""Identities: an identity *is* an Ed25519 key, known by its fingerprint; names and addresses prove nothing.

The source's key is its release key, the target's is its receipt key. TLS needs a certificate of another kind
of key, so the identity *endorses* one: the certificate carries the Ed25519 public key and its signature over
the TLS key. Whoever knows the fingerprint can therefore check the certificate, wherever it came from. See
docs/decisions/0002-identity-is-a-key.md.
"""

import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeGuard

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from protocol import signing
from protocol.errors import Code, KeyFault, Malformed, StorageFault, Unauthentic
from protocol.files import read_bounded, write_atomic

SIGNING_KEY_FILE = "signing.key"
TLS_KEY_FILE = "tls.key"
PUBLIC_FILE = "identity.pem"

MAX_CERTIFICATE_BYTES = 4096
ENDORSEMENT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
ENDORSEMENT_TYPE = "ecan/tls/v1"

_PUBLIC_KEY_BYTES = 32
_LIFETIME = timedelta(days=3652)
_CLOCK_TOLERANCE = timedelta(days=1)


class Role(StrEnum):
    """Which site an identity stands for."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, kw_only=True)
class Endorsement:
    """Whose a certificate is: the identity's role and its fingerprint, 32 bytes."""

    role: Role
    fingerprint: bytes


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A site's private keys and the certificate that it shows.

    Attributes:
        role: the site's part.
        signing_key: the identity itself: release key of a source, receipt key of a target.
        tls_key: the key of the certificate, endorsed by the signing key.
        certificate: self-signed; carries the endorsement.
    """

    role: Role
    signing_key: Ed25519PrivateKey
    tls_key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the raw public signing key, 32 bytes."""
        return signing.fingerprint_of(signing.raw_public_key(self.signing_key))

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM: public."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def tls_key_pem(self) -> bytes:
        """The private TLS key as PEM: for the TLS library alone."""
        return _private_pem(self.tls_key)


def create_identity(role: Role, now: datetime) -> Identity:
    """Make a new identity with fresh keys.

    Args:
        role: the site's part.
        now: the present, with a time zone; the certificate is valid from a day before for ten years.
    """
    signing_key = Ed25519PrivateKey.generate()
    tls_key = ec.generate_private_key(ec.SECP256R1())
    return Identity(
        role=role,
        signing_key=signing_key,
        tls_key=tls_key,
        certificate=_endorsed_certificate(role, signing_key, tls_key, now),
    )


def has_identity(folder: Path) -> bool:
    """Whether a folder holds an identity: whether its signing key is there."""
    return (folder / SIGNING_KEY_FILE).exists()


def write_identity(identity: Identity, folder: Path) -> None:
    """Write an identity to a folder, which is made if need be; private files are 0600.

    The signing key comes last: a run that was killed before it has made no identity and can be repeated.

    Raises:
        KeyFault: the folder holds an identity already; keys are never overwritten.
        StorageFault: the folder cannot be written.
    """
    if has_identity(folder):
        raise KeyFault(Code.KEY_EXISTS, f"{folder} holds an identity already; use it or name another folder.")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFault(
            Code.STORAGE, f"{folder} cannot be made ({error.strerror}); choose another place."
        ) from error
    write_atomic(folder / PUBLIC_FILE, identity.certificate_pem, 0o644)
    write_atomic(folder / TLS_KEY_FILE, identity.tls_key_pem)
    write_atomic(folder / SIGNING_KEY_FILE, _private_pem(identity.signing_key))


def load_identity(folder: Path) -> Identity:
    """Read an identity and check that its three files belong together.

    Raises:
        KeyFault: a file is missing, damaged, readable by others, or not of the same identity.
    """
    signing_key = _load_private_key(folder / SIGNING_KEY_FILE)
    tls_key = _load_private_key(folder / TLS_KEY_FILE)
    try:
        certificate = _parse_certificate(_read_key_file(folder / PUBLIC_FILE))
        endorsement = _check_endorsement(certificate)
    except Unauthentic as error:
        raise _damaged(folder / PUBLIC_FILE) from error
    if not isinstance(signing_key, Ed25519PrivateKey):
        raise _damaged(folder / SIGNING_KEY_FILE)
    if not isinstance(tls_key, ec.EllipticCurvePrivateKey):
        raise _damaged(folder / TLS_KEY_FILE)
    identity = Identity(role=endorsement.role, signing_key=signing_key, tls_key=tls_key, certificate=certificate)
    if identity.fingerprint != endorsement.fingerprint or tls_key.public_key() != certificate.public_key():
        raise KeyFault(Code.KEY_DAMAGED, f"The files in {folder} do not belong together; restore them from one backup.")
    return identity


def check_endorsement(certificate: bytes) -> Endorsement:
    """Check that a certificate is exactly as `create_identity` makes them, and say whose it is.

    Trust in a peer is knowing its fingerprint beforehand; this alone says nothing about trust.

    Args:
        certificate: PEM or DER.

    Raises:
        Unauthentic: not a certificate of ours, or its endorsement, names or own signature do not hold.
    """
    return _check_endorsement(_parse_certificate(certificate))


def endorsed_fingerprint(certificate: bytes) -> bytes:
    """The fingerprint of the identity that endorses a certificate, 32 bytes; see `check_endorsement`."""
    return check_endorsement(certificate).fingerprint


def server_name(fingerprint: bytes) -> str:
    """The DNS name in an identity's certificate: it exists for TLS libraries and resolves nowhere."""
    return f"{fingerprint.hex()[:32]}.ecan.invalid"


def _endorsed_certificate(
    role: Role, signing_key: Ed25519PrivateKey, tls_key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.Certificate:
    public_key = signing.raw_public_key(signing_key)
    fingerprint = signing.fingerprint_of(public_key)
    tls_key_info = _public_key_info(tls_key.public_key())
    endorsement = signing.bare_signature(ENDORSEMENT_TYPE, tls_key_info, signing_key)
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(fingerprint))
        .issuer_name(_subject(fingerprint))
        .public_key(tls_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_TOLERANCE)
        .not_valid_after(now + _LIFETIME)
        .add_extension(_alternative_names(role, fingerprint), critical=False)
        .add_extension(x509.UnrecognizedExtension(ENDORSEMENT_OID, public_key + endorsement), critical=False)
        .sign(tls_key, hashes.SHA256())
    )


def _check_endorsement(certificate: x509.Certificate) -> Endorsement:
    try:
        names, carried = (extension.value for extension in certificate.extensions)
        subject, tls_key = certificate.subject, certificate.public_key()
        certificate.verify_directly_issued_by(certificate)
    except Exception as error:  # a lazy parser on hostile bytes: many types of fault, one meaning
        raise _not_endorsed() from error
    if not _is_endorsement(carried) or not _is_p256(tls_key):
        raise _not_endorsed()
    public_key, signature = carried.value[:_PUBLIC_KEY_BYTES], carried.value[_PUBLIC_KEY_BYTES:]
    signing.verify_signature(public_key, signature, ENDORSEMENT_TYPE, _public_key_info(tls_key))
    fingerprint = signing.fingerprint_of(public_key)
    for role in Role:
        if subject == _subject(fingerprint) and names == _alternative_names(role, fingerprint):
            return Endorsement(role=role, fingerprint=fingerprint)
    raise _not_endorsed()


def _subject(fingerprint: bytes) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, server_name(fingerprint))])


def _alternative_names(role: Role, fingerprint: bytes) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [
            x509.DNSName(server_name(fingerprint)),
            x509.UniformResourceIdentifier(f"spiffe://ecan/{role}/{fingerprint.hex()}"),
        ]
    )


def _public_key_info(key: ec.EllipticCurvePublicKey) -> bytes:
    """What an endorsement signs: the TLS key as SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_endorsement(extension: x509.ExtensionType) -> TypeGuard[x509.UnrecognizedExtension]:
    return isinstance(extension, x509.UnrecognizedExtension) and extension.oid == ENDORSEMENT_OID


def _is_p256(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _private_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _parse_certificate(certificate: bytes) -> x509.Certificate:
    if len(certificate) > MAX_CERTIFICATE_BYTES:
        raise _not_endorsed()
    is_pem = certificate.startswith(b"-----")
    try:
        return (x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate)(certificate)
    except Exception as error:  # see _check_endorsement
        raise _not_endorsed() from error


def _not_endorsed() -> Unauthentic:
    return Unauthentic(
        Code.IDENTITY, "The certificate is not endorsed by an ECAN identity; check that the peer is a site."
    )


def _load_private_key(path: Path) -> object:
    pem = _read_key_file(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFault(Code.KEY_EXPOSED, f"{path} can be read by other users; run chmod 600 on it.")
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path) from error


def _read_key_file(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_CERTIFICATE_BYTES)
    except (StorageFault, Malformed) as error:
        raise KeyFault(
            Code.KEY_MISSING, f"{path} cannot be read; restore it from a backup or create new keys elsewhere."
        ) from error


def _damaged(path: Path) -> KeyFault:
    return KeyFault(Code.KEY_DAMAGED, f"{path} is not a valid file of its kind; restore it from a backup.")
