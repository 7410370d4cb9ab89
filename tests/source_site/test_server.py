"""What the server says to a site that does not follow the order of calls, or is not the site at all."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from protocol import bundle
from protocol.errors import Code, ConnectionFault, Malformed, Refused
from protocol.identity import Role
from protocol.ledger import GrantState, Ledger
from protocol.receipts import Verdict
from protocol.request import open_request
from protocol.wire.address import Address
from protocol.wire.channel import start_server
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.proof import prove
from protocol.wire.service import release_handler
from source_site.server import Delivery, OnceRelease, serve_until_receipted
from tests.support.calls import calling
from tests.support.loopback import needs_loopback
from tests.support.sites import TODAY, der, new_identity, new_site, receipt_for, sealed_for

pytestmark = needs_loopback

SOURCE, SITE = new_identity(Role.SOURCE), new_site()
DATA = sealed_for(SITE, SOURCE)
DIGEST = hashlib.sha256(DATA).digest()
WEIGHTS = hashlib.sha256(bundle.split(DATA).weights).digest()
DELIVERY = Delivery(
    grant=SITE.grant,
    release=1,
    site=open_request(SITE.request),
    data=DATA,
    digest=DIGEST,
    weights_sha256=WEIGHTS,
)


@pytest.fixture
def ledger(tmp_path):
    book = Ledger.create(tmp_path / "ledger.sqlite")
    book.reserve(SITE.grant, lambda release: DIGEST, TODAY)
    return book


@pytest.fixture
def release(ledger):
    return OnceRelease(DELIVERY, ledger, der(SOURCE), TODAY)


@pytest.fixture
def calls(release):
    handler = release_handler(release, DELIVERY.site.certificate)
    server, address = start_server(Address("127.0.0.1", 0), SOURCE, DELIVERY.site.certificate, handler)
    with calling(address, SITE, SOURCE) as calls:
        yield calls
    server.stop(0).wait()


def fetched(calls, offset=0):
    return b"".join(chunk.data for chunk in calls.fetch(DIGEST, offset))


def test_the_bundle_is_offered_fetched_and_receipted(calls, ledger, release):
    offer = calls.open()
    assert (offer.digest, offer.size) == (DIGEST, len(DATA))
    assert fetched(calls) == DATA
    assert not release.receipted.is_set()
    calls.ack(receipt_for(SITE, DATA, WEIGHTS))
    assert release.receipted.is_set()
    assert ledger.find(SITE.grant).state is GrantState.CLOSED


def test_a_download_goes_on_from_any_chunk(calls):
    calls.open()
    assert len(DATA) > CHUNK_BYTES
    assert fetched(calls, CHUNK_BYTES) == DATA[CHUNK_BYTES:]


def test_the_ledger_knows_before_the_first_chunk_leaves(calls, ledger):
    calls.open()
    assert ledger.find(SITE.grant).state is GrantState.RESERVED
    next(calls.fetch(DIGEST))
    assert ledger.find(SITE.grant).state is GrantState.STREAMING


def test_a_ledger_that_cannot_be_written_lets_no_byte_out(calls, tmp_path):
    calls.open()
    (tmp_path / "ledger.sqlite").write_bytes(b"damaged" * 1000)
    with pytest.raises(ConnectionFault, match="storage") as caught:
        next(calls.fetch(DIGEST))
    assert str(tmp_path) not in str(caught.value)


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
        pytest.param(proof_by(new_identity(Role.TARGET)), id="another key"),
        pytest.param(proof_by(SITE.identity, grant=bytes(16)), id="another grant"),
        pytest.param(proof_by(SITE.identity, server_certificate=b"other"), id="another source"),
        pytest.param(proof_by(SITE.identity, client_certificate=b"other"), id="another connection"),
    ],
)
def test_nobody_opens_without_a_proof_of_the_sites_key(calls, changes):
    with pytest.raises(ConnectionFault) as caught:
        calls.open(calls.opening(**changes))
    assert caught.value.code is Code.IDENTITY


def test_a_nonce_of_another_length_is_refused(calls):
    with pytest.raises(Malformed):
        calls.open(calls.opening(nonce=b"n"))


def test_another_grant_is_unknown_here(calls):
    for call in (lambda: calls.open(calls.opening(grant=bytes(16))), lambda: [*calls.fetch(DIGEST, grant=bytes(16))]):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code is Code.GRANT


def test_nothing_is_fetched_before_the_grant_is_opened(calls, ledger):
    with pytest.raises(Malformed) as caught:
        fetched(calls)
    assert caught.value.code is Code.PROTOCOL
    assert ledger.find(SITE.grant).state is GrantState.RESERVED


def test_nothing_but_the_offered_bundle_is_fetched(calls):
    calls.open()
    with pytest.raises(Refused) as caught:
        [*calls.fetch(bytes(32))]
    assert caught.value.code is Code.DIGEST


@pytest.mark.parametrize("offset", [1, CHUNK_BYTES - 1, len(DATA), 64 * CHUNK_BYTES, 2**63])
def test_a_fetch_starts_at_a_chunk_within_the_bundle(calls, offset):
    calls.open()
    with pytest.raises(Malformed) as caught:
        fetched(calls, offset)
    assert caught.value.code is Code.OFFSET


@pytest.mark.parametrize(
    "receipt",
    [
        pytest.param(b"", id="empty"),
        pytest.param(receipt_for(SITE, b"other", WEIGHTS), id="another bundle"),
        pytest.param(receipt_for(SITE, DATA, bytes(32)), id="other weights"),
        pytest.param(receipt_for(SITE, DATA, WEIGHTS, grant=bytes(16)), id="another grant"),
        pytest.param(receipt_for(SITE, DATA, WEIGHTS, verdict=Verdict.REFUSED), id="not accepted"),
        pytest.param(receipt_for(SITE, DATA, WEIGHTS, signer=new_identity(Role.TARGET)), id="another key"),
    ],
)
def test_a_receipt_that_is_not_the_sites_word_on_this_bundle_closes_nothing(calls, ledger, release, receipt):
    calls.open()
    fetched(calls)
    with pytest.raises(Refused) as caught:
        calls.ack(receipt)
    assert caught.value.code is Code.RECEIPT
    assert ledger.find(SITE.grant).state is GrantState.STREAMING
    assert not release.receipted.is_set()


def test_a_receipt_before_the_first_byte_closes_nothing(calls, ledger):
    calls.open()
    with pytest.raises(Malformed) as caught:
        calls.ack(receipt_for(SITE, DATA, WEIGHTS))
    assert caught.value.code is Code.PROTOCOL
    assert ledger.find(SITE.grant).state is GrantState.RESERVED


def test_after_the_receipt_nothing_leaves_any_more(calls):
    calls.open()
    stream = calls.fetch(DIGEST)
    next(stream)
    receipt = receipt_for(SITE, DATA, WEIGHTS)
    calls.ack(receipt)
    calls.ack(receipt)  # the same answer again
    for call in (calls.open, lambda: fetched(calls)):
        with pytest.raises(Refused, match="closed") as caught:
            call()
        assert caught.value.code is Code.STATE


def test_a_stream_that_is_under_way_when_the_receipt_comes_is_cut(release):
    release._opened = True
    request = type("Request", (), {"grant": SITE.grant, "digest": DIGEST, "offset": 0})
    stream = release.fetch(request)
    next(stream)
    release.ack(type("Request", (), {"receipt": receipt_for(SITE, DATA, WEIGHTS)}))
    with pytest.raises(Refused):
        next(stream)


def test_a_grant_that_another_process_closes_ends_the_serving(ledger, tmp_path):
    said = []
    place = Address("127.0.0.1", 0)
    options = {"today": TODAY, "announce": said.append, "timeout_s": 15.0}
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve_until_receipted, DELIVERY, ledger, SOURCE, place, **options)
        other = Ledger(tmp_path / "ledger.sqlite")
        other.start(SITE.grant, TODAY)
        other.close(SITE.grant, receipt_for(SITE, DATA, WEIGHTS), TODAY)
        assert serving.result(10).digest == DIGEST
    assert said[-1].startswith(f"another process closed grant {SITE.grant.hex()}")
