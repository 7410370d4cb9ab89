import contextlib
import hashlib
import os
from datetime import UTC, datetime

import pytest

from ecan_core.errors import UsageError
from protocol.bundle.frame import split
from protocol.bundle.trust import VerifiedBundle
from protocol.errors import Code, FileError, KeyFileError, MalformedError, PeerError, RefusedError, UnauthenticError
from protocol.identity import signing
from protocol.identity.fingerprints import in_fours
from protocol.identity.identities import Role, create_identity
from protocol.identity.key_files import write_identity
from protocol.statements.offers import NO_HEAD, CheckpointFields, open_checkpoint, sign_checkpoint
from protocol.statements.receipts import Verdict, open_receipt
from protocol.statements.request import open_request, sign_request
from protocol.statements.revocations import Revocations, sign_revocations
from protocol.statements.succession import open_succession, sign_succession
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.ecan.v1.release_pb2 import AckReply, Chunk
from protocol.wire.service import pins
from target_site.receiving.partial import PartialDownload
from target_site.receiving.receive import open_accepted, receive, trusted_fingerprint
from target_site.trust.checkpoints import checkpoint_path, endorsement_path
from target_site.trust.state import STATE_FILE, TrustState, load_trust_state, reset_trust, update_trust_state
from tests.support.cutting_proxy import CuttingProxy
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import TODAY, Site, delivered_for, new_identity, new_site, receipt_for, sealed_for

SOURCE, SITE = new_identity(Role.SOURCE), new_site()
BUNDLE = sealed_for(SITE, SOURCE)
DATA = delivered_for(SITE, SOURCE, plain=BUNDLE)
SENT = hashlib.sha256(DATA).digest()


class Desk:
    """A target site with its keys, and what it was told."""

    def __init__(self, folder, site=SITE):
        self.folder = folder
        self.keys = site.write(folder / "keys")
        self.out = folder / "model.ecan"
        self.receipt = folder / "model.ecan.receipt"
        self.said = []

    def receive(self, source, trust=None, **options) -> VerifiedBundle:
        defaults = {"today": TODAY, "announce": self.said.append, "timeout_s": 10.0}
        trusted = SOURCE.fingerprint.hex() if trust is None else trust
        return receive(str(source), self.keys, trusted, self.out, **(defaults | options))

    def files(self):
        return sorted(path.name for path in self.folder.iterdir() if path.name != "keys")


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.fixture
def source():
    return SimulatedSource(SOURCE, SITE.request, DATA)


RECEIVED = ["model.ecan", "model.ecan.receipt"]


def test_a_source_of_two_algorithms_is_believed_on_the_wire(desk):
    hybrid = create_identity(Role.SOURCE, datetime.now(UTC), signing_key=signing.generate_key("hybrid-1"))
    data = delivered_for(SITE, hybrid, plain=sealed_for(SITE, hybrid))
    with SimulatedSource(hybrid, SITE.request, data).listening() as address:
        with pytest.raises(RefusedError, match="signed in the suite hybrid-1 and this site accepts classic-1") as no:
            desk.receive(address, hybrid.fingerprint.hex(), suites=("classic-1",))
        verified = desk.receive(address, hybrid.fingerprint.hex(), suites=("hybrid-1",))
    assert no.value.code is Code.POLICY
    assert verified.manifest.issuer == hybrid.fingerprint
    assert verified.data[8] == 3


def test_a_site_that_asks_for_two_algorithms_does_not_take_one(desk, source):
    with source.listening() as address, pytest.raises(RefusedError, match="rotate its keys") as refusal:
        desk.receive(address, suites=("hybrid-1",))
    assert refusal.value.code is Code.POLICY
    assert not desk.out.exists()


def test_a_bundle_is_received_verified_and_receipted(desk, source):
    with source.listening() as address:
        verified = desk.receive(address)
    assert verified.digest == hashlib.sha256(BUNDLE).digest()
    assert desk.out.read_bytes() == BUNDLE
    assert desk.files() == RECEIVED
    (acknowledged,) = source.receipts
    assert acknowledged == desk.receipt.read_bytes()
    receipt = open_receipt(acknowledged, signer=SITE.identity.fingerprint)
    assert (receipt.grant, receipt.verdict) == (SITE.grant, Verdict.ACCEPTED)
    assert (receipt.sealed_sha256, receipt.digest) == (SENT, verified.digest)


