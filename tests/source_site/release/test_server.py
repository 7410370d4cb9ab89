"""What the server says to sites that do not follow the order of calls, or ask for what is another's."""

import contextlib
import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import pytest

from protocol.errors import Code, FileError, MalformedError, PeerError, RefusedError
from protocol.identity.identities import Role, ServerIdentity
from protocol.ledger.grants import MAX_FETCHES, QUOTA_FACTOR, WINDOW_S, GrantState, SealedFacts
from protocol.ledger.store import Ledger
from protocol.statements.offers import MAX_SEQ, NO_HEAD, open_checkpoint
from protocol.statements.receipts import Receipt, Verdict, sign_receipt
from protocol.statements.request import open_request
from protocol.wire.address import Address, parse_address
from protocol.wire.channel import start_server
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.codec import encode
from protocol.wire.ecan.v1.release_pb2 import AckRequest, FetchRequest
from protocol.wire.proof import prove
from protocol.wire.service import ACK, FETCH, OPEN, Call, pins, release_handler
from protocol.wire.status import PUBLIC_FAULTS
from source_site.release import server as server_module
from source_site.release.outbox import check_receipt
from source_site.release.server import OnceRelease, serve
from tests.support.calls import calling
from tests.support.loopback import needs_loopback
from tests.support.sites import TODAY, Site, der, new_identity, new_site

pytestmark = needs_loopback

SOURCE, SITE, OTHER = new_identity(Role.SOURCE), new_site(), new_site()
SIZE = 3 * CHUNK_BYTES + 100
DATA = {site.grant: os.urandom(SIZE) for site in (SITE, OTHER)}
NOW_S = TODAY * 86_400
SERVER = ServerIdentity(
    fingerprint=SOURCE.fingerprint,
    certificate=SOURCE.certificate,
    certificate_pem=SOURCE.certificate_pem,
    tls_key_pem=SOURCE.tls_key_pem,
    online_key=SOURCE.online_key,
    online_endorsement=SOURCE.online_endorsement,
)


def facts(data: bytes) -> SealedFacts:
    """What the ledger knows of sealed bytes; what is inside is made up."""
    return SealedFacts(
        sealed_sha256=hashlib.sha256(data).digest(),
        size=len(data),
        bundle_sha256=hashlib.sha256(b"bundle" + data).digest(),
        weights_sha256=hashlib.sha256(b"weights" + data).digest(),
    )


def digest(site: Site = SITE) -> bytes:
    return facts(DATA[site.grant]).sealed_sha256


def receipt(site: Site = SITE, *, signer: Site | None = None, **changes: object) -> bytes:
    """A site's word on its bundle, or a lie about it."""
    known = facts(DATA[site.grant])
    said = {
        "grant": site.grant,
        "sealed_sha256": known.sealed_sha256,
        "digest": known.bundle_sha256,
        "weights_sha256": known.weights_sha256,
        "verdict": Verdict.ACCEPTED,
        "day": TODAY,
    }
    return sign_receipt(Receipt(**(said | changes)), (signer or site).identity.signing_key)


