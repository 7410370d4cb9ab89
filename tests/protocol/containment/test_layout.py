"""What must not lie where a contained process may read or write."""

import os
from pathlib import Path

import pytest

from protocol.containment.layout import out_of_reach
from protocol.errors import ContainmentError


@pytest.fixture
def place(tmp_path) -> Path:
    """Recordings, a list of them, keys and an output folder, side by side."""
    for name in ("calls/deep", "keys", "out"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("calls/a.wav", "calls/deep/b.wav", "list.csv", "keys/my.key", "rules"):
        (tmp_path / name).write_bytes(b"some")
    return tmp_path


def found(place: Path, *readable: str, own=("rules",), writable=("out",)) -> set[str]:
    private = out_of_reach(
        [place / name for name in own],
        lambda name: name.endswith(".key"),
        readable=[place / name for name in readable],
        writable=[place / name for name in writable],
    )
    return {str(path.relative_to(place)) for path in private}


def test_what_lies_beside_a_file_is_listed_and_need_not_move(place):
    assert found(place, "list.csv", "calls/a.wav") == {"rules", "keys/my.key"}


def test_what_is_not_there_is_neither_private_nor_in_the_way(place):
    assert found(place, "calls", "none", own=("rules", "none"), writable=("out", "new")) == {"rules"}


@pytest.mark.parametrize("readable", [".", "keys", "keys/my.key", "rules"])
def test_what_is_private_is_refused_within_reach_of_reading(place, readable):
    with pytest.raises(ContainmentError, match=r"could read .*; keep keys and rules in a folder") as caught:
        found(place, readable)
    assert caught.value.exit_code == 15


def test_what_is_private_is_refused_within_reach_of_writing(place):
    with pytest.raises(ContainmentError, match=r"could change .*my.key, because it may change .*keys;"):
        found(place, "calls", writable=("out", "keys"))


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_another_name_of_a_private_file_is_that_file(place, link):
    link(place / "rules", place / "calls" / "c.wav")
    with pytest.raises(ContainmentError, match=r"could read .*rules"):
        found(place, "calls/c.wav")


def test_a_link_to_the_folder_of_what_is_private_is_that_folder(place):
    (place / "other").symlink_to(place / "keys")
    with pytest.raises(ContainmentError, match=r"could read .*my\.key"):
        found(place, "other", own=("keys",))


def test_a_key_deep_among_recordings_is_found(place):
    (place / "calls" / "deep" / "x.key").touch()
    with pytest.raises(ContainmentError, match=r"deep/x\.key"):
        found(place, "calls")
