"""Hostile clients on the wire against the real exporter process.

Rows G01 to G26, G34, G35 and G36. After every one of them the exporter must be alive, serve an honest site in its
usual time, and have books that hold. What hostile sources do is in `test_sources`.

G33 (a kill at any moment) is `benchmarks.kill_loop`, the 1000 connections of G24 are `benchmarks.half_open`.
"""

import contextlib
import gzip
import os
import resource
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.errors import Code, ProtocolError, RefusedError
from protocol.identity.identities import Role
from protocol.identity.key_files import load_server_identity
from protocol.ledger.grants import MAX_FETCHES, QUOTA_FACTOR, GrantState
from protocol.sandbox.landlock import landlock_abi
from protocol.statements.receipts import Verdict
from protocol.statements.request import open_request
from protocol.wire.address import Address
from protocol.wire.channel import start_server, trusted_certificate
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.codec import encode
from protocol.wire.ecan.v1.release_pb2 import AckRequest, FetchRequest, OpenRequest
from protocol.wire.proof import prove
from protocol.wire.service import ACK, FETCH, OPEN, pins, release_handler
from protocol.wire.status import PUBLIC_FAULTS
from source_site.keys.folder import OUTBOX
from source_site.release.server import serve
from tests.hostile.peers import CONTINUATION as MORE_HEADERS
from tests.hostile.peers import DATA as BODY
from tests.hostile.peers import (
    END_HEADERS,
    END_STREAM,
    LARGE_BYTES,
    MARKER,
    MAX_HONEST_S,
    NOBODY,
    PING,
    PREFACE,
    RST_STREAM,
    SERVER_ONLY,
    SETTINGS,
    SMALL_BYTES,
    WINDOW_UPDATE,
    Credentials,
    Heard,
    House,
    Http2,
    Impostor,
    forged,
    frame,
    public,
    tampered,
    wait_for,
)
from tests.hostile.peers import HEADERS as HEAD
from tests.support.loopback import needs_loopback
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import der, new_identity, new_site

pytestmark = [
    pytest.mark.journey,
    needs_loopback,
    pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock"),
]

STOCK = {
    "honest": (250, SMALL_BYTES),
    "mallory": (70, LARGE_BYTES),
    "victim": (8, SMALL_BYTES),
    "small": (8, SMALL_BYTES),
}


