import hashlib

import pytest

from ecan_core.errors import UsageFault
from protocol.errors import Code, ConnectionFault, KeyFault, Malformed, Refused, StorageFault, Unauthentic
from protocol.identity import Role
from protocol.receipts import Verdict, open_receipt
from protocol.request import seal_request
from protocol.trust import VerifiedBundle
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.ecan.v1.release_pb2 import Chunk
from target_site.receive import open_accepted, receive, trusted_fingerprint
from tests.support.cutting_proxy import CuttingProxy
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import TODAY, Site, new_identity, new_site, receipt_for, sealed_for

SOURCE, SITE = new_identity(Role.SOURCE), new_site()
DATA = sealed_for(SITE, SOURCE)


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


def test_a_bundle_is_received_verified_and_receipted(desk, source):
    with source.listening() as address:
        verified = desk.receive(address)
    assert verified.digest == hashlib.sha256(DATA).digest()
    assert desk.out.read_bytes() == DATA
    assert desk.files() == RECEIVED
    (acknowledged,) = source.receipts
    assert acknowledged == desk.receipt.read_bytes()
    receipt = open_receipt(acknowledged, signer=SITE.identity.fingerprint)
    assert (receipt.grant, receipt.digest, receipt.verdict) == (SITE.grant, verified.digest, Verdict.ACCEPTED)


def test_the_source_may_be_trusted_by_its_certificate_file(desk, source):
    (desk.folder / "identity.pem").write_bytes(SOURCE.certificate_pem)
    with source.listening() as address:
        assert desk.receive(address, trust=str(desk.folder / "identity.pem")).digest


@pytest.mark.parametrize("trust", ["", "ab", "z" * 64, "missing.pem", "keys"])
def test_trust_that_names_no_source_is_a_key_fault(desk, trust):
    with pytest.raises(KeyFault, match="64 hexadecimal digits"):
        desk.receive("127.0.0.1:1", trust=trust)


def test_a_fingerprint_may_be_written_in_capitals():
    assert trusted_fingerprint(SOURCE.fingerprint.hex().upper()) == SOURCE.fingerprint


def test_another_source_than_the_trusted_one_learns_nothing(desk, source):
    with source.listening() as address, pytest.raises(ConnectionFault, match="fingerprints") as caught:
        desk.receive(address, trust=new_identity(Role.SOURCE).fingerprint.hex())
    assert caught.value.code is Code.IDENTITY
    assert source.fetches == []
    assert desk.files() == []


def test_a_source_that_serves_another_site_lets_us_not_in(desk, source):
    other = new_site()
    with source.listening(other.identity.certificate_pem) as address, pytest.raises(ConnectionFault):
        desk.receive(address)
    assert desk.files() == []


def test_a_site_that_asked_for_nothing_receives_nothing(desk, source):
    for request in (desk.keys / "requests").iterdir():
        request.unlink()
    with source.listening() as address, pytest.raises(Refused, match="ecan-target request"):
        desk.receive(address)


@pytest.mark.parametrize("wrong", ["nosuch.ecan", "host:70000"])
def test_a_source_that_is_neither_address_nor_file_is_refused(desk, wrong):
    with pytest.raises(ConnectionFault, match="neither an existing file nor HOST:PORT") as caught:
        desk.receive(wrong)
    assert caught.value.exit_code == 4


# What arrives is not what it should be.


def test_a_tampered_stream_is_refused_and_nothing_is_kept(desk, source):
    class Tampering(SimulatedSource):
        def fetch(self, request):
            for chunk in super().fetch(request):
                yield Chunk(offset=chunk.offset, data=bytes([chunk.data[0] ^ 1]) + chunk.data[1:])

    with Tampering(SOURCE, SITE.request, DATA).listening() as address, pytest.raises(Unauthentic) as caught:
        desk.receive(address)
    assert caught.value.code is Code.DIGEST
    assert desk.files() == []