def test_the_source_may_be_trusted_by_its_certificate_file(desk, source):
    (desk.folder / "identity.pem").write_bytes(SOURCE.certificate_pem)
    with source.listening() as address:
        assert desk.receive(address, trust=str(desk.folder / "identity.pem")).digest


@pytest.mark.parametrize("trust", ["", "ab", "z" * 64, "missing.pem", "keys"])
def test_trust_that_names_no_source_is_a_key_fault(desk, trust):
    with pytest.raises(KeyFileError, match="64 hexadecimal digits"):
        desk.receive("127.0.0.1:1", trust=trust)


def test_a_fingerprint_may_be_written_in_capitals():
    assert trusted_fingerprint(SOURCE.fingerprint.hex().upper()) == SOURCE.fingerprint
    assert trusted_fingerprint(in_fours(SOURCE.fingerprint.hex())) == SOURCE.fingerprint


def test_another_source_than_the_trusted_one_learns_nothing(desk, source):
    with source.listening() as address, pytest.raises(PeerError, match="fingerprints") as caught:
        desk.receive(address, trust=new_identity(Role.SOURCE).fingerprint.hex())
    assert caught.value.code is Code.IDENTITY
    assert source.fetches == []
    assert desk.files() == []


def test_a_source_that_serves_another_site_lets_us_not_in(desk, source):
    other = new_site()
    listening = source.listening(pins([open_request(other.request)]), other.identity.certificate_pem)
    with listening as address, pytest.raises(PeerError):
        desk.receive(address)
    assert desk.files() == []


def test_a_site_that_asked_for_nothing_receives_nothing(desk, source):
    for request in (desk.keys / "requests").iterdir():
        request.unlink()
    with source.listening() as address, pytest.raises(RefusedError, match="ecan-target request"):
        desk.receive(address)


@pytest.mark.parametrize("wrong", ["nosuch.ecan", "host:70000"])
def test_a_source_that_is_neither_address_nor_file_is_refused(desk, wrong):
    with pytest.raises(PeerError, match="neither an existing file nor HOST:PORT") as caught:
        desk.receive(wrong)
    assert caught.value.exit_code == 4


# What arrives is not what it should be.


def test_a_tampered_stream_is_refused_and_nothing_is_kept(desk, source):
    class Tampering(SimulatedSource):
        def fetch(self, request):
            for chunk in super().fetch(request):
                yield Chunk(offset=chunk.offset, data=bytes([chunk.data[0] ^ 1]) + chunk.data[1:])

    with Tampering(SOURCE, SITE.request, DATA).listening() as address, pytest.raises(UnauthenticError) as caught:
        desk.receive(address)
    assert caught.value.code is Code.DIGEST
    assert desk.files() == []


@pytest.mark.parametrize(
    ("served", "error", "code"),
    [
        pytest.param(DATA[:-1], MalformedError, Code.TRUNCATED, id="cut short"),
        pytest.param(DATA + b"\0", MalformedError, Code.TRAILING, id="something at its end"),
        pytest.param(DATA[:-1] + bytes([DATA[-1] ^ 1]), UnauthenticError, Code.DECRYPT, id="changed"),
        pytest.param(BUNDLE, RefusedError, Code.POLICY, id="not sealed"),
        pytest.param(delivered_for(new_site(), SOURCE), UnauthenticError, Code.RECIPIENT, id="for another request"),
        pytest.param(
            delivered_for(Site(identity=new_site().identity, request=SITE.request), SOURCE),
            UnauthenticError,
            Code.DECRYPT,
            id="sealed to another site",
        ),
        *(
            pytest.param(delivered_for(SITE, issuer, **fields), error, code, id=what)
            for what, issuer, fields, error, code in [
                (
                    "weights changed",
                    SOURCE,
                    {"plain": BUNDLE[:-1] + bytes([BUNDLE[-1] ^ 1])},
                    UnauthenticError,
                    Code.DIGEST,
                ),
                ("signed by another", new_identity(Role.SOURCE), {}, UnauthenticError, Code.KEY_UNKNOWN),
                ("released to another site", SOURCE, {"audience": bytes(32)}, RefusedError, Code.AUDIENCE),
                ("another grant inside", SOURCE, {"grant": bytes(16)}, RefusedError, Code.GRANT),
                ("expired", SOURCE, {"day": TODAY - 91}, RefusedError, Code.EXPIRED),
            ]
        ),
    ],
)
@pytest.mark.parametrize("by_file", [False, True], ids=["wire", "file"])
def test_a_bundle_that_does_not_verify_is_not_kept_or_acknowledged(desk, served, error, code, by_file):
    source = SimulatedSource(SOURCE, SITE.request, served)
    with source.listening() as address:
        if by_file:
            address = desk.folder / "keys" / "carried.ecan"
            address.write_bytes(served)
        with pytest.raises(error) as caught:
            desk.receive(address)
    assert caught.value.code is code
    assert desk.files() == []
    assert source.receipts == []
    assert load_trust_state(desk.keys) == TrustState()


