"""The marks of the forgotten in a model's folder."""

from pathlib import Path

import pytest

from ecan_core.data.forgotten import NOBODY, Forgotten
from ecan_core.errors import ModelError, UsageError
from protocol.errors import RefusedError
from target_site.model.forgotten import FORGOTTEN, inherited, read_forgotten, refuse_recalling, write_forgotten


def test_what_is_written_is_read_again_and_is_the_owners_alone(tmp_path):
    forgotten = Forgotten.begin().named(["ann"], [tmp_path / "a.wav"])
    write_forgotten(tmp_path, forgotten)
    assert read_forgotten(tmp_path) == forgotten
    assert (tmp_path / FORGOTTEN).stat().st_mode & 0o077 == 0


def test_where_nobody_was_forgotten_there_is_no_file(tmp_path):
    write_forgotten(tmp_path, NOBODY)
    assert not (tmp_path / FORGOTTEN).exists()
    assert read_forgotten(tmp_path) == NOBODY


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": "00", "marks": ["aa"]}', '{"key": "zz", "marks": []}'])
def test_a_damaged_file_is_refused_and_never_taken_for_nobody(tmp_path, content):
    (tmp_path / FORGOTTEN).write_text(content)
    with pytest.raises(ModelError, match="tells who must not be heard"):
        read_forgotten(tmp_path)


def test_a_new_model_forgets_whom_the_one_before_it_has_forgotten(tmp_path: Path) -> None:
    earlier, model = tmp_path / "earlier", tmp_path / "model"
    for folder in (earlier, model):
        folder.mkdir()
    assert inherited(model, earlier) == inherited(model, None) == NOBODY
    theirs = Forgotten.begin().named(["P07"], [])
    write_forgotten(earlier, theirs)
    assert inherited(model, earlier) == theirs
    with pytest.raises(RefusedError, match="--after"):
        refuse_recalling(model, earlier)

    more = theirs.plus(theirs.named(["P08"], []).marks)
    write_forgotten(model, more)
    assert inherited(model, earlier).marks == more.marks
    refuse_recalling(model, earlier)
    with pytest.raises(RefusedError):
        refuse_recalling(earlier, model)


def test_marks_of_two_keys_cannot_be_compared(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_forgotten(tmp_path / name, Forgotten.begin().named(["P07"], []))
    with pytest.raises(UsageError, match="new --out"):
        inherited(tmp_path / "one", tmp_path / "other")
    with pytest.raises(RefusedError):
        refuse_recalling(tmp_path / "one", tmp_path / "other")
