"""Hostile sources on the wire against the real `ecan-target receive`.

Rows G05, G27 to G32, G35 and G36, and the target's side of G18, G20 and G21. After every one of them nothing is kept
or acknowledged, and the same site receives from an honest source as if nothing had been.
"""

import contextlib
import hashlib
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.bundle.sealing import MAX_SEALED_BYTES
from protocol.errors import Code, ProtocolError, RefusedError
from protocol.identity.identities import Role, endorse_online
from protocol.ledger.grants import GrantState
from protocol.sandbox.landlock import landlock_abi
from protocol.statements.offers import NO_HEAD, CheckpointFields, sign_checkpoint, sign_offer
from protocol.statements.revocations import Revocations, open_revocations, sign_revocations
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.ecan.v1.release_pb2 import AckReply, Chunk, Offer
from target_site.receiving.client import read_offer
from target_site.receiving.receive import receive
from target_site.trust.checkpoints import checkpoint_path
from target_site.trust.state import load_trust_state, update_trust_state
from tests.hostile import command_line
from tests.hostile.command_line import check_refused
from tests.hostile.peers import (
    MARKER,
    SETTINGS,
    SMALL_BYTES,
    Credentials,
    House,
    Impostor,
    forged,
    frame,
    offer_bytes,
    raw_source,
    tampered,
    today,
)
from tests.support.cutting_proxy import CuttingProxy
from tests.support.loopback import needs_loopback
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import delivered_for, new_identity, new_site, sealed_for

pytestmark = [
    pytest.mark.journey,
    needs_loopback,
    pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock"),
]

SOURCE, OTHER_SOURCE, SITE = new_identity(Role.SOURCE), new_identity(Role.SOURCE), new_site()
BUNDLE = sealed_for(SITE, SOURCE, day=today())
SEALED = delivered_for(SITE, SOURCE, plain=BUNDLE)
FIRST, SECOND, LAST = (
    Chunk(offset=start, data=SEALED[start : start + CHUNK_BYTES]) for start in range(0, len(SEALED), CHUNK_BYTES)
)


class Desk:
    """A target site: its keys, and the command that receives."""

    def __init__(self, folder):
        self.folder = folder
        self.keys = SITE.write(folder / "keys")
        self.out = folder / "model.ecan"

    def receive(self, address, timeout_s=20, trust=SOURCE):
        words = ("--from", address, "--trust", trust.fingerprint.hex(), "--out", self.out, "--timeout", timeout_s)
        return command_line.run("ecan-target", "receive", "--keys", self.keys, *words, folder=self.folder)

    def is_unharmed(self, source=None):
        """Nothing is kept, nothing was acknowledged, and an honest source is received from as ever."""
        assert not self.out.exists()
        assert not list((self.keys / "requests").glob("*.receipt"))
        if source is not None:
            assert source.receipts == []
        self.receives_honestly()

    def receives_honestly(self, served=None):
        with (served or SimulatedSource(SOURCE, SITE.request, SEALED)).listening() as address:
            trusted = SOURCE.fingerprint.hex()
            receive(
                str(address), self.keys, trusted, self.out, today=today(), announce=lambda said: None, timeout_s=20.0
            )
        assert self.out.read_bytes() == BUNDLE


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def hostile(**methods):
    """An honest source but for some methods, which take the source and the request."""
    kind = type("Hostile", (SimulatedSource,), methods)
    return kind(SOURCE, SITE.request, SEALED)


def sending(*chunks):
    return hostile(fetch=lambda self, request: iter(chunks))


