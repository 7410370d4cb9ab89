"""Define identities: an Ed25519 key, known by its fingerprint.

Names and addresses prove nothing.

The source's key is its release key, the target's is its receipt key. TLS needs a certificate with another kind of
key, so the identity *endorses* one: the certificate carries the Ed25519 public key and its signature over the TLS
key. Whoever knows the fingerprint can therefore check the certificate, wherever it came from. A source endorses an
online key in the same way, so that the process on the network can sign statements without ever holding the release
key. A target also has a sealing key, which is bound to it by the requests that it signs. See
docs/decisions/0002-identity-is-a-key.md; `protocol.identity.key_files` says how the keys lie on the disk.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeGuard

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from protocol.errors import Code, UnauthenticError
from protocol.identity import signing
from protocol.identity.hybrid import HybridKey
from protocol.identity.locked_keys import lock
from protocol.identity.sealing_keys import SealingKey

MAX_CERTIFICATE_BYTES = 12 * 1024
"""A certificate of the suite hybrid-1 has 8 KiB as PEM; so has the largest key file."""
ENDORSEMENT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
ENDORSEMENT_TYPE = "ecan/tls/v1"
ONLINE_TYPE = "ecan/online/v1"
ONLINE_ENDORSEMENT_BYTES = signing.KEY_BYTES[signing.HYBRID] + signing.SIGNATURE_BYTES[signing.HYBRID]
"""The longest endorsement; one of the suite classic-1 has 96 bytes."""

_PUBLIC_KEY_BYTES = 32
_LIFETIME = timedelta(days=3652)
_CLOCK_TOLERANCE = timedelta(days=1)


class Role(StrEnum):
    """Name which site an identity stands for."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, kw_only=True)
class Endorsement:
    """Name the identity behind a certificate: role and fingerprint.

    The fingerprint has 32 bytes.
    """

    role: Role
    fingerprint: bytes


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Hold a site's private keys and the certificate that it shows.

    Attributes:
        role: the site's part.
        signing_key: the identity itself: release key of a source, receipt key of a target.
        tls_key: the key of the certificate, endorsed by the signing key.
        certificate: self-signed; carries the endorsement.
        online_key: signs what a source says on the network; None at a target.
        online_endorsement: the release key's word for the online key, see `check_online`; None at a target.
        sealing_key: opens what was sealed to a target; None at a source.
    """

    role: Role
    signing_key: signing.SigningKey
    tls_key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    online_key: Ed25519PrivateKey | None = None
    online_endorsement: bytes | None = None
    sealing_key: SealingKey | None = None

    @property
    def fingerprint(self) -> bytes:
        """Return the SHA-256 of the raw public signing key, 32 bytes."""
        return signing.fingerprint_of(signing.raw_public_key(self.signing_key))

    @property
    def certificate_pem(self) -> bytes:
        """Return the certificate as PEM: public."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def tls_key_pem(self) -> bytes:
        """Return the private TLS key as PEM, for the TLS library alone."""
        return private_pem(self.tls_key)


