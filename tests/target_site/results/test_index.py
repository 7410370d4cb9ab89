import sqlite3

import pytest

from ecan_core.errors import StorageError
from target_site.results.index import INDEX, Index
from tests.support.days import CLASSES, a_call

DAY = 20_000
WORDS = {"model_sha256": "ab" * 32, "classes": CLASSES, "touched": (), "ended_at": 7}


def note(folder, day, *calls, **changes):
    with Index(folder) as index:
        index.note(day, calls, **{**WORDS, "facts": {"drift": None}, **changes})


def test_without_an_index_nothing_is_known_and_none_is_made(tmp_path):
    with Index(tmp_path, is_read_only=True) as index:
        assert (index.known(["00" * 16]), index.days(), index.ended_at) == ({}, [], 0)
    assert list(tmp_path.iterdir()) == []


def test_what_was_noted_is_known(tmp_path):
    call = a_call("/calls/a.wav", is_lost=True)
    gone = a_call("/calls/b.wav", size_bytes=None, mtime_ns=None, sha256=None)
    note(tmp_path, DAY, call, gone)
    with Index(tmp_path, is_read_only=True) as index:
        known = index.known([call.place, gone.place, "00" * 16])
    assert known[call.place] == (DAY, call.size_bytes, call.mtime_ns, call.sha256, call.listed, True)
    assert known[gone.place] == (DAY, None, None, None, gone.listed, False)
    assert len(known) == 2


def test_more_recordings_than_fit_into_one_question_are_looked_up(tmp_path):
    calls = [a_call(f"/calls/{number}.wav") for number in range(1203)]
    note(tmp_path, DAY, *calls)
    with Index(tmp_path, is_read_only=True) as index:
        assert len(index.known([call.place for call in calls])) == 1203
        assert len(index.places_of(DAY)) == 1203


def test_it_holds_no_name(tmp_path):
    note(tmp_path, DAY, a_call("/calls/Erika.wav"))
    assert b"Erika" not in (tmp_path / INDEX).read_bytes()


def test_what_fails_half_way_has_never_been(tmp_path):
    note(tmp_path, DAY, a_call("/calls/a.wav"))
    with Index(tmp_path) as index, pytest.raises(ValueError, match="fromhex"):
        index.note(DAY + 1, [a_call("/calls/b.wav"), a_call("/calls/c.wav", listed="no digest")], **WORDS, facts={})
    with Index(tmp_path) as index:
        assert (index.days(), len(index.places_of(DAY + 1))) == ([DAY], 0)


def test_it_grows_by_little_with_each_recording(tmp_path):
    note(tmp_path, DAY, *(a_call(f"/calls/{number}.wav") for number in range(2000)))
    assert (tmp_path / INDEX).stat().st_size < 2000 * 250


@pytest.mark.parametrize("is_read_only", [True, False])
@pytest.mark.parametrize("kind", ["text", "foreign"])
def test_another_file_in_its_place_is_refused(tmp_path, kind, is_read_only):
    if kind == "text":
        (tmp_path / INDEX).write_text("no index at all, but long enough to be read" * 10)
    else:
        with sqlite3.connect(tmp_path / INDEX) as connection:
            connection.execute("CREATE TABLE notes (text)")
        connection.close()
    before = (tmp_path / INDEX).read_bytes()
    with pytest.raises(StorageError, match="predict into a new folder"):
        Index(tmp_path, is_read_only=is_read_only)
    assert (tmp_path / INDEX).read_bytes() == before
