"""Hostile requests, receipts, signed statements, ledgers and key files, given to both command lines.

The threat analysis has no rows for them; the letters are ours: Q requests, R receipts, V revocation lists, H
hand-overs, L ledgers, K key files. A succession whose number leaves some out is accepted, as
docs/bundle-format.md says: who starts with a later key cannot know the earlier ones.
"""

import contextlib
import functools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protocol.identity import signing
from protocol.identity.identities import Role
from protocol.identity.key_files import load_identity
from protocol.ledger.grants import SealedFacts
from protocol.ledger.store import Ledger
from protocol.statements.receipts import MAX_RECEIPT_BYTES, Receipt, Verdict, sign_receipt
from protocol.statements.request import MAX_REQUEST_BYTES, grant_id, sign_request
from protocol.statements.revocations import MAX_REVOCATIONS_BYTES, Revocations, open_revocations, sign_revocations
from protocol.statements.revocations import PAYLOAD_TYPE as REVOCATIONS_TYPE
from protocol.statements.succession import CONSENT_TYPE, OLD_CONSENT_TYPE, Succession, sign_succession
from protocol.statements.succession import OLD_PAYLOAD_TYPE as OLD_SUCCESSION_TYPE
from protocol.statements.succession import PAYLOAD_TYPE as SUCCESSION_TYPE
from source_site.keys.folder import LEDGER_FILE, LEDGER_FOLDER, init_keys, outbox_file, released_file
from tests.hostile import bundles as b
from tests.hostile import command_line, desks, envelopes
from tests.hostile.bundles import MARKER, OTHER_SITE, SITE, TODAY, compact, delivered
from tests.hostile.command_line import Ending
from tests.hostile.desks import TRUST, Desk, check_unchanged_refusal
from tests.hostile.envelopes import Fault
from tests.hostile.sealed_files import LOW_ORDER
from tests.protocol.samples import ISSUER, OTHER_KEY, RELEASE_KEY
from tests.source_site.training.runs import write_run
from tests.support.sites import new_identity

NOW_S = TODAY * 86_400
TERABYTE = 1 << 40
SITE_KEY = SITE.identity.signing_key


def named(fault: object) -> str:
    return fault.what.replace(" ", "-") if isinstance(fault, Fault) else str(fault).replace(" ", "-")


# The two sites.


class SourceDesk:
    """A source's folder: its keys, a trained run, and grants that have come as far as their names say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        self.ledger = self.keys / LEDGER_FOLDER / LEDGER_FILE

    def lay(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def run(self, *words: object) -> Ending:
        return command_line.run("ecan-source", *words, folder=self.folder)

    def grant(self, *requests: str) -> Ending:
        named = [word for request in requests or ("request",) for word in ("--request", request)]
        return self.run("grant", "--model", "run", "--keys", "keys", *named)

    def close(self, request: str = "request") -> Ending:
        return self.run("close", "--keys", "keys", "--request", request, "--receipt", "receipt")


STATES = ("carried", "issued", "denied", "closed")
REQUESTS = {name: sign_request(SITE.identity, nonce=name.encode().ljust(32), day=TODAY) for name in STATES}
FRESH_REQUEST = sign_request(SITE.identity, nonce=b"fresh".ljust(32), day=TODAY)


def facts(name: str) -> SealedFacts:
    """What the ledger knows of a grant's bundle; its bytes are not needed here."""
    return SealedFacts(
        sealed_sha256=b.sha256(f"sealed {name}".encode()),
        size=1000,
        bundle_sha256=b.sha256(f"bundle {name}".encode()),
        weights_sha256=b.sha256(b"weights"),
    )