# By hand.


def test_a_bundle_that_was_carried_by_hand_is_received_in_the_same_way(desk):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(DATA)
    assert desk.receive(carried).digest == hashlib.sha256(BUNDLE).digest()
    assert desk.files() == RECEIVED
    assert str(desk.receipt) in desk.said[0]


def test_a_sealed_file_is_not_replaced_by_what_is_inside(desk):
    desk.out.write_bytes(DATA)
    with pytest.raises(UsageError, match="another --out"):
        desk.receive(desk.out, replace=True)
    assert desk.out.read_bytes() == DATA


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", Code.TRUNCATED), (DATA[:20], Code.TRUNCATED), (b"PK\3\4" * 9, Code.MAGIC)],
    ids=["empty", "cut", "zip"],
)
def test_a_file_of_another_kind_is_named(desk, content, code):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(content)
    with pytest.raises(MalformedError) as caught:
        desk.receive(carried)
    assert caught.value.code is code
    assert desk.files() == []


def test_a_link_is_not_followed(desk):
    (desk.keys / "real").write_bytes(DATA)
    (desk.keys / "carried.ecan").symlink_to(desk.keys / "real")
    with pytest.raises(MalformedError) as caught:
        desk.receive(desk.keys / "carried.ecan")
    assert caught.value.code is Code.NOT_REGULAR


def test_received_by_hand_again_it_ends_the_same_way(desk):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(DATA)
    desk.receive(carried)
    kept = desk.receipt.read_bytes()
    desk.receive(carried, today=TODAY + 1)
    assert desk.receipt.read_bytes() == kept
    desk.out.unlink()
    desk.receipt.unlink()
    desk.receive(carried, today=TODAY + 400)  # it was accepted in time
    assert (desk.out.read_bytes(), desk.receipt.read_bytes()) == (BUNDLE, kept)


def test_a_grant_brings_one_sealed_file_for_good(desk):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(DATA)
    desk.receive(carried)
    carried.write_bytes(delivered_for(SITE, SOURCE, plain=BUNDLE))
    with pytest.raises(RefusedError, match="answered before") as caught:
        desk.receive(carried, replace=True)
    assert caught.value.code is Code.GRANT
    desk.out = desk.folder / "elsewhere.ecan"
    with pytest.raises(RefusedError, match="answered before"):
        desk.receive(carried)
    assert not desk.out.exists()
    carried.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(UnauthenticError) as damaged:
        desk.receive(carried)
    assert damaged.value.code is Code.DECRYPT
    source = SimulatedSource(SOURCE, SITE.request, delivered_for(SITE, SOURCE, plain=BUNDLE))
    with source.listening() as address, pytest.raises(RefusedError, match="answered before"):
        desk.receive(address)
    assert source.fetches == []


# Again, and again.


def test_received_again_the_receipt_is_the_same_and_nothing_is_fetched(desk, source):
    with source.listening() as address:
        desk.receive(address)
        desk.receive(address, today=TODAY + 1)
    assert source.fetches == [0]
    assert source.receipts[0] == source.receipts[1]


def test_a_lost_acknowledgement_is_made_good_by_the_same_command(desk, source):
    class Deaf(SimulatedSource):
        def ack(self, request):
            raise RefusedError(Code.RECEIPT, "not now")

    with Deaf(SOURCE, SITE.request, DATA).listening() as address, pytest.raises(RefusedError):
        desk.receive(address)
    assert desk.files() == RECEIVED
    with source.listening() as address:
        desk.receive(address)
    assert source.fetches == []
    assert source.receipts == [desk.receipt.read_bytes()]


def test_a_source_that_is_gone_after_the_delivery_is_no_fault(desk, source):
    with source.listening() as address:
        desk.receive(address)
    assert desk.receive(address).digest == hashlib.sha256(BUNDLE).digest()
    assert str(desk.receipt) in desk.said[-1]


