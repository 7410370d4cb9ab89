import contextlib
import datetime
import threading
import time
from dataclasses import replace

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from protocol.errors import Code, FileError, MalformedError, PeerError, RefusedError, TimedOutError
from protocol.identity.identities import Role, server_name
from protocol.statements.request import open_request
from protocol.wire.codec import encode
from protocol.wire.limits import MAX_REQUEST_BYTES
from protocol.wire.service import ACK, CALLS_PER_SITE, FETCH, OPEN, TRUST, pins, release_handler
from protocol.wire.status import PUBLIC_FAULTS, explained_faults
from tests.support.calls import Calls, calling
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


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (RefusedError(Code.STATE, "secret"), RefusedError, Code.STATE),
        (FileError(Code.LEDGER, "secret /data/patients"), PeerError, Code.STORAGE),
        (MalformedError(Code.TRUNCATED, "secret"), PeerError, Code.INTERNAL),
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
        assert calls.raw(OPEN, encode(calls.opening())) == (
            grpc.StatusCode.INTERNAL,
            PUBLIC_FAULTS[Code.INTERNAL].sentence,
        )
    assert "speaker_17" in caplog.text


@pytest.mark.parametrize("timeout", [None, 3600.0])
def test_a_call_must_set_a_deadline_of_some_minutes(calls, timeout):
    with pytest.raises(TimedOutError), explained_faults("the source"):
        calls.channel.unary_unary(OPEN)(encode(calls.opening()), timeout=timeout)


def test_a_message_that_is_not_canonical_is_refused_by_the_source(calls):
    with pytest.raises(MalformedError), explained_faults("the source"):
        calls.channel.unary_unary(OPEN)(encode(calls.opening()) + b"\x22\x04note", timeout=5)


@pytest.mark.parametrize(
    "method",
    [
        "/ecan.v1.Release/List",
        "/ecan.v1.Release/open",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.channelz.v1.Channelz/GetServers",
    ],
)
def test_there_is_no_other_method(calls, method):
    assert calls.raw(method, b"")[0] is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_larger_than_any_is_refused(calls):
    assert calls.raw(OPEN, bytes(MAX_REQUEST_BYTES + 1))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_message_that_says_it_is_a_gigabyte_is_refused(calls):
    assert calls.raw(OPEN, bytes(2**24))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("length", [9_000, 20_000, 100_000])
def test_metadata_larger_than_any_is_refused(calls, length):
    assert calls.raw(OPEN, b"", metadata=[("note", "x" * length)])[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "metadata", [("note", "x"), ("note-bin", b"\x00x"), ("authorization", "x"), ("user-agent", "x")]
)
def test_metadata_of_its_own_is_refused_in_every_call(calls, metadata):
    data = {OPEN: encode(calls.opening()), TRUST: b"", ACK: b"", FETCH: b""}
    for method, message in data.items():
        if metadata[0] != "user-agent":  # which the library puts into its own
            assert calls.raw(method, message, metadata=[metadata]) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                PUBLIC_FAULTS[Code.METADATA].sentence,
            )


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_message_is_refused(compression):
    source = SimulatedSource(SOURCE, SITE.request, b"bundle")
    with source.listening() as address:
        credentials = grpc.ssl_channel_credentials(
            SOURCE.certificate_pem, SITE.identity.tls_key_pem, SITE.identity.certificate_pem
        )
        options = [("grpc.ssl_target_name_override", server_name(SOURCE.fingerprint))]
        with grpc.secure_channel(str(address), credentials, options, compression=compression) as channel:
            calls = Calls(channel, SITE, SOURCE)
            # Long and even enough for gRPC to compress it.
            assert calls.raw(OPEN, bytes(10_000))[0] is grpc.StatusCode.UNIMPLEMENTED


def test_the_key_is_checked_in_every_call_and_not_by_tls_alone():
    source = SimulatedSource(SOURCE, SITE.request, b"bundle")
    others = pins([open_request(new_site().request)])
    with source.listening(sites=others) as address, calling(address, SITE, SOURCE) as calls:
        for call in (calls.open, calls.trust, lambda: list(calls.fetch(b"")), lambda: calls.ack(b"")):
            with pytest.raises(PeerError) as caught:
                call()
            assert caught.value.code is Code.IDENTITY


def test_a_site_that_is_taken_out_while_connected_is_refused_from_the_next_call_on():
    source = SimulatedSource(SOURCE, SITE.request, b"bundle")
    sites = pins([open_request(SITE.request)])
    with source.listening(sites=sites) as address, calling(address, SITE, SOURCE) as calls:
        assert calls.open().size == 6
        sites.clear()
        with pytest.raises(PeerError) as caught:
            calls.open()
        assert caught.value.code is Code.IDENTITY


SPIFFE = x509.UniformResourceIdentifier(f"spiffe://ecan/target/{SITE.identity.fingerprint.hex()}")