CHUNKS = {
    "G27a-wrong-offset": lambda: sending(Chunk(offset=CHUNK_BYTES, data=FIRST.data), SECOND, LAST),
    "G27b-the-first-is-missing": lambda: sending(SECOND, LAST),
    "G27c-one-twice": lambda: sending(FIRST, FIRST, SECOND, LAST),
    "G27d-overlapping": lambda: sending(FIRST, Chunk(offset=CHUNK_BYTES - 1, data=SECOND.data), LAST),
    "G27e-reordered": lambda: sending(FIRST, LAST, SECOND),
    "G27f-one-byte-too-long": lambda: sending(Chunk(data=SEALED[: CHUNK_BYTES + 1])),
    "G27g-65-kib-and-one-byte": lambda: sending(Chunk(data=SEALED[: 65 * 1024 + 1])),
    "G27h-1-mib": lambda: sending(Chunk(data=bytes(2**20))),
    "G27i-too-short": lambda: sending(Chunk(data=SEALED[: CHUNK_BYTES - 1])),
    "G27j-after-the-end": lambda: sending(FIRST, SECOND, LAST, Chunk(offset=len(SEALED), data=b"x")),
    "G27k-an-empty-message-after-the-end": lambda: sending(FIRST, SECOND, LAST, b""),
    "G27l-the-last-is-missing": lambda: sending(FIRST, SECOND),
    "G27m-nothing": lambda: sending(),
    "G27n-only-empty-ones": lambda: sending(*[Chunk()] * 3),
    "G27o-an-unknown-field": lambda: sending(FIRST.SerializeToString() + b"\x1a\x04" + MARKER.encode()[:4]),
    "G27p-an-explicit-zero-offset": lambda: sending(b"\x08\x00" + FIRST.SerializeToString()),
    "G27q-a-long-offset": lambda: sending(FIRST, b"\x08\x80\x80\x84\x00" + SECOND.SerializeToString()[4:]),
    "G27r-noise": lambda: sending(MARKER.encode() * 10),
    "G28a-endless": lambda: hostile(fetch=lambda self, request: endless()),
    "G28b-endless-empty-ones": lambda: hostile(fetch=lambda self, request: iter(lambda: b"", None)),
}


def endless():
    yield from (FIRST, SECOND, LAST)
    for number in range(2000):
        yield Chunk(offset=len(SEALED) + number * CHUNK_BYTES, data=bytes(CHUNK_BYTES))


@pytest.mark.parametrize("source_of", [pytest.param(source, id=name) for name, source in CHUNKS.items()])
def test_row_chunks_that_are_not_the_next_ones_are_refused(desk, source_of):
    source = source_of()
    with source.listening() as address:
        check_refused(desk.receive(address), 4, "PROTOCOL", never=[MARKER])
    partial = desk.folder / "model.ecan.partial"
    assert not partial.exists() or partial.stat().st_size <= len(SEALED)
    desk.is_unharmed(source)


def offering(**changes):
    return hostile(open=lambda self, request: self.signed(replace(self.offered(request), **changes)))


def answering_open(answer):
    """An Open that is answered with any message, given the honest one."""
    return hostile(open=lambda self, request: answer(self, self.offered(request)))


def stranger(self, offer):
    """Signed by a key that the release key has not endorsed."""
    return Offer(statement=sign_offer(offer, OTHER_SOURCE.online_key), endorsement=SOURCE.online_endorsement)


def endorsed_by_another(self, offer):
    endorsement = endorse_online(SOURCE.online_key, OTHER_SOURCE.signing_key)
    return Offer(statement=sign_offer(offer, SOURCE.online_key), endorsement=endorsement)


def by_the_release_key(self, offer):
    """The release key may sign releases; offers are the online key's."""
    return Offer(statement=sign_offer(offer, SOURCE.signing_key), endorsement=SOURCE.online_endorsement)


def as_a_checkpoint(self, offer):
    checkpoint = CheckpointFields(
        grant=offer.grant, seq=1, head=offer.sealed_sha256, seen=0, seen_head=NO_HEAD, day=today()
    )
    return Offer(statement=sign_checkpoint(checkpoint, SOURCE.online_key), endorsement=SOURCE.online_endorsement)