@dataclass
class Desk:
    """A source with a ledger and an outbox; sealed bytes for two sites are in it."""

    folder: object
    now_s: int = NOW_S
    said: list = field(default_factory=list)

    def __post_init__(self):
        self.ledger = Ledger.create(self.folder / "ledger.sqlite")
        self.outbox = self.folder / "outbox"
        self.outbox.mkdir()
        for site in (SITE, OTHER):
            self.issue(site)

    def issue(self, site):
        data = DATA.setdefault(site.grant, os.urandom(SIZE))
        (self.outbox / f"{site.grant.hex()}.sealed").write_bytes(data)
        self.ledger.issue(site.grant, site.identity.fingerprint, b"m" * 32, lambda _: facts(data), now_s=self.now_s)

    def state(self, site=SITE):
        return self.ledger.find(site.grant).state

    def serve(self, *sites, timeout_s=15.0, requests=None):
        asked = [open_request(site.request) for site in sites] if requests is None else requests
        arguments = ([site.grant for site in sites], asked, self.ledger, SERVER, self.outbox, b"list")
        return serve(
            *arguments,
            Address("127.0.0.1", 0),
            announce=self.said.append,
            timeout_s=timeout_s,
            now_s=lambda: self.now_s,
        )

    def address(self):
        while not any(line.startswith("listening on") for line in self.said):
            time.sleep(0.01)
        return parse_address(self.said[0].split()[2])


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.fixture
def served(desk):
    """The service without the loop around it."""
    with server_module._deliveries(desk.outbox, desk.ledger.records()) as deliveries:
        release = OnceRelease(deliveries, desk.ledger, SERVER, b"list", now_s=lambda: desk.now_s)
        requests = [open_request(site.request) for site in (SITE, OTHER)]
        certificates = b"".join(request.certificate for request in requests)
        handler = release_handler(release, pins(requests))
        server, release.address = start_server(Address("127.0.0.1", 0), SERVER, certificates, handler)
        yield release
        server.stop(0).wait()


@pytest.fixture
def calls(served):
    with calling(served.address, SITE, SOURCE) as calls:
        yield calls


@pytest.fixture
def others(served):
    with calling(served.address, OTHER, SOURCE) as calls:
        yield calls


def fetched(calls, offset=0):
    return b"".join(chunk.data for chunk in calls.fetch(digest(calls.site), offset))


def test_the_bundle_is_offered_fetched_and_receipted(calls, desk):
    offer = calls.open()
    assert (offer.sealed_sha256, offer.size, offer.release) == (digest(), SIZE, 1)
    assert offer.expires_s == NOW_S + WINDOW_S
    assert fetched(calls) == DATA[SITE.grant]
    assert desk.state() is GrantState.STREAMING
    reply = calls.ack(receipt())
    checkpoint = open_checkpoint(reply.checkpoint, SOURCE.online_endorsement, SOURCE.fingerprint)
    head = desk.ledger.head()
    assert (checkpoint.grant, checkpoint.seq, checkpoint.head) == (SITE.grant, head.seq, head.digest)
    assert (checkpoint.seen, checkpoint.seen_head) == (0, NO_HEAD)
    assert desk.state() is GrantState.CLOSED


def test_the_answer_to_a_receipt_shows_what_stands_where_the_site_has_last_seen_the_ledger(calls, desk):
    before = desk.ledger.head()
    calls.open()
    fetched(calls)
    for seen in (before.seq, before.seq + 1):
        reply = calls.ack(receipt(), seen)
        checkpoint = open_checkpoint(reply.checkpoint, SOURCE.online_endorsement, SOURCE.fingerprint)
        assert checkpoint.seq > seen
        assert (checkpoint.seen, checkpoint.seen_head) == (seen, desk.ledger.digest_at(seen))
    assert desk.ledger.digest_at(before.seq) == before.digest


@pytest.mark.parametrize("beyond", [1, MAX_SEQ], ids=["by one line", "by far"])
def test_of_a_line_that_the_ledger_has_lost_nothing_can_be_said(calls, desk, beyond):
    calls.open()
    fetched(calls)
    calls.ack(receipt())
    seen = min(desk.ledger.head().seq + beyond, MAX_SEQ)
    reply = calls.ack(receipt(), seen)
    checkpoint = open_checkpoint(reply.checkpoint, SOURCE.online_endorsement, SOURCE.fingerprint)
    assert checkpoint.seq < seen
    assert (checkpoint.seen, checkpoint.seen_head) == (seen, NO_HEAD)


