"""Which recordings have to be heard: those that are new or changed, of one's own share."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ecan_core.utterance import Utterance
from target_site.results.index import Index
from target_site.results.shards import WHOLE, Shard
from target_site.tasks.choose import TRIED_AGAIN_DAYS, choose
from tests.support.days import a_call

DAY = 20_000


@pytest.fixture
def calls(tmp_path) -> Path:
    for name in "abc":
        (tmp_path / f"{name}.wav").write_bytes(name.encode() * 10)
    return tmp_path


def listed(calls: Path, names: str = "abc", **more) -> list[Utterance]:
    return [Utterance(id=name, path=calls / f"{name}.wav", **more) for name in names]


def chosen(calls: Path, utterances, day: int = DAY, shard: Shard = WHOLE):
    with Index(calls, is_read_only=True) as index:
        return choose(utterances, shard, index, day)


def names_of(choice) -> str:
    return "".join(found.path.stem for found in choice.heard)


def note(calls: Path, choice, day: int = DAY, **changes) -> None:
    """Note what was chosen as heard."""
    facts = ("place", "size_bytes", "mtime_ns", "sha256", "listed")
    heard = [a_call(str(one.path), **{name: getattr(one, name) for name in facts} | changes) for one in choice.heard]
    with Index(calls) as index:
        words = {"model_sha256": "ab" * 32, "classes": ("anger", "joy"), "facts": None, "ended_at": 1}
        index.note(day, heard, touched=choice.touched, **words)


def test_what_was_never_heard_is_new_and_what_was_is_not(calls):
    first = chosen(calls, listed(calls, "ab"))
    assert (names_of(first), first.num_known) == ("ab", 0)
    note(calls, first)
    second = chosen(calls, listed(calls))
    assert (names_of(second), second.num_known) == ("c", 2)


def test_other_bytes_are_heard_again_and_the_same_bytes_are_not(calls):
    note(calls, chosen(calls, listed(calls)))
    (calls / "a.wav").write_bytes(b"other")
    os.utime(calls / "b.wav", (5, 5))
    again = chosen(calls, listed(calls), DAY + 1)
    assert (names_of(again), again.num_known) == ("a", 2)
    assert again.heard[0].supersedes(DAY + 1) == "2024-10-04"
    assert again.heard[0].supersedes(DAY) is None
    assert [(one.size_bytes, one.mtime_ns) for one in again.touched] == [(10, 5_000_000_000)]
    note(calls, again, DAY + 1)
    assert chosen(calls, listed(calls)).touched == ()


@pytest.mark.parametrize("change", [{"speaker": "ann"}, {"channel": 1}, {"start_s": 0.5}, {"end_s": 1.0}])
def test_a_list_that_says_something_else_has_its_recordings_heard_again(calls, change):
    note(calls, chosen(calls, listed(calls)))
    assert names_of(chosen(calls, [*listed(calls, "a", **change), *listed(calls, "bc")])) == "a"


def test_a_recording_by_two_names_is_one(calls):
    other = Utterance(id="again", path=calls / "." / ".." / calls.name / "a.wav", start_s=1.0)
    (found,) = chosen(calls, [*listed(calls, "a"), other]).heard
    assert [one.path for one in found.utterances] == [calls / "a.wav"] * 2


def test_a_relative_path_is_the_same_recording(calls, monkeypatch):
    note(calls, chosen(calls, listed(calls)))
    monkeypatch.chdir(calls)
    assert names_of(chosen(calls, listed(Path()))) == ""


@pytest.mark.parametrize(("days", "is_heard"), [(1, True), (TRIED_AGAIN_DAYS, True), (TRIED_AGAIN_DAYS + 1, False)])
def test_what_was_lost_is_tried_again_for_some_days(calls, days, is_heard):
    note(calls, chosen(calls, listed(calls, "a")), is_lost=True)
    note(calls, chosen(calls, listed(calls, "b")))
    choice = chosen(calls, listed(calls, "ab"), DAY + days)
    assert names_of(choice) == "a" * is_heard
    assert [found.is_tried_again(DAY + days) for found in choice.heard] == [True] * is_heard


def test_a_missing_file_is_lost_once_and_heard_when_it_is_there(calls):
    gone = [Utterance(id="d", path=calls / "d.wav")]
    note(calls, chosen(calls, gone), is_lost=True)
    assert names_of(chosen(calls, gone, DAY + TRIED_AGAIN_DAYS + 1)) == ""
    (calls / "d.wav").write_bytes(b"there")
    (found,) = chosen(calls, gone, DAY + TRIED_AGAIN_DAYS + 1).heard
    assert not found.is_tried_again(DAY + 1)


def test_shards_hold_every_recording_once_whatever_else_is_listed(calls):
    many = [Utterance(id=f"{number}", path=calls / f"{number}.wav") for number in range(200)]
    shares = [chosen(calls, many, shard=Shard(number=number, count=8)).heard for number in range(1, 9)]
    assert sorted(one.place for share in shares for one in share) == sorted(
        one.place for one in chosen(calls, many).heard
    )
    assert min(map(len, shares)) > 10
    fewer = chosen(calls, many[:50], shard=Shard(number=3, count=8)).heard
    assert {one.place for one in fewer} <= {one.place for one in shares[2]}


def test_the_digest_of_the_list_counts_also_who_is_left_out(calls):
    (found,) = chosen(calls, [*listed(calls, "a", speaker="ann"), *listed(calls, "a", speaker="bob")]).heard
    kept = replace(found, utterances=found.utterances[:1])
    assert kept.listed == found.listed