OFFERS = {
    "G29a-another-nonce": lambda: offering(nonce=bytes(32)),
    "G29b-another-grant": lambda: offering(grant=bytes(16)),
    "G29c-bigger-than-any-bundle": lambda: offering(size=MAX_SEALED_BYTES + 1),
    "G29d-a-petabyte": lambda: offering(size=10**15 - 1),
    "G29e-unsigned": lambda: answering_open(lambda self, offer: Offer(endorsement=SOURCE.online_endorsement)),
    "G29f-empty": lambda: answering_open(lambda self, offer: Offer()),
    "G29g-not-endorsed": lambda: answering_open(lambda self, offer: Offer(statement=self.signed(offer).statement)),
    "G29h-signed-by-a-stranger": lambda: answering_open(stranger),
    "G29i-endorsed-by-another-source": lambda: answering_open(endorsed_by_another),
    "G29j-signed-by-the-release-key": lambda: answering_open(by_the_release_key),
    "G29k-all-of-another-source": lambda: answering_open(
        lambda self, offer: SimulatedSource(OTHER_SOURCE, SITE.request, SEALED).signed(offer)
    ),
    "G29l-a-checkpoint-instead": lambda: answering_open(as_a_checkpoint),
    "G29m-a-bit-flipped": lambda: answering_open(
        lambda self, offer: Offer(
            statement=tampered(self.signed(offer).statement), endorsement=SOURCE.online_endorsement
        )
    ),
}


@pytest.mark.parametrize("source_of", [pytest.param(source, id=name) for name, source in OFFERS.items()])
def test_row_an_offer_that_is_not_the_sources_word_is_refused(desk, source_of):
    source = source_of()
    with source.listening() as address:
        check_refused(desk.receive(address), 4, "OFFER", never=[MARKER])
    assert source.fetches == []
    desk.is_unharmed(source)


@pytest.mark.parametrize("changed", ["bytes", "size"], ids=["G30a-another-digest", "G30b-another-size"])
def test_row_an_offer_that_changes_on_resume_is_kept_as_evidence(desk, changed):
    def first_chunk_only(self, request):
        self.fetches.append(request.offset)
        yield FIRST
        raise RefusedError(Code.STATE, "cut")

    with hostile(fetch=first_chunk_only).listening() as address:
        assert desk.receive(address).code == 11
    partial = desk.folder / "model.ecan.partial"
    before = partial.read_bytes()
    assert before == FIRST.data
    other = delivered_for(SITE, SOURCE, plain=BUNDLE) if changed == "bytes" else SEALED + b"x"
    swapping = SimulatedSource(SOURCE, SITE.request, other)
    with swapping.listening() as address:
        check_refused(desk.receive(address), 4, "SWAP")
    assert swapping.fetches == []
    assert partial.read_bytes() == before
    offers = [
        read_offer((desk.folder / f"model.ecan.offer.{number}").read_bytes(), SOURCE.fingerprint)[0]
        for number in (1, 2)
    ]
    assert offers[0].grant == offers[1].grant == SITE.grant
    assert (offers[0].sealed_sha256, offers[0].size) != (offers[1].sealed_sha256, offers[1].size)
    desk.is_unharmed(swapping)


def acknowledging(reply):
    """A source that answers the receipt with any message."""
    return hostile(ack=lambda self, request: reply)


def checkpoint(seq=6, head=b"h" * 32, key=SOURCE, grant=SITE.grant, seen=5, seen_head=b"h" * 32):
    """What a source shows that the site has last seen at line 5."""
    fields = CheckpointFields(grant=grant, seq=seq, head=head, seen=seen, seen_head=seen_head, day=today())
    return sign_checkpoint(fields, key.online_key)