def test_two_sites_are_served_side_by_side_each_its_own(calls, others):
    for ours in (calls, others):
        ours.open()
    streams = [ours.fetch(digest(ours.site)) for ours in (calls, others)]
    pieces = list(zip(*streams, strict=True))
    for number, site in enumerate((SITE, OTHER)):
        assert b"".join(piece[number].data for piece in pieces) == DATA[site.grant]
    assert calls.ack(receipt()) != others.ack(receipt(OTHER))


def test_a_download_goes_on_from_any_chunk(calls):
    calls.open()
    for offset in range(0, SIZE, CHUNK_BYTES):
        assert fetched(calls, offset) == DATA[SITE.grant][offset:]


def test_what_is_revoked_is_told_to_every_site(calls, others):
    assert calls.trust() == others.trust() == b"list"


def test_the_ledger_counts_bytes_before_they_leave(calls, desk):
    calls.open()
    assert desk.state() is GrantState.RESERVED
    stream = calls.fetch(digest())
    seen = 0
    for chunk in stream:
        seen += len(chunk.data)
        assert desk.ledger.find(SITE.grant).sent_bytes >= seen
    assert desk.ledger.find(SITE.grant).sent_bytes == SIZE
    assert desk.ledger.find(SITE.grant).fetches == 1


def test_a_large_bundle_is_counted_in_few_steps_that_waste_little(desk, tmp_path):
    steps = []

    class Counting:
        def lease(self, grant, num_bytes, *, now_s):
            steps.append(num_bytes)

    size = 2**28
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(size)
    with path.open("rb") as file:
        delivery = server_module.Delivery(grant=b"g" * 16, site=b"", sealed_sha256=b"", size=size, file=file.fileno())
        release = OnceRelease({}, Counting(), SERVER, b"", now_s=lambda: NOW_S)
        sent = 0
        for message in release._messages(delivery, 0, server_module._Stream(grant=b"g" * 16, call=None, ends=0)):
            sent += len(message) & -CHUNK_BYTES
            ahead = sum(steps) - sent
            assert 0 <= ahead <= max(CHUNK_BYTES, min(sent // 2, size // 16))
    assert sum(steps) == sent == size
    assert len(steps) < 50


def test_a_ledger_that_cannot_be_written_lets_no_byte_out(calls, desk):
    calls.open()
    (desk.folder / "ledger.sqlite").rename(desk.folder / "gone")
    (desk.folder / "ledger.sqlite").write_bytes(b"damaged" * 1000)
    with pytest.raises(PeerError, match="storage") as caught:
        next(calls.fetch(digest()))
    assert str(desk.folder) not in str(caught.value)


def proof_by(signer, **changes):
    """A proof with its own nonce; `changes` bind it to something else than the connection."""
    nonce = os.urandom(32)
    bound = {
        "grant": SITE.grant,
        "nonce": nonce,
        "server_certificate": der(SOURCE),
        "client_certificate": der(SITE.identity),
    }
    return {"nonce": nonce, "proof": prove(signer.signing_key, **(bound | changes))}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"proof": b""}, id="missing"),
        pytest.param({"nonce": bytes(32)}, id="replayed for another nonce"),
        pytest.param(proof_by(OTHER.identity), id="another key"),
        pytest.param(proof_by(SITE.identity, grant=OTHER.grant), id="another grant"),
        pytest.param(proof_by(SITE.identity, server_certificate=b"other"), id="another source"),
        pytest.param(proof_by(SITE.identity, client_certificate=der(OTHER.identity)), id="another connection"),
    ],
)
def test_nobody_opens_without_a_proof_of_the_sites_key(calls, desk, changes):
    with pytest.raises(PeerError) as caught:
        calls.open(calls.opening(**changes))
    assert caught.value.code is Code.IDENTITY
    assert desk.state() is GrantState.ISSUED


def test_a_nonce_of_another_length_is_refused(calls):
    with pytest.raises(MalformedError):
        calls.open(calls.opening(nonce=b"n"))