class Closed(SimulatedSource):
    def open(self, request):
        raise RefusedError(Code.STATE, "closed")


def test_a_grant_that_we_closed_ourselves_is_no_fault(desk, source):
    with source.listening() as address:
        desk.receive(address)
    with Closed(SOURCE, SITE.request, DATA).listening() as address:
        desk.receive(address)
    assert "acknowledged before" in desk.said[-1]


def test_a_closed_grant_whose_bundle_is_not_here_is_refused(desk):
    with (
        Closed(SOURCE, SITE.request, DATA).listening() as address,
        pytest.raises(RefusedError, match="has ended") as caught,
    ):
        desk.receive(address)
    assert caught.value.exit_code == 11
    assert desk.files() == []


def test_an_older_bundle_does_not_pass_for_the_one_of_a_newer_request(desk, source):
    with source.listening() as address:
        desk.receive(address)
    request = sign_request(SITE.identity, nonce=bytes(32), day=TODAY)
    newer = Site(identity=SITE.identity, request=request)
    (desk.keys / "requests" / f"{newer.grant.hex()}.request").write_bytes(request)
    with pytest.raises(PeerError):
        desk.receive(address)
    answer = sealed_for(newer, SOURCE, seed=1, release=8)
    sent = delivered_for(newer, SOURCE, plain=answer)
    with SimulatedSource(SOURCE, request, sent).listening() as address:
        with pytest.raises(UsageError):
            desk.receive(address)
        desk.receive(address, replace=True)
    assert desk.out.read_bytes() == answer


@pytest.mark.parametrize("by_file", [False, True], ids=["wire", "file"])
def test_something_else_at_out_is_overwritten_only_if_that_is_said(desk, source, by_file):
    desk.out.write_bytes(b"my thesis")
    with source.listening() as address:
        if by_file:
            address = desk.keys / "carried.ecan"
            address.write_bytes(DATA)
        with pytest.raises(UsageError, match="--replace"):
            desk.receive(address)
        assert desk.out.read_bytes() == b"my thesis"
        assert source.fetches == []
        desk.receive(address, replace=True)
    assert desk.out.read_bytes() == BUNDLE


# The connection is cut, the disk is full.


class Cutting(SimulatedSource):
    """Lets go of the connection after one chunk, a given number of times."""

    def __init__(self, *arguments, cuts):
        super().__init__(*arguments)
        self.cuts = cuts

    def fetch(self, request):
        for chunk in super().fetch(request):
            yield chunk
            if self.cuts:
                self.cuts -= 1
                raise FileError(Code.STORAGE, "cut")


def partial_bytes(desk):
    path = desk.folder / "model.ecan.partial"
    return path.stat().st_size if path.exists() else 0


LESS_THAN_A_CHUNK = 10_000
"""Bytes of a connection beside whole chunks: enough for its handshake and for the offer."""


@pytest.mark.parametrize("arrived", range(0, len(DATA), CHUNK_BYTES))
def test_a_connection_that_is_cut_is_taken_up_again(desk, source, arrived, monkeypatch):
    monkeypatch.setattr("target_site.receiving.receive.PAUSES_S", (0.01,))
    with source.listening() as address:
        # The first connection only asks for the certificate.
        limits = [None, arrived + LESS_THAN_A_CHUNK]
        proxy = CuttingProxy(address, limits, until=lambda: partial_bytes(desk) >= arrived)
        with proxy.listening() as detour:
            desk.receive(detour)
    assert source.fetches == [0, arrived]
    assert desk.out.read_bytes() == BUNDLE
    assert desk.files() == RECEIVED
    assert "trying again" in desk.said[0]


@pytest.mark.parametrize("cuts", [1, 2])
def test_a_source_that_cuts_before_its_first_answer_is_asked_once_more(desk, source, cuts, monkeypatch):
    monkeypatch.setattr("target_site.receiving.receive.PAUSES_S", (0.01, 0.01))
    with source.listening() as address:
        proxy = CuttingProxy(address, [None, 0] * cuts)
        with proxy.listening() as detour, contextlib.nullcontext() if cuts == 1 else pytest.raises(PeerError):
            desk.receive(detour)
    assert desk.said[0] == "the connection was cut, trying again in 0.01 s"
    assert desk.out.exists() is (cuts == 1)