CHECKPOINTS = {
    "G31a-shrank": (AckReply(checkpoint=checkpoint(seq=4)), "LEDGER"),
    "G31b-back-to-the-start": (AckReply(checkpoint=checkpoint(seq=1)), "LEDGER"),
    "G31c-rewritten": (AckReply(checkpoint=checkpoint(seq=5, head=b"x" * 32)), "LEDGER"),
    "G31d-of-another-source": (AckReply(checkpoint=checkpoint(key=OTHER_SOURCE)), "PROTOCOL"),
    "G31e-of-another-grant": (AckReply(checkpoint=checkpoint(grant=bytes(16))), "PROTOCOL"),
    "G31f-none": (AckReply(), "PROTOCOL"),
    "G31g-noise": (AckReply(checkpoint=MARKER.encode()), "PROTOCOL"),
    "G31h-a-bit-flipped": (AckReply(checkpoint=tampered(checkpoint())), "PROTOCOL"),
    "G31p-rewritten-with-one-line-more": (
        AckReply(checkpoint=checkpoint(seq=6, head=b"x" * 32, seen_head=b"y" * 32)),
        "LEDGER",
    ),
    "G31q-rewritten-with-many-lines-more": (
        AckReply(checkpoint=checkpoint(seq=5000, head=b"x" * 32, seen_head=b"y" * 32)),
        "LEDGER",
    ),
    "G31r-longer-and-shows-no-line": (AckReply(checkpoint=checkpoint(seen_head=NO_HEAD)), "LEDGER"),
    "G31s-shorter-and-shows-no-line": (AckReply(checkpoint=checkpoint(seq=3, seen_head=NO_HEAD)), "LEDGER"),
    "G31t-speaks-of-another-line": (AckReply(checkpoint=checkpoint(seen=4)), "PROTOCOL"),
    "G31u-as-if-nothing-had-been-seen": (AckReply(checkpoint=checkpoint(seen=0, seen_head=NO_HEAD)), "PROTOCOL"),
}


@pytest.mark.parametrize(("reply", "word"), [pytest.param(*row, id=name) for name, row in CHECKPOINTS.items()])
def test_row_a_checkpoint_that_does_not_follow_is_an_alarm(desk, reply, word):
    seen = CheckpointFields(grant=SITE.grant, seq=5, head=b"h" * 32, seen=0, seen_head=NO_HEAD, day=today())
    remember = load_trust_state(desk.keys).of(SOURCE.fingerprint)
    update_trust_state(desk.keys, lambda state: state.saw(SOURCE.fingerprint, seen, since=remember))
    with acknowledging(reply).listening() as address:
        ending = desk.receive(address)
    check_refused(ending, 4, word, never=[MARKER])
    assert ("ALARM" in ending.stderr) == (word == "LEDGER")
    known = load_trust_state(desk.keys).of(SOURCE.fingerprint)
    assert (known.seq, known.head) == (5, b"h" * 32)
    kept = checkpoint_path(desk.keys, SOURCE.fingerprint)
    assert not kept.exists()
    desk.receives_honestly(acknowledging(AckReply(checkpoint=checkpoint(seq=6))))
    assert kept.read_bytes() == checkpoint(seq=6)


def revocations(version, key=SOURCE, weights=frozenset()):
    return sign_revocations(
        Revocations(version=version, day=today(), weights=weights, keys=frozenset()), key.signing_key
    )


KNOWN_LIST = revocations(2, weights=frozenset({bytes(range(32))}))
LISTS = {
    "G31i-an-older-revocation-list": (revocations(1), 11, "ROLLBACK"),
    "G31j-no-revocation-list-any-more": (b"", 11, "ROLLBACK"),
    "G31k-another-list-with-the-same-number": (revocations(2), 11, "ROLLBACK"),
    "G31p-a-newer-list-that-is-shorter": (revocations(3), 11, "ROLLBACK"),
    "G31l-a-list-of-another-source": (revocations(3, key=OTHER_SOURCE), 10, "KEY_UNKNOWN"),
    "G31m-no-list-but-text": (MARKER.encode(), 12, None),
    "G31n-no-list-but-zeros": (bytes(16 * 1024), 12, None),
    "G31o-a-request-instead": (SITE.request, 10, None),
}


@pytest.mark.parametrize(("shown", "code", "word"), [pytest.param(*row, id=name) for name, row in LISTS.items()])
def test_row_a_revocation_list_that_does_not_follow_is_refused(desk, shown, code, word):
    update_trust_state(
        desk.keys,
        lambda state: state.learned(SOURCE.fingerprint, open_revocations(KNOWN_LIST, SOURCE.fingerprint)),
    )
    source = SimulatedSource(SOURCE, SITE.request, SEALED)
    source.revocations = shown
    with source.listening() as address:
        ending = desk.receive(address)
    check_refused(ending, code, ending.word if word is None else word, never=[MARKER])
    assert source.fetches == []
    assert not desk.out.exists()
    honest = SimulatedSource(SOURCE, SITE.request, SEALED)
    honest.revocations = KNOWN_LIST
    desk.receives_honestly(honest)