@pytest.fixture(scope="module")
def open_house(tmp_path_factory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"), STOCK)
    house.start()
    yield house
    house.stop()


@pytest.fixture
def house(open_house) -> Iterator[House]:
    """The exporter; what it must be after every attack is looked at afterwards."""
    if not open_house.is_alive:
        open_house.restart()
    yield open_house
    open_house.is_sound()


@contextlib.contextmanager
def refused(code: Code) -> Iterator[None]:
    """What is done in the block ends with the fault that crosses for a code."""
    with pytest.raises(ProtocolError) as caught:
        yield
    assert (caught.value.code, str(caught.value)) == (code, PUBLIC_FAULTS[code].sentence)


def fetched(calls, house, site, offset=0):
    return b"".join(chunk.data for chunk in calls.fetch(house.digest(site), offset, site.grant))


def fetching(house, site, **changes) -> FetchRequest:
    return FetchRequest(**{"grant": site.grant, "digest": house.digest(site), "offset": 0, **changes})


# G01 to G05: who may connect.


def mallory(house):
    return house.identities["mallory"]


def another_key():
    return ec.generate_private_key(ec.SECP256R1())


NOT_LET_IN = {
    "G01c-no-client-certificate": lambda house: NOBODY,
    "G01d-self-signed": lambda house: forged(mallory(house), key=another_key(), subject="stranger"),
    "G01e-self-signed-with-the-sites-names": lambda house: forged(mallory(house), key=another_key()),
    "G01f-expired": lambda house: forged(mallory(house), days=(-10, -1)),
    "G01g-expired-and-issued-by-a-sites-key": lambda house: forged(
        mallory(house), issuer=mallory(house), subject="x", days=(-10, -1)
    ),
    "G01h-not-valid-yet": lambda house: forged(mallory(house), days=(1, 10)),
    "G01i-another-sites-valid-certificate": lambda house: Credentials.of(new_identity(Role.TARGET)),
    "G01j-another-sources-certificate": lambda house: Credentials.of(new_identity(Role.SOURCE)),
    "G01k-the-sources-own-certificate": lambda house: Credentials.of(house.source),
    "G01l-for-servers-only": lambda house: forged(mallory(house), usage=SERVER_ONLY),
    "G01m-for-servers-only-issued-by-a-sites-key": lambda house: forged(
        mallory(house), issuer=mallory(house), subject="x", usage=SERVER_ONLY
    ),
    "G01n-an-authority-of-its-own": lambda house: forged(mallory(house), key=another_key(), authority=True),
    "G01o-a-new-certificate-for-the-sites-key": lambda house: forged(mallory(house)),
    "G02a-no-names-but-a-subject": lambda house: forged(mallory(house), uris=[]),
    "G03a-two-ids": lambda house: forged(mallory(house), uris=["spiffe://ecan/target/a", "spiffe://ecan/target/b"]),
}


@pytest.mark.parametrize("shown", [pytest.param(shown, id=name) for name, shown in NOT_LET_IN.items()])
def test_row_no_frame_comes_back_to_a_certificate_that_is_not_a_sites(house, shown):
    with contextlib.suppress(OSError), house.http2(shown(house)) as http2:
        heard = http2.call("Trust")
        assert (http2.frames, http2.closed, heard.status) == (0, True, None)


def spiffe(identity, role="target"):
    return f"spiffe://ecan/{role}/{identity.fingerprint.hex()}"


# A site's certificate says nothing about issuing others, and TLS takes those that it has issued: here the pins decide.
ISSUED_BY_A_SITE = {
    "G02b-no-names-for-the-sites-key": lambda m, v: forged(m, issuer=m, subject="x", uris=[]),
    "G02c-the-name-only-in-the-subject": lambda m, v: forged(m, issuer=m, subject="spiffe://ecan/target/x", uris=[]),
    "G03b-two-ids-for-the-sites-key": lambda m, v: forged(m, issuer=m, subject="x", uris=[spiffe(m), spiffe(v)]),
    "G03c-wildcard": lambda m, v: forged(m, issuer=m, subject="x", uris=["spiffe://ecan/target/*"]),
    "G03d-wrong-role": lambda m, v: forged(m, issuer=m, subject="x", uris=[spiffe(m, "source")]),
    "G03e-another-trust-domain": lambda m, v: forged(m, issuer=m, subject="x", uris=[spiffe(m).replace("ecan", "x")]),
    "G03f-another-sites-id": lambda m, v: forged(m, issuer=m, subject="x", uris=[spiffe(v)]),
    "G03g-an-id-that-is-longer": lambda m, v: forged(m, issuer=m, subject="x", uris=[f"{spiffe(m)}/x"]),
    "G04a-a-key-that-is-not-pinned": lambda m, v: forged(m, issuer=m, subject="x", key=another_key()),
    "G04b-another-key-with-another-sites-id": lambda m, v: forged(
        v, issuer=m, subject="x", key=another_key(), uris=[spiffe(v)]
    ),
}


@pytest.mark.parametrize("shown", [pytest.param(shown, id=name) for name, shown in ISSUED_BY_A_SITE.items()])
def test_row_a_certificate_that_a_site_has_issued_is_no_sites(house, shown):
    with house.http2(shown(mallory(house), house.identities["victim"])) as http2:
        assert http2.call("Trust").fault == public(Code.IDENTITY)
        assert http2.call("Open", encode(opening(house, house.untouched("mallory"))), stream=3).fault == public(
            Code.IDENTITY
        )


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_2, None, id="G01b-tls-1.2"),
        pytest.param(ssl.TLSVersion.TLSv1_2, NOBODY, id="G01p-tls-1.2-without-certificate"),
    ],
)
def test_row_an_older_tls_gets_no_answer(house, version, shown):
    with contextlib.suppress(OSError), house.http2(shown, version=version) as http2:
        assert http2.call("Trust").status is None
        assert (http2.frames, http2.closed) == (0, True)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(PREFACE + frame(SETTINGS), id="G01a-plaintext"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: source\r\n\r\n", id="G01q-plain-web"),
        pytest.param(b"\x16\x03\x01\xff\xff" + bytes(1000), id="G01r-a-broken-greeting"),
        pytest.param(b"\0" * 4096, id="G01s-zeros"),
        pytest.param(MARKER.encode() * 100, id="G01t-text"),
    ],
)
def test_row_what_is_no_tls_is_cut(house, said):
    with socket.create_connection((house.address.host, house.address.port), 10) as plain:
        plain.settimeout(10)
        with contextlib.suppress(OSError):
            plain.sendall(said)
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while data := plain.recv(4096):
                heard += data
    assert len(heard) <= 7  # at most one alert


@pytest.mark.parametrize("protocols", [("http/1.1",), ("h3",)], ids=["G01u-http-1.1", "G01v-another-protocol"])
def test_row_tls_for_another_protocol_is_cut(house, protocols):
    with contextlib.suppress(OSError), house.http2(protocols=protocols) as http2:
        assert http2.call("Trust").status is None
        assert (http2.frames, http2.closed) == (0, True)


@pytest.mark.row("G04c", "a pin that is taken out while connected")
def test_row_from_the_next_call_on_a_site_that_was_taken_out_is_refused(tmp_path):
    source, site = new_identity(Role.SOURCE), new_site()
    simulated = SimulatedSource(source, site.request, b"x")
    sites = pins([open_request(site.request)])
    handler = release_handler(_Plain(simulated), sites)
    server, address = start_server(Address("127.0.0.1", 0), source, site.identity.certificate_pem, handler)
    try:
        with Http2(address, Credentials.of(site.identity), tmp_path) as http2:
            assert http2.call("Trust").status is grpc.StatusCode.OK
            sites.clear()
            assert http2.call("Trust", stream=3).fault == public(Code.IDENTITY)
    finally:
        server.stop(0).wait()


class _Plain:
    """The service of a simulated source, whoever calls."""

    def __init__(self, source):
        self.trust = lambda request, call: source.trust(request)
        self.open = lambda request, call: source.open(request)
        self.ack = lambda request, call: source.ack(request)
        self.fetch = lambda request, call: source.fetch(request)


# G06 to G09: opening.


def opening(house, site, **changes):
    """An Open message; `changes` bind its proof to something else than this site, grant and connection."""
    nonce = changes.pop("nonce", None) or os.urandom(32)
    signer = changes.pop("signer", None) or site.identity
    bound = {
        "grant": site.grant,
        "nonce": nonce,
        "server_certificate": der(house.source),
        "client_certificate": der(site.identity),
    }
    fields = {"grant": site.grant, "nonce": nonce, "proof": prove(signer.signing_key, **(bound | changes))}
    return OpenRequest(**fields)


def proof_of_the_victim(house, site):
    """What an honest site has said on its own connection, said again for another grant."""
    heard = opening(house, house.fresh("victim"))
    request = opening(house, site)
    request.nonce, request.proof = heard.nonce, heard.proof
    return request


