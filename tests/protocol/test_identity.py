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
    ONLINE_TYPE,
    SERVER_FILES,
    Identity,
    Role,
    check_endorsement,
    check_online,
    create_identity,
    endorse_online,
    endorsed_fingerprint,
    has_identity,
    is_locked,
    load_identity,
    load_public,
    load_server_identity,
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


PRIVATE_NAMES = {
    Role.SOURCE: ["signing.key", "tls.key", "online.key"],
    Role.TARGET: ["signing.key", "tls.key", "sealing.key"],
}
PUBLIC_NAMES = {Role.SOURCE: ["identity.pem", "online.endorsement"], Role.TARGET: ["identity.pem"]}
IDENTITIES = [pytest.param(identity, id=str(identity.role)) for identity in (IDENTITY, OTHER)]
EACH_PRIVATE_FILE = [
    pytest.param(identity, name, id=f"{identity.role}-{name}")
    for identity in (IDENTITY, OTHER)
    for name in PRIVATE_NAMES[identity.role]
]
EACH_FILE = EACH_PRIVATE_FILE + [
    pytest.param(identity, name, id=f"{identity.role}-{name}")
    for identity in (IDENTITY, OTHER)
    for name in PUBLIC_NAMES[identity.role]
]


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("passphrase", [None, b"correct horse battery"])
def test_private_files_are_for_their_owner_alone(tmp_path: Path, identity: Identity, passphrase: bytes | None) -> None:
    write_identity(identity, tmp_path, passphrase)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(PRIVATE_NAMES[identity.role], 0o600) | dict.fromkeys(
        PUBLIC_NAMES[identity.role], 0o644
    )
    for name in PRIVATE_NAMES[identity.role]:
        assert (b"ENCRYPTED" in (tmp_path / name).read_bytes()) == (passphrase is not None)
    assert is_locked(tmp_path) == (passphrase is not None)


def test_a_source_has_an_online_key_and_a_target_a_sealing_key(tmp_path: Path) -> None:
    write_identity(OTHER, tmp_path / "source")
    write_identity(IDENTITY, tmp_path / "target")
    source, target = load_identity(tmp_path / "source"), load_identity(tmp_path / "target")
    assert source.online_key is not None
    assert OTHER.online_key is not None
    assert signing.raw_public_key(source.online_key) == signing.raw_public_key(OTHER.online_key)
    assert source.online_endorsement == OTHER.online_endorsement
    assert source.sealing_key is None
    assert target.sealing_key is not None
    assert IDENTITY.sealing_key is not None
    assert target.sealing_key.public_key == IDENTITY.sealing_key.public_key
    assert target.online_key is target.online_endorsement is None


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_passphrase_opens_what_it_has_locked(tmp_path: Path, identity: Identity) -> None:
    write_identity(identity, tmp_path, b"correct horse battery")
    assert load_identity(tmp_path, b"correct horse battery").fingerprint == identity.fingerprint
    with pytest.raises(KeyFault, match="ECAN_PASSPHRASE_FILE") as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_LOCKED"
    with pytest.raises(KeyFault, match="give the right one") as caught:
        load_identity(tmp_path, b"correct horse staple")
    assert caught.value.code == "KEY_LOCKED"
    assert caught.value.exit_code == 3


def test_keys_that_are_not_locked_need_no_passphrase(tmp_path: Path) -> None:
    write_identity(IDENTITY, tmp_path)
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "nothing")
    assert load_identity(tmp_path, b"given all the same").fingerprint == IDENTITY.fingerprint


@pytest.mark.parametrize("passphrase", [None, b"correct horse battery"])
def test_anyone_may_see_whose_keys_they_are(tmp_path: Path, passphrase: bytes | None) -> None:
    write_identity(IDENTITY, tmp_path, passphrase)
    for name in PRIVATE_NAMES[Role.TARGET]:
        (tmp_path / name).unlink()
    public = load_public(tmp_path)
    assert (public.role, public.fingerprint) == (Role.TARGET, IDENTITY.fingerprint)
    assert public.certificate_pem == IDENTITY.certificate_pem


@pytest.mark.parametrize("passphrase", [None, b"correct horse battery"])
def test_the_process_on_the_network_never_needs_the_release_key(tmp_path: Path, passphrase: bytes | None) -> None:
    write_identity(OTHER, tmp_path, passphrase)
    for path in tmp_path.iterdir():
        if path.name not in SERVER_FILES:
            path.unlink()
    assert not has_identity(tmp_path)
    server = load_server_identity(tmp_path, passphrase)
    assert server.fingerprint == OTHER.fingerprint
    assert server.tls_key_pem == OTHER.tls_key_pem
    assert server.certificate_pem == OTHER.certificate_pem
    check_online(server.online_endorsement, signing.raw_public_key(server.online_key), OTHER.fingerprint)
    assert "PRIVATE KEY" not in repr(server)