# Whatever else a source may say.


def initial(context):
    context.send_initial_metadata([("note", MARKER)])


def trailing(context):
    context.set_trailing_metadata([("note-bin", MARKER.encode())])


def large(context):
    context.set_trailing_metadata([("note", "x" * 60_000)])


@pytest.mark.parametrize("method", ["Trust", "Open", "Fetch"])
@pytest.mark.parametrize(
    ("add", "word"),
    [
        pytest.param(initial, "METADATA", id="G20j-initial-metadata-from-the-source"),
        pytest.param(trailing, "METADATA", id="G20k-trailing-metadata-from-the-source"),
        pytest.param(large, None, id="G20l-60-kib-of-metadata-from-the-source"),
    ],
)
def test_row_metadata_of_the_source_is_refused(desk, method, add, word):
    source = SimulatedSource(SOURCE, SITE.request, SEALED)

    def answer(data, context):
        add(context)
        return offer_bytes(source, data) if method == "Open" else b""

    def stream(data, context):
        add(context)
        yield from (chunk.SerializeToString() for chunk in (FIRST, SECOND, LAST))

    with raw_source(source, SITE, {method: stream if method == "Fetch" else answer}) as address:
        ending = desk.receive(address)
    check_refused(ending, 4, "PROTOCOL" if word is None else word, never=[MARKER, "xxxx"])
    desk.is_unharmed()


NOT_CANONICAL = {
    "G18x-an-offer-with-an-unknown-field": ("Open", lambda offer: offer + b"\x1a\x01x", "OFFER"),
    "G18y-an-offer-with-two-statements": ("Open", lambda offer: offer[: len(offer) - 98] + offer, "OFFER"),
    "G18z-a-list-with-an-unknown-field": ("Trust", lambda offer: b"\x12\x01x", "PROTOCOL"),
    "G18za-a-list-given-as-empty": ("Trust", lambda offer: b"\x0a\x00", "PROTOCOL"),
    "G18zb-a-list-that-is-too-long": ("Trust", lambda offer: b"\x0a\xb0\xea\x01" + bytes(30_000), "PROTOCOL"),
    "G18zc-a-list-of-200-kib": ("Trust", lambda offer: bytes(200 * 1024), "PROTOCOL"),
    "G18zd-noise": ("Open", lambda offer: b"\xff" * 100, "OFFER"),
}


@pytest.mark.parametrize(
    ("method", "form", "word"), [pytest.param(*row, id=name) for name, row in NOT_CANONICAL.items()]
)
def test_row_a_reply_in_another_form_is_refused(desk, method, form, word):
    source = SimulatedSource(SOURCE, SITE.request, SEALED)
    answer = {method: lambda data, context: form(offer_bytes(source, data) if method == "Open" else b"")}
    with raw_source(source, SITE, answer) as address:
        check_refused(desk.receive(address), 4, word, never=[MARKER])
    desk.is_unharmed()


@pytest.mark.row("G21e", "a compressed reply")
def test_row_a_compressed_reply_is_not_unpacked(desk):
    source = SimulatedSource(SOURCE, SITE.request, SEALED)
    answer = {"Trust": lambda data, context: b"\x0a" + b"\x80\x80\x40" + bytes(2**20)}
    with raw_source(source, SITE, answer, compression=grpc.Compression.Gzip) as address:
        check_refused(desk.receive(address), 4, "PROTOCOL")
    desk.is_unharmed()


