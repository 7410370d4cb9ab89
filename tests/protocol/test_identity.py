from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from protocol import signing
from protocol.errors import KeyFault, StorageFault, Unauthentic
from protocol.identity import (
    ENDORSEMENT_OID,
    ENDORSEMENT_TYPE,
    Identity,
    Role,
    check_endorsement,
    create_identity,
    endorsed_fingerprint,
    has_identity,
    load_identity,
    server_name,
    write_identity,
)
from tests.protocol.samples import flipped

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDENTITY = create_identity(Role.TARGET, NOW)


def forged(
    *,
    owner: Identity = IDENTITY,
    tls_key: ec.EllipticCurvePrivateKey | None = None,
    signed_by: ec.EllipticCurvePrivateKey | None = None,
    endorsement: bytes | None = None,
    dns: str | None = None,
    uri: str | None = None,
    subject: str | None = None,
    extra: x509.ExtensionType | None = None,
    oid: x509.ObjectIdentifier = ENDORSEMENT_OID,
) -> bytes:
    """A certificate as `create_identity` makes them for ``owner``, save for what is given."""
    tls_key = tls_key or owner.tls_key
    fingerprint = owner.fingerprint
    info = tls_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if endorsement is None:
        endorsement = signing.raw_public_key(owner.signing_key)
        endorsement += signing.bare_signature(ENDORSEMENT_TYPE, info, owner.signing_key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject or server_name(fingerprint))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(tls_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName(dns or server_name(fingerprint)),
                    x509.UniformResourceIdentifier(uri or f"spiffe://ecan/target/{fingerprint.hex()}"),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.UnrecognizedExtension(oid, endorsement), critical=False)
    )
    if extra is not None:
        builder = builder.add_extension(extra, critical=False)
    return builder.sign(signed_by or tls_key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_certificate_names_the_identity_that_endorses_it() -> None:
    for certificate in (IDENTITY.certificate_pem, IDENTITY.certificate.public_bytes(Encoding.DER), forged()):
        assert endorsed_fingerprint(certificate) == IDENTITY.fingerprint
        assert check_endorsement(certificate).role == Role.TARGET


def test_the_fingerprint_is_the_hash_of_the_public_signing_key() -> None:
    public_key = IDENTITY.signing_key.public_key().public_bytes_raw()
    assert IDENTITY.fingerprint == signing.fingerprint_of(public_key)


def test_a_certificate_is_valid_from_the_day_before_for_ten_years() -> None:
    assert IDENTITY.certificate.not_valid_before_utc == NOW - timedelta(days=1)
    assert IDENTITY.certificate.not_valid_after_utc.year == 2036


OTHER = create_identity(Role.SOURCE, NOW)
HEX = IDENTITY.fingerprint.hex()
ENDORSEMENT = signing.raw_public_key(IDENTITY.signing_key) + bytes(64)


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not a certificate", id="not-a-certificate"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\n", id="cut-pem"),
        pytest.param(IDENTITY.certificate_pem * 10, id="too-long"),
        pytest.param(forged()[:-1], id="cut-der"),
        pytest.param(forged(tls_key=OTHER.tls_key, endorsement=ENDORSEMENT), id="no-signature"),
        pytest.param(forged(endorsement=ENDORSEMENT + b"\0"), id="long-endorsement"),
        pytest.param(forged(endorsement=b""), id="empty-endorsement"),
        pytest.param(forged(dns="example.org"), id="other-dns-name"),
        pytest.param(forged(dns=server_name(OTHER.fingerprint)), id="name-of-another-identity"),
        pytest.param(forged(uri=f"spiffe://ecan/admin/{HEX}"), id="unknown-role"),
        pytest.param(forged(uri=f"spiffe://elsewhere/target/{HEX}"), id="other-trust-domain"),
        pytest.param(forged(subject="example.org"), id="other-subject"),
        pytest.param(forged(signed_by=OTHER.tls_key), id="not-self-signed"),
        pytest.param(forged(extra=x509.OCSPNoCheck()), id="extra-extension"),
        pytest.param(forged(oid=x509.ObjectIdentifier("1.3.6.1.4.1.99999.2")), id="other-extension"),
        pytest.param(forged(tls_key=ec.generate_private_key(ec.SECP384R1())), id="other-curve"),
    ],
)
def test_a_certificate_that_is_not_endorsed_to_the_letter_is_refused(certificate: bytes) -> None:
    with pytest.raises(Unauthentic):
        endorsed_fingerprint(certificate)