def test_an_unknown_grant_and_another_sites_are_the_same_thing(calls, others, desk):
    others.open()
    answers = set()
    for grant in (bytes(16), OTHER.grant, b"", OTHER.grant[:15]):
        answers.add(calls.raw(OPEN, encode(calls.opening(grant=grant))))
        answers.add(calls.raw(FETCH, encode(FetchRequest(grant=grant, digest=digest(OTHER)))))
    assert answers == {(grpc.StatusCode.NOT_FOUND, PUBLIC_FAULTS[Code.GRANT].sentence)}
    assert desk.state(OTHER) is GrantState.RESERVED


def test_an_unknown_grant_and_another_sites_take_the_same_time(calls):
    def seconds(grant):
        request = encode(calls.opening(grant=grant))
        started = time.perf_counter()
        calls.raw(OPEN, request)
        return time.perf_counter() - started

    unknown, foreign = [], []
    for _ in range(40):
        unknown.append(seconds(bytes(16)))
        foreign.append(seconds(OTHER.grant))
    # Neither looks at anything but one dictionary; the ledger alone would take longer than this.
    assert abs(sorted(unknown)[10] - sorted(foreign)[10]) < 0.002


def test_a_receipt_of_another_site_closes_nothing(calls, others, desk):
    others.open()
    fetched(others)
    for data in (receipt(OTHER), receipt(OTHER, signer=SITE), receipt(SITE, grant=OTHER.grant)):
        with pytest.raises(RefusedError) as caught:
            calls.ack(data)
        assert caught.value.code is Code.RECEIPT
    assert desk.state(OTHER) is GrantState.STREAMING


def test_of_two_sites_that_race_for_a_grant_exactly_one_wins(calls, others):
    with ThreadPoolExecutor(2) as pool:
        honest = pool.submit(calls.open)
        thief = pool.submit(others.raw, OPEN, encode(others.opening(grant=SITE.grant)))
    assert honest.result().grant == SITE.grant
    assert thief.result()[0] is grpc.StatusCode.NOT_FOUND


def test_nothing_is_fetched_before_the_grant_is_opened(calls, desk):
    with pytest.raises(MalformedError) as caught:
        fetched(calls)
    assert caught.value.code is Code.PROTOCOL
    assert desk.state() is GrantState.ISSUED


def test_nothing_but_the_offered_bundle_is_fetched(calls):
    calls.open()
    for asked in (bytes(32), digest(OTHER), b""):
        with pytest.raises(RefusedError) as caught:
            [*calls.fetch(asked)]
        assert caught.value.code is Code.DIGEST


@pytest.mark.parametrize("offset", [1, CHUNK_BYTES - 1, SIZE])
def test_a_fetch_starts_at_a_chunk_within_the_bundle(calls, offset):
    calls.open()
    with pytest.raises(MalformedError) as caught:
        fetched(calls, offset)
    assert caught.value.code is Code.OFFSET


@pytest.mark.parametrize("offset", [64 * CHUNK_BYTES, 2**63, 2**64 - 1])
def test_an_offset_beyond_any_bundle_is_out_of_range(calls, offset):
    calls.open()
    message = FetchRequest(grant=SITE.grant, digest=digest(), offset=offset).SerializeToString()
    assert calls.raw(FETCH, message)[0] is grpc.StatusCode.OUT_OF_RANGE


def test_more_fetches_than_a_grant_has_are_refused(calls, desk):
    calls.open()
    for _ in range(MAX_FETCHES):
        desk.ledger.begin_fetch(SITE.grant, now_s=NOW_S)
    assert calls.raw(FETCH, encode(FetchRequest(grant=SITE.grant, digest=digest())))[0] is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    assert desk.state() is GrantState.EXPIRED