HOSTILE_TEXT = f"\x1b[31m{MARKER}\r\nerror: verified /etc/passwd\u202e \n" + "x" * 2000
EXIT_OF = {grpc.StatusCode.DEADLINE_EXCEEDED: (5, "DEADLINE")} | dict.fromkeys(
    (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), (4, "CONNECTION")
)


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(status, id=f"G27s-attackers-text-with-{status.name.lower()}")
        for status in grpc.StatusCode
        if status is not grpc.StatusCode.OK
    ],
)
def test_row_no_text_of_the_source_is_shown(desk, status):
    source = SimulatedSource(SOURCE, SITE.request, SEALED)
    with raw_source(source, SITE, {"Trust": lambda data, context: context.abort(status, HOSTILE_TEXT)}) as address:
        ending = desk.receive(address)
    check_refused(ending, *EXIT_OF.get(status, (4, "PROTOCOL")), never=[MARKER, "passwd", "\x1b", "\u202e"])
    desk.is_unharmed()


STALLS = {
    "G28c-always-busy": hostile(open=lambda self, request: _raise(ProtocolError(Code.BUSY, "busy"))),
    "G28d-no-answer-to-open": hostile(open=lambda self, request: time.sleep(4)),
    "G28e-no-chunk": hostile(fetch=lambda self, request: _drip(4)),
    "G28f-a-chunk-now-and-then": hostile(fetch=lambda self, request: _drip(1, FIRST, SECOND, LAST)),
}


def _raise(error):
    raise error


def _drip(pause_s, *chunks):
    for chunk in (*chunks, b""):
        time.sleep(pause_s)
        yield chunk


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in STALLS.items()])
def test_row_a_source_that_stalls_is_left_when_the_time_is_up(desk, source):
    with source.listening() as address:
        check_refused(desk.receive(address, timeout_s=2), 5, "DEADLINE")
    desk.is_unharmed(source)


STRANGERS = {
    "G05a-another-sources-pin": (lambda: Credentials.of(OTHER_SOURCE), "IDENTITY", "compare the fingerprints"),
    "G05b-a-targets-certificate": (lambda: Credentials.of(SITE.identity), "IDENTITY", "is target"),
    "G05c-the-right-name-without-the-key": (
        lambda: forged(SOURCE, key=ec.generate_private_key(ec.SECP256R1())),
        "IDENTITY",
        "carries no endorsement",
    ),
    "G36a-a-proxy-that-opens-tls": (
        lambda: forged(SOURCE, key=ec.generate_private_key(ec.SECP256R1()), endorsed=False, subject="Proxy", uris=[]),
        "IDENTITY",
        "proxy",
    ),
}


@pytest.mark.parametrize(("shown", "word", "said"), [pytest.param(*row, id=name) for name, row in STRANGERS.items()])
def test_row_a_stranger_is_told_nothing(desk, shown, word, said):
    credentials = shown()
    with Impostor(desk.folder, credentials) as impostor:
        ending = desk.receive(impostor.address)
    check_refused(ending, 4, word)
    assert said in ending.stderr
    assert impostor.heard == b""
    if "proxy" in said:  # the one that was seen can be looked for
        seen = ssl.PEM_cert_to_DER_cert(credentials.certificate.decode())
        assert hashlib.sha256(seen).hexdigest() in ending.stderr
    desk.is_unharmed()


NO_GRPC = {
    "G27t-web-instead-of-grpc": (b"HTTP/1.1 200 OK\r\n\r\n" + MARKER.encode(), True, 4, "CONNECTION"),
    "G27u-noise-instead-of-grpc": (bytes(range(256)) * 40, True, 4, "CONNECTION"),
    "G27v-goes-away": (frame(SETTINGS) + frame(7, 0, 0, bytes(8) + MARKER.encode()), True, 4, "CONNECTION"),
    "G27w-silence-behind-tls": (b"", True, 5, "DEADLINE"),
    "G27x-no-tls": (b"SSH-2.0-" + MARKER.encode() + b"\r\n", False, 4, "CONNECTION"),
    "G27y-silence": (b"", False, 5, "DEADLINE"),
}


@pytest.mark.parametrize(
    ("says", "with_tls", "code", "word"), [pytest.param(*row, id=name) for name, row in NO_GRPC.items()]
)
def test_row_what_is_no_service_is_no_source(desk, says, with_tls, code, word):
    shown = Credentials.of(SOURCE) if with_tls else None
    with Impostor(desk.folder, shown, says, patience_s=4.0) as impostor:
        check_refused(desk.receive(impostor.address, timeout_s=2), code, word, never=[MARKER])
    desk.is_unharmed()