def test_a_connection_that_is_cut_for_good_leaves_a_download_that_goes_on_later(desk, source, monkeypatch):
    monkeypatch.setattr("target_site.receiving.receive.PAUSES_S", (0.01,))
    with source.listening() as address:
        limits = [None, CHUNK_BYTES + LESS_THAN_A_CHUNK, None, LESS_THAN_A_CHUNK]
        proxy = CuttingProxy(address, limits, until=lambda: partial_bytes(desk) == CHUNK_BYTES)
        with proxy.listening() as detour, pytest.raises(PeerError):
            desk.receive(detour)
        assert not desk.out.exists()
        desk.receive(address)
    assert source.fetches == [0, CHUNK_BYTES, CHUNK_BYTES]
    assert desk.files() == RECEIVED


def test_a_kept_part_that_was_damaged_is_fetched_again(desk, source):
    with Cutting(SOURCE, SITE.request, DATA, cuts=1).listening() as address, pytest.raises(PeerError):
        desk.receive(address)
    partial = desk.folder / "model.ecan.partial"
    assert partial.stat().st_size == CHUNK_BYTES
    partial.write_bytes(bytes(CHUNK_BYTES))
    with source.listening() as address:
        desk.receive(address)
    assert source.fetches == [CHUNK_BYTES, 0]
    assert desk.out.read_bytes() == BUNDLE


def test_an_out_folder_that_does_not_exist_is_a_storage_fault(desk, source):
    desk.out = desk.folder / "missing" / "model.ecan"
    with source.listening() as address, pytest.raises(FileError):
        desk.receive(address)


# Opening what was accepted.


@pytest.fixture
def accepted(desk):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(DATA)
    desk.receive(carried)
    return desk


def opened(desk, keys_dir=None):
    return open_accepted(desk.out, keys_dir=keys_dir)


def test_an_accepted_bundle_opens_with_its_receipt(accepted):
    assert opened(accepted).digest == hashlib.sha256(BUNDLE).digest()
    assert opened(accepted, keys_dir=accepted.keys).digest == hashlib.sha256(BUNDLE).digest()


def test_a_bundle_without_a_receipt_is_not_opened(accepted):
    accepted.receipt.unlink()
    with pytest.raises(UnauthenticError, match="ecan-target receive"):
        opened(accepted)


@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "changed"])
def test_a_damaged_receipt_is_named_and_written_again_by_receive(accepted, damage):
    kept = accepted.receipt.read_bytes()
    before, mark, signature = kept.partition(b'"sig":"')
    changed = before + mark + (b"A" if signature[:1] != b"A" else b"B") + signature[1:]
    damaged = {"empty": b"", "truncated": kept[:-9], "garbage": b"\0\xff" * 99, "changed": changed}
    accepted.receipt.write_bytes(damaged[damage])
    with pytest.raises(
        UnauthenticError, match=r"model\.ecan\.receipt is damaged; run `ecan-target receive` again"
    ) as caught:
        opened(accepted)
    assert caught.value.exit_code == 10
    with Closed(SOURCE, SITE.request, DATA).listening() as address:
        accepted.receive(address)
    assert accepted.receipt.read_bytes() == kept


def test_the_receipt_of_another_bundle_opens_nothing(accepted):
    weights = open_receipt(accepted.receipt.read_bytes(), signer=SITE.identity.fingerprint).weights_sha256
    accepted.receipt.write_bytes(receipt_for(SITE, b"another", weights))
    with pytest.raises(UnauthenticError, match="not what this site accepted"):
        opened(accepted)


def test_a_receipt_that_refuses_opens_nothing(accepted):
    accepted.receipt.write_bytes(receipt_for(SITE, BUNDLE, bytes(32), verdict=Verdict.REFUSED))
    with pytest.raises(UnauthenticError):
        opened(accepted)


def test_a_bundle_that_another_site_accepted_is_not_opened_with_our_keys(accepted, tmp_path):
    keys = new_site().write(tmp_path / "other")
    with pytest.raises(UnauthenticError):
        opened(accepted, keys_dir=keys)


@pytest.mark.parametrize("position", [0, 50, 500, 900, 2000, len(BUNDLE) - 1])
def test_an_accepted_bundle_that_was_changed_since_is_not_opened(accepted, position):
    accepted.out.write_bytes(BUNDLE[:position] + bytes([BUNDLE[position] ^ 1]) + BUNDLE[position + 1 :])
    with pytest.raises((UnauthenticError, MalformedError)):
        opened(accepted)