def with_field(name, value):
    def change(house, site):
        request = opening(house, site)
        setattr(request, name, value)
        return request

    return change


WRONG_PROOFS = {
    "G06a-missing": with_field("proof", b""),
    "G06b-zeros": with_field("proof", bytes(96)),
    "G06c-cut-short": lambda house, site: _cut_proof(opening(house, site)),
    "G06d-wrong-key": lambda house, site: opening(house, site, signer=new_identity(Role.TARGET)),
    "G06e-another-sites-key": lambda house, site: opening(house, site, signer=house.identities["victim"]),
    "G06f-another-grant": lambda house, site: opening(house, site, grant=house.fresh("mallory").grant),
    "G06g-another-server-certificate": lambda house, site: opening(house, site, server_certificate=b"other"),
    "G06h-another-client-certificate": lambda house, site: opening(
        house, site, client_certificate=der(house.identities["victim"])
    ),
    "G06i-certificates-exchanged": lambda house, site: opening(
        house, site, server_certificate=der(site.identity), client_certificate=der(house.source)
    ),
    "G06j-replayed-for-a-new-nonce": with_field("nonce", bytes(32)),
    "G06k-replayed-from-another-connection": proof_of_the_victim,
}


def _cut_proof(request):
    request.proof = request.proof[:-1]
    return request


@pytest.mark.parametrize("request_of", [pytest.param(change, id=name) for name, change in WRONG_PROOFS.items()])
def test_row_nobody_opens_without_the_proof_of_the_sites_key(house, request_of):
    site = house.fresh("mallory")
    with house.calling(site) as calls, refused(Code.IDENTITY):
        calls.open(request_of(house, site))
    assert house.record(site).state is GrantState.ISSUED


@pytest.mark.parametrize("nonce", [b"", bytes(31)], ids=["G06l-no-nonce", "G06m-short-nonce"])
def test_row_a_nonce_of_another_length_is_refused(house, nonce):
    site = house.fresh("small")
    with house.calling(house.fresh("mallory")) as calls, refused(Code.GRANT):
        calls.open(opening(house, site))
    own = house.fresh("mallory")
    request = opening(house, own)
    request.nonce = nonce
    with house.calling(own) as calls, refused(Code.PROTOCOL):
        calls.open(request)


@pytest.mark.row("G07", "unknown grant and another site's")
def test_row_an_unknown_grant_and_another_sites_look_the_same(house):
    foreign, own = house.fresh("victim"), house.fresh("mallory")
    answers, seconds = set(), {foreign.grant: [], bytes(16): []}
    with house.calling(own) as calls:
        messages = {grant: encode(calls.opening(grant=grant)) for grant in seconds}
        for turn in range(60):
            for grant, message in sorted(messages.items(), reverse=turn % 2 == 0):
                started = time.perf_counter()
                answers.add(calls.raw(OPEN, message))
                seconds[grant].append(time.perf_counter() - started)
        for grant in (foreign.grant, bytes(16), b"", foreign.grant[:15]):
            answers.add(calls.raw(FETCH, encode(fetching(house, foreign, grant=grant))))
    assert answers == {public(Code.GRANT)}
    medians = [statistics.median(times) for times in seconds.values()]
    spread = [statistics.quantiles(times)[2] - statistics.quantiles(times)[0] for times in seconds.values()]
    assert abs(medians[0] - medians[1]) < max(0.001, *spread)
    assert house.record(foreign).state is GrantState.ISSUED


def closed(house, site):
    house.deliver(site)


def denied(house, site):
    house.deny(site)


def expired(house, site):
    with house.calling(site) as calls:
        calls.open()
        for _ in range(QUOTA_FACTOR):
            fetched(calls, house, site)
        with refused(Code.QUOTA):
            fetched(calls, house, site)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        pytest.param(closed, GrantState.CLOSED, id="G08a-closed"),
        pytest.param(denied, GrantState.DENIED, id="G08b-denied"),
        pytest.param(expired, GrantState.EXPIRED, id="G08c-expired"),
    ],
)
def test_row_a_grant_that_has_ended_is_neither_opened_nor_fetched(house, end, state):
    site = house.fresh("mallory")
    end(house, site)
    sent = house.record(site).sent_bytes
    with house.calling(site) as calls:
        with refused(Code.STATE):
            calls.open()
        with refused(Code.STATE):  # G17 where it was closed
            fetched(calls, house, site)
    assert (house.record(site).state, house.record(site).sent_bytes) == (state, sent)


@pytest.mark.parametrize("offset", [0, CHUNK_BYTES], ids=["G09a-fetch-before-open", "G09b-fetch-the-rest-before-open"])
def test_row_nothing_is_fetched_before_the_grant_is_opened(house, offset):
    site = house.fresh("mallory")
    with house.calling(site) as calls, refused(Code.PROTOCOL):
        fetched(calls, house, site, offset)
    assert (house.record(site).state, house.record(site).sent_bytes) == (GrantState.ISSUED, 0)


# G10 to G17: fetching and acknowledging.


