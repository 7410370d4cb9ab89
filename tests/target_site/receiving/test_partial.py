import hashlib
import os
from dataclasses import replace

import pytest

from protocol.errors import Code, FileError, PeerError
from protocol.identity.identities import Role
from protocol.statements.offers import OfferFields, sign_offer
from protocol.wire.chunks import CHUNK_BYTES
from protocol.wire.codec import encode
from protocol.wire.ecan.v1.release_pb2 import Offer
from target_site.receiving.client import AcceptedOffer, read_offer
from target_site.receiving.partial import PartialDownload
from tests.support.sites import new_identity

SIZE = 3 * CHUNK_BYTES + 5
SOURCE, ANOTHER_SOURCE = new_identity(Role.SOURCE), new_identity(Role.SOURCE)


def accepted(source=SOURCE, **changes) -> AcceptedOffer:
    """An offer as the client hands it over; the nonce is another one each time."""
    said = {"grant": b"g" * 16, "sealed_sha256": b"d" * 32, "size": SIZE, "release": 1, "expires_s": 10**9}
    fields = OfferFields(nonce=os.urandom(32), **(said | changes))
    message = encode(Offer(statement=sign_offer(fields, source.online_key), endorsement=source.online_endorsement))
    return AcceptedOffer(
        grant=fields.grant,
        digest=fields.sealed_sha256,
        size=fields.size,
        release=fields.release,
        issuer=source.fingerprint,
        message=message,
    )


OFFER = accepted()
NEXT_REQUEST = accepted(grant=b"h" * 16, sealed_sha256=b"e" * 32)


@pytest.fixture
def partial(tmp_path):
    return PartialDownload(tmp_path / "model.ecan")


def content(partial) -> bytes:
    return partial._path.read_bytes()


def test_a_download_begins_at_nothing(partial):
    assert not partial.exists()
    assert partial.resume(OFFER) == 0
    assert partial.exists()


@pytest.mark.parametrize(
    ("arrived", "kept"),
    [
        (CHUNK_BYTES - 1, 0),
        (CHUNK_BYTES, CHUNK_BYTES),
        (2 * CHUNK_BYTES + 7, 2 * CHUNK_BYTES),
        (SIZE - 1, 3 * CHUNK_BYTES),
        (SIZE, SIZE),
        (SIZE + 9, SIZE),
    ],
)
def test_a_download_goes_on_at_the_last_whole_chunk(partial, arrived, kept):
    partial.resume(OFFER)
    partial.append([bytes(arrived)])
    assert partial.resume(OFFER) == kept
    assert len(content(partial)) == kept


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(NEXT_REQUEST, id="for another request"),
        pytest.param(accepted(ANOTHER_SOURCE, sealed_sha256=b"e" * 32), id="of another source"),
    ],
)
def test_what_another_offer_left_is_dropped(partial, other):
    partial.resume(OFFER)
    partial.append([bytes(CHUNK_BYTES)])
    assert partial.resume(other) == 0
    assert content(partial) == b""


def test_the_same_bundle_may_be_offered_again_and_again(partial, tmp_path):
    partial.resume(OFFER)
    partial.append([bytes(CHUNK_BYTES)])
    again = accepted(expires_s=2 * 10**9)
    assert again.message != OFFER.message
    assert partial.resume(again) == CHUNK_BYTES
    assert (tmp_path / "model.ecan.partial.offer").read_bytes() == OFFER.message