def test_a_receipt_that_names_other_content_than_its_sealed_file_has_is_not_given_again(desk):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(DATA)
    lie = receipt_for(SITE, b"other content", bytes(32), delivered=DATA)
    (desk.keys / "requests" / f"{SITE.grant.hex()}.receipt").write_bytes(lie)
    with pytest.raises(UnauthenticError, match="has a receipt for"):
        desk.receive(carried)
    assert desk.files() == []


def test_the_sealed_file_of_another_request_of_ours_is_not_what_was_offered(desk):
    other = ask_again(desk)
    data = delivered_for(other, SOURCE)
    with SimulatedSource(SOURCE, SITE.request, data).listening() as address, pytest.raises(RefusedError) as caught:
        desk.receive(address)
    assert caught.value.code is Code.GRANT
    assert desk.files() == []


# What this site remembers.


def revocation_list(*, version=1, weights=(), keys=(), signer=SOURCE):
    listed = Revocations(version=version, day=TODAY, weights=frozenset(weights), keys=frozenset(keys))
    return sign_revocations(listed, signer.signing_key)


def weights_of(plain):
    return hashlib.sha256(split(plain).weights).digest()


def ask_again(desk, *, at=1):
    """A newer request of the same site."""
    newer = Site(identity=SITE.identity, request=sign_request(SITE.identity, nonce=bytes([at]) * 32, day=TODAY))
    path = desk.keys / "requests" / f"{newer.grant.hex()}.request"
    path.write_bytes(newer.request)
    os.utime(path, ns=(2**62 + at, 2**62 + at))
    return newer


def carry(desk, site, *, source=SOURCE, trust=None, **fields):
    """Receive another bundle by hand, to a place of its own."""
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(delivered_for(site, source, **fields))
    desk.out = desk.folder / f"{site.grant.hex()}.ecan"
    return desk.receive(carried, trust=trust)


def test_what_was_accepted_is_remembered(accepted):
    known = load_trust_state(accepted.keys).of(SOURCE.fingerprint)
    assert (known.release, known.weights) == (7, weights_of(BUNDLE))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"release": 6, "seed": 1}, Code.ROLLBACK, id="an older release"),
        pytest.param({"release": 7, "seed": 1}, Code.ROLLBACK, id="another model of the same number"),
        pytest.param({"release": 72, "seed": 1}, Code.FAST_FORWARD, id="a leap"),
    ],
)
def test_a_source_cannot_go_back_or_leap(accepted, fields, code):
    with pytest.raises(RefusedError) as caught:
        carry(accepted, ask_again(accepted), **fields)
    assert caught.value.code is code
    assert caught.value.exit_code == 11
    assert not accepted.out.exists()


@pytest.mark.parametrize("fields", [{}, {"release": 8, "seed": 1}, {"release": 71, "seed": 1}])
def test_the_same_release_and_newer_ones_are_accepted(accepted, fields):
    assert carry(accepted, ask_again(accepted), **fields).manifest.release == fields.get("release", 7)


def test_an_older_release_that_was_accepted_in_its_time_can_be_received_again(desk, source):
    with source.listening() as address:
        desk.receive(address)
        first = desk.out
        carry(desk, ask_again(desk), release=8, seed=1)
        (desk.keys / "requests" / f"{ask_again(desk).grant.hex()}.request").unlink()
        desk.out = first
        desk.receive(address)
    assert len(source.receipts) == 2
    assert load_trust_state(desk.keys).of(SOURCE.fingerprint).release == 8


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_lost_memory_stops_everything_until_a_person_resets_it(accepted, source, damage):
    path = accepted.keys / STATE_FILE
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    with source.listening() as address:
        for attempt in (lambda: accepted.receive(address), lambda: opened(accepted, accepted.keys)):
            with pytest.raises(UnauthenticError, match="trust reset") as caught:
                attempt()
            assert (caught.value.code, caught.value.exit_code) == (Code.STATE_LOST, 10)
        reset_trust(accepted.keys, SOURCE.fingerprint, 7)
        accepted.receive(address)
    assert opened(accepted, accepted.keys).digest
    with pytest.raises(RefusedError) as refused:
        carry(accepted, ask_again(accepted), release=6, seed=1)
    assert refused.value.code is Code.ROLLBACK