@pytest.mark.parametrize("digest", [bytes(32), b"", b"x"], ids=["G10a-another-digest", "G10b-none", "G10c-short"])
def test_row_nothing_but_the_offered_bundle_is_fetched(house, digest):
    site = house.fresh("mallory")
    with house.calling(site) as calls:
        calls.open()
        with refused(Code.DIGEST):
            list(calls.fetch(digest))
    assert house.record(site).sent_bytes == 0


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(2**64 - 1, id="G11a-minus-one"),
        pytest.param(1, id="G11b-one"),
        pytest.param(CHUNK_BYTES + 1, id="G11c-not-a-multiple"),
        pytest.param(LARGE_BYTES, id="G11d-the-size"),
        pytest.param(3 * CHUNK_BYTES, id="G11e-beyond-the-size"),
        pytest.param(2**63, id="G11f-2-63"),
        pytest.param(2**64 - CHUNK_BYTES, id="G11g-minus-one-chunk"),
    ],
)
def test_row_an_offset_that_is_no_chunks_start_is_out_of_range(house, offset):
    site = house.fresh("mallory")
    with house.calling(site) as calls:
        calls.open()
        message = fetching(house, site, offset=offset).SerializeToString(deterministic=True)
        assert calls.raw(FETCH, message) == public(Code.OFFSET)
    assert house.record(site).sent_bytes == 0


@pytest.mark.row("G12a", "the 65th fetch")
def test_row_more_fetches_than_a_grant_has_are_refused(house):
    site = house.fresh("mallory")
    with house.calling(site) as calls:
        calls.open()
        for _ in range(MAX_FETCHES):
            assert len(fetched(calls, house, site, 2 * CHUNK_BYTES)) == LARGE_BYTES - 2 * CHUNK_BYTES
        with refused(Code.QUOTA):
            fetched(calls, house, site, 2 * CHUNK_BYTES)
        with refused(Code.STATE):
            calls.open()
    assert house.record(site).state is GrantState.EXPIRED


@pytest.mark.row("G12b", "one byte more than the quota")
def test_row_no_byte_beyond_the_quota_leaves(house):
    site = house.fresh("mallory")
    heard = 0
    with house.calling(site) as calls:
        calls.open()
        for _ in range(QUOTA_FACTOR):
            heard += len(fetched(calls, house, site))
        assert heard == QUOTA_FACTOR * LARGE_BYTES == house.record(site).sent_bytes
        for offset in (2 * CHUNK_BYTES, 0):
            with pytest.raises(RefusedError):
                heard += len(fetched(calls, house, site, offset))
    assert house.record(site).state is GrantState.EXPIRED
    assert heard == QUOTA_FACTOR * LARGE_BYTES == house.record(site).sent_bytes


@pytest.mark.parametrize("same", [True, False], ids=["G13a-two-fetches-at-once", "G13b-of-two-grants"])
def test_row_a_site_has_one_download_at_a_time(house, same):
    site = house.fresh("mallory")
    other = site if same else house.fresh("mallory")
    for one in {site.grant: site, other.grant: other}.values():
        with house.calling(one) as calls:
            calls.open()
    with house.http2(window=16384) as slow:
        heard = slow.call("Fetch", encode(fetching(house, site)), wait=False)
        slow.listen(lambda: len(heard.data) >= 16384)
        with house.calling(other) as calls, refused(Code.BUSY):
            fetched(calls, house, other)
    with house.calling(other) as calls:
        wait_for(lambda: not _is_busy(calls, house, other))


def _is_busy(calls, house, site):
    status, sentence = calls.raw(FETCH, encode(fetching(house, site, offset=2 * CHUNK_BYTES)))
    assert status is grpc.StatusCode.OK or (status, sentence) == public(Code.BUSY)
    return status is not grpc.StatusCode.OK


@pytest.mark.row("G14", "two identities race for one grant")
def test_row_of_those_who_race_for_a_grant_only_its_site_wins(house):
    thieves = 8
    site = house.fresh("victim")
    own = house.fresh("mallory")
    start = threading.Barrier(thieves + 1)

    def steal(number):
        with house.calling(own) as calls:
            start.wait(20)
            proof = opening(house, site, signer=own.identity, client_certificate=der(own.identity))
            asked = calls.raw(OPEN, encode(proof)), calls.raw(FETCH, encode(fetching(house, site)))
            return {*asked}

    def honest():
        with house.calling(site) as calls:
            start.wait(20)
            calls.open()
            return fetched(calls, house, site)

    with ThreadPoolExecutor(thieves + 1) as pool:
        first = pool.submit(honest)
        answers = set().union(*pool.map(steal, range(thieves)))
    assert first.result() == house.data[site.grant]
    assert answers == {public(Code.GRANT)}


def signed_by_another(house, site):
    return house.receipt(site, signer=new_identity(Role.TARGET))


def with_a_bit_flipped(house, site):
    return tampered(house.receipt(site))


WRONG_RECEIPTS = {
    "G15a-wrong-digest": lambda house, site: house.receipt(site, sealed_sha256=bytes(32)),
    "G15b-wrong-bundle": lambda house, site: house.receipt(site, digest=bytes(32)),
    "G15c-wrong-weights": lambda house, site: house.receipt(site, weights_sha256=bytes(32)),
    "G15d-another-grant": lambda house, site: house.receipt(site, grant=house.fresh("victim").grant),
    "G15e-unknown-grant": lambda house, site: house.receipt(site, grant=bytes(16)),
    "G15f-not-accepted": lambda house, site: house.receipt(site, verdict=Verdict.REFUSED),
    "G15g-bad-signature": with_a_bit_flipped,
    "G15h-another-key": signed_by_another,
    "G15i-empty": lambda house, site: b"",
    "G15j-no-envelope": lambda house, site: b"{}",
    "G15k-another-kind-of-envelope": lambda house, site: site.request[:2048],
}