@pytest.fixture(scope="module")
def source_template(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    init_keys(folder / "keys")
    write_run(folder / "run")
    ledger = Ledger(folder / "keys" / LEDGER_FOLDER / LEDGER_FILE)
    for name, request in REQUESTS.items():
        (folder / name).write_bytes(request)
        grant = grant_id(request)
        ledger.issue(grant, SITE.identity.fingerprint, bytes(32), lambda _, name=name: facts(name), now_s=NOW_S)
        if name in ("carried", "closed"):
            ledger.carry(grant, now_s=NOW_S)
        if name == "closed":
            ledger.close(grant, receipt_for("closed"), now_s=NOW_S)
        if name == "denied":
            ledger.deny(grant, now_s=NOW_S)
    del ledger  # closes the file
    return folder


@pytest.fixture
def source(tmp_path, source_template) -> SourceDesk:
    shutil.copytree(source_template, tmp_path, dirs_exist_ok=True)
    return SourceDesk(tmp_path)


@pytest.fixture(scope="module")
def target_template(tmp_path_factory) -> Path:
    folder = desks.write_template(tmp_path_factory.mktemp("site"))
    desk = Desk(folder)
    desk.remember(lambda state: state.learned(ISSUER, revocations(version=3, weights=1)))
    return folder


@pytest.fixture
def desk(tmp_path, target_template) -> Desk:
    return desks.lay_out(tmp_path, target_template)


# Q: requests.


def resigned(payload: dict[str, object], key=SITE_KEY) -> bytes:
    return signing.sign("application/vnd.ecan.request.v1+json", compact(payload), key)


def requesting(**changes: object) -> bytes:
    """A request that this site has signed, with other fields."""
    return resigned(json.loads(signing.parse_envelope(FRESH_REQUEST).payload) | changes)


def certificate(**changes: str) -> str:
    pem = SITE.identity.certificate_pem.decode()
    for old, new in changes.items():
        pem = pem.replace(old, new)
    return pem


def sealing_key(point: bytes | None = None, lattice: bytes | None = None) -> str:
    raw = b.SEALING_KEY.raw
    return ((lattice or raw[:1184]) + (point or raw[1184:])).hex()


SOURCE_IDENTITY = new_identity(Role.SOURCE)
OTHER_PEM = OTHER_SITE.identity.certificate_pem.decode()
REQUEST_FAULTS = [
    *envelopes.faults(FRESH_REQUEST, SITE_KEY, max_bytes=MAX_REQUEST_BYTES, other_key_word=(10, "SIG_INVALID")),
    Fault("certificate of another site", requesting(certificate=OTHER_PEM), 10, "IDENTITY"),
    Fault("certificate of a source", requesting(certificate=SOURCE_IDENTITY.certificate_pem.decode()), 10, "IDENTITY"),
    Fault("text for a certificate", requesting(certificate=MARKER), 10, "IDENTITY"),
    Fault("empty certificate", requesting(certificate=""), 10, "IDENTITY"),
    Fault("certificate too long", requesting(certificate=MARKER * 1600), 12, "RANGE"),
    Fault("text behind the certificate", requesting(certificate=certificate() + MARKER), 12, "NOT_CANONICAL"),
    Fault("certificate twice", requesting(certificate=certificate() * 2), 12, "NOT_CANONICAL"),
    Fault("text before the certificate", requesting(certificate=MARKER + "\n" + certificate()), 10, "IDENTITY"),
    Fault(
        "certificate in longer lines",
        requesting(certificate=SITE.identity.certificate_pem.decode().replace("\n", "", 2)),
        12,
        "NOT_CANONICAL",
    ),
    Fault(
        "certificate with line ends of Windows",
        requesting(certificate=certificate().replace("\n", "\r\n")),
        12,
        "NOT_CANONICAL",
    ),
    Fault("private key for a certificate", requesting(certificate=SITE.identity.tls_key_pem.decode()), 10, "IDENTITY"),
    Fault(
        "signed by another site",
        resigned(json.loads(signing.parse_envelope(FRESH_REQUEST).payload), OTHER_SITE.identity.signing_key),
        10,
        "IDENTITY",
    ),
    Fault("sealing key too short", requesting(sealing_key=sealing_key()[:-2]), 12, "RANGE"),
    Fault("sealing key in capitals", requesting(sealing_key=sealing_key().upper()), 12, "RANGE"),
    *(
        Fault(f"sealing key of low order {number}", requesting(sealing_key=sealing_key(point)), 12, "VALUE")
        for number, point in enumerate(LOW_ORDER)
    ),
    Fault(
        "sealing key beyond the prime",
        requesting(sealing_key=sealing_key(b"\xee" + b"\xff" * 30 + b"\x7f")),
        12,
        "VALUE",
    ),
    Fault(
        "sealing key with its top bit", requesting(sealing_key=sealing_key(b"\x09" + bytes(30) + b"\x80")), 12, "VALUE"
    ),
    Fault("lattice key of no numbers", requesting(sealing_key=sealing_key(lattice=b"\xff" * 1184)), 12, "VALUE"),
    Fault("nonce too short", requesting(nonce="00" * 31), 12, "RANGE"),
    Fault("nonce of letters", requesting(nonce="zq" * 32), 12, "RANGE"),
    Fault("day before the first", requesting(day=-1), 12, "RANGE"),
    Fault("day beyond the last", requesting(day=65536), 12, "RANGE"),
    Fault("bundle for a request", b.honest(), 12, "LENGTH"),
    Fault("receipt for a request", desks.receipt(b.honest()), 10, "PAYLOAD_TYPE"),
]


def test_an_untouched_request_is_granted(source):
    source.lay("request", requesting())
    ending = source.grant()
    assert ending.code == 0, ending.stderr


@pytest.mark.parametrize("fault", REQUEST_FAULTS, ids=named)
def test_row_q_request(source, fault):
    source.lay("request", fault.data)
    check_unchanged_refusal(source.folder, source.grant, fault.code, fault.word)


@pytest.mark.parametrize("fault", REQUEST_FAULTS[::6], ids=named)
def test_row_q_request_of_an_export(source, fault):
    source.lay("request", fault.data)
    words = ("export", "--model", "run", "--keys", "keys", "--request", "request")
    for way in (("--file", "carried.ecan"), ("--listen", "127.0.0.1:0")):
        run = functools.partial(source.run, *words, *way)
        check_unchanged_refusal(source.folder, run, fault.code, fault.word)


def test_row_q_hostile_request_beside_a_good_one(source):
    """All are read before anything is sealed."""
    source.lay("good", FRESH_REQUEST)
    source.lay("request", requesting(sealing_key=sealing_key(LOW_ORDER[0])))
    check_unchanged_refusal(source.folder, lambda: source.grant("good", "request"), 12, "VALUE")


@pytest.mark.parametrize("state", ["denied", "closed"])
def test_row_q_request_whose_grant_has_ended(source, state):
    check_unchanged_refusal(source.folder, lambda: source.grant(state), 11, "STATE")


@pytest.mark.parametrize("what", ["link", "pipe", "sparse"])
@pytest.mark.parametrize("file", ["request", "receipt"])
def test_row_q_path(source, what, file):
    source.lay("good", FRESH_REQUEST)
    path = source.folder / file
    if what == "link":
        path.symlink_to("good")
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, TERABYTE)
    run = source.grant if file == "request" else lambda: source.close("carried")
    check_unchanged_refusal(source.folder, run, 12, "LENGTH" if what == "sparse" else "NOT_REGULAR")


