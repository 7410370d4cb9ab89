"""What `forget` and `expire` remove, and what they must leave."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from ecan_core.data.cache import Extracted, FeatureCache, is_feature_cache
from ecan_core.data.forgotten import Forgotten
from ecan_core.errors import UsageError
from protocol.errors import FileError
from target_site.accountability.expire import expire
from target_site.accountability.forget import remove_features, remove_from_days
from target_site.results.days import current_segments, folder_of
from target_site.results.index import Index
from target_site.results.runs import hearing_alone
from target_site.results.shards import WHOLE, Shard, place_of_path
from tests.support.days import a_call, a_run, hand_over, predicted


def a_cache(path):
    with FeatureCache(path) as cache:
        cache.store("key", Extracted(np.zeros(3, np.float32), 1.0))
    return path


def a_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE patients (name TEXT)")
    connection.close()
    return path


def a_text(path):
    path.write_text("precious")
    return path


def a_link(path):
    path.symlink_to(a_cache(path.with_name("elsewhere")))
    return path


def a_dangling_link(path):
    path.symlink_to(path.with_name("nowhere"))
    return path


def a_folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "make", [a_text, a_database, a_link, a_dangling_link, a_folder], ids=lambda make: make.__name__
)
def test_what_is_no_feature_cache_stays(tmp_path, make):
    path = make(tmp_path / "file")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match="no feature cache"):
        remove_features(path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_feature_cache_goes_with_what_lies_beside_it(tmp_path):
    path = tmp_path / "features.cache"
    cache = FeatureCache(path)
    cache.store("key", Extracted(np.zeros(3, np.float32), 1.0))
    assert is_feature_cache(path)
    assert len(list(tmp_path.iterdir())) == 3  # as a killed process leaves it
    remove_features(path)
    assert list(tmp_path.iterdir()) == []
    cache.close()


def test_a_cache_that_was_never_begun_is_no_hindrance(tmp_path):
    remove_features(tmp_path / "none")
    (tmp_path / "empty").touch()
    remove_features(tmp_path / "empty")
    assert list(tmp_path.iterdir()) == []


DAY = 20_422
THEIRS, COPY, OTHER = "/calls/a.wav", "/calls/renamed.wav", "/calls/b.wav"


def a_person(out):
    """Days on which somebody is heard, also in a copy without their name, and one on which they are not."""
    theirs = a_call(THEIRS)
    predicted(out, a_run(DAY, theirs, a_call(OTHER), speakers={THEIRS: "Erika"}))
    predicted(out, a_run(DAY + 1, a_call(COPY, sha256=theirs.sha256)))
    predicted(out, a_run(DAY + 2, a_call("/calls/c.wav")))
    return Forgotten.begin().named(["Erika"], [])


def bytes_of(out):
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "index.sqlite"}


def test_a_person_is_taken_out_of_every_day_and_the_others_stay(tmp_path):
    person = a_person(tmp_path)
    untouched = {path: data for path, data in bytes_of(tmp_path).items() if path.parent.name == "2025-12-02"}
    remove_from_days(tmp_path, person)
    assert sorted(one.recording for one in current_segments(tmp_path)) == [OTHER, "/calls/c.wav"]
    left = bytes_of(tmp_path)
    assert untouched.items() <= left.items()
    assert not any(name.encode() in data for data in left.values() for name in ("Erika", THEIRS, COPY))
    assert not folder_of(tmp_path, DAY + 1).exists()
    with Index(tmp_path, is_read_only=True) as index:
        assert index.known([place_of_path(Path(name)) for name in (THEIRS, COPY)]) == {}
        assert index.days() == [DAY, DAY + 2]
    day = (folder_of(tmp_path, DAY) / "summary.json").read_text()
    assert (json.loads(day)["recordings"], json.loads(day)["utterances"]) == (1, 1)


def test_forgetting_once_more_changes_nothing(tmp_path):
    person = a_person(tmp_path)
    remove_from_days(tmp_path, person)
    before = bytes_of(tmp_path)
    remove_from_days(tmp_path, person)
    assert bytes_of(tmp_path) == before


def test_what_a_killed_run_has_of_a_person_goes_and_the_rest_of_it_counts(tmp_path):
    person = Forgotten.begin().named([], [Path(THEIRS)])
    hand_over(tmp_path, a_run(DAY, a_call(THEIRS), a_call(OTHER)))
    half = hand_over(tmp_path, a_run(DAY, a_call("/calls/half.wav")), Shard(number=2, count=3))
    (half / "run.json").unlink()
    remove_from_days(tmp_path, person)
    assert [one.recording for one in current_segments(tmp_path)] == [OTHER]
    assert not half.exists()


def test_a_day_that_a_killed_merge_left_goes_as_a_whole(tmp_path):
    person = a_person(tmp_path / "part")
    folder_of(tmp_path / "part", DAY).rename(tmp_path / "day")
    predicted(tmp_path / "out", a_run(DAY + 3, a_call(OTHER)))
    (tmp_path / "day").rename(folder_of(tmp_path / "out", DAY))
    remove_from_days(tmp_path / "out", person)
    assert not folder_of(tmp_path / "out", DAY).exists()
    assert folder_of(tmp_path / "out", DAY + 3).exists()


def test_a_recording_whose_day_has_expired_is_forgotten_by_its_bytes(tmp_path):
    theirs = a_call(THEIRS)
    predicted(tmp_path, a_run(DAY, theirs, a_call(OTHER)))
    expire([], [tmp_path], days=1, today=DAY + 2)
    predicted(tmp_path, a_run(DAY + 3, a_call(COPY, sha256=theirs.sha256), speakers={COPY: "Erika"}))
    remove_from_days(tmp_path, Forgotten.begin().named(["Erika"], []))
    with Index(tmp_path, is_read_only=True) as index:
        assert index.known([place_of_path(Path(name)) for name in (THEIRS, COPY, OTHER)]).keys() == {
            place_of_path(Path(OTHER))
        }


def test_a_recording_of_which_nothing_was_heard_is_forgotten_by_its_path(tmp_path):
    predicted(tmp_path, a_run(DAY, a_call(THEIRS, anger=0), a_call(OTHER)))
    remove_from_days(tmp_path, Forgotten.begin().named([], [Path(THEIRS)]))
    assert not any(THEIRS.encode() in data for data in bytes_of(tmp_path).values())


def test_nobody_is_forgotten_while_something_is_heard(tmp_path):
    person = a_person(tmp_path)
    with hearing_alone(tmp_path, WHOLE), pytest.raises(FileError, match="wait for it, then forget again"):
        remove_from_days(tmp_path, person)


def test_where_nothing_was_predicted_there_is_nobody_to_forget(tmp_path):
    remove_from_days(tmp_path, Forgotten.begin().named(["Erika"], []))
    assert list(tmp_path.iterdir()) == []