def test_a_quota_that_runs_out_ends_a_stream_in_the_middle(calls, desk):
    calls.open()
    desk.ledger.begin_fetch(SITE.grant, now_s=NOW_S)
    desk.ledger.lease(SITE.grant, QUOTA_FACTOR * SIZE - 2 * CHUNK_BYTES, now_s=NOW_S)
    stream = calls.fetch(digest())
    assert [len(next(stream).data) for _ in range(2)] == [CHUNK_BYTES] * 2
    with pytest.raises(RefusedError) as caught:
        next(stream)
    assert caught.value.code is Code.QUOTA
    assert desk.ledger.find(SITE.grant).sent_bytes <= QUOTA_FACTOR * SIZE


def test_a_window_that_has_passed_is_over(calls, desk):
    calls.open()
    desk.now_s += WINDOW_S + 1
    for call in (calls.open, lambda: fetched(calls)):
        with pytest.raises(RefusedError) as caught:
            call()
        assert caught.value.code is Code.STATE


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(receipt(sealed_sha256=bytes(32)), id="another file"),
        pytest.param(receipt(digest=bytes(32)), id="another bundle"),
        pytest.param(receipt(weights_sha256=bytes(32)), id="other weights"),
        pytest.param(receipt(grant=bytes(16)), id="another grant"),
        pytest.param(receipt(verdict=Verdict.REFUSED), id="not accepted"),
        pytest.param(receipt(signer=OTHER), id="another key"),
    ],
)
def test_a_receipt_that_is_not_the_sites_word_on_this_bundle_closes_nothing(calls, desk, data):
    calls.open()
    fetched(calls)
    with pytest.raises(RefusedError) as caught:
        calls.ack(data)
    assert caught.value.code is Code.RECEIPT
    assert desk.state() is GrantState.STREAMING


def test_a_receipt_before_the_first_byte_closes_nothing(calls, desk):
    calls.open()
    with pytest.raises(MalformedError) as caught:
        calls.ack(receipt())
    assert caught.value.code is Code.PROTOCOL
    assert desk.state() is GrantState.RESERVED


def test_a_receipt_before_all_bytes_have_left_closes_nothing(calls, desk):
    calls.open()
    desk.ledger.begin_fetch(SITE.grant, now_s=NOW_S)
    desk.ledger.lease(SITE.grant, CHUNK_BYTES, now_s=NOW_S)
    with pytest.raises(RefusedError) as caught:
        calls.ack(receipt())
    assert caught.value.code is Code.RECEIPT
    assert desk.state() is GrantState.STREAMING


def test_a_receipt_for_a_file_that_was_carried_by_hand_is_taken(calls, desk):
    desk.ledger.carry(SITE.grant, now_s=NOW_S)
    calls.ack(receipt())
    assert desk.state() is GrantState.CLOSED


def test_after_the_receipt_nothing_leaves_any_more(calls):
    calls.open()
    fetched(calls)
    assert calls.ack(receipt()) == calls.ack(receipt())
    for call in (calls.open, lambda: fetched(calls)):
        with pytest.raises(RefusedError) as caught:
            call()
        assert caught.value.code is Code.STATE


def direct_call(cut, site=SITE):
    return Call(
        site=site.identity.fingerprint,
        certificate=der(site.identity),
        cut=lambda: cut.append(site.grant),
        when_over=lambda callback: True,
    )


def test_no_byte_leaves_a_running_stream_once_the_grant_is_closed(served, desk):
    cut = []
    call = direct_call(cut)
    desk.ledger.open(SITE.grant, now_s=NOW_S)
    request = FetchRequest(grant=SITE.grant, digest=digest())
    assert len([*served.fetch(request, call)]) == 4
    stream = served.fetch(request, call)  # once more, after all bytes have left before
    next(stream)
    second = served.fetch(FetchRequest(grant=OTHER.grant, digest=digest(OTHER)), direct_call(cut, OTHER))
    desk.ledger.open(OTHER.grant, now_s=NOW_S)
    next(second)
    reply = served.ack(AckRequest(receipt=receipt()), call)
    assert reply.checkpoint
    assert cut == [SITE.grant]  # what gRPC holds back is dropped
    with pytest.raises((RefusedError, StopIteration)):
        next(stream)
    assert len([*second]) == 3  # the other site's goes on