# R: receipts.


def receipt_for(name: str, key=SITE_KEY, **changes: object) -> bytes:
    """The receipt of a grant at the source, or a lie about it."""
    known = facts(name)
    fields = {
        "grant": grant_id(REQUESTS[name]),
        "sealed_sha256": known.sealed_sha256,
        "digest": known.bundle_sha256,
        "weights_sha256": known.weights_sha256,
        "verdict": Verdict.ACCEPTED,
        "day": TODAY,
    }
    return sign_receipt(Receipt(**(fields | changes)), key)


GOOD_RECEIPT = receipt_for("carried")
RECEIPT_FAULTS = [
    *envelopes.faults(GOOD_RECEIPT, SITE_KEY, max_bytes=MAX_RECEIPT_BYTES, other_key_word=(10, "KEY_UNKNOWN")),
    Fault("signed by another site", receipt_for("carried", OTHER_SITE.identity.signing_key), 10, "KEY_UNKNOWN"),
    Fault("signed by the source", receipt_for("carried", RELEASE_KEY), 10, "KEY_UNKNOWN"),
    Fault("verdict refused", receipt_for("carried", verdict=Verdict.REFUSED), 11, "RECEIPT"),
    Fault("of another grant", receipt_for("closed"), 11, "RECEIPT"),
    Fault("with another grant", receipt_for("carried", grant=grant_id(REQUESTS["closed"])), 11, "RECEIPT"),
    Fault("of other sealed bytes", receipt_for("carried", sealed_sha256=bytes(32)), 11, "RECEIPT"),
    Fault("of another bundle", receipt_for("carried", digest=bytes(32)), 11, "RECEIPT"),
    Fault("of other weights", receipt_for("carried", weights_sha256=bytes(32)), 11, "RECEIPT"),
    Fault("request for a receipt", REQUESTS["carried"], 12, "LENGTH"),
]


def test_an_untouched_receipt_closes_its_grant(source):
    source.lay("receipt", GOOD_RECEIPT)
    ending = source.close("carried")
    assert ending.code == 0, ending.stderr


@pytest.mark.parametrize("fault", RECEIPT_FAULTS, ids=named)
def test_row_r_receipt(source, fault):
    source.lay("receipt", fault.data)
    check_unchanged_refusal(source.folder, lambda: source.close("carried"), fault.code, fault.word)


@pytest.mark.parametrize(("state", "word"), [("issued", "PROTOCOL"), ("denied", "STATE")])
def test_row_r_receipt_for_what_never_left(source, state, word):
    source.lay("receipt", receipt_for(state))
    check_unchanged_refusal(source.folder, lambda: source.close(state), 11, word)


def test_row_r_receipt_for_what_was_never_granted(source):
    source.lay("receipt", GOOD_RECEIPT)
    source.lay("request", FRESH_REQUEST)
    check_unchanged_refusal(source.folder, source.close, 11, "GRANT")


@pytest.mark.parametrize(
    "fault",
    [*envelopes.faults(REQUESTS["carried"], SITE_KEY, max_bytes=MAX_REQUEST_BYTES, other_key_word=(10, "SIG_INVALID"))][
        ::4
    ],
    ids=named,
)
def test_row_r_good_receipt_with_a_hostile_request(source, fault):
    source.lay("receipt", GOOD_RECEIPT)
    source.lay("request", fault.data)
    check_unchanged_refusal(source.folder, source.close, fault.code, fault.word)


# V: revocation lists; H: hand-overs.


def revocations(*, version: int, weights: int = 0) -> Revocations:
    """A list of so many weights."""
    digests = frozenset(b.sha256(bytes([number])) for number in range(weights))
    return Revocations(version=version, day=TODAY, weights=digests, keys=frozenset())


def listing(version: int, weights: int = 1, key=RELEASE_KEY) -> bytes:
    return sign_revocations(revocations(version=version, weights=weights), key)


def stating(kind: str, good: bytes, **changes: object) -> bytes:
    """A statement that the source has signed, with other fields."""
    return signing.sign(kind, compact(json.loads(signing.parse_envelope(good).payload) | changes), RELEASE_KEY)


def handing_over(**changes: object) -> bytes:
    return stating(SUCCESSION_TYPE, HAND_OVER, **changes)


def consent(number: int, *, key=OTHER_KEY, old: bytes = ISSUER, kind: str = CONSENT_TYPE) -> str:
    agreed = compact({"number": number, "old": old.hex(), "last_list": 3, "last_release": 5})
    return signing.bare_signature(kind, agreed, key).hex()


def hand_over(old_key, new_key, number: int) -> bytes:
    return sign_succession(old_key, new_key, number, last_list=3, last_release=5)


DIGESTS = sorted(b.sha256(bytes([number])).hex() for number in range(65))
GOOD_LIST = listing(4)
HAND_OVER = hand_over(RELEASE_KEY, OTHER_KEY, 1)
THIRD_KEY = SITE_KEY

