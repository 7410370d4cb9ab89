import pytest

from protocol.errors import Code, ConnectionFault, StorageFault
from protocol.wire.chunks import CHUNK_BYTES
from target_site.client import AcceptedOffer
from target_site.partial import PartialDownload

SIZE = 3 * CHUNK_BYTES + 5
OFFER = AcceptedOffer(grant=b"g" * 16, digest=b"d" * 32, size=SIZE)
OTHER = AcceptedOffer(grant=b"g" * 16, digest=b"e" * 32, size=SIZE)


@pytest.fixture
def partial(tmp_path):
    return PartialDownload(tmp_path / "model.ecan")


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
    assert len(partial.read()) == kept


def test_what_another_offer_left_is_dropped(partial):
    partial.resume(OFFER)
    partial.append([bytes(CHUNK_BYTES)])
    assert partial.resume(OTHER) == 0
    assert partial.read() == b""


def test_bytes_that_nobody_knows_the_offer_of_are_dropped(partial, tmp_path):
    partial.resume(OFFER)
    partial.append([bytes(CHUNK_BYTES)])
    (tmp_path / "model.ecan.partial.offer").unlink()
    assert partial.resume(OFFER) == 0


def test_what_arrives_before_the_connection_is_cut_stays(partial):
    def cut():
        yield b"a" * CHUNK_BYTES
        raise ConnectionFault(Code.CONNECTION, "cut")

    partial.resume(OFFER)
    with pytest.raises(ConnectionFault):
        partial.append(cut())
    assert partial.read() == b"a" * CHUNK_BYTES


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
    with pytest.raises(StorageFault):
        partial.append([b"x"])
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_folder_that_does_not_exist_is_a_storage_fault(tmp_path):
    with pytest.raises(StorageFault):
        PartialDownload(tmp_path / "missing" / "model.ecan").resume(OFFER)