@pytest.mark.parametrize("ending", ["deny", "close"])
def test_a_grant_that_ends_elsewhere_ends_its_stream_and_is_announced(served, desk, ending):
    cut = []
    desk.ledger.open(SITE.grant, now_s=NOW_S)
    stream = served.fetch(FetchRequest(grant=SITE.grant, digest=digest()), direct_call(cut))
    next(stream)
    other = Ledger(desk.folder / "ledger.sqlite")
    if ending == "deny":
        other.deny(SITE.grant, now_s=NOW_S)
    else:
        other.close(SITE.grant, receipt(), now_s=NOW_S)
    assert not served.look(desk.said.append)
    assert not served.look(desk.said.append)
    assert cut == [SITE.grant]
    assert len(desk.said) == 1
    assert desk.said[0].startswith(f"grant {SITE.grant.hex()} ")
    with pytest.raises(RefusedError) as caught:
        next(stream)
    assert caught.value.code is Code.STATE


def test_a_grant_that_is_denied_while_the_site_is_connected_is_refused_from_the_next_call_or_lease_on(calls, desk):
    calls.open()
    stream = calls.fetch(digest())
    next(stream)
    counted = Ledger(desk.folder / "ledger.sqlite").deny(SITE.grant, now_s=NOW_S).sent_bytes
    with contextlib.suppress(RefusedError):  # what had been leased may all be on its way already
        list(stream)
    assert desk.ledger.find(SITE.grant).sent_bytes == counted
    for call in (calls.open, lambda: fetched(calls), lambda: calls.ack(receipt())):
        with pytest.raises(RefusedError):
            call()


def test_a_site_downloads_one_thing_at_a_time(calls, served):
    calls.open()
    first = served.fetch(FetchRequest(grant=SITE.grant, digest=digest()), direct_call([]))
    next(first)
    with pytest.raises(PeerError) as caught:
        fetched(calls)
    assert caught.value.code is Code.BUSY
    message = encode(FetchRequest(grant=SITE.grant, digest=digest()))
    assert calls.raw(FETCH, message)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    first.close()
    assert fetched(calls) == DATA[SITE.grant]


def test_a_site_that_hung_up_is_not_busy(calls, served):
    calls.open()
    for _ in range(3):
        stream = calls.fetch(digest())
        next(stream)
        stream.close()
        end = time.monotonic() + 5
        while served._streams and time.monotonic() < end:
            time.sleep(0.01)
        assert fetched(calls, 3 * CHUNK_BYTES) == DATA[SITE.grant][3 * CHUNK_BYTES :]


def test_a_reader_that_stands_still_is_cut(desk, monkeypatch):
    monkeypatch.setattr(server_module, "PATIENCE_S", 0.5)
    monkeypatch.setattr(server_module, "SLOWEST_BYTES_PER_S", 2**30)
    slow = new_site()
    DATA[slow.grant] = bytes(2**24)  # more than all buffers on the way hold
    desk.issue(slow)
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(desk.serve, slow, timeout_s=4.0)
        with calling(desk.address(), slow, SOURCE) as calls:
            calls.open()
            stream = calls.channel.unary_stream(FETCH)(
                encode(FetchRequest(grant=slow.grant, digest=digest(slow))), timeout=10
            )
            assert len(next(stream)) > CHUNK_BYTES
            time.sleep(2.0)
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
            assert caught.value.code() is grpc.StatusCode.CANCELLED
            calls.open()  # and it may come again
        assert serving.result()[0].state is GrantState.STREAMING
    assert desk.ledger.find(slow.grant).sent_bytes < 2**24