LIST_FAULTS = [
    *envelopes.faults(GOOD_LIST, RELEASE_KEY, max_bytes=MAX_REVOCATIONS_BYTES, other_key_word=(10, "KEY_UNKNOWN")),
    Fault("older list", listing(2), 11, "ROLLBACK"),
    Fault("same number and other content", listing(3, weights=2), 11, "ROLLBACK"),
    Fault("newer list that is shorter", listing(4, weights=0), 11, "ROLLBACK"),
    Fault("signed by another source", listing(4, key=OTHER_KEY), 10, "KEY_UNKNOWN"),
    Fault("65 numbers ahead", listing(68), 11, "FAST_FORWARD"),
    Fault("the last number that can be written", listing(65535), 11, "FAST_FORWARD"),
    Fault("from a day that has not come", stating(REVOCATIONS_TYPE, GOOD_LIST, day=65535), 11, "NOT_YET"),
    Fault("number 0", stating(REVOCATIONS_TYPE, GOOD_LIST, version=0), 12, "RANGE"),
    Fault("number beyond the last", stating(REVOCATIONS_TYPE, GOOD_LIST, version=65536), 12, "RANGE"),
    Fault(
        "digests unsorted", stating(REVOCATIONS_TYPE, GOOD_LIST, weights="".join(DIGESTS[1::-1])), 12, "NOT_CANONICAL"
    ),
    Fault("digest twice", stating(REVOCATIONS_TYPE, GOOD_LIST, weights=DIGESTS[0] * 2), 12, "NOT_CANONICAL"),
    Fault("part of a digest", stating(REVOCATIONS_TYPE, GOOD_LIST, weights=DIGESTS[0][:-2]), 12, "NOT_CANONICAL"),
    Fault("digest in capitals", stating(REVOCATIONS_TYPE, GOOD_LIST, keys="AB" * 32), 12, "NOT_CANONICAL"),
    Fault("text for digests", stating(REVOCATIONS_TYPE, GOOD_LIST, keys=MARKER), 12, "NOT_CANONICAL"),
    Fault("65 digests", stating(REVOCATIONS_TYPE, GOOD_LIST, weights="".join(DIGESTS)), 12, "RANGE"),
    Fault("manifest for a list", bytes(b.bundle.split(b.honest()).envelope), 10, "PAYLOAD_TYPE"),
    Fault("bundle for a list", b.honest(), 12, "LENGTH"),
]

HAND_OVER_FAULTS = [
    *[
        *envelopes.faults(HAND_OVER, RELEASE_KEY, max_bytes=MAX_REVOCATIONS_BYTES, other_key_word=(10, "KEY_UNKNOWN")),
    ][::3],  # the whole table is given to revocation lists, by the same reader
    Fault(
        "signed by a stranger",
        hand_over(OTHER_KEY, RELEASE_KEY, 1),
        10,
        "KEY_UNKNOWN",
    ),
    Fault("to itself", handing_over(public_key=b.key_text(RELEASE_KEY)), 12, "VALUE"),
    Fault("to a key that did not agree", handing_over(public_key=b.key_text(THIRD_KEY)), 10, "SIG_INVALID"),
    Fault("consent of zeros", handing_over(consent="00" * 64), 10, "SIG_INVALID"),
    Fault("consent cut", handing_over(consent="00" * 63), 12, "RANGE"),
    Fault("consent for another number", handing_over(consent=consent(2)), 10, "SIG_INVALID"),
    Fault("number changed behind the consent", handing_over(number=2), 10, "SIG_INVALID"),
    Fault("consent to another old key", handing_over(consent=consent(1, old=bytes(32))), 10, "SIG_INVALID"),
    Fault("last list changed behind the consent", handing_over(last_list=2), 10, "SIG_INVALID"),
    Fault("last release changed behind the consent", handing_over(last_release=9), 10, "SIG_INVALID"),
    Fault("last list of which none follows", handing_over(last_list=65535), 12, "RANGE"),
    Fault("no last list", stating(OLD_SUCCESSION_TYPE, HAND_OVER), 12, "UNKNOWN_FIELD"),
    Fault("consent of version 1", handing_over(consent=consent(1, kind=OLD_CONSENT_TYPE)), 10, "SIG_INVALID"),
    Fault("consent of another type", handing_over(consent=consent(1, kind="ecan/tls/v1")), 10, "SIG_INVALID"),
    Fault("consent of a third key", handing_over(consent=consent(1, key=THIRD_KEY)), 10, "SIG_INVALID"),
    Fault("number 0", handing_over(number=0, consent=consent(0)), 12, "RANGE"),
    Fault("number beyond the last", handing_over(number=65536, consent=consent(65536)), 12, "RANGE"),
]


def withdrawing(key, signer, version: int = 4) -> bytes:
    """A list like the known one that withdraws a key as well."""
    keys = frozenset([signing.fingerprint_of(signing.raw_public_key(key))])
    known = revocations(version=version, weights=1)
    return sign_revocations(Revocations(version=version, day=TODAY, weights=known.weights, keys=keys), signer)


def update(desk: Desk, *options: object) -> Callable[[], Ending]:
    return lambda: desk.run("trust", "update", "--keys", "keys", "--statement", "statement", *options)


@pytest.mark.parametrize(
    "statement",
    [GOOD_LIST, listing(3), HAND_OVER, hand_over(RELEASE_KEY, OTHER_KEY, 7)],
    ids=["newer-list", "same-list-again", "hand-over", "hand-over-that-leaves-numbers-out"],
)
def test_an_untouched_statement_is_learned(desk, statement):
    desk.lay("statement", statement)
    ending = update(desk)()
    assert ending.code == 0, ending.stderr