@pytest.mark.parametrize("what", ["weights", "issuer"])
def test_what_the_source_withdraws_is_not_accepted(desk, source, what):
    withdrawn = {"weights": {"weights": [weights_of(BUNDLE)]}, "issuer": {"keys": [SOURCE.fingerprint]}}[what]
    source.revocations = revocation_list(**withdrawn)
    with source.listening() as address, pytest.raises(RefusedError) as caught:
        desk.receive(address)
    assert caught.value.code is Code.REVOKED
    assert (desk.files(), source.receipts) == ([], [])


def test_an_offer_that_was_signed_with_a_withdrawn_online_key_is_refused(desk, source):
    online = signing.fingerprint_of(signing.raw_public_key(SOURCE.online_key))
    source.revocations = revocation_list(keys=[online])
    with source.listening() as address, pytest.raises(RefusedError, match="withdrawn") as caught:
        desk.receive(address)
    assert caught.value.code is Code.REVOKED
    assert source.fetches == []


def test_what_was_accepted_and_then_withdrawn_is_not_opened_or_received_again(desk, source):
    with source.listening() as address:
        desk.receive(address)
        assert opened(desk, desk.keys).digest
        source.revocations = revocation_list(weights=[weights_of(BUNDLE)])
        with pytest.raises(RefusedError) as received:
            desk.receive(address)
    with pytest.raises(RefusedError) as closed, Closed(SOURCE, SITE.request, DATA).listening() as address:
        desk.receive(address)
    with pytest.raises(RefusedError) as reopened:
        opened(desk, desk.keys)
    codes = {caught.value.code for caught in (received, reopened)}
    assert codes == {Code.REVOKED}
    assert closed.value.code is Code.ROLLBACK  # this source shows no list although there is one
    assert opened(desk).digest  # without keys nobody looks


def test_a_grant_that_has_ended_is_no_excuse_for_a_withdrawn_bundle(desk, source):
    with source.listening() as address:
        desk.receive(address)
    ended = Closed(SOURCE, SITE.request, DATA)
    ended.revocations = revocation_list(weights=[weights_of(BUNDLE)])
    with ended.listening() as address, pytest.raises(RefusedError) as caught:
        desk.receive(address)
    assert caught.value.code is Code.REVOKED


def test_a_source_that_shortens_its_list_is_refused(desk, source):
    source.revocations = revocation_list(weights=[b"w" * 32])
    with source.listening() as address:
        desk.receive(address)
        source.revocations = revocation_list(version=2)
        with pytest.raises(RefusedError, match="lists are not shortened") as caught:
            desk.receive(address)
    assert caught.value.code is Code.ROLLBACK


def test_a_source_that_hides_its_list_is_refused(desk, source):
    source.revocations = revocation_list(version=2)
    with source.listening() as address:
        desk.receive(address)
        for shown in (b"", revocation_list(version=1)):
            source.revocations = shown
            with pytest.raises(RefusedError) as caught:
                desk.receive(address)
            assert caught.value.code is Code.ROLLBACK


@pytest.mark.parametrize(
    "shown", [revocation_list(signer=new_identity(Role.SOURCE)), b"no list"], ids=["of another source", "no list"]
)
def test_a_list_that_does_not_hold_ends_the_exchange(desk, source, shown):
    source.revocations = shown
    with source.listening() as address, pytest.raises((UnauthenticError, MalformedError)):
        desk.receive(address)
    assert (desk.files(), source.fetches) == ([], [])


def test_a_ledger_that_lost_its_past_is_an_alarm(desk, source):
    with source.listening() as address:
        desk.receive(address)
        desk.receive(address)
        source.receipts.clear()
        with pytest.raises(PeerError, match="shrank or was rewritten") as caught:
            desk.receive(address)
    assert (caught.value.code, caught.value.exit_code) == (Code.LEDGER, 4)


def kept_checkpoint(desk):
    """What this site keeps for a person to carry to the source, and what it says."""
    path = checkpoint_path(desk.keys, SOURCE.fingerprint)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    endorsement = endorsement_path(desk.keys, SOURCE.fingerprint).read_bytes()
    return path.read_bytes(), open_checkpoint(path.read_bytes(), endorsement, SOURCE.fingerprint)


def test_the_sources_signed_checkpoint_is_kept_whole_and_each_names_the_one_before(desk, source):
    with source.listening() as address:
        desk.receive(address)
        _, first = kept_checkpoint(desk)
        desk.receive(address)
        _, second = kept_checkpoint(desk)
    assert (first.seq, first.seen, first.seen_head) == (1, 0, NO_HEAD)
    assert (second.seq, second.seen, second.seen_head) == (2, first.seq, first.head)
    known = load_trust_state(desk.keys).of(SOURCE.fingerprint)
    assert (known.seq, known.head) == (second.seq, second.head)