@pytest.mark.parametrize("lie", [pytest.param(lie, id=name) for name, lie in WRONG_RECEIPTS.items()])
def test_row_a_receipt_that_is_not_the_sites_word_closes_nothing(house, lie):
    site = house.fresh("mallory")
    with house.calling(site) as calls:
        calls.open()
        fetched(calls, house, site)
        answer = calls.raw(ACK, AckRequest(receipt=lie(house, site)).SerializeToString(deterministic=True))
        assert answer in (public(Code.RECEIPT), public(Code.LENGTH))
        assert house.record(site).state is GrantState.STREAMING
        calls.ack(house.receipt(site))
    assert house.record(site).state is GrantState.CLOSED


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        pytest.param(None, Code.PROTOCOL, id="G15l-before-the-first-byte"),
        pytest.param(2 * CHUNK_BYTES, Code.RECEIPT, id="G15m-before-all-bytes"),
    ],
)
def test_row_a_receipt_that_comes_too_early_closes_nothing(house, offset, code):
    site = house.fresh("mallory")
    with house.calling(site) as calls:
        calls.open()
        if offset is not None:
            fetched(calls, house, site, offset)
        with refused(code):
            calls.ack(house.receipt(site))
    assert house.record(site).state in (GrantState.RESERVED, GrantState.STREAMING)


@pytest.mark.row("G16", "acknowledged twice")
def test_row_the_same_receipt_gets_the_same_answer(house):
    site = house.fresh("mallory")
    with house.calling(site) as calls:
        calls.open()
        fetched(calls, house, site)
        replies = [calls.ack(house.receipt(site)) for _ in range(3)]
    assert all(reply == replies[0] for reply in replies)


@pytest.mark.parametrize("offset", [0, 2 * CHUNK_BYTES], ids=["G17a-fetch-after-ack", "G17b-fetch-the-rest-after-ack"])
def test_row_no_byte_leaves_after_the_receipt(house, offset):
    site = house.fresh("mallory")
    house.deliver(site)
    with house.http2() as http2:
        heard = http2.call("Fetch", encode(fetching(house, site, offset=offset)))
        assert (heard.fault, bytes(heard.data)) == (public(Code.STATE), b"")


# G18 to G22: messages and calls of other forms.


def _long(value):
    """A field's length in one byte more than it needs."""
    return bytes([value | 0x80, 0])


def _fields(house, site):
    request = opening(house, site)
    return {
        1: b"\x0a\x10" + request.grant,
        2: b"\x12\x20" + request.nonce,
        3: b"\x1a\x60" + request.proof,
    }


OPEN_FORMS = {
    "G18a-unknown-field": lambda f: f[1] + f[2] + f[3] + b"\x22\x0b" + MARKER.encode(),
    "G18b-duplicate-scalar": lambda f: f[1] + f[1] + f[2] + f[3],
    "G18c-long-varint": lambda f: f[1] + b"\x12" + _long(32) + f[2][2:] + f[3],
    "G18d-reordered": lambda f: f[3] + f[2] + f[1],
    "G18e-explicit-default": lambda f: b"\x0a\x00" + f[2] + f[3],
    "G18f-group": lambda f: f[1] + f[2] + f[3] + b"\x23\x24",
    "G18g-long-tag": lambda f: b"\x8a\x00" + f[1][1:] + f[2] + f[3],
    "G18h-another-wire-type": lambda f: b"\x08\x01" + f[2] + f[3],
    "G18i-unknown-fixed32": lambda f: f[1] + f[2] + f[3] + b"\x25\x00\x00\x00\x00",
    "G18j-large-field-number": lambda f: f[1] + f[2] + f[3] + b"\xfa\xff\xff\xff\x0f\x01x",
    "G18k-cut-short": lambda f: (f[1] + f[2] + f[3])[:-1],
    "G18l-length-beyond-the-end": lambda f: f[1] + f[2] + b"\x1a\xff\xff\xff\xff\x0f",
    "G18m-unended-group": lambda f: f[1] + f[2] + f[3] + b"\x23" * 200,
    "G18n-noise": lambda f: b"\xff" * 100,
}


@pytest.mark.parametrize("form", [pytest.param(form, id=name) for name, form in OPEN_FORMS.items()])
def test_row_an_opening_in_another_form_is_refused(house, form):
    site = house.untouched("mallory")
    with house.http2() as http2:
        assert http2.call("Open", form(_fields(house, site))).fault == public(Code.NOT_CANONICAL)
    assert house.record(site).state is GrantState.ISSUED


OTHER_FORMS = {
    "G18o-fetch-explicit-zero-offset": ("Fetch", lambda fetch, ack: fetch + b"\x18\x00"),
    "G18p-fetch-long-offset": ("Fetch", lambda fetch, ack: fetch + b"\x18\x80\x80\x84\x00"),
    "G18q-fetch-offset-of-ten-bytes": ("Fetch", lambda fetch, ack: fetch + b"\x18" + b"\xff" * 9 + b"\x7f"),
    "G18r-fetch-two-offsets": ("Fetch", lambda fetch, ack: fetch + b"\x18\x80\x80\x04\x18\x80\x80\x08"),
    "G18s-fetch-unknown-field": ("Fetch", lambda fetch, ack: fetch + b"\x22\x01x"),
    "G18t-ack-twice-in-one": ("Ack", lambda fetch, ack: ack + ack),
    "G18u-ack-unknown-field": ("Ack", lambda fetch, ack: ack + b"\x12\x01x"),
    "G18v-trust-with-a-field": ("Trust", lambda fetch, ack: b"\x0a\x01x"),
    "G18w-trust-with-a-group": ("Trust", lambda fetch, ack: b"\x0b\x0c"),
}


@pytest.mark.parametrize(("method", "form"), [pytest.param(*row, id=name) for name, row in OTHER_FORMS.items()])
def test_row_another_message_in_another_form_is_refused(house, method, form):
    site = house.untouched("mallory")
    fetch, ack = encode(fetching(house, site)), encode(AckRequest(receipt=house.receipt(site)))
    with house.http2() as http2:
        heard = http2.call(method, form(fetch, ack))
        assert (heard.fault, bytes(heard.data)) == (public(Code.NOT_CANONICAL), b"")


