"""Make the TLS key and the certificate of a federation's coordinator.

Its sites know it by the certificate.
"""

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocol.files import write_atomic

CA_FILE, CERTIFICATE_FILE, SERVER_KEY_FILE = "ca.crt", "server.crt", "server.key"
_VALID_DAYS = 365


def prepare_coordinator(folder: Path, host: str, *, announce: Callable[[str], None]) -> None:
    """Make a coordinator's keys, and tell its operator what comes next.

    See `make_coordinator_keys`.
    """
    make_coordinator_keys(folder, host, datetime.now(UTC))
    announce(f"next: give {folder / CA_FILE} to every site, and ask each for its node's public key")


def make_coordinator_keys(folder: Path, host: str, now: datetime) -> None:
    """Make the certificate authority and the TLS key of a SuperLink.

    The authority's own key is not kept: it signs this one certificate.

    Args:
        folder: where to write ``ca.crt``, which the sites need, ``server.crt`` and ``server.key``.
        host: the name or the address by which the sites reach the coordinator.
        now: the present time.

    Raises:
        FileError: the folder cannot be written.
    """
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = _name("ECAN-SER federation"), _name(host)
    root = _certificate(issuer, issuer, authority.public_key(), now)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    leaf = _certificate(subject, issuer, server.public_key(), now)
    leaf = leaf.add_extension(x509.SubjectAlternativeName([_alternative_name(host)]), critical=False)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, builder in ((CA_FILE, root), (CERTIFICATE_FILE, leaf)):
        pem = builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        write_atomic(folder / name, pem)
    private = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomic(folder / SERVER_KEY_FILE, private)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
    return builder.not_valid_after(now.astimezone(UTC) + timedelta(days=_VALID_DAYS))