def test_a_target_is_no_server(tmp_path: Path) -> None:
    write_identity(IDENTITY, tmp_path)
    with pytest.raises(KeyFault, match="name the source's keys folder"):
        load_server_identity(tmp_path)


@pytest.mark.parametrize("name", SERVER_FILES)
def test_a_server_whose_files_are_of_two_sources_is_refused(tmp_path: Path, name: str) -> None:
    write_identity(OTHER, tmp_path / "one")
    write_identity(create_identity(Role.SOURCE, NOW), tmp_path / "two")
    (tmp_path / "two" / name).replace(tmp_path / "one" / name)
    with pytest.raises(KeyFault, match="do not belong together"):
        load_server_identity(tmp_path / "one")


@pytest.mark.parametrize("name", SERVER_FILES)
def test_a_server_whose_file_is_missing_or_damaged_is_refused(tmp_path: Path, name: str) -> None:
    write_identity(OTHER, tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(KeyFault, match=name) as caught:
        load_server_identity(tmp_path)
    assert caught.value.code == "KEY_DAMAGED"
    (tmp_path / name).unlink()
    with pytest.raises(KeyFault, match=name) as caught:
        load_server_identity(tmp_path)
    assert caught.value.code == "KEY_MISSING"


def test_a_locked_server_says_so(tmp_path: Path) -> None:
    write_identity(OTHER, tmp_path, b"correct horse battery")
    with pytest.raises(KeyFault) as caught:
        load_server_identity(tmp_path)
    assert caught.value.code == "KEY_LOCKED"


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
    with pytest.raises(Unauthentic) as caught:
        check_online(endorsement, public_key, issuer)
    assert caught.value.code == code


def test_every_flipped_bit_of_an_online_endorsement_is_refused() -> None:
    for bit in range(8 * len(ONLINE_ENDORSEMENT)):
        with pytest.raises(Unauthentic):
            check_online(flipped(ONLINE_ENDORSEMENT, bit), PUBLIC_ONLINE_KEY, OTHER.fingerprint)


def test_the_two_endorsements_of_a_source_are_of_different_types() -> None:
    assert ONLINE_TYPE != ENDORSEMENT_TYPE


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


@pytest.mark.parametrize(("identity", "name"), EACH_PRIVATE_FILE)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(
    tmp_path: Path, identity: Identity, name: str, mode: int
) -> None:
    write_identity(identity, tmp_path)
    (tmp_path / name).chmod(mode)
    with pytest.raises(KeyFault, match="chmod 600") as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_EXPOSED"


@pytest.mark.parametrize(("identity", "name"), EACH_FILE)
def test_a_missing_key_file_is_named(tmp_path: Path, identity: Identity, name: str) -> None:
    write_identity(identity, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(KeyFault, match=name) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_MISSING"


@pytest.mark.parametrize(("identity", "name"), EACH_FILE)
def test_a_damaged_key_file_is_named(tmp_path: Path, identity: Identity, name: str) -> None:
    write_identity(identity, tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(KeyFault, match=name) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_DAMAGED"


@pytest.mark.parametrize(("identity", "name"), EACH_PRIVATE_FILE)
def test_a_key_of_the_wrong_kind_is_refused(tmp_path: Path, identity: Identity, name: str) -> None:
    write_identity(identity, tmp_path)
    other = "signing.key" if name == "tls.key" else "tls.key"
    (tmp_path / name).write_bytes((tmp_path / other).read_bytes())
    with pytest.raises(KeyFault, match=name) as caught:
        load_identity(tmp_path)
    assert caught.value.code == "KEY_DAMAGED"


def test_a_folder_that_cannot_be_made_is_a_storage_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageFault, match="cannot be made"):
        write_identity(IDENTITY, tmp_path / "file" / "keys")


@pytest.mark.parametrize(
    ("role", "name"),
    [(Role.SOURCE, name) for name in (*SERVER_FILES, "signing.key")]
    + [(Role.TARGET, name) for name in ("identity.pem", "tls.key", "signing.key")],
)
def test_files_of_two_identities_are_not_mixed(tmp_path: Path, role: Role, name: str) -> None:
    write_identity(create_identity(role, NOW), tmp_path / "one")
    write_identity(create_identity(role, NOW), tmp_path / "two")
    (tmp_path / "two" / name).replace(tmp_path / "one" / name)
    with pytest.raises(KeyFault, match="do not belong together"):
        load_identity(tmp_path / "one")


def test_two_identities_are_never_the_same() -> None:
    assert OTHER.fingerprint != IDENTITY.fingerprint
    assert isinstance(OTHER.signing_key, Ed25519PrivateKey)
