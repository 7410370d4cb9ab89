"""The marks of the forgotten in a model's folder."""

import pytest

from ecan_core.data.forgotten import NOBODY, Forgotten
from ecan_core.errors import ModelError
from target_site.model.forgotten import FORGOTTEN, read_forgotten, write_forgotten


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