def test_serving_ends_when_every_grant_has_ended(desk):
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(desk.serve, SITE, OTHER)
        address = desk.address()
        for site in (SITE, OTHER):
            with calling(address, site, SOURCE) as calls:
                calls.open()
                assert fetched(calls) == DATA[site.grant]
                calls.ack(receipt(site))
        records = serving.result(10)
    assert [record.state for record in records] == [GrantState.CLOSED] * 2
    assert [record.grant for record in records] == [SITE.grant, OTHER.grant]
    assert desk.said[0] == f"listening on {address} as {SOURCE.fingerprint.hex()}"
    assert sorted(desk.said[1:]) == sorted(
        f"grant {site.grant.hex()} closed with the site's receipt" for site in (SITE, OTHER)
    )


def test_serving_ends_when_the_time_is_up(desk):
    started = time.monotonic()
    (record,) = desk.serve(SITE, timeout_s=0.2)
    assert record.state is GrantState.ISSUED
    assert time.monotonic() - started < 5


def test_grants_that_another_process_ends_or_whose_window_passes_end_the_serving(desk):
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(desk.serve, SITE, OTHER)
        address = desk.address()
        with calling(address, OTHER, SOURCE) as calls:
            calls.open()
        Ledger(desk.folder / "ledger.sqlite").deny(SITE.grant, now_s=NOW_S)
        desk.now_s += WINDOW_S
        records = serving.result(10)
    assert [record.state for record in records] == [GrantState.DENIED, GrantState.EXPIRED]
    assert any("denied" in line for line in desk.said)
    assert any("expired" in line for line in desk.said)


def test_what_has_ended_already_is_not_served_again(desk):
    desk.ledger.deny(SITE.grant, now_s=NOW_S)
    (record,) = desk.serve(SITE)
    assert record.state is GrantState.DENIED
    assert desk.said == []


def test_a_grant_without_a_row_or_without_its_request_is_not_served(desk):
    with pytest.raises(RefusedError) as caught:
        desk.serve(new_site())
    assert caught.value.code is Code.GRANT
    with pytest.raises(RefusedError, match="request of every site"):
        desk.serve(SITE, requests=[open_request(OTHER.request)])


@pytest.mark.parametrize("damage", ["missing", "shorter", "other", "link", "pipe"])
def test_a_file_that_is_not_the_one_in_the_ledger_is_not_served(desk, damage):
    path = desk.outbox / f"{SITE.grant.hex()}.sealed"
    path.rename(desk.folder / "kept")
    if damage == "shorter":
        path.write_bytes(DATA[SITE.grant][:-1])
    elif damage == "other":
        path.write_bytes(bytes(SIZE))
    elif damage == "link":
        path.symlink_to(desk.folder / "kept")
    elif damage == "pipe":
        os.mkfifo(path)
    with pytest.raises(FileError) as caught:
        desk.serve(SITE)
    assert caught.value.code is Code.STORAGE
    assert desk.said == []


def test_a_file_that_is_cut_while_it_is_served_ends_the_stream(calls, desk):
    calls.open()
    os.truncate(desk.outbox / f"{SITE.grant.hex()}.sealed", CHUNK_BYTES)
    with pytest.raises(PeerError, match="storage"):
        fetched(calls)


def test_a_receipt_is_checked_against_the_ledgers_record(desk):
    record = desk.ledger.find(SITE.grant)
    assert check_receipt(receipt(), record).grant == SITE.grant
    with pytest.raises(RefusedError):
        check_receipt(receipt(verdict=Verdict.REFUSED), record)


def test_an_acknowledgement_that_is_no_receipt_is_refused_with_one_sentence(calls):
    assert calls.raw(ACK, b"") == (grpc.StatusCode.FAILED_PRECONDITION, PUBLIC_FAULTS[Code.RECEIPT].sentence)


def test_many_calls_at_once_leave_no_thread_behind(calls):
    calls.open()
    before = threading.active_count()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: calls.trust(), range(40))) == {b"list"}
    assert threading.active_count() <= before + 8
