import grpc
import pytest

from protocol.errors import Code, ConnectionFault, Malformed, Refused, StorageFault, TimedOut
from protocol.identity import Role
from protocol.wire.channel import MAX_REQUEST_BYTES
from protocol.wire.codec import encode
from protocol.wire.service import FETCH, OPEN, release_handler
from protocol.wire.status import PUBLIC_FAULTS, explained_faults
from tests.support.calls import calling
from tests.support.loopback import needs_loopback
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import new_identity, new_site

pytestmark = needs_loopback

SOURCE, SITE = new_identity(Role.SOURCE), new_site()


class Failing(SimulatedSource):
    """Fails in every method in the same way."""

    def __init__(self, fault):
        super().__init__(SOURCE, SITE.request, bytes(200_000))
        self.fault = fault

    def open(self, request):
        raise self.fault

    def fetch(self, request):
        yield from super().fetch(request)
        raise self.fault


@pytest.fixture
def calls():
    source = SimulatedSource(SOURCE, SITE.request, b"bundle")
    with source.listening() as address, calling(address, SITE, SOURCE) as calls:
        yield calls


def outcome(calls, method, data, **options):
    """How a raw unary call ends: the gRPC status and the details that crossed."""
    with pytest.raises(grpc.RpcError) as caught:
        calls.channel.unary_unary(method)(data, **{"timeout": 5, **options})
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (Refused(Code.STATE, "secret"), Refused, Code.STATE),
        (StorageFault(Code.LEDGER, "secret /data/patients"), ConnectionFault, Code.STORAGE),
        (Malformed(Code.TRUNCATED, "secret"), ConnectionFault, Code.INTERNAL),
    ],
)
def test_of_a_fault_only_the_sentence_in_the_table_crosses(fault, error, code):
    with Failing(fault).listening() as address, calling(address, SITE, SOURCE) as calls:
        for call in (calls.open, lambda: list(calls.fetch(b""))):
            with pytest.raises(error) as caught:
                call()
            assert str(caught.value) == PUBLIC_FAULTS[code].sentence


def test_of_a_bug_nothing_crosses_and_the_source_logs_it(caplog):
    with Failing(KeyError("speaker_17")).listening() as address, calling(address, SITE, SOURCE) as calls:
        assert outcome(calls, OPEN, encode(calls.opening())) == (
            grpc.StatusCode.INTERNAL,
            PUBLIC_FAULTS[Code.INTERNAL].sentence,
        )
    assert "speaker_17" in caplog.text


@pytest.mark.parametrize("timeout", [None, 3600.0])
def test_a_call_must_set_a_deadline_of_some_minutes(calls, timeout):
    with pytest.raises(TimedOut), explained_faults("the source"):
        calls.channel.unary_unary(OPEN)(encode(calls.opening()), timeout=timeout)


def test_a_message_that_is_not_canonical_is_refused_by_the_source(calls):
    with pytest.raises(Malformed), explained_faults("the source"):
        calls.channel.unary_unary(OPEN)(encode(calls.opening()) + b"\x22\x04note", timeout=5)


@pytest.mark.parametrize("method", ["/ecan.v1.Release/List", "/grpc.health.v1.Health/Check"])
def test_there_is_no_other_method(calls, method):
    assert outcome(calls, method, b"")[0] is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_larger_than_any_is_refused(calls):
    assert outcome(calls, OPEN, bytes(MAX_REQUEST_BYTES + 1))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata_larger_than_any_is_refused(calls):
    metadata = [("note", "x" * 20_000)]
    assert outcome(calls, OPEN, b"", metadata=metadata)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_key_is_checked_in_every_call_and_not_by_tls_alone():
    source = SimulatedSource(SOURCE, SITE.request, b"bundle")
    handler = release_handler(source, new_site().identity.certificate_pem)
    from protocol.wire.address import Address
    from protocol.wire.channel import start_server

    server, address = start_server(Address("127.0.0.1", 0), SOURCE, SITE.identity.certificate_pem, handler)
    try:
        with calling(address, SITE, SOURCE) as calls, pytest.raises(ConnectionFault) as caught:
            calls.open()
        assert caught.value.code is Code.IDENTITY
        with calling(address, SITE, SOURCE) as calls, pytest.raises(ConnectionFault):
            list(calls.fetch(b""))
    finally:
        server.stop(0).wait()


def test_a_connection_older_than_tls_1_3_is_refused():
    class OldConnection:
        """What gRPC shows of a TLS 1.2 connection, which no client here can be made to open."""

        def auth_context(self):
            return {"ssl_tls_version": [b"TLSv1.2"], "x509_pem_cert": [SITE.identity.certificate_pem]}

        def time_remaining(self):
            return 5.0

        def abort(self, status, details):
            raise ConnectionAbortedError(status, details)

    class Details:
        method, invocation_metadata = OPEN, ()

    handler = release_handler(SimulatedSource(SOURCE, SITE.request, b""), SITE.identity.certificate_pem)
    with pytest.raises(ConnectionAbortedError, match="UNAUTHENTICATED"):
        handler.service(Details()).unary_unary(b"", OldConnection())


def test_a_stream_ends_with_the_fault_after_the_bytes_before_it():
    with Failing(Refused(Code.STATE, "")).listening() as address, calling(address, SITE, SOURCE) as calls:
        stream = calls.fetch(b"")
        assert [len(next(stream).data) for _ in range(4)] == [65536, 65536, 65536, 3392]
        with pytest.raises(Refused):
            next(stream)


def test_the_method_names_are_those_of_the_schema():
    assert (OPEN, FETCH) == ("/ecan.v1.Release/Open", "/ecan.v1.Release/Fetch")