@pytest.mark.parametrize(
    ("jump_days", "word"),
    [
        pytest.param(365, "EXPIRED", id="G35c-target-a-year-on"),
        pytest.param(-365, "NOT_YET", id="G35d-target-a-year-back"),
    ],
)
def test_row_a_target_whose_clock_is_wrong_says_both_days(desk, jump_days, word):
    source = SimulatedSource(SOURCE, SITE.request, SEALED)
    with source.listening() as address, pytest.raises(RefusedError) as caught:
        receive(
            str(address),
            desk.keys,
            SOURCE.fingerprint.hex(),
            desk.out,
            today=today() + jump_days,
            announce=lambda said: None,
            timeout_s=20.0,
        )
    assert caught.value.code == word
    assert f"today is day {today() + jump_days}" in str(caught.value)
    desk.is_unharmed(source)


# G32: cut anywhere, then resumed, between the real two.

CUT_AT = [*range(-(-len(SEALED) // CHUNK_BYTES)), None]
BEFORE_THE_CHUNKS = 8_000
"""More than what TLS and the offer take, and less than any chunk with them."""


class RealHouse(House):
    """An exporter of real bundles."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.real = []


@pytest.fixture(scope="module")
def real_source(tmp_path_factory) -> Iterator[RealHouse]:
    """An exporter whose bundles are real ones, for the real target."""
    house = RealHouse(tmp_path_factory.mktemp("real"), {"honest": (12, SMALL_BYTES)})
    for _ in range(len(CUT_AT) + 1):
        site = new_site()
        plain = sealed_for(site, house.source, day=today(), release=1)
        house.real.append((house.issue_request(site, delivered_for(site, house.source, plain=plain), plain), plain))
    house.start()
    yield house
    house.stop()


class Counting(CuttingProxy):
    """Cuts nothing; knows how many bytes came from the source on each connection."""

    def __init__(self, target):
        super().__init__(target, [])
        self.counts = []

    def _pump(self, origin, sink, limit):
        passed = 0
        with contextlib.suppress(OSError):
            while data := origin.recv(4096):
                passed += len(data)
                sink.sendall(data)
        self.counts.append(passed)
        for end in (origin, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def real_receive(house, site, folder, proxy):
    keys, out = site.write(folder / "keys"), folder / "model.ecan"
    words = ("--trust", house.source.fingerprint.hex(), "--out", out)
    with proxy.listening() as address:
        ending = command_line.run("ecan-target", "receive", "--keys", keys, "--from", address, *words, folder=folder)
    assert ending.code == 0, ending.stderr
    return ending


@pytest.fixture(scope="module")
def spoken_bytes(real_source, tmp_path_factory) -> int:
    """How much a source says in a whole delivery."""
    proxy = Counting(real_source.address)
    real_receive(real_source, real_source.real[-1][0], tmp_path_factory.mktemp("counted"), proxy)
    return max(proxy.counts)


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(i, id="G32-cut-before-the-answer-to-the-receipt" if i is None else f"G32-cut-at-chunk-{i}")
        for i in CUT_AT
    ],
)
def test_row_a_download_that_was_cut_goes_on(real_source, spoken_bytes, tmp_path, index):
    site, plain = real_source.real[CUT_AT.index(index)]
    partial = tmp_path / "model.ecan.partial"
    arrived = (index or 0) * CHUNK_BYTES
    limit = spoken_bytes - 300 if index is None else arrived + BEFORE_THE_CHUNKS
    proxy = CuttingProxy(  # the first connection only asks who is there
        real_source.address, [None, limit], until=lambda: index is None or partial.stat().st_size >= arrived
    )
    ending = real_receive(real_source, site, tmp_path, proxy)
    assert ending.stderr.count("the connection was cut") == 1
    assert (tmp_path / "model.ecan").read_bytes() == plain
    record = real_source.record(site)
    assert (record.state, record.fetches) == (GrantState.CLOSED, 1 if index is None else 2)
    real_source.is_sound()