@pytest.mark.parametrize("change", [{"sealed_sha256": b"e" * 32}, {"size": SIZE + 1}, {"size": CHUNK_BYTES}])
@pytest.mark.parametrize("arrived", [0, CHUNK_BYTES])
def test_another_bundle_for_the_same_grant_is_a_swap_and_both_signed_offers_are_kept(
    partial, tmp_path, change, arrived
):
    partial.resume(OFFER)
    partial.append([bytes(arrived)])
    swapped = accepted(**change)
    for _ in range(2):
        with pytest.raises(PeerError, match=r"offer\.1 and .*offer\.2") as caught:
            partial.resume(swapped)
        assert caught.value.code is Code.SWAP
        assert caught.value.exit_code == 4
    evidence = [(tmp_path / f"model.ecan.offer.{number}").read_bytes() for number in (1, 2)]
    assert evidence == [OFFER.message, swapped.message]
    said = [read_offer(message, SOURCE.fingerprint)[0] for message in evidence]
    assert said[0].grant == said[1].grant
    assert (said[0].sealed_sha256, said[0].size) != (said[1].sealed_sha256, said[1].size)
    assert len(content(partial)) == arrived
    assert partial.resume(accepted()) == arrived  # and the first offer still stands


def test_a_swap_is_seen_even_if_the_bytes_are_gone(partial, tmp_path):
    partial.resume(OFFER)
    (tmp_path / "model.ecan.partial").unlink()
    with pytest.raises(PeerError) as caught:
        partial.resume(accepted(sealed_sha256=b"e" * 32))
    assert caught.value.code is Code.SWAP


@pytest.mark.parametrize("note", [b"", b"noise", bytes(200_000), None])
def test_a_damaged_offer_is_no_evidence_and_the_download_begins_again(partial, tmp_path, note):
    partial.resume(OFFER)
    partial.append([bytes(CHUNK_BYTES)])
    path = tmp_path / "model.ecan.partial.offer"
    path.write_bytes(OFFER.message.replace(b"d", b"e", 1) if note is None else note)
    assert partial.resume(OFFER) == 0
    assert path.read_bytes() == OFFER.message


def test_the_bytes_are_hashed_and_shown_without_reading_them_whole(partial):
    data = os.urandom(SIZE)
    partial.resume(OFFER)
    partial.append([memoryview(data)[:CHUNK_BYTES], data[CHUNK_BYTES:]])
    assert partial.sha256() == hashlib.sha256(data).digest()
    with partial.mapped() as view:
        assert len(view) == SIZE
        assert view[:10] == data[:10]
        with pytest.raises(TypeError):
            view[0] = 0


def test_a_large_download_takes_no_memory(partial):
    import resource
    import tracemalloc

    block = memoryview(bytes(CHUNK_BYTES))
    partial.resume(replace(OFFER, size=2**26))
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    partial.append(block for _ in range(2**26 // CHUNK_BYTES))
    partial.sha256()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def test_what_is_not_there_cannot_be_looked_at(partial):
    for look in (partial.sha256, lambda: partial.mapped().__enter__()):
        with pytest.raises(FileError):
            look()
    partial.resume(OFFER)
    with pytest.raises(FileError), partial.mapped():
        pass


def test_bytes_that_nobody_knows_the_offer_of_are_dropped(partial, tmp_path):
    partial.resume(OFFER)
    partial.append([bytes(CHUNK_BYTES)])
    (tmp_path / "model.ecan.partial.offer").unlink()
    assert partial.resume(OFFER) == 0


def test_what_arrives_before_the_connection_is_cut_stays(partial):
    def cut():
        yield b"a" * CHUNK_BYTES
        raise PeerError(Code.CONNECTION, "cut")

    partial.resume(OFFER)
    with pytest.raises(PeerError):
        partial.append(cut())
    assert content(partial) == b"a" * CHUNK_BYTES


def test_nothing_is_left_of_a_discarded_download(partial, tmp_path):
    partial.resume(OFFER)
    partial.discard()
    partial.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(partial, tmp_path):
    partial.resume(OFFER)
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "model.ecan.partial").unlink()
    (tmp_path / "model.ecan.partial").symlink_to(tmp_path / "victim")
    with pytest.raises(FileError):
        partial.append([b"x"])
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_folder_that_does_not_exist_is_a_storage_fault(tmp_path):
    with pytest.raises(FileError):
        PartialDownload(tmp_path / "missing" / "model.ecan").resume(OFFER)
