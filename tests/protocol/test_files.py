import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.errors import FileError, MalformedError
from protocol.files import read_blocks, read_bounded, write_atomic

Reader = Callable[[Path, int], bytes]


def read_in_blocks(path: Path, max_bytes: int) -> bytes:
    return b"".join(read_blocks(path, max_bytes, block_bytes=2))


@pytest.fixture(params=[read_bounded, read_in_blocks], ids=["at once", "in blocks"])
def read(request: pytest.FixtureRequest) -> Reader:
    reader: Reader = request.param
    return reader


def test_a_file_of_the_largest_size_is_read_whole(tmp_path: Path, read: Reader) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read(tmp_path / "file", 5) == b"12345"


def test_a_file_one_byte_too_long_is_refused(tmp_path: Path, read: Reader) -> None:
    (tmp_path / "file").write_bytes(b"123456")
    with pytest.raises(MalformedError) as caught:
        read(tmp_path / "file", 5)
    assert caught.value.code == "LENGTH"


def test_a_sparse_terabyte_is_refused_without_reading_it(tmp_path: Path, read: Reader) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(MalformedError) as caught:
        read(tmp_path / "sparse", 1000)
    assert caught.value.code == "LENGTH"


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "device"])
def test_what_is_not_a_regular_file_is_refused(tmp_path: Path, read: Reader, kind: str) -> None:
    path = tmp_path / kind
    if kind == "link":
        (tmp_path / "real").write_bytes(b"content")
        path.symlink_to(tmp_path / "real")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/zero")
    with pytest.raises(MalformedError) as caught:
        read(path, 1000)
    assert caught.value.code == "NOT_REGULAR"


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "there"
    make(path)
    before = path.lstat()
    with pytest.raises(FileError, match="is no file"):
        write_atomic(path, b"content")
    assert path.lstat() == before
    assert [one.name for one in tmp_path.iterdir()] == ["there"]


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, read: Reader) -> None:
    with pytest.raises(FileError, match="does not exist") as caught:
        read(tmp_path / "nothing", 10)
    assert caught.value.code == "NOT_FOUND"


def test_a_path_through_a_file_cannot_be_read(tmp_path: Path, read: Reader) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(FileError, match="cannot be read"):
        read(tmp_path / "file" / "below", 10)


def test_blocks_begin_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert list(read_blocks(tmp_path / "file", 5, start=1, block_bytes=3)) == [b"234", b"5"]
    assert list(read_blocks(tmp_path / "file", 5, start=5)) == []


def test_a_file_that_grows_while_it_is_read_is_refused_at_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    blocks = read_blocks(tmp_path / "file", 5, block_bytes=2)
    assert next(blocks) == b"12"
    (tmp_path / "file").write_bytes(b"123456789")
    with pytest.raises(MalformedError) as caught:
        list(blocks)
    assert caught.value.code == "LENGTH"


def test_a_written_file_has_its_content_and_its_mode(tmp_path: Path) -> None:
    write_atomic(tmp_path / "secret", b"old")
    write_atomic(tmp_path / "secret", b"new")
    assert (tmp_path / "secret").read_bytes() == b"new"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"untouched")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    write_atomic(tmp_path / "out", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"untouched"
    assert not (tmp_path / "out").is_symlink()


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # the kernel stops the write halfway
    try:
        with pytest.raises(FileError) as caught:
            write_atomic(tmp_path / "file", b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 16
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_not_there_is_a_storage_fault(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nowhere does not exist; make it"):
        write_atomic(tmp_path / "nowhere" / "file", b"x")