@pytest.mark.parametrize(
    ("served", "error", "code"),
    [
        pytest.param(DATA[:-1], Malformed, Code.TRUNCATED, id="cut short"),
        pytest.param(DATA[:-1] + bytes([DATA[-1] ^ 1]), Unauthentic, Code.DIGEST, id="weights changed"),
        pytest.param(
            sealed_for(SITE, new_identity(Role.SOURCE)), Unauthentic, Code.KEY_UNKNOWN, id="signed by another"
        ),
        pytest.param(sealed_for(SITE, SOURCE, audience=bytes(32)), Refused, Code.AUDIENCE, id="for another site"),
        pytest.param(sealed_for(SITE, SOURCE, grant=bytes(16)), Refused, Code.GRANT, id="never asked for"),
        pytest.param(sealed_for(SITE, SOURCE, day=TODAY - 91), Refused, Code.EXPIRED, id="expired"),
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


# By hand.


def test_a_bundle_that_was_carried_by_hand_is_received_in_the_same_way(desk):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(DATA)
    assert desk.receive(carried).digest == hashlib.sha256(DATA).digest()
    assert desk.files() == RECEIVED
    assert str(desk.receipt) in desk.said[0]


def test_a_bundle_that_was_carried_to_its_place_gets_its_receipt_there(desk):
    desk.out.write_bytes(DATA)
    desk.receive(desk.out)
    assert desk.files() == RECEIVED


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
            raise Refused(Code.RECEIPT, "not now")

    with Deaf(SOURCE, SITE.request, DATA).listening() as address, pytest.raises(Refused):
        desk.receive(address)
    assert desk.files() == RECEIVED
    with source.listening() as address:
        desk.receive(address)
    assert source.fetches == []
    assert source.receipts == [desk.receipt.read_bytes()]


def test_a_source_that_is_gone_after_the_delivery_is_no_fault(desk, source):
    with source.listening() as address:
        desk.receive(address)
    assert desk.receive(address).digest == hashlib.sha256(DATA).digest()
    assert str(desk.receipt) in desk.said[-1]


class Closed(SimulatedSource):
    def open(self, request):
        raise Refused(Code.STATE, "closed")


def test_a_grant_that_we_closed_ourselves_is_no_fault(desk, source):
    with source.listening() as address:
        desk.receive(address)
    with Closed(SOURCE, SITE.request, DATA).listening() as address:
        desk.receive(address)
    assert "acknowledged before" in desk.said[-1]


def test_a_closed_grant_whose_bundle_is_not_here_is_refused(desk):
    with (
        Closed(SOURCE, SITE.request, DATA).listening() as address,
        pytest.raises(Refused, match="closed") as caught,
    ):
        desk.receive(address)
    assert caught.value.exit_code == 11
    assert desk.files() == []


def test_an_older_bundle_does_not_pass_for_the_one_of_a_newer_request(desk, source):
    with source.listening() as address:
        desk.receive(address)
    request = seal_request(SITE.identity, nonce=bytes(32), day=TODAY)
    newer = Site(identity=SITE.identity, request=request)
    (desk.keys / "requests" / f"{newer.grant.hex()}.request").write_bytes(request)
    with pytest.raises(ConnectionFault):
        desk.receive(address)
    answer = sealed_for(newer, SOURCE, seed=1)
    with SimulatedSource(SOURCE, request, answer).listening() as address:
        with pytest.raises(UsageFault):
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
        with pytest.raises(UsageFault, match="--replace"):
            desk.receive(address)
        assert desk.out.read_bytes() == b"my thesis"
        assert source.fetches == []
        desk.receive(address, replace=True)
    assert desk.out.read_bytes() == DATA


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
                raise StorageFault(Code.STORAGE, "cut")


def partial_bytes(desk):
    path = desk.folder / "model.ecan.partial"
    return path.stat().st_size if path.exists() else 0


LESS_THAN_A_CHUNK = 10_000
"""Bytes of a connection beside whole chunks: enough for its handshake and for the offer."""


@pytest.mark.parametrize("arrived", range(0, len(DATA), CHUNK_BYTES))
def test_a_connection_that_is_cut_is_taken_up_again(desk, source, arrived, monkeypatch):
    monkeypatch.setattr("target_site.receive.PAUSES_S", (0.01,))
    with source.listening() as address:
        # The first connection only asks for the certificate.
        limits = [None, arrived + LESS_THAN_A_CHUNK]
        proxy = CuttingProxy(address, limits, until=lambda: partial_bytes(desk) >= arrived)
        with proxy.listening() as detour:
            desk.receive(detour)
    assert source.fetches == [0, arrived]
    assert desk.out.read_bytes() == DATA
    assert desk.files() == RECEIVED
    assert "trying again" in desk.said[0]


def test_a_connection_that_is_cut_for_good_leaves_a_download_that_goes_on_later(desk, source, monkeypatch):
    monkeypatch.setattr("target_site.receive.PAUSES_S", (0.01,))
    with source.listening() as address:
        limits = [None, CHUNK_BYTES + LESS_THAN_A_CHUNK, None, LESS_THAN_A_CHUNK]
        proxy = CuttingProxy(address, limits, until=lambda: partial_bytes(desk) == CHUNK_BYTES)
        with proxy.listening() as detour, pytest.raises(ConnectionFault):
            desk.receive(detour)
        assert not desk.out.exists()
        desk.receive(address)
    assert source.fetches == [0, CHUNK_BYTES, CHUNK_BYTES]
    assert desk.files() == RECEIVED


def test_a_kept_part_that_was_damaged_is_fetched_again(desk, source):
    with Cutting(SOURCE, SITE.request, DATA, cuts=1).listening() as address, pytest.raises(ConnectionFault):
        desk.receive(address)
    partial = desk.folder / "model.ecan.partial"
    assert partial.stat().st_size == CHUNK_BYTES
    partial.write_bytes(bytes(CHUNK_BYTES))
    with source.listening() as address:
        desk.receive(address)
    assert source.fetches == [CHUNK_BYTES, 0]
    assert desk.out.read_bytes() == DATA


def test_an_out_folder_that_does_not_exist_is_a_storage_fault(desk, source):
    desk.out = desk.folder / "missing" / "model.ecan"
    with source.listening() as address, pytest.raises(StorageFault):
        desk.receive(address)


# Opening what was accepted.


@pytest.fixture
def accepted(desk):
    carried = desk.keys / "carried.ecan"
    carried.write_bytes(DATA)
    desk.receive(carried)
    return desk


def opened(desk, keys_dir=None, trust=None, today=TODAY):
    return open_accepted(desk.out, keys_dir=keys_dir, trust=trust, today=today)


def test_an_accepted_bundle_opens_with_its_receipt(accepted):
    assert opened(accepted).digest == hashlib.sha256(DATA).digest()
    assert opened(accepted, keys_dir=accepted.keys).digest == hashlib.sha256(DATA).digest()


def test_a_bundle_that_was_accepted_in_time_opens_later_too(accepted):
    assert opened(accepted, today=TODAY + 400).digest


def test_a_bundle_without_a_receipt_is_not_opened(accepted):
    accepted.receipt.unlink()
    with pytest.raises(Unauthentic, match="ecan-target receive"):
        opened(accepted)


@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "changed"])
def test_a_damaged_receipt_is_named_and_written_again_by_receive(accepted, damage):
    kept = accepted.receipt.read_bytes()
    before, mark, signature = kept.partition(b'"sig":"')
    changed = before + mark + (b"A" if signature[:1] != b"A" else b"B") + signature[1:]
    damaged = {"empty": b"", "truncated": kept[:-9], "garbage": b"\0\xff" * 99, "changed": changed}
    accepted.receipt.write_bytes(damaged[damage])
    with pytest.raises(
        Unauthentic, match=r"model\.ecan\.receipt is damaged; run `ecan-target receive` again"
    ) as caught:
        opened(accepted)
    assert caught.value.exit_code == 10
    with Closed(SOURCE, SITE.request, DATA).listening() as address:
        accepted.receive(address)
    assert accepted.receipt.read_bytes() == kept


