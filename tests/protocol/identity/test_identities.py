from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from protocol.errors import UnauthenticError
from protocol.identity import signing
from protocol.identity.identities import (
    ENDORSEMENT_OID,
    ENDORSEMENT_TYPE,
    ONLINE_TYPE,
    Identity,
    Role,
    check_endorsement,
    check_online,
    create_identity,
    endorse_online,
    endorsed_fingerprint,
    server_name,
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
        pytest.param(IDENTITY.certificate_pem * 20, id="too-long"),
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
    with pytest.raises(UnauthenticError):
        endorsed_fingerprint(certificate)


def test_an_endorsement_cannot_be_moved_to_another_tls_key() -> None:
    carried = IDENTITY.certificate.extensions.get_extension_for_oid(ENDORSEMENT_OID).value
    assert isinstance(carried, x509.UnrecognizedExtension)
    with pytest.raises(UnauthenticError) as caught:
        endorsed_fingerprint(forged(tls_key=OTHER.tls_key, endorsement=carried.value))
    assert caught.value.code == "SIG_INVALID"


def test_no_flipped_bit_of_a_certificate_makes_it_say_something_else() -> None:
    certificate = IDENTITY.certificate.public_bytes(Encoding.DER)
    signed_part = certificate.index(IDENTITY.certificate.tbs_certificate_bytes)
    signature = signed_part + len(IDENTITY.certificate.tbs_certificate_bytes)
    for bit in range(8 * signature):
        with pytest.raises(UnauthenticError):
            endorsed_fingerprint(flipped(certificate, bit))
    for bit in range(8 * signature, 8 * len(certificate)):  # some encodings of one ECDSA signature are equivalent
        try:
            assert endorsed_fingerprint(flipped(certificate, bit)) == IDENTITY.fingerprint
        except UnauthenticError:
            continue


ONLINE_KEY = Ed25519PrivateKey.generate()
PUBLIC_ONLINE_KEY = signing.raw_public_key(ONLINE_KEY)
ONLINE_ENDORSEMENT = endorse_online(ONLINE_KEY, OTHER.signing_key)


def test_a_source_endorses_its_online_key() -> None:
    check_online(ONLINE_ENDORSEMENT, PUBLIC_ONLINE_KEY, OTHER.fingerprint)


@pytest.mark.parametrize(
    ("endorsement", "public_key", "issuer", "code"),
    [
        pytest.param(ONLINE_ENDORSEMENT, PUBLIC_ONLINE_KEY, IDENTITY.fingerprint, "IDENTITY", id="other-issuer"),
        pytest.param(
            endorse_online(ONLINE_KEY, IDENTITY.signing_key),
            PUBLIC_ONLINE_KEY,
            OTHER.fingerprint,
            "IDENTITY",
            id="endorsed-by-another",
        ),
        pytest.param(
            ONLINE_ENDORSEMENT,
            signing.raw_public_key(OTHER.signing_key),
            OTHER.fingerprint,
            "SIG_INVALID",
            id="other-key",
        ),
        pytest.param(ONLINE_ENDORSEMENT, PUBLIC_ONLINE_KEY[:-1], OTHER.fingerprint, "IDENTITY", id="short-key"),
        pytest.param(ONLINE_ENDORSEMENT[:-1], PUBLIC_ONLINE_KEY, OTHER.fingerprint, "IDENTITY", id="short"),
        pytest.param(ONLINE_ENDORSEMENT + b"\0", PUBLIC_ONLINE_KEY, OTHER.fingerprint, "IDENTITY", id="long"),
        pytest.param(b"", PUBLIC_ONLINE_KEY, OTHER.fingerprint, "IDENTITY", id="none"),
        pytest.param(
            signing.raw_public_key(OTHER.signing_key)
            + signing.bare_signature(ENDORSEMENT_TYPE, PUBLIC_ONLINE_KEY, OTHER.signing_key),
            PUBLIC_ONLINE_KEY,
            OTHER.fingerprint,
            "SIG_INVALID",
            id="signed-as-something-else",
        ),
    ],
)
def test_an_online_key_without_its_sources_word_is_refused(
    endorsement: bytes, public_key: bytes, issuer: bytes, code: str
) -> None:
    with pytest.raises(UnauthenticError) as caught:
        check_online(endorsement, public_key, issuer)
    assert caught.value.code == code


def test_every_flipped_bit_of_an_online_endorsement_is_refused() -> None:
    for bit in range(8 * len(ONLINE_ENDORSEMENT)):
        with pytest.raises(UnauthenticError):
            check_online(flipped(ONLINE_ENDORSEMENT, bit), PUBLIC_ONLINE_KEY, OTHER.fingerprint)


def test_the_two_endorsements_of_a_source_are_of_different_types() -> None:
    assert ONLINE_TYPE != ENDORSEMENT_TYPE


def test_two_identities_are_never_the_same() -> None:
    assert OTHER.fingerprint != IDENTITY.fingerprint
    assert isinstance(OTHER.signing_key, Ed25519PrivateKey)