TOO_LARGE = {
    "G19a-17-kib": {"message": bytes(17 * 1024)},
    "G19b-1-gib-declared": {"framed": b"\0\x40\0\0\0"},
    "G19c-4-gib-declared": {"framed": b"\0\xff\xff\xff\xff" + bytes(1000)},
    "G19d-1-mib": {"message": bytes(2**20)},
}


@pytest.mark.parametrize("options", [pytest.param(options, id=name) for name, options in TOO_LARGE.items()])
@pytest.mark.parametrize("method", ["Open", "Ack"])
def test_row_a_message_that_is_too_large_is_not_read(house, method, options):
    before = _resident_bytes(house.pid)
    with house.http2() as http2:
        http2.listen(lambda: http2.frames >= 1)
        heard = http2.call(method, **options)
        assert heard.status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in heard.sentence
    assert _resident_bytes(house.pid) - before < 32 * 2**20


def _resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(
    ("field", "length"),
    [
        pytest.param(b"\x0a", 17, id="G19e-a-long-grant"),
        pytest.param(b"\x12", 33, id="G19f-a-long-nonce"),
        pytest.param(b"\x1a", 97, id="G19g-a-long-proof"),
    ],
)
def test_row_a_field_beyond_its_limit_is_refused(house, field, length):
    with house.http2() as http2:
        message = field + bytes([length]) + b"z" * length
        assert http2.call("Open", message).fault == public(Code.LENGTH)


@pytest.mark.parametrize(
    "added",
    [
        pytest.param({"note": MARKER}, id="G20a-custom-metadata"),
        pytest.param({"note-bin": "AAAA"}, id="G20b-binary-header"),
        pytest.param({"authorization": f"Bearer {MARKER}"}, id="G20c-authorization"),
        pytest.param({"grpc-previous-rpc-attempts": "1"}, id="G20d-a-retry"),
        pytest.param({"cookie": MARKER}, id="G20e-a-cookie"),
        pytest.param({"note": "x" * 3000}, id="G20f-3-kib"),
    ],
)
@pytest.mark.parametrize("method", ["Open", "Trust"])
def test_row_metadata_of_its_own_is_refused(house, method, added):
    with house.http2() as http2:
        heard = http2.call(method, headers=added)
        assert heard.fault == public(Code.METADATA)
        assert not heard.data


@pytest.mark.parametrize("name", ["grpc-trace-bin", "grpc-tags-bin", "grpc-server-stats-bin", "lb-cost-bin"])
@pytest.mark.row("G20g", "metadata that gRPC swallows")
def test_row_metadata_that_grpc_swallows_changes_nothing(house, name):
    """gRPC takes some headers out before Python sees the call: they cannot be refused, but nobody reads them."""
    with house.http2() as http2:
        assert http2.call("Trust", headers={name: MARKER}).status is not None


@pytest.mark.parametrize("size", [9 * 1024, 60 * 1024], ids=["G20h-9-kib", "G20i-60-kib"])
@pytest.mark.parametrize("polite", [True, False], ids=["settled", "before-it-accepts-our-settings"])
def test_row_metadata_that_is_too_large_is_refused(house, polite, size):
    """gRPC's own limit counts from when the peer has accepted our settings; before, the rule against any does."""
    with house.http2() as http2:
        if polite:
            http2.call("Trust")
        block = http2.headers("/ecan.v1.Release/Trust", {"note": "x" * size})
        heard = http2.streams.setdefault(3, Heard())
        http2.send(*_in_frames(block, 3), frame(BODY, END_STREAM, 3, bytes(5)))
        http2.listen(lambda: heard.over or heard.reset is not None)
        expected = grpc.StatusCode.RESOURCE_EXHAUSTED if polite else grpc.StatusCode.INVALID_ARGUMENT
        assert heard.status is expected


def _in_frames(block, stream):
    parts = [block[start : start + 16384] for start in range(0, len(block), 16384)]
    kinds = [HEAD, *[MORE_HEADERS] * (len(parts) - 1)]
    flags = [0] * (len(parts) - 1) + [END_HEADERS]
    return [frame(kind, flag, stream, part) for kind, flag, part in zip(kinds, flags, parts, strict=True)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"grpc-encoding": "gzip"}, grpc.StatusCode.UNIMPLEMENTED, id="G21a-gzip"),
        pytest.param({"grpc-encoding": "deflate"}, grpc.StatusCode.UNIMPLEMENTED, id="G21b-deflate"),
        pytest.param({}, grpc.StatusCode.INTERNAL, id="G21c-compressed-without-saying-how"),
        pytest.param({"grpc-encoding": MARKER}, grpc.StatusCode.INTERNAL, id="G21d-an-unknown-way"),
    ],
)
def test_row_a_compressed_message_is_not_unpacked(house, headers, status):
    squeezed = gzip.compress(bytes(10_000_000))
    with house.http2() as http2:
        framed = b"\x01" + len(squeezed[:8000]).to_bytes(4, "big") + squeezed[:8000]
        heard = http2.call("Trust", framed=framed, headers=headers)
        assert heard.status is status
        assert MARKER not in heard.sentence


