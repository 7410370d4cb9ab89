"""Who is kept out of a listing without being named in what is kept."""

from pathlib import Path

import pytest

from ecan_core.data.forgotten import NOBODY, Forgotten, leave_out
from ecan_core.errors import AudioError
from ecan_core.utterance import Utterance


@pytest.fixture
def recording(tmp_path):
    def write(name: str, content: str, **facts: object) -> Utterance:
        (tmp_path / name).write_text(content)
        return Utterance(id=f"{name} {facts}", path=tmp_path / name, **facts)

    return write


def forgot(*speakers: str, files: tuple[Path, ...] = ()) -> Forgotten:
    return Forgotten.begin().named(speakers, files)


def test_a_speaker_and_a_file_are_left_out_and_counted(recording):
    listed = [recording("a", "1", speaker="ann"), recording("b", "2", speaker="bob"), recording("c", "3")]
    assert leave_out(listed, forgot("ann")).kept == tuple(listed[1:])
    kept, num_left_out, _ = leave_out(listed, forgot("ann", files=(listed[2].path,)))
    assert (kept, num_left_out) == ((listed[1],), 2)


def test_the_marks_hold_no_name_and_differ_from_key_to_key(recording):
    ann = recording("a", "1", speaker="ann")
    first, second = (leave_out([ann, recording("b", "2")], forgot("ann")).forgotten for _ in range(2))
    assert len(first.marks) == 3  # the name, the path, the bytes
    assert not set(first.marks) & set(second.marks)
    assert not any(name in repr(first) for name in ("ann", str(ann.path)))


def test_a_copy_under_another_name_is_known_at_once_and_later(recording):
    ann, copy, other = recording("a", "1", speaker="ann"), recording("copy", "1"), recording("b", "2")
    first = leave_out([ann, copy, other], forgot("ann"))
    assert (first.kept, first.num_left_out) == ((other,), 2)
    renamed = recording("x", "1", speaker="xavier", start_s=0.0, end_s=1.0)
    assert leave_out([renamed, other], first.forgotten).kept == (other,)


def test_in_a_call_of_several_people_only_who_has_another_name_is_heard(recording):
    ann = recording("call", "1", speaker="ann", start_s=0.0, end_s=1.0)
    bob = recording("call", "1", speaker="bob", start_s=1.0, end_s=2.0)
    first = leave_out([ann, bob], forgot("ann"))
    assert first.kept == (bob,)
    unnamed = recording("copy", "1")
    assert leave_out([unnamed, bob], first.forgotten).kept == (bob,)


def test_a_name_is_the_same_however_its_accents_are_written():
    assert forgot("Rene\N{COMBINING ACUTE ACCENT}").covers(Path("x"), "Ren\N{LATIN SMALL LETTER E WITH ACUTE}")


def test_a_file_that_cannot_be_read_is_known_by_its_path_alone(recording, tmp_path):
    gone, other = Utterance(id="gone", path=tmp_path / "gone", speaker="ann"), recording("b", "2")
    kept, num_left_out, known = leave_out([gone, other], forgot("ann"))
    assert (kept, num_left_out, len(known.marks)) == ((other,), 1, 2)


def test_nothing_is_left_out_where_nobody_was_forgotten(tmp_path):
    listed = [Utterance(id="a", path=tmp_path / "absent", speaker="ann")]
    assert leave_out(listed, NOBODY) == (tuple(listed), 0, NOBODY)


def test_a_listing_of_forgotten_recordings_alone_is_refused(recording):
    with pytest.raises(AudioError, match="Everything that is listed here was forgotten"):
        leave_out([recording("a", "1", speaker="ann")], forgot("ann"))