@pytest.mark.parametrize("fault", LIST_FAULTS, ids=named)
def test_row_v_revocation_list(desk, fault):
    desk.lay("statement", fault.data)
    check_unchanged_refusal(desk.folder, update(desk), fault.code, fault.word)


@pytest.mark.parametrize("fault", HAND_OVER_FAULTS, ids=named)
def test_row_h_hand_over(desk, fault):
    desk.lay("statement", fault.data)
    check_unchanged_refusal(desk.folder, update(desk), fault.code, fault.word)


@pytest.mark.parametrize("statement", [listing(4, key=OTHER_KEY), hand_over(OTHER_KEY, RELEASE_KEY, 1)])
def test_row_v_statement_for_another_source_than_named(desk, statement):
    desk.lay("statement", statement)
    check_unchanged_refusal(desk.folder, update(desk, "--trust", TRUST), 10, "KEY_UNKNOWN")


@pytest.mark.parametrize("trust", ["ab", MARKER, "zq" * 32, "statement", "keys/identity.pem", "/dev/zero", "keys"])
def test_row_v_trust_that_names_no_source(desk, trust):
    desk.lay("statement", GOOD_LIST)
    known = trust == "keys/identity.pem"  # a site's own certificate: it has signed nothing of this
    code, word = (10, "KEY_UNKNOWN") if known else (3, "KEY_UNKNOWN")
    check_unchanged_refusal(desk.folder, update(desk, "--trust", trust), code, word, never=())


def hand_over_to(desk: Desk, key, number: int) -> None:
    new = signing.fingerprint_of(signing.raw_public_key(key))
    desk.remember(lambda state: state.succeeded(Succession(old=ISSUER, new=new, number=number)))


def test_row_h_second_successor(desk):
    hand_over_to(desk, OTHER_KEY, 1)
    desk.lay("statement", hand_over(RELEASE_KEY, THIRD_KEY, 2))
    check_unchanged_refusal(desk.folder, update(desk), 11, "ROLLBACK")


def test_row_h_back_to_the_old_key(desk):
    hand_over_to(desk, OTHER_KEY, 1)
    desk.lay("statement", hand_over(OTHER_KEY, RELEASE_KEY, 2))
    check_unchanged_refusal(desk.folder, update(desk), 11, "ROLLBACK")


@pytest.mark.parametrize("number", [1, 4, 5])
def test_row_h_older_number(desk, number):
    hand_over_to(desk, OTHER_KEY, 5)
    desk.lay("statement", hand_over(OTHER_KEY, THIRD_KEY, number))
    check_unchanged_refusal(desk.folder, update(desk), 11, "ROLLBACK")


@pytest.mark.parametrize("key", [RELEASE_KEY, OTHER_KEY], ids=["old", "new"])
def test_row_h_withdrawn_key(desk, key):
    newest = open_revocations(withdrawing(key, RELEASE_KEY), ISSUER)
    desk.remember(lambda state: state.learned(ISSUER, newest))
    desk.lay("statement", HAND_OVER)
    check_unchanged_refusal(desk.folder, update(desk), 11, "REVOKED")


def test_row_h_bundle_of_the_old_key_after_the_hand_over(desk):
    hand_over_to(desk, OTHER_KEY, 1)
    desk.lay("sealed", delivered(b.honest()))
    check_unchanged_refusal(desk.folder, desk.receive, 10, "KEY_UNKNOWN", says="make a new request")


def test_row_v_stolen_old_key_withdraws_its_heir(desk):
    hand_over_to(desk, OTHER_KEY, 1)
    desk.lay("statement", withdrawing(OTHER_KEY, RELEASE_KEY))
    for options in ((), ("--trust", TRUST)):
        check_unchanged_refusal(desk.folder, update(desk, *options), 11, "ROLLBACK", says="only the heir")


def test_row_v_list_of_a_withdrawn_key(desk):
    desk.lay("statement", withdrawing(RELEASE_KEY, RELEASE_KEY))
    assert update(desk)().code == 0
    desk.lay("statement", withdrawing(RELEASE_KEY, RELEASE_KEY, version=5))
    check_unchanged_refusal(desk.folder, update(desk), 11, "REVOKED")


def test_row_h_list_of_the_old_key_cannot_bring_back_what_was_withdrawn(desk):
    hand_over_to(desk, OTHER_KEY, 1)
    desk.lay("statement", sign_revocations(revocations(version=2), OTHER_KEY))
    check_unchanged_refusal(desk.folder, update(desk), 11, "ROLLBACK")


def test_row_h_key_of_small_order(desk):
    """For the neutral point as a key, R neutral and S zero is a signature of whatever one likes."""
    neutral, consent = "01" + "00" * 31, "01" + "00" * 63
    desk.lay("statement", handing_over(public_key=neutral, consent=consent))
    check_unchanged_refusal(desk.folder, update(desk), 10, "SIG_INVALID")


OWN_LISTS = {
    "noise": (MARKER.encode() * 9, 12, "NOT_CANONICAL"),
    "empty": (b"", 12, "NOT_CANONICAL"),
    "of-another-source": (GOOD_LIST, 10, "KEY_UNKNOWN"),
    "request": (FRESH_REQUEST, 10, "KEY_UNKNOWN"),
    "too-long": (b" " * (MAX_REVOCATIONS_BYTES + 1), 12, "LENGTH"),
}