@pytest.mark.parametrize(
    ("deadline", "status"),
    [
        pytest.param(None, public(Code.DEADLINE)[0], id="G22a-no-deadline"),
        pytest.param("601S", public(Code.DEADLINE)[0], id="G22b-too-long"),
        pytest.param("99999999H", public(Code.DEADLINE)[0], id="G22c-centuries"),
        pytest.param("0S", grpc.StatusCode.DEADLINE_EXCEEDED, id="G22d-none-left"),
        pytest.param(MARKER, grpc.StatusCode.INTERNAL, id="G22e-no-number"),
        pytest.param("-1S", grpc.StatusCode.INTERNAL, id="G22f-negative"),
    ],
)
def test_row_a_call_without_a_sound_deadline_is_refused(house, deadline, status):
    with house.http2() as http2:
        heard = http2.call("Trust", headers={"grpc-timeout": deadline})
        assert heard.status is status
        assert MARKER not in heard.sentence


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("/grpc.health.v1.Health/Check", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/grpc.health.v1.Health/Watch", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/grpc.channelz.v1.Channelz/GetServers", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/ecan.v1.Release/Status", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/ecan.v1.Release/open", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/ecan.v1.Release/", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/ecan.v1.Release/../Open", {}, grpc.StatusCode.UNIMPLEMENTED),
        (f"/{MARKER}", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/ecan.v1.Release/Trust", {":method": "GET"}, None),
        ("/ecan.v1.Release/Trust", {":method": "CONNECT"}, grpc.StatusCode.INTERNAL),
    ],
    ids=lambda value: f"G26{value.replace('/', '-')}" if isinstance(value, str) else "",
)
def test_row_there_is_no_other_method(house, method, headers, status):
    with house.http2() as http2:
        heard = http2.call(method, headers=headers)
        assert heard.status is status
        assert not heard.data
        assert MARKER not in heard.sentence


# G23 to G25: floods. An honest site is served meanwhile.