def test_an_endorsement_cannot_be_moved_to_another_tls_key() -> None:
    carried = IDENTITY.certificate.extensions.get_extension_for_oid(ENDORSEMENT_OID).value
    assert isinstance(carried, x509.UnrecognizedExtension)
    with pytest.raises(Unauthentic) as caught:
        endorsed_fingerprint(forged(tls_key=OTHER.tls_key, endorsement=carried.value))
    assert caught.value.code == "SIG_INVALID"


def test_no_flipped_bit_of_a_certificate_makes_it_say_something_else() -> None:
    certificate = IDENTITY.certificate.public_bytes(Encoding.DER)
    signed_part = certificate.index(IDENTITY.certificate.tbs_certificate_bytes)
    signature = signed_part + len(IDENTITY.certificate.tbs_certificate_bytes)
    for bit in range(8 * signature):
        with pytest.raises(Unauthentic):
            endorsed_fingerprint(flipped(certificate, bit))
    for bit in range(8 * signature, 8 * len(certificate)):  # some encodings of one ECDSA signature are equivalent
        try:
            assert endorsed_fingerprint(flipped(certificate, bit)) == IDENTITY.fingerprint
        except Unauthentic:
            continue


def test_an_identity_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"
    assert not has_identity(folder)
    write_identity(IDENTITY, folder)
    assert has_identity(folder)
    loaded = load_identity(folder)
    assert loaded.fingerprint == IDENTITY.fingerprint
    assert loaded.tls_key_pem == IDENTITY.tls_key_pem
    assert loaded.certificate_pem == IDENTITY.certificate_pem
    assert loaded.role == Role.TARGET


def test_private_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    write_identity(IDENTITY, tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"signing.key": 0o600, "tls.key": 0o600, "identity.pem": 0o644}


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    write_identity(IDENTITY, tmp_path)
    with pytest.raises(KeyFault) as caught:
        write_identity(OTHER, tmp_path)
    assert caught.value.code == "KEY_EXISTS"
    assert load_identity(tmp_path).fingerprint == IDENTITY.fingerprint


def test_a_run_that_was_killed_before_the_signing_key_can_be_repeated(tmp_path: Path) -> None:
    write_identity(OTHER, tmp_path)
    (tmp_path / "signing.key").unlink()
    write_identity(IDENTITY, tmp_path)
    assert load_identity(tmp_path).fingerprint == IDENTITY.fingerprint


@pytest.mark.parametrize("name", ["signing.key", "tls.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path, name: str, mode: int) -> None:
    write_identity(IDENTITY, tmp_path)
    (tmp_path / name).chmod(mode)
    with pytest.raises(KeyFault, match="chmod 600") as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_EXPOSED"


@pytest.mark.parametrize("name", ["signing.key", "tls.key", "identity.pem"])
def test_a_missing_key_file_is_named(tmp_path: Path, name: str) -> None:
    write_identity(IDENTITY, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(KeyFault, match=name) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_MISSING"


@pytest.mark.parametrize("name", ["signing.key", "tls.key", "identity.pem"])
def test_a_damaged_key_file_is_named(tmp_path: Path, name: str) -> None:
    write_identity(IDENTITY, tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(KeyFault, match=name) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_DAMAGED"


@pytest.mark.parametrize(("name", "other"), [("signing.key", "tls.key"), ("tls.key", "signing.key")])
def test_a_key_of_the_wrong_kind_is_refused(tmp_path: Path, name: str, other: str) -> None:
    write_identity(IDENTITY, tmp_path)
    (tmp_path / name).write_bytes((tmp_path / other).read_bytes())
    with pytest.raises(KeyFault, match=name) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_DAMAGED"


def test_a_folder_that_cannot_be_made_is_a_storage_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageFault, match="cannot be made"):
        write_identity(IDENTITY, tmp_path / "file" / "keys")


@pytest.mark.parametrize("name", ["signing.key", "tls.key", "identity.pem"])
def test_files_of_two_identities_are_not_mixed(tmp_path: Path, name: str) -> None:
    write_identity(IDENTITY, tmp_path / "one")
    write_identity(OTHER, tmp_path / "two")
    (tmp_path / "two" / name).replace(tmp_path / "one" / name)
    with pytest.raises(KeyFault, match="do not belong together"):
        load_identity(tmp_path / "one")


def test_two_identities_are_never_the_same() -> None:
    assert OTHER.fingerprint != IDENTITY.fingerprint
    assert isinstance(OTHER.signing_key, Ed25519PrivateKey)
