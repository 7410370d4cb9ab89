"""What the target makes of a source that does not keep to the protocol: nothing, and it says so."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest

from protocol.bundle.sealing import MAX_SEALED_BYTES
from protocol.errors import Code, PeerError, RefusedError, TimedOutError
from protocol.identity.identities import Role
from protocol.statements.offers import NO_HEAD, CheckpointFields, open_checkpoint, sign_checkpoint
from protocol.wire.address import Address
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.codec import encode
from protocol.wire.ecan.v1.release_pb2 import AckReply, Chunk, Offer, TrustReply
from protocol.wire.service import OPEN, SERVICE
from target_site.receiving import client as client_module
from target_site.receiving.client import Deadline, connect, read_offer
from tests.support.loopback import needs_loopback
from tests.support.simulated_source import HEAD, SimulatedSource
from tests.support.sites import new_identity, new_site

pytestmark = needs_loopback

SOURCE, SITE, OTHER = new_identity(Role.SOURCE), new_site(), new_identity(Role.SOURCE)
DATA = bytes(range(256)) * 700  # three chunks, the last one short


def connected(address, timeout_s=10.0, **options):
    return connect(address, SITE.identity, SOURCE.fingerprint, Deadline(timeout_s), **options)


def fetched(source, offset=0):
    with source.listening() as address, connected(address) as client:
        return b"".join(client.fetch(client.open([SITE.grant]), offset))


def refused(source, work):
    """The fault with which some work with a source ends."""
    with source.listening() as address, connected(address) as client, pytest.raises(PeerError) as caught:
        work(client)
    return caught.value


def test_an_honest_source_is_understood():
    assert fetched(SimulatedSource(SOURCE, SITE.request, DATA)) == DATA
    assert fetched(SimulatedSource(SOURCE, SITE.request, DATA), CHUNK_BYTES) == DATA[CHUNK_BYTES:]


def test_the_offer_keeps_the_sources_signed_word():
    source = SimulatedSource(SOURCE, SITE.request, DATA)
    with source.listening() as address, connected(address) as client:
        offer = client.open([SITE.grant])
    fields, endorsement = read_offer(offer.message, SOURCE.fingerprint)
    assert endorsement == SOURCE.online_endorsement
    assert (fields.grant, fields.sealed_sha256, fields.size) == (offer.grant, offer.digest, offer.size)
    assert (offer.release, offer.issuer) == (1, SOURCE.fingerprint)


def test_of_several_requests_the_one_that_the_source_serves_is_found():
    source = SimulatedSource(SOURCE, SITE.request, DATA)
    with source.listening() as address, connected(address) as client:
        assert client.open([b"x" * 16, SITE.grant, b"y" * 16]).grant == SITE.grant
        with pytest.raises(RefusedError) as caught:
            client.open([b"x" * 16])
        assert caught.value.code is Code.GRANT
        with pytest.raises(RefusedError, match="ecan-target request"):
            client.open([])


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": bytes(32)},
        {"grant": bytes(16)},
        {"size": MAX_SEALED_BYTES + 1},
        {"size": 10**15 - 1},
    ],
)
def test_an_offer_for_something_else_is_refused(change):
    class Offering(SimulatedSource):
        def open(self, request):
            return self.signed(replace(self.offered(request), **change))

    fault = refused(Offering(SOURCE, SITE.request, DATA), lambda client: client.open([SITE.grant]))
    assert fault.code is Code.OFFER


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda offer: Offer(), id="empty"),
        pytest.param(lambda offer: Offer(statement=offer.statement), id="not endorsed"),
        pytest.param(lambda offer: Offer(endorsement=offer.endorsement), id="not signed"),
        pytest.param(
            lambda offer: Offer(statement=offer.statement, endorsement=OTHER.online_endorsement), id="another's key"
        ),
        pytest.param(
            lambda offer: Offer(statement=offer.statement.replace(b"a", b"b", 1), endorsement=offer.endorsement),
            id="changed",
        ),
    ],
)
def test_an_offer_that_the_source_has_not_signed_is_refused(answer):
    class Offering(SimulatedSource):
        def open(self, request):
            return answer(super().open(request))

    fault = refused(Offering(SOURCE, SITE.request, DATA), lambda client: client.open([SITE.grant]))
    assert fault.code is Code.OFFER


def test_an_offer_by_another_source_behind_the_right_certificate_is_refused():
    class Offering(SimulatedSource):
        def signed(self, offer):
            return SimulatedSource(OTHER, SITE.request, DATA).signed(offer)

    fault = refused(Offering(SOURCE, SITE.request, DATA), lambda client: client.open([SITE.grant]))
    assert fault.code is Code.OFFER


FIRST, SECOND, LAST = (
    Chunk(offset=start, data=DATA[start : start + CHUNK_BYTES]) for start in range(0, len(DATA), CHUNK_BYTES)
)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([SECOND, LAST], id="the first is missing"),
        pytest.param([FIRST, FIRST], id="one twice"),
        pytest.param([FIRST, LAST], id="one is left out"),
        pytest.param([FIRST, SECOND], id="the last is missing"),
        pytest.param([FIRST, Chunk(offset=CHUNK_BYTES - 1, data=SECOND.data)], id="overlapping"),
        pytest.param([FIRST, SECOND, LAST, Chunk(offset=len(DATA), data=b"x")], id="more than was offered"),
        pytest.param([FIRST, SECOND, LAST, Chunk(offset=len(DATA))], id="an empty one at the end"),
        pytest.param([FIRST, SECOND, LAST, b""], id="an empty message at the end"),
        pytest.param([Chunk(offset=0, data=DATA[: CHUNK_BYTES + 1])], id="one is too long"),
        pytest.param([Chunk(offset=0, data=DATA[: CHUNK_BYTES + 1025])], id="one is a kilobyte too long"),
        pytest.param([Chunk(offset=0, data=DATA[: CHUNK_BYTES - 1])], id="one is too short"),
        pytest.param([Chunk(offset=0)] * 3, id="empty ones"),
        pytest.param([FIRST.SerializeToString() + b"\x1a\x04note"], id="one with an unknown field"),
        pytest.param([b"noise"], id="noise"),
        pytest.param([], id="none"),
    ],
)
def test_chunks_that_are_not_the_next_ones_are_refused(sent):
    class Streaming(SimulatedSource):
        def fetch(self, request):
            yield from sent

    with pytest.raises(PeerError) as caught:
        fetched(Streaming(SOURCE, SITE.request, DATA))
    assert caught.value.code is Code.PROTOCOL


def test_a_stream_without_an_end_is_cut_at_the_offered_size():
    sent = []

    class Endless(SimulatedSource):
        def fetch(self, request):
            yield from super().fetch(request)
            while len(sent) < 1000:
                sent.append(1)
                yield Chunk(offset=len(DATA) + len(sent), data=bytes(CHUNK_BYTES))

    taken = []
    source = Endless(SOURCE, SITE.request, DATA)
    with source.listening() as address, connected(address) as client:
        offer = client.open([SITE.grant])
        with pytest.raises(PeerError) as caught:
            taken.extend(map(bytes, client.fetch(offer, 0)))
    assert caught.value.code is Code.PROTOCOL
    assert b"".join(taken) == DATA
    assert len(sent) < 500


def test_a_message_far_beyond_a_chunk_is_not_even_read():
    class Flooding(SimulatedSource):
        def fetch(self, request):
            yield Chunk(offset=0, data=bytes(2**20))

    with pytest.raises(PeerError) as caught:
        fetched(Flooding(SOURCE, SITE.request, DATA))
    assert caught.value.code is Code.PROTOCOL


def test_a_download_that_is_left_ends_the_call():
    ended = threading.Event()

    class Slow(SimulatedSource):
        def fetch(self, request):
            try:
                yield FIRST
                yield SECOND
                ended.wait(0.2)
                yield from iter(lambda: LAST, None)
            finally:
                ended.set()

    with Slow(SOURCE, SITE.request, DATA).listening() as address, connected(address) as client:
        chunks = client.fetch(client.open([SITE.grant]), 0)
        next(chunks)
        chunks.close()
        assert ended.wait(5)


def test_the_receipt_is_answered_with_a_checkpoint():
    source = SimulatedSource(SOURCE, SITE.request, DATA)
    with source.listening() as address, connected(address) as client:
        client.open([SITE.grant])
        first, second = (client.ack(b"receipt", seen=seen) for seen in (0, 1))
    assert (first.stated.grant, first.stated.seq) == (SITE.grant, 1)
    assert (first.stated.seen, first.stated.seen_head) == (0, NO_HEAD)
    assert (second.stated.seen, second.stated.seen_head) == (1, HEAD)
    for checkpoint in (first, second):
        assert open_checkpoint(checkpoint.statement, checkpoint.endorsement, SOURCE.fingerprint) == checkpoint.stated
    assert source.receipts == [b"receipt"] * 2


CHECKPOINT = CheckpointFields(grant=SITE.grant, seq=2, head=HEAD, seen=1, seen_head=HEAD, day=20_000)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(AckReply(), id="none"),
        pytest.param(AckReply(checkpoint=sign_checkpoint(CHECKPOINT, OTHER.online_key)), id="of another source"),
        pytest.param(
            AckReply(checkpoint=sign_checkpoint(replace(CHECKPOINT, grant=bytes(16)), SOURCE.online_key)),
            id="of another grant",
        ),
        pytest.param(
            AckReply(checkpoint=sign_checkpoint(replace(CHECKPOINT, seen=2), SOURCE.online_key)),
            id="of another line",
        ),
    ],
)
def test_a_checkpoint_that_the_source_has_not_signed_for_this_grant_and_line_is_refused(reply):
    class Acknowledging(SimulatedSource):
        def ack(self, request):
            return reply

    def work(client):
        client.open([SITE.grant])
        client.ack(b"receipt", seen=1)

    assert refused(Acknowledging(SOURCE, SITE.request, DATA), work).code is Code.PROTOCOL


@pytest.mark.parametrize("revocations", [b"", b"signed list"])
def test_what_is_revoked_is_fetched_unread(revocations):
    source = SimulatedSource(SOURCE, SITE.request, DATA)
    source.revocations = revocations
    with source.listening() as address, connected(address) as client:
        assert client.trust() == revocations


class Busy(SimulatedSource):
    """Refuses the first calls of each kind."""

    def __init__(self, times):
        super().__init__(SOURCE, SITE.request, DATA)
        self.left = {"open": times, "fetch": times, "ack": times, "trust": times}

    def busy(self, kind):
        self.left[kind] -= 1
        if self.left[kind] >= 0:
            raise PeerError(Code.BUSY, "busy")

    def open(self, request):
        self.busy("open")
        return super().open(request)

    def fetch(self, request):
        self.busy("fetch")
        yield from super().fetch(request)

    def ack(self, request):
        self.busy("ack")
        return super().ack(request)

    def trust(self, request):
        self.busy("trust")
        return super().trust(request)


def test_a_busy_source_is_asked_again_after_growing_pauses(monkeypatch):
    pauses = []
    monkeypatch.setattr(client_module.time, "sleep", pauses.append)
    source = Busy(8)
    with source.listening() as address, connected(address) as client:
        offer = client.open([SITE.grant])
        assert b"".join(client.fetch(offer, 0)) == DATA
        client.ack(b"receipt", seen=0)
        client.trust()
    assert source.fetches == [0]
    assert len(pauses) == 32
    for tries in (pauses[start : start + 8] for start in range(0, 32, 8)):
        limits = [min(0.1 * 2**number, 5.0) for number in range(8)]
        assert all(limit / 2 <= pause <= limit for pause, limit in zip(tries, limits, strict=True))
    assert len(set(pauses)) > 30  # many targets do not come again together


def test_a_source_that_stays_busy_is_left_when_the_time_is_up():
    source = Busy(10**6)
    with (
        source.listening() as address,
        connected(address, timeout_s=0.5) as client,
        pytest.raises(TimedOutError),
    ):
        client.open([SITE.grant])


def test_more_calls_than_the_source_has_threads_are_all_answered_in_the_end(monkeypatch):
    from protocol.wire import channel

    monkeypatch.setattr(channel, "CALLS_AT_ONCE", 2)
    source = SimulatedSource(SOURCE, SITE.request, DATA)

    def one(_):
        with connected(address, timeout_s=30) as client:
            return b"".join(client.fetch(client.open([SITE.grant]), 0))

    with source.listening() as address, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(16))) == {DATA}


def raw_server(answer):
    """A source behind the right certificate that uses gRPC in ways that our own service never does."""
    from concurrent.futures import ThreadPoolExecutor as Pool

    handlers = grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Trust": grpc.unary_unary_rpc_method_handler(answer),
            "Fetch": grpc.unary_stream_rpc_method_handler(lambda data, context: iter([answer(data, context)])),
            "Open": grpc.unary_unary_rpc_method_handler(
                lambda data, context: encode(
                    SimulatedSource(SOURCE, SITE.request, DATA).open(client_module.OpenRequest.FromString(data))
                )
            ),
        },
    )
    server = grpc.server(Pool(2), handlers=[handlers])
    credentials = grpc.ssl_server_credentials(
        [(SOURCE.tls_key_pem, SOURCE.certificate_pem)], SITE.identity.certificate_pem, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    return server, Address("127.0.0.1", port)


def initial(context):
    context.send_initial_metadata([("note", "x")])


def trailing(context):
    context.set_trailing_metadata([("note-bin", b"secret")])


def both(context):
    initial(context)
    trailing(context)


@pytest.mark.parametrize("add", [initial, trailing, both])
def test_an_answer_with_metadata_is_refused(add):
    def answer(data, context):
        add(context)
        return b"" if not data else FIRST.SerializeToString()

    server, address = raw_server(answer)
    try:
        with connected(address) as client:
            with pytest.raises(PeerError) as caught:
                client.trust()
            assert caught.value.code is Code.METADATA
            offer = replace(client.open([SITE.grant]), size=CHUNK_BYTES)
            with pytest.raises(PeerError) as caught:
                list(client.fetch(offer, 0))
            assert caught.value.code is Code.METADATA
    finally:
        server.stop(0).wait()


def test_a_fault_with_metadata_is_refused_as_well():
    def answer(data, context):
        trailing(context)
        context.abort(grpc.StatusCode.NOT_FOUND, "x")

    server, address = raw_server(answer)
    try:
        with connected(address) as client, pytest.raises(PeerError) as caught:
            client.trust()
        assert caught.value.code is Code.METADATA
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize("reply", [TrustReply(revocations=bytes(30_000)).SerializeToString(), b"noise"])
def test_a_list_that_is_too_long_or_none_at_all_is_refused(reply):
    server, address = raw_server(lambda data, context: reply)
    try:
        with connected(address) as client, pytest.raises(PeerError) as caught:
            client.trust()
        assert caught.value.code is Code.PROTOCOL
    finally:
        server.stop(0).wait()


def test_a_compressed_answer_is_refused():
    def answer(data, context):
        context.set_compression(grpc.Compression.Gzip)
        return bytes(10_000)

    server, address = raw_server(answer)
    try:
        with connected(address) as client, pytest.raises(PeerError):
            client.trust()
    finally:
        server.stop(0).wait()


def test_a_source_that_hangs_is_left_when_the_time_is_up():
    released = threading.Event()

    class Hanging(SimulatedSource):
        def open(self, request):
            released.wait(10)
            return super().open(request)

    with Hanging(SOURCE, SITE.request, DATA).listening() as address:
        with connected(address, timeout_s=0.5) as client, pytest.raises(TimedOutError):
            client.open([SITE.grant])
        released.set()


def test_nothing_of_a_request_is_sent_to_another_source():
    asked = []

    class Watching(SimulatedSource):
        def open(self, request):
            asked.append(request)
            return super().open(request)

    with Watching(OTHER, SITE.request, DATA).listening() as address:
        with pytest.raises(PeerError) as caught, connected(address) as client:
            client.open([SITE.grant])
        assert caught.value.code is Code.IDENTITY
    assert asked == []


def test_no_time_is_no_time():
    with pytest.raises(TimedOutError, match="longer time-out"):
        Deadline(0).remaining_s()


def test_the_calls_are_those_of_the_service():
    assert OPEN.startswith(f"/{SERVICE}/")