@pytest.mark.slow
@pytest.mark.row("G23", "reads one byte at a time")
def test_row_a_slow_reader_is_cut(house):
    site = house.fresh("mallory")
    with house.calling(site) as calls:
        calls.open()
    started = time.monotonic()
    with house.http2(window=1) as http2:
        heard = http2.call("Fetch", encode(fetching(house, site)), headers={"grpc-timeout": "300S"}, wait=False)
        while not (heard.over or heard.reset is not None or http2.closed) and time.monotonic() - started < 40:
            http2.send(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x01"))
            http2.listen(lambda: heard.over or heard.reset is not None, 0.5)
            if time.monotonic() - started < 3:
                assert house.deliver(house.fresh("honest")) < MAX_HONEST_S
    assert 10 < time.monotonic() - started < 20  # the patience, and what the rate leaves
    assert len(heard.data) < 200
    with house.calling(site) as calls:
        assert fetched(calls, house, site) == house.data[site.grant]


@pytest.mark.slow
@pytest.mark.row("G24", "half-open connections")
def test_row_half_open_connections_are_dropped_and_hold_nobody_up(house):
    with contextlib.ExitStack() as stack:
        open_ones = [
            stack.enter_context(socket.create_connection((house.address.host, house.address.port), 10))
            for _ in range(200)
        ]
        for one in open_ones:
            one.sendall(b"\x16\x03\x01\x02\x00\x01")  # the start of a greeting
        started = time.monotonic()
        assert house.deliver(house.fresh("honest")) < MAX_HONEST_S
        for one in open_ones:
            one.settimeout(max(0.1, started + 6 - time.monotonic()))
            with contextlib.suppress(ConnectionResetError):
                while one.recv(100):
                    pass
        assert time.monotonic() - started < 6


def rapid_resets(http2):
    for stream in range(1, 4001, 2):
        http2.send(
            frame(HEAD, END_HEADERS, stream, http2.headers("/ecan.v1.Release/Trust")),
            frame(BODY, END_STREAM, stream, bytes(5)),
            frame(RST_STREAM, 0, stream, b"\0\0\0\x08"),
        )


def many_streams(http2):
    for stream in range(1, 4001, 2):
        http2.send(
            frame(HEAD, END_HEADERS, stream, http2.headers("/ecan.v1.Release/Trust")),
            frame(BODY, END_STREAM, stream, bytes(5)),
        )


def pings(http2):
    for _ in range(50):
        http2.send(frame(PING, 0, 0, b"12345678") * 100)


def settings(http2):
    for _ in range(50):
        http2.send(frame(SETTINGS) * 100)


def endless_headers(http2):
    http2.send(frame(HEAD, 0, 1, http2.headers("/ecan.v1.Release/Trust")))
    for _ in range(1000):
        http2.send(frame(MORE_HEADERS, 0, 1, b"\x00\x01a\x01b" * 2000))


def empty_continuations(http2):
    http2.send(frame(HEAD, 0, 1, http2.headers("/ecan.v1.Release/Trust")))
    for _ in range(100):
        http2.send(frame(MORE_HEADERS, 0, 1) * 100)


def empty_data(http2):
    http2.send(frame(HEAD, END_HEADERS, 1, http2.headers("/ecan.v1.Release/Trust")))
    for _ in range(100):
        http2.send(frame(BODY, 0, 1) * 100)


def header_bomb(http2):
    """One long header, then ten thousand times one byte that means it."""
    long_one = b"\x40\x01a\x7f\xa1\x1e" + b"a" * 4000
    for stream in range(1, 41, 2):
        http2.send(frame(HEAD, END_HEADERS, stream, long_one + b"\xbe" * 12000))


def noise(http2):
    http2.send(os.urandom(1 << 18))


FLOODS = {
    "G25a-2000-streams-opened-and-reset": (rapid_resets, False, 64),
    "G25b-2000-streams-at-once": (many_streams, False, 64),
    "G25c-5000-pings": (pings, True, 64),
    "G25d-5000-settings": (settings, False, 64),
    # gRPC parses what it has before it counts it: ten times the 10 MB that are sent.
    "G25e-headers-without-end": (endless_headers, True, 256),
    "G25f-10000-empty-continuations": (empty_continuations, True, 64),
    "G25g-10000-empty-frames-of-data": (empty_data, False, 64),
    "G25h-header-bomb": (header_bomb, False, 64),
    "G25i-noise": (noise, True, 64),
}


@pytest.mark.parametrize(
    ("flood", "is_cut", "max_growth_mib"), [pytest.param(*row, id=name) for name, row in FLOODS.items()]
)
def test_row_a_flood_holds_nobody_up(house, flood, is_cut, max_growth_mib):
    before = _resident_bytes(house.pid)
    with house.http2() as http2:
        attack = threading.Thread(target=flood, args=(http2,))
        attack.start()
        took = [house.deliver(house.fresh("honest")) for _ in range(2)]
        attack.join(20)
        assert not attack.is_alive()
        if is_cut:
            http2.listen(lambda: http2.went_away is not None)
            assert http2.closed or http2.went_away is not None
    assert max(took) < MAX_HONEST_S
    assert _resident_bytes(house.pid) - before < max_growth_mib * 2**20


@pytest.mark.row("G25j", "idle connections of one site")
def test_row_idle_connections_hold_nobody_up(house):
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(house.http2())
        assert house.deliver(house.fresh("honest")) < MAX_HONEST_S


@pytest.mark.row("G25k", "calls that never send their message")
def test_row_calls_without_a_message_hold_nobody_up(house):
    with contextlib.ExitStack() as stack:
        for _ in range(9):
            http2 = stack.enter_context(house.http2())
            for stream in range(1, 17, 2):
                http2.send(frame(HEAD, END_HEADERS, stream, http2.headers("/ecan.v1.Release/Trust")))
        time.sleep(0.3)
        try:
            house.deliver(house.fresh("honest"), timeout_s=MAX_HONEST_S)
        except ProtocolError as fault:
            pytest.fail(f"an honest site is kept out: {fault.code}")


# G34 and G35: disk and clock.


@pytest.mark.parametrize("step", ["Open", "Fetch", "Ack"], ids=lambda step: f"G34-disk-full-at-{step.lower()}")
def test_row_where_the_ledger_cannot_be_written_no_byte_leaves(house, step):
    site = house.fresh("mallory")
    messages = {
        "Open": lambda: encode(opening(house, site)),
        "Fetch": lambda: encode(fetching(house, site)),
        "Ack": lambda: encode(AckRequest(receipt=house.receipt(site))),
    }
    steps = list(messages)
    with house.http2(window=2**20) as http2:
        http2.send(frame(WINDOW_UPDATE, 0, 0, (2**20).to_bytes(4, "big")))
        for stream, done in enumerate(steps[: steps.index(step)]):
            heard = http2.call(done, messages[done](), stream=2 * stream + 1)
            assert heard.status is grpc.StatusCode.OK
        before = house.record(site)
        usual = resource.prlimit(house.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(house.pid, resource.RLIMIT_FSIZE, (0, usual[1]))
        try:
            heard = http2.call(step, messages[step](), stream=11)
        finally:
            resource.prlimit(house.pid, resource.RLIMIT_FSIZE, usual)
        assert (heard.fault, bytes(heard.data)) == (public(Code.STORAGE), b"")
        assert house.record(site) == before
        assert http2.call(step, messages[step](), stream=13).status is grpc.StatusCode.OK


YEAR_S = 365 * 86_400


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S], ids=["G35a-source-a-year-on", "G35b-source-a-year-back"])
@pytest.mark.parametrize("step", ["open", "fetch"])
def test_row_a_source_whose_clock_jumps_serves_nothing_more_of_the_grant(tmp_path, jump_s, step):
    house = House(tmp_path, {"site": (1, LARGE_BYTES)})
    site = house.fresh("site")
    clock = {"now_s": int(time.time())}
    said = []

    def run():
        return serve(
            [site.grant],
            [open_request(site.request)],
            house.ledger,
            load_server_identity(house.keys),
            house.keys / OUTBOX,
            b"",
            Address("127.0.0.1", 0),
            announce=said.append,
            timeout_s=20.0,
            now_s=lambda: clock["now_s"],
        )

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(run)
        wait_for(lambda: said or serving.done())
        house.address = Address("127.0.0.1", int(said[0].split()[2].rpartition(":")[2]))
        with house.calling(site) as calls:
            calls.open()
            clock["now_s"] += jump_s
            with refused(Code.STATE):
                if step == "open":
                    calls.open()
                else:
                    fetched(calls, house, site)
        (record,) = serving.result(20)
    assert (record.state, record.sent_bytes) == (GrantState.EXPIRED, 0)
    house.ledger.verify()


# G36: on the way.


@pytest.mark.row("G36b", "a proxy before the real exporter")
def test_row_a_proxy_that_opens_tls_never_reaches_the_exporter(house, tmp_path):
    before = house.said()
    proxy = forged(house.source, key=another_key(), endorsed=False, subject="Proxy", uris=[])
    with Impostor(tmp_path, proxy) as impostor, pytest.raises(ProtocolError, match="proxy opens TLS") as caught:
        trusted_certificate(impostor.address, house.source.fingerprint, 5.0)
    assert caught.value.code is Code.IDENTITY
    with contextlib.suppress(OSError), house.http2(proxy) as http2:  # nor can it go on as the site
        assert http2.call("Trust").status is None
        assert (http2.frames, http2.closed) == (0, True)
    assert house.said() == before