def test_a_wholly_rewritten_ledger_with_more_lines_is_an_alarm_that_changes_no_memory(desk, source):
    with source.listening() as address:
        desk.receive(address)
    before, memory = kept_checkpoint(desk), load_trust_state(desk.keys)

    class Rewritten(SimulatedSource):
        def ack(self, request):
            fields = {"seq": 9, "head": b"x" * 32, "seen": request.seen, "seen_head": b"y" * 32}
            checkpoint = CheckpointFields(grant=SITE.grant, day=TODAY, **fields)
            return AckReply(checkpoint=sign_checkpoint(checkpoint, SOURCE.online_key))

    with (
        Rewritten(SOURCE, SITE.request, DATA).listening() as address,
        pytest.raises(PeerError, match="ALARM") as caught,
    ):
        desk.receive(address)
    assert caught.value.code is Code.LEDGER
    assert (kept_checkpoint(desk), load_trust_state(desk.keys)) == (before, memory)
    assert desk.files() == RECEIVED


def test_a_file_that_was_carried_by_hand_brings_no_checkpoint(desk):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(DATA)
    desk.receive(carried)
    assert not (desk.keys / "checkpoints").exists()
    assert load_trust_state(desk.keys).of(SOURCE.fingerprint).seq == 0


HEIR = new_identity(Role.SOURCE)


def hand_over(desk):
    statement = open_succession(
        sign_succession(SOURCE.signing_key, HEIR.signing_key, 1, last_list=0, last_release=7), SOURCE.fingerprint
    )
    update_trust_state(desk.keys, lambda state: state.succeeded(statement))


def test_a_successor_is_trusted_in_the_place_of_the_old_key_and_that_is_said(desk):
    hand_over(desk)
    data = delivered_for(SITE, HEIR)
    with SimulatedSource(HEIR, SITE.request, data).listening() as address:
        desk.receive(address)
    assert HEIR.fingerprint.hex() in desk.said[0]
    assert "handed over" in desk.said[0]
    assert load_trust_state(desk.keys).of(HEIR.fingerprint).release == 7


def test_the_old_key_says_nothing_more_after_it_has_handed_over(accepted):
    hand_over(accepted)
    with pytest.raises(UnauthenticError, match="before the source changed its keys; make a new request") as caught:
        carry(accepted, ask_again(accepted), release=8, seed=1)
    assert caught.value.code is Code.KEY_UNKNOWN
    with pytest.raises(RefusedError) as refused:  # and the new one cannot go back behind it
        carry(accepted, ask_again(accepted), source=HEIR, release=6, seed=1)
    assert refused.value.code is Code.ROLLBACK


def test_a_list_of_the_old_key_is_not_heard_from_its_heir(desk):
    hand_over(desk)
    heir = SimulatedSource(HEIR, SITE.request, delivered_for(SITE, HEIR))
    heir.revocations = revocation_list(keys=[HEIR.fingerprint])
    with heir.listening() as address, pytest.raises(UnauthenticError) as caught:
        desk.receive(address)
    assert caught.value.code is Code.KEY_UNKNOWN
    assert load_trust_state(desk.keys).follow(SOURCE.fingerprint) == HEIR.fingerprint


def test_a_bundle_of_the_old_key_that_was_accepted_stays_accepted(accepted):
    hand_over(accepted)
    carried = accepted.keys / "carried.ecan"
    assert accepted.receive(carried).manifest.issuer == SOURCE.fingerprint
    assert opened(accepted, accepted.keys).digest


def test_keys_of_a_source_open_nothing(accepted, tmp_path):
    write_identity(SOURCE, tmp_path / "source")
    with pytest.raises(KeyFileError, match="this site's keys"):
        opened(accepted, tmp_path / "source")


def test_a_file_that_changes_while_it_is_read_is_not_kept(desk, monkeypatch):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(DATA)
    begin = PartialDownload.begin

    def swap(partial):
        carried.write_bytes(DATA[::-1])
        begin(partial)

    monkeypatch.setattr(PartialDownload, "begin", swap)
    with pytest.raises(UnauthenticError, match="changed while it was read"):
        desk.receive(carried)
    assert desk.files() == []