def shown_with(names):
    """The site's identity with a certificate of the same key that has other names in it."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(SITE.identity.certificate.issuer, SITE.identity.certificate.subject)
        .public_key(SITE.identity.tls_key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return replace(SITE.identity, certificate=builder.sign(SITE.identity.tls_key, hashes.SHA256()))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([], id="no names at all"),
        pytest.param([x509.DNSName("site.example")], id="no SPIFFE id"),
        pytest.param([x509.UniformResourceIdentifier("spiffe://ecan/target/*")], id="a wildcard"),
        pytest.param([x509.UniformResourceIdentifier(SPIFFE.value.replace("//ecan/", "//else/"))], id="another domain"),
        pytest.param([x509.UniformResourceIdentifier(SPIFFE.value.replace("target", "source"))], id="another role"),
        pytest.param([SPIFFE, x509.UniformResourceIdentifier("spiffe://ecan/target/more")], id="two SPIFFE ids"),
    ],
)
def test_the_right_key_with_other_names_is_not_the_site(names):
    impostor = shown_with(names)
    source = SimulatedSource(SOURCE, SITE.request, b"bundle")
    with (
        source.listening(client_certificates=impostor.certificate_pem) as address,
        calling(address, SITE, SOURCE, shown=impostor) as calls,
        pytest.raises(PeerError) as caught,
    ):
        calls.open()
    assert caught.value.code in (Code.IDENTITY, Code.CONNECTION)  # the second one: not even TLS takes it


class Shown:
    """What gRPC shows of a peer; some of it no client here can be made to send."""

    def __init__(self, **changes):
        self.peer = {
            "transport_security_type": [b"ssl"],
            "ssl_tls_version": [b"TLSv1.3"],
            "x509_pem_cert": [SITE.identity.certificate_pem],
            "peer_spiffe_id": [SPIFFE.value.encode()],
        }
        self.key = "x509_subject_alternative_name"
        self.peer |= {name: value for name, value in changes.items() if name != "key"}
        self.key = changes.get("key", self.key)

    def auth_context(self):
        return self.peer

    def peer_identity_key(self):
        return self.key

    def invocation_metadata(self):
        return ()

    def time_remaining(self):
        return 5.0

    def cancel(self):
        raise AssertionError

    def add_callback(self, callback):
        raise AssertionError

    def abort(self, status, details):
        raise ConnectionAbortedError(status, details)


class Details:
    method, invocation_metadata = TRUST, ()


def answer_to(context):
    source = SimulatedSource(SOURCE, SITE.request, b"")
    source.trust = lambda request, call=None: source.__class__.trust(source, request)
    handler = release_handler(source, pins([open_request(SITE.request)]))
    return handler.service(Details()).stream_unary(iter([b""]), context)


@pytest.mark.parametrize(
    "changes",
    [
        {"ssl_tls_version": [b"TLSv1.2"]},
        {"ssl_tls_version": []},
        {"transport_security_type": [b"insecure"]},
        {"key": "x509_common_name"},
        {"key": None},
        {"peer_spiffe_id": []},
        {"peer_spiffe_id": [SPIFFE.value.encode()] * 2},
        {"x509_pem_cert": []},
        {"x509_pem_cert": [SITE.identity.certificate_pem] * 2},
        {"x509_pem_cert": [new_site().identity.certificate_pem]},
    ],
)
def test_a_peer_that_tls_does_not_show_in_full_is_nobody(changes):
    assert answer_to(Shown()) == b""
    with pytest.raises(ConnectionAbortedError, match="UNAUTHENTICATED"):
        answer_to(Shown(**changes))


class Withheld:
    """Calls that send their headers and, at first, at most some messages."""

    def __init__(self):
        self.waiting = []

    def call(self, calls, *messages, method=TRUST, timeout=10.0):
        """A call under way."""
        end = threading.Event()
        self.waiting.append(end)

        def keep_back():
            yield from messages
            end.wait(20)

        return calls.channel.stream_unary(method).future(keep_back(), timeout=timeout)

    def end(self):
        """Let every call end its stream."""
        for end in self.waiting:
            end.set()


@pytest.fixture
def withheld():
    withheld = Withheld()
    yield withheld
    withheld.end()


def ending(call):
    """How a call ends: the status and the details that crossed."""
    error = call.exception(timeout=8)
    return (grpc.StatusCode.OK, "") if error is None else (error.code(), error.details())


def public(code):
    return PUBLIC_FAULTS[code].status, PUBLIC_FAULTS[code].sentence


def num_timers():
    return sum(isinstance(thread, threading.Timer) for thread in threading.enumerate())


@pytest.mark.parametrize("messages", [(), (b"",)], ids=["no message", "a message and no end"])
@pytest.mark.parametrize("method", [OPEN, FETCH, ACK, TRUST])
def test_a_call_that_keeps_its_message_back_is_cut_long_before_its_deadline(
    calls, withheld, monkeypatch, caplog, capfd, method, messages
):
    monkeypatch.setattr("protocol.wire.service.MESSAGE_PATIENCE_S", 0.3)
    began = time.monotonic()
    assert ending(withheld.call(calls, *messages, method=method))[0] is grpc.StatusCode.CANCELLED
    assert 0.2 < time.monotonic() - began < 5
    assert calls.open().size == 6
    wait_until(lambda: num_timers() == 0)
    assert (caplog.text, capfd.readouterr().err) == ("", "")


@pytest.mark.parametrize("messages", [(), (b"", b""), (b"", b"", b"")], ids=["none", "two", "three"])
@pytest.mark.parametrize("method", [OPEN, FETCH, ACK, TRUST])
def test_a_call_with_another_number_of_messages_than_one_is_refused(calls, caplog, capfd, method, messages):
    assert ending(calls.channel.stream_unary(method).future(iter(messages), timeout=5)) == public(Code.NOT_CANONICAL)
    assert (caplog.text, capfd.readouterr().err) == ("", "")


def test_who_may_not_call_is_refused_before_there_is_a_message(calls, withheld):
    began = time.monotonic()
    assert ending(withheld.call(calls, timeout=3600)) == public(Code.DEADLINE)
    source = SimulatedSource(SOURCE, SITE.request, b"bundle")
    with source.listening(sites={}) as address, calling(address, SITE, SOURCE) as others:
        assert ending(withheld.call(others)) == public(Code.IDENTITY)
    assert time.monotonic() - began < 3


@contextlib.contextmanager
def two_sites():
    """A source, and a way to connect to it as its first site and as its second."""
    other = new_site()
    source = SimulatedSource(SOURCE, SITE.request, b"bundle")
    requests = [open_request(site.request) for site in (SITE, other)]
    certificates = b"".join(request.certificate for request in requests)
    with source.listening(pins(requests), certificates) as address, contextlib.ExitStack() as stack:
        yield lambda site: stack.enter_context(calling(address, site, SOURCE)), other


def test_a_site_has_some_calls_at_once_and_one_more_is_busy_while_others_are_served(withheld):
    with two_sites() as (connect, other):
        # The first connection holds as many streams as one may have.
        first, second, honest = connect(SITE), connect(SITE), connect(other)
        held = [withheld.call(first) for _ in range(CALLS_PER_SITE)]
        # Asked earlier, this call could take the place of one of them, which would then be the busy one.
        wait_until(lambda: num_timers() >= CALLS_PER_SITE)
        wait_until(lambda: second.raw(TRUST, b"") == public(Code.BUSY))
        assert ending(withheld.call(second)) == public(Code.BUSY)  # without its message, too
        began = time.monotonic()
        assert honest.trust() == b""
        assert time.monotonic() - began < 1
        assert not any(call.done() for call in held)


@pytest.mark.parametrize("end", ["cancelled", "hung up", "in order"])
def test_a_call_that_ends_frees_its_place_at_once(withheld, caplog, capfd, end):
    with two_sites() as (connect, _):
        first, second = connect(SITE), connect(SITE)
        held = [withheld.call(first, b"") for _ in range(CALLS_PER_SITE)]
        # Asked earlier, this call could take the place of one of them, which would then be the busy one.
        wait_until(lambda: num_timers() >= CALLS_PER_SITE)
        wait_until(lambda: second.raw(TRUST, b"") == public(Code.BUSY))
        if end == "cancelled":
            held[0].cancel()
        elif end == "hung up":
            first.channel.close()
        else:
            withheld.end()
        wait_until(lambda: second.raw(TRUST, b"") == (grpc.StatusCode.OK, ""), within_s=1)
        # Once the source stops, a channel of this process may note that it was told so.
        assert (caplog.text, capfd.readouterr().err) == ("", "")
    wait_until(lambda: num_timers() == 0)


def test_the_calls_of_a_flood_leave_no_place_taken(withheld):
    with two_sites() as (connect, _):
        for _ in range(20):
            flooding = connect(SITE)
            for _ in range(CALLS_PER_SITE):
                withheld.call(flooding)
            flooding.channel.close()
        calm = connect(SITE)
        wait_until(lambda: calm.raw(TRUST, b"") == (grpc.StatusCode.OK, ""))
        held = [withheld.call(connect(SITE)) for _ in range(CALLS_PER_SITE - 1)]
        time.sleep(0.3)
        assert calm.raw(TRUST, b"") == (grpc.StatusCode.OK, "")
        assert not any(call.done() for call in held)


def wait_until(condition, within_s=15.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_stream_ends_with_the_fault_after_the_bytes_before_it():
    with Failing(RefusedError(Code.STATE, "")).listening() as address, calling(address, SITE, SOURCE) as calls:
        stream = calls.fetch(b"")
        assert [len(next(stream).data) for _ in range(4)] == [65536, 65536, 65536, 3392]
        with pytest.raises(RefusedError):
            next(stream)


def test_the_method_names_are_those_of_the_schema():
    assert [f"/ecan.v1.Release/{name}" for name in ("Open", "Fetch", "Ack", "Trust")] == [OPEN, FETCH, ACK, TRUST]
