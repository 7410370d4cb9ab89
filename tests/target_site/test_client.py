"""What the target makes of a source that does not keep to the protocol: nothing, and it says so."""

import pytest

from protocol.bundle import MAX_BUNDLE_BYTES
from protocol.errors import Code, ConnectionFault, Refused, TimedOut
from protocol.identity import Role
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.ecan.v1.release_pb2 import Chunk, Offer
from target_site.client import Deadline, connect
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import new_identity, new_site

SOURCE, SITE = new_identity(Role.SOURCE), new_site()
DATA = bytes(range(256)) * 700  # three chunks, the last one short


def fetched(source, offset=0):
    with (
        source.listening() as address,
        connect(address, SITE.identity, SOURCE.fingerprint, Deadline(10)) as client,
    ):
        return b"".join(client.fetch(client.open([SITE.grant]), offset))


def test_an_honest_source_is_understood():
    assert fetched(SimulatedSource(SOURCE, SITE.request, DATA)) == DATA
    assert fetched(SimulatedSource(SOURCE, SITE.request, DATA), CHUNK_BYTES) == DATA[CHUNK_BYTES:]


def test_of_several_requests_the_one_that_the_source_serves_is_found():
    source = SimulatedSource(SOURCE, SITE.request, DATA)
    with (
        source.listening() as address,
        connect(address, SITE.identity, SOURCE.fingerprint, Deadline(10)) as client,
    ):
        assert client.open([b"x" * 16, SITE.grant, b"y" * 16]).grant == SITE.grant
        with pytest.raises(Refused) as caught:
            client.open([b"x" * 16])
        assert caught.value.code is Code.GRANT
        with pytest.raises(Refused, match="ecan-target request"):
            client.open([])


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": bytes(32)},
        {"grant": bytes(16)},
        {"digest": b"short"},
        {"size": 0},
        {"size": MAX_BUNDLE_BYTES + 1},
        {"size": 2**63},
    ],
)
def test_an_offer_for_something_else_is_refused(change):
    class Offering(SimulatedSource):
        def open(self, request):
            honest = super().open(request)
            fields = {name: getattr(honest, name) for name in ("grant", "nonce", "digest", "size")}
            return Offer(**(fields | change))

    with pytest.raises(ConnectionFault, match="an offer") as caught:
        fetched(Offering(SOURCE, SITE.request, DATA))
    assert caught.value.code is Code.PROTOCOL


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
        pytest.param([FIRST, SECOND, LAST, Chunk(offset=len(DATA), data=b"x")], id="more than was offered"),
        pytest.param([FIRST, SECOND, LAST, Chunk(offset=len(DATA))], id="an empty one at the end"),
        pytest.param([Chunk(offset=0, data=DATA[: CHUNK_BYTES + 1])], id="one is too long"),
        pytest.param([Chunk(offset=0, data=DATA[: CHUNK_BYTES - 1])], id="one is too short"),
        pytest.param([Chunk(offset=0)] * 3, id="empty ones"),
        pytest.param([], id="none"),
    ],
)
def test_chunks_that_are_not_the_next_ones_are_refused(sent):
    class Streaming(SimulatedSource):
        def fetch(self, request):
            yield from sent

    with pytest.raises(ConnectionFault) as caught:
        fetched(Streaming(SOURCE, SITE.request, DATA))
    assert caught.value.code is Code.PROTOCOL


def test_a_message_far_beyond_a_chunk_is_not_even_read():
    class Flooding(SimulatedSource):
        def fetch(self, request):
            yield Chunk(offset=0, data=bytes(2**20))

    with pytest.raises(ConnectionFault):
        fetched(Flooding(SOURCE, SITE.request, DATA))


def test_a_source_that_hangs_is_left_when_the_time_is_up():
    import threading

    released = threading.Event()

    class Hanging(SimulatedSource):
        def open(self, request):
            released.wait(10)
            return super().open(request)

    with Hanging(SOURCE, SITE.request, DATA).listening() as address:
        with (
            connect(address, SITE.identity, SOURCE.fingerprint, Deadline(0.3)) as client,
            pytest.raises(TimedOut),
        ):
            client.open([SITE.grant])
        released.set()


def test_no_time_is_no_time():
    with pytest.raises(TimedOut, match="longer time-out"):
        Deadline(0).remaining_s()