@pytest.mark.parametrize("name", OWN_LISTS)
def test_row_v_own_list_at_the_source(source, name):
    data, code, word = OWN_LISTS[name]
    (source.keys / "public" / "revocations").write_bytes(data)
    run = lambda: source.run("revoke", "--keys", "keys", "--release", "1")  # noqa: E731
    check_unchanged_refusal(source.folder, run, code, word)


# L: ledgers.


def spoil(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return write


def rewrite(*statements: str) -> Callable[[Path], None]:
    """Change a ledger as somebody would who has its file, its triggers taken away for the moment."""

    def change(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as db:
            triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                db.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                db.execute(statement)
            for _, sql in triggers:
                db.execute(sql)
            db.commit()

    return change


def sql(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()

    return change


def replace_by_another_database(path: Path) -> None:
    path.unlink()
    sql(f"CREATE TABLE {MARKER} (note TEXT)")(path)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN_LEDGERS: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "a-folder": replace_by_a_folder,
    "noise": spoil(lambda data: MARKER.encode() * 1000),
    "header-alone": spoil(lambda data: data[:100]),
    "half": spoil(lambda data: data[: len(data) // 2]),
    "another-database": replace_by_another_database,
    "empty": spoil(lambda _: b""),
}
"""What no command can use."""

CHANGED_LEDGERS: dict[str, Callable[[Path], None]] = {
    "a-trigger-gone": sql("DROP TRIGGER entries_are_never_changed"),
    "a-table-more": sql(f"CREATE TABLE {MARKER} (note TEXT)"),
    "a-trigger-more": sql(f"CREATE TRIGGER {MARKER} AFTER INSERT ON entries BEGIN SELECT 1; END"),
    "a-view-more": sql(f"CREATE VIEW {MARKER} AS SELECT * FROM grants"),
    "another-version": sql("PRAGMA user_version = 3"),
    "last-line-gone": rewrite("DELETE FROM entries WHERE seq = (SELECT MAX(seq) FROM entries)"),
    "first-line-gone": rewrite("DELETE FROM entries WHERE seq = 1"),
    "all-lines-gone": rewrite("DELETE FROM entries"),
    "hash-changed": rewrite("UPDATE entries SET hash = zeroblob(32) WHERE seq = 2"),
    "line-changed": rewrite(f'UPDATE entries SET record = CAST(\'{{"note":"{MARKER}"}}\' AS BLOB) WHERE seq = 2'),
    "line-empty": rewrite("UPDATE entries SET record = x'' WHERE seq = 3"),
    "lines-swapped": rewrite(
        "UPDATE entries SET seq = 100 WHERE seq = 1",
        "UPDATE entries SET seq = 1 WHERE seq = 2",
        "UPDATE entries SET seq = 2 WHERE seq = 100",
    ),
    "denied-grant-open-again": rewrite("UPDATE grants SET state = 'ISSUED' WHERE state = 'DENIED'"),
    "closed-grant-open-again": rewrite("UPDATE grants SET state = 'STREAMING', receipt = NULL WHERE state = 'CLOSED'"),
    "other-receipt": rewrite("UPDATE grants SET receipt = x'00' WHERE state = 'CLOSED'"),
    "other-site": rewrite("UPDATE grants SET audience = zeroblob(32) WHERE state = 'ISSUED'"),
    "other-digest": rewrite("UPDATE grants SET sealed_sha256 = zeroblob(32) WHERE state = 'ISSUED'"),
    "other-size": rewrite("UPDATE grants SET size = 2000000 WHERE state = 'ISSUED'"),
    "row-gone": rewrite("DELETE FROM grants WHERE state = 'DENIED'"),
    "release-of-another-model": rewrite("UPDATE releases SET model = x'" + "11" * 32 + "'"),
    "window-longer": rewrite("UPDATE grants SET expires_s = 99999999999 WHERE state = 'STREAMING'"),
}
"""What was changed from outside."""


@pytest.mark.parametrize("words", [("ledger", "verify"), ("ledger", "list")], ids=lambda words: words[-1])
def test_an_untouched_ledger_holds(source, words):
    ending = source.run(*words, "--keys", "keys")
    assert ending.code == 0, ending.stderr


@pytest.mark.parametrize("name", [*BROKEN_LEDGERS, *CHANGED_LEDGERS])
def test_row_l_ledger_that_is_verified(source, name):
    (BROKEN_LEDGERS | CHANGED_LEDGERS)[name](source.ledger)
    check_unchanged_refusal(source.folder, lambda: source.run("ledger", "verify", "--keys", "keys"), 16, "LEDGER")


@pytest.mark.parametrize("name", BROKEN_LEDGERS)
@pytest.mark.parametrize("command", ["list", "grant", "close", "deny", "revoke"])
def test_row_l_ledger_that_cannot_be_used(source, command, name):
    BROKEN_LEDGERS[name](source.ledger)
    source.lay("request", FRESH_REQUEST)
    source.lay("receipt", GOOD_RECEIPT)
    run = {
        "list": lambda: source.run("ledger", "list", "--keys", "keys"),
        "grant": source.grant,
        "close": lambda: source.close("carried"),
        "deny": lambda: source.run("deny", "--keys", "keys", "--grant", grant_id(REQUESTS["issued"]).hex()),
        "revoke": lambda: source.run("revoke", "--keys", "keys", "--release", "1"),
    }[command]
    check_unchanged_refusal(source.folder, run, 16, "LEDGER")


def released(source) -> tuple[bytes, bytes]:
    """What may leave for the fresh request, sealed, and the same in plain."""
    grant, keys = grant_id(FRESH_REQUEST), source.folder / "keys"
    return outbox_file(keys, grant).read_bytes(), released_file(keys, grant).read_bytes()


def restored_after_a_grant(source) -> tuple[bytes, bytes]:
    """Grant the fresh request, and put the ledger of before back."""
    source.lay("request", FRESH_REQUEST)
    kept = shutil.copytree(source.ledger.parent, source.folder / "backup")
    assert source.grant().code == 0
    shutil.rmtree(source.ledger.parent)
    shutil.move(kept, source.ledger.parent)
    return released(source)


@pytest.mark.row("L", "an older ledger, and the same model again")
def test_a_restored_ledger_leads_to_the_same_file(source):
    before = restored_after_a_grant(source)
    ending = source.grant()
    assert ending.code == 0, ending.stderr
    assert "the bundle that was sealed then goes out" in ending.stderr
    assert released(source) == before
    assert source.run("ledger", "verify", "--keys", "keys").code == 0


FORGOTTEN: dict[str, Callable[[Path], object]] = {
    "another model": lambda folder: (shutil.rmtree(folder / "run"), write_run(folder / "run", seed=5)),
    "no sealed file": lambda folder: outbox_file(folder / "keys", grant_id(FRESH_REQUEST)).unlink(),
    "half a sealed file": lambda folder: spoil(lambda data: data[:9])(
        outbox_file(folder / "keys", grant_id(FRESH_REQUEST))
    ),
    "a changed plain file": lambda folder: spoil(lambda data: data[:-1] + bytes([data[-1] ^ 1]))(
        released_file(folder / "keys", grant_id(FRESH_REQUEST))
    ),
    "an empty plain file": lambda folder: spoil(lambda _: b"")(released_file(folder / "keys", grant_id(FRESH_REQUEST))),
}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_row_l_restored_ledger_leads_to_no_second_file(source, name):
    restored_after_a_grant(source)
    FORGOTTEN[name](source.folder)
    check_unchanged_refusal(source.folder, source.grant, 11, "LEDGER")


# K: key files.


def pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def change_key(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda keys: spoil(change)(keys / name)


def another(name: str) -> Callable[[Path], None]:
    """The file of another identity of the same kind."""

    def change(keys: Path) -> None:
        other = new_identity(Role.TARGET if (keys / "sealing.key").exists() else Role.SOURCE)
        files = {"signing.key": lambda: pem(other.signing_key), "tls.key": lambda: other.tls_key_pem}
        files |= {"online.key": lambda: pem(other.online_key), "identity.pem": lambda: other.certificate_pem}
        files |= {"online.endorsement": lambda: other.online_endorsement}
        (keys / name).write_bytes(files[name]())

    return change


def as_link(name: str) -> Callable[[Path], None]:
    def change(keys: Path) -> None:
        (keys / name).rename(keys / "elsewhere")
        (keys / name).symlink_to("elsewhere")

    return change


def as_pipe(name: str) -> Callable[[Path], None]:
    def change(keys: Path) -> None:
        (keys / name).unlink()
        os.mkfifo(keys / name, 0o600)

    return change


def as_sparse(name: str) -> Callable[[Path], None]:
    return lambda keys: os.truncate(keys / name, TERABYTE)


def exposed(name: str, mode: int = 0o644) -> Callable[[Path], None]:
    return lambda keys: (keys / name).chmod(mode)


def encrypted(name: str) -> Callable[[Path], None]:
    def change(keys: Path) -> None:
        key = load_identity(keys).sealing_key
        if key is not None and name == "sealing.key":
            (keys / name).write_bytes(key.pem(b"sixteen letters!"))
        else:
            from protocol.identity.identities import private_pem

            (keys / name).write_bytes(private_pem(load_identity(keys).signing_key, b"sixteen letters!"))

    return change


def halves_swapped(data: bytes) -> bytes:
    second = data.index(b"-----BEGIN", 1)
    return data[second:] + data[:second]


P256, RSA = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)

KeyFaults = dict[str, tuple[Callable[[Path], None], str]]


def faults_of(name: str, *, private: bool = True) -> KeyFaults:
    """What can be wrong with any key file."""
    found: KeyFaults = {
        f"{name}-missing": (lambda keys: (keys / name).unlink(), "KEY_MISSING"),
        f"{name}-empty": (change_key(name, lambda _: b""), "KEY_DAMAGED"),
        f"{name}-cut": (change_key(name, lambda data: data[: len(data) // 2]), "KEY_DAMAGED"),
        f"{name}-noise": (change_key(name, lambda _: MARKER.encode() * 9), "KEY_DAMAGED"),
        f"{name}-link": (as_link(name), "KEY_MISSING"),
        f"{name}-pipe": (as_pipe(name), "KEY_MISSING"),
        f"{name}-sparse": (as_sparse(name), "KEY_MISSING"),
    }
    if private:
        found |= {
            f"{name}-read-by-others": (exposed(name), "KEY_EXPOSED"),
            f"{name}-read-by-the-group": (exposed(name, 0o640), "KEY_EXPOSED"),
            f"{name}-rsa": (change_key(name, lambda _: pem(RSA)), "KEY_DAMAGED"),
        }
    return found


TARGET_KEYS: KeyFaults = {
    **faults_of("signing.key"),
    **faults_of("tls.key"),
    **faults_of("sealing.key"),
    **faults_of("identity.pem", private=False),
    "signing.key-another": (another("signing.key"), "KEY_DAMAGED"),
    "tls.key-another": (another("tls.key"), "KEY_DAMAGED"),
    "identity.pem-another": (another("identity.pem"), "KEY_DAMAGED"),
    "signing.key-of-another-curve": (change_key("signing.key", lambda _: pem(P256)), "KEY_DAMAGED"),
    "signing.key-encrypted": (encrypted("signing.key"), "KEY_LOCKED"),
    "sealing.key-encrypted": (encrypted("sealing.key"), "KEY_LOCKED"),
    "sealing.key-one-half": (
        change_key("sealing.key", lambda data: data[: data.index(b"-----BEGIN", 1)]),
        "KEY_DAMAGED",
    ),
    "sealing.key-halves-swapped": (change_key("sealing.key", halves_swapped), "KEY_DAMAGED"),
    "sealing.key-three-parts": (change_key("sealing.key", lambda data: data + pem(P256)), "KEY_DAMAGED"),
}
SOURCE_KEYS: KeyFaults = {
    **faults_of("signing.key"),
    **faults_of("online.key"),
    **faults_of("online.endorsement", private=False),
    "signing.key-another": (another("signing.key"), "KEY_DAMAGED"),
    "online.key-another": (another("online.key"), "KEY_DAMAGED"),
    "online.endorsement-another": (another("online.endorsement"), "KEY_DAMAGED"),
    "tls.key-another": (another("tls.key"), "KEY_DAMAGED"),
    "signing.key-encrypted": (encrypted("signing.key"), "KEY_LOCKED"),
}


@pytest.mark.parametrize("name", TARGET_KEYS)
def test_row_k_key_of_a_target(desk, name):
    change, word = TARGET_KEYS[name]
    desk.lay("sealed", delivered(b.honest()))
    change(desk.keys)
    check_unchanged_refusal(desk.folder, desk.receive, 3, word)


@pytest.mark.parametrize("name", SOURCE_KEYS)
def test_row_k_key_of_a_source(source, name):
    change, word = SOURCE_KEYS[name]
    change(source.keys)
    run = lambda: source.run("revoke", "--keys", "keys", "--release", "1")  # noqa: E731
    check_unchanged_refusal(source.folder, run, 3, word)


def test_untouched_keys_serve_a_target(desk):
    desk.lay("sealed", delivered(b.honest()))
    assert desk.receive().code == 0


def test_untouched_keys_serve_a_source(source):
    assert source.run("revoke", "--keys", "keys", "--release", "1").code == 0


def test_row_k_keys_of_the_other_site(source, tmp_path_factory):
    site = desks.write_template(tmp_path_factory.mktemp("site"))
    shutil.copytree(site / "keys", source.folder / "site-keys")
    source.lay("sealed", delivered(b.honest()))
    source.lay("request", FRESH_REQUEST)
    words = ("receive", "--keys", "keys", "--from", "sealed", "--trust", TRUST, "--out", "model.ecan")
    run = lambda: command_line.run("ecan-target", *words, folder=source.folder)  # noqa: E731
    check_unchanged_refusal(source.folder, run, 3, "KEY_DAMAGED")
    run = lambda: source.run("grant", "--model", "run", "--keys", "site-keys", "--request", "request")  # noqa: E731
    check_unchanged_refusal(source.folder, run, 3, "KEY_DAMAGED")


@pytest.mark.parametrize("name", ["copy.request", "zq" * 16 + ".request", "0 1.request"])
def test_a_foreign_file_among_the_requests_is_passed_over(desk, name):
    (desk.keys / "requests" / name).write_bytes(FRESH_REQUEST)
    desk.lay("sealed", delivered(b.honest()))
    ending = desk.receive()
    assert ending.code == 0, ending.stderr


PASSPHRASES: dict[str, tuple[bytes, int, str]] = {
    "wrong": (b"another passphrase!", 0o600, "KEY_LOCKED"),
    "empty": (b"", 0o600, "KEY_LOCKED"),
    "two-lines": (b"sixteen letters!\n" + MARKER.encode(), 0o600, "KEY_LOCKED"),
    "with-nul": (b"sixteen letters!\0", 0o600, "KEY_LOCKED"),
    "too-long": (MARKER.encode() * 200, 0o600, "KEY_MISSING"),
    "read-by-others": (b"sixteen letters!\n", 0o644, "KEY_EXPOSED"),
}


@pytest.mark.parametrize("name", PASSPHRASES)
def test_row_k_passphrase(desk, name):
    data, mode, word = PASSPHRASES[name]
    desk.lay("sealed", delivered(b.honest()))
    encrypted("signing.key")(desk.keys)
    desk.lay("passphrase", data).chmod(mode)
    environment = {"ECAN_PASSPHRASE_FILE": str(desk.folder / "passphrase")}
    run = lambda: command_line.run(  # noqa: E731
        "ecan-target", *desks.receiving(), folder=desk.folder, environment=environment
    )
    check_unchanged_refusal(desk.folder, run, 3, word, never=[MARKER, "sixteen letters"])