def test_without_a_receipt_keys_and_trust_together_open_it(accepted):
    accepted.receipt.unlink()
    trust = SOURCE.fingerprint.hex()
    assert opened(accepted, accepted.keys, trust).digest == hashlib.sha256(DATA).digest()
    with pytest.raises(Unauthentic):
        opened(accepted, accepted.keys, new_identity(Role.SOURCE).fingerprint.hex())
    with pytest.raises(Refused):
        opened(accepted, accepted.keys, trust, today=TODAY + 400)


def test_the_receipt_of_another_bundle_opens_nothing(accepted):
    weights = open_receipt(accepted.receipt.read_bytes(), signer=SITE.identity.fingerprint).weights_sha256
    accepted.receipt.write_bytes(receipt_for(SITE, b"another", weights))
    with pytest.raises(Unauthentic, match="not what this site accepted"):
        opened(accepted)


def test_a_receipt_that_refuses_opens_nothing(accepted):
    accepted.receipt.write_bytes(receipt_for(SITE, DATA, bytes(32), verdict=Verdict.REFUSED))
    with pytest.raises(Unauthentic):
        opened(accepted)


def test_a_bundle_that_another_site_accepted_is_not_opened_with_our_keys(accepted, tmp_path):
    keys = new_site().write(tmp_path / "other")
    with pytest.raises(Unauthentic):
        opened(accepted, keys_dir=keys)


def test_a_receipt_opens_only_bundles_of_the_source_that_is_named(accepted):
    assert opened(accepted, trust=SOURCE.fingerprint.hex()).digest
    with pytest.raises(Unauthentic):
        opened(accepted, trust=new_identity(Role.SOURCE).fingerprint.hex())


@pytest.mark.parametrize("position", [0, 50, 500, 900, 2000, len(DATA) - 1])
def test_an_accepted_bundle_that_was_changed_since_is_not_opened(accepted, position):
    accepted.out.write_bytes(DATA[:position] + bytes([DATA[position] ^ 1]) + DATA[position + 1 :])
    with pytest.raises((Unauthentic, Malformed)):
        opened(accepted)
