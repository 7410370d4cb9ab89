from pathlib import Path

import pytest

from ecan_core.errors import UsageError
from target_site.results.shards import Shard, parse_shard, place_of_path


@pytest.mark.parametrize(("text", "shard"), [("1/1", Shard()), ("3/8", Shard(number=3, count=8))])
def test_a_share_is_read(text, shard):
    assert parse_shard(text) == shard


@pytest.mark.parametrize(
    "text", ["", "3", "0/8", "9/8", "-1/8", "1/0", "a/b", "1/8/2", "1/1000000", "1.5/8", "9" * 5000 + "/1"]
)
def test_what_is_no_share_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="write 1/8 to 8/8"):
        parse_shard(text)


def test_the_place_of_a_recording_does_not_depend_on_how_it_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert place_of_path(Path("calls/../a.wav")) == place_of_path(tmp_path / "a.wav")
    assert place_of_path(Path("a.wav")) != place_of_path(Path("b.wav"))


def test_a_name_that_is_not_utf_8_has_a_place():
    assert len(place_of_path(Path("/calls/\udcff.wav"))) == 32