@dataclass(frozen=True, kw_only=True)
class PublicIdentity:
    """Hold what anyone may know of a site.

    Attributes:
        role: the site's part.
        fingerprint: SHA-256 of the raw public signing key, 32 bytes.
        certificate: self-signed; carries the endorsement.
    """

    role: Role
    fingerprint: bytes
    certificate: x509.Certificate

    @property
    def certificate_pem(self) -> bytes:
        """Return the certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, kw_only=True)
class ServerIdentity:
    """Hold the keys of the source's network process: no release key.

    Attributes:
        fingerprint: the source's identity, 32 bytes.
        certificate: self-signed; carries the endorsement.
        certificate_pem: the same as PEM.
        tls_key_pem: its private key as PEM: for the TLS library alone.
        online_key: signs offers and checkpoints.
        online_endorsement: the release key's word for the online key, see `check_online`.
    """

    fingerprint: bytes
    certificate: x509.Certificate
    certificate_pem: bytes
    tls_key_pem: bytes = field(repr=False)
    online_key: Ed25519PrivateKey
    online_endorsement: bytes


def create_identity(role: Role, now: datetime, *, signing_key: signing.SigningKey | None = None) -> Identity:
    """Make a new identity with fresh keys.

    Args:
        role: the site's part.
        now: the present, with a time zone; the certificate is valid from a day before for ten years.
        signing_key: the identity itself, where it is there already; a new one is of the suite classic-1.
    """
    signing_key = signing_key or Ed25519PrivateKey.generate()
    tls_key = ec.generate_private_key(ec.SECP256R1())
    online_key = Ed25519PrivateKey.generate() if role is Role.SOURCE else None
    return Identity(
        role=role,
        signing_key=signing_key,
        tls_key=tls_key,
        certificate=_endorsed_certificate(role, signing_key, tls_key, now),
        online_key=online_key,
        online_endorsement=None if online_key is None else endorse_online(online_key, signing_key),
        sealing_key=SealingKey.generate() if role is Role.TARGET else None,
    )


def endorse_online(online_key: Ed25519PrivateKey, release_key: signing.SigningKey) -> bytes:
    """Return the release key's word for an online key.

    It consists of the release key's raw public key and its signature, 96 or 5357 bytes.
    """
    signature = signing.bare_signature(ONLINE_TYPE, signing.raw_public_key(online_key), release_key)
    return signing.raw_public_key(release_key) + signature


def check_online(endorsement: bytes, public_key: bytes, issuer: bytes) -> None:
    """Check that a source lets an online key speak for it.

    Args:
        endorsement: what `endorse_online` made.
        public_key: the raw online key, 32 bytes.
        issuer: fingerprint of the release key that is trusted, 32 bytes.

    Raises:
        UnauthenticError: it is endorsed by another key, or the endorsement does not hold.
    """
    if not is_endorsement(endorsement) or len(public_key) != _PUBLIC_KEY_BYTES:
        raise _not_online()
    release_key, signature = _split_endorsement(endorsement)
    if signing.fingerprint_of(release_key) != issuer:
        raise _not_online()
    signing.verify_signature(release_key, signature, ONLINE_TYPE, public_key)


def is_endorsement(data: bytes) -> bool:
    """Return whether bytes are as long as an endorsement of any suite."""
    return len(data) in (signing.KEY_BYTES[suite] + signing.SIGNATURE_BYTES[suite] for suite in signing.SUITES)


def _split_endorsement(endorsement: bytes) -> tuple[bytes, bytes]:
    """Return the public key and the signature; the length tells the suite."""
    suite = signing.HYBRID if len(endorsement) == ONLINE_ENDORSEMENT_BYTES else signing.CLASSIC
    return endorsement[: signing.KEY_BYTES[suite]], endorsement[signing.KEY_BYTES[suite] :]


def check_endorsement(certificate: bytes) -> Endorsement:
    """Check that a certificate is exactly as `create_identity` makes it.

    Returns whose it is.

    Trust in a peer is knowing its fingerprint beforehand; this alone says nothing about trust.

    Args:
        certificate: PEM or DER.

    Raises:
        UnauthenticError: not a certificate of ours, or its endorsement, names or own signature do not hold.
    """
    return _check_endorsement(_parse_certificate(certificate))


def read_public(certificate: bytes) -> PublicIdentity:
    """Read a certificate and whose it is; see `check_endorsement`."""
    parsed = _parse_certificate(certificate)
    endorsement = _check_endorsement(parsed)
    return PublicIdentity(role=endorsement.role, fingerprint=endorsement.fingerprint, certificate=parsed)


def endorsed_fingerprint(certificate: bytes) -> bytes:
    """Return the fingerprint that endorses a certificate, 32 bytes.

    See `check_endorsement`.
    """
    return check_endorsement(certificate).fingerprint


def private_pem(key: signing.SigningKey | ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return a private key as PEM, encrypted if there is a passphrase."""
    pem = (
        key.pem()
        if isinstance(key, HybridKey)
        else key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return pem if passphrase is None else lock(pem, passphrase)


def server_name(fingerprint: bytes) -> str:
    """Return the DNS name in an identity's certificate.

    It exists for TLS libraries and resolves nowhere.
    """
    return f"{fingerprint.hex()[:32]}.ecan.invalid"


def _endorsed_certificate(
    role: Role, signing_key: signing.SigningKey, tls_key: ec.EllipticCurvePrivateKey, now: datetime
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
    public_key, signature = _split_endorsement(carried.value)
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
    """Return what an endorsement signs.

    The TLS key as SubjectPublicKeyInfo, in DER.
    """
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_endorsement(extension: x509.ExtensionType) -> TypeGuard[x509.UnrecognizedExtension]:
    return isinstance(extension, x509.UnrecognizedExtension) and extension.oid == ENDORSEMENT_OID


def _is_p256(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _parse_certificate(certificate: bytes) -> x509.Certificate:
    if len(certificate) > MAX_CERTIFICATE_BYTES:
        raise _not_endorsed()
    is_pem = certificate.startswith(b"-----")
    try:
        return (x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate)(certificate)
    except Exception as error:  # see _check_endorsement
        raise _not_endorsed() from error


def _not_endorsed() -> UnauthenticError:
    return UnauthenticError(
        Code.IDENTITY, "The certificate is not endorsed by an ECAN identity; check that the peer is a site."
    )


def _not_online() -> UnauthenticError:
    return UnauthenticError(
        Code.IDENTITY, "The online key is not endorsed by the source that is trusted; compare the fingerprints."
    )
