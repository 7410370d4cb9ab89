import codecs
from pathlib import Path

import pytest

from ecan_core.data.tables import read_table
from ecan_core.errors import UsageError


def write(folder: Path, content: str | bytes, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def times(path: Path) -> list[tuple[float | None, float | None]]:
    return [(row.utterance.start_s, row.utterance.end_s) for row in read_table(path).rows]


CONTENTS = pytest.mark.parametrize(
    ("content", "name"),
    [("file,speaker\na.wav,änna\n", "l.csv"), ('{"file": "a.wav", "speaker": "änna"}\n', "l.jsonl")],
)


@CONTENTS
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_in_utf16_without_its_mark_is_told_to_be_saved_as_utf8(
    tmp_path: Path, content: str, name: str, encoding: str
) -> None:
    with pytest.raises(UsageError, match="not UTF-8 text but probably UTF-16; save the list as UTF-8"):
        read_table(write(tmp_path, content.encode(encoding), name))


@CONTENTS
@pytest.mark.parametrize(("mark", "encoding"), [(codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")])
def test_a_list_in_utf16_with_its_mark_is_read(
    tmp_path: Path, content: str, name: str, mark: bytes, encoding: str
) -> None:
    (row,) = read_table(write(tmp_path, mark + content.encode(encoding), name)).rows
    assert (row.utterance.path.name, row.utterance.speaker) == ("a.wav", "änna")


def test_a_list_that_only_begins_as_utf16_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, codecs.BOM_UTF16_LE + "file\na.wav\n".encode("utf-16-le") + b"\x00")
    with pytest.raises(UsageError, match="begins as UTF-16 text and goes on otherwise"):
        read_table(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
@pytest.mark.parametrize("end_of_line", ["\n", "\r\n"])
def test_columns_are_separated_by_commas_semicolons_or_tabs(
    tmp_path: Path, separator: str, begin: str, end_of_line: str
) -> None:
    lines = [["file", "Speaker", "start"], ["a.wav", "ann", "0.5"], ['"b,;c.wav"', "", "1"]]
    path = write(tmp_path, begin + "".join(separator.join(line) + end_of_line for line in lines))
    first, second = (row.utterance for row in read_table(path).rows)
    assert (first.path.name, first.speaker, first.start_s) == ("a.wav", "ann", 0.5)
    assert (second.path.name, second.speaker, second.start_s) == ("b,;c.wav", None, 1.0)


def test_a_list_whose_name_says_tabs_is_read(tmp_path: Path) -> None:
    assert len(read_table(write(tmp_path, "file\tspeaker\na.wav\tann\n", "list.tsv")).rows) == 1


def test_empty_columns_that_a_spreadsheet_adds_mean_nothing(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "file;speaker;;\na.wav;ann;;\n;;;\nb.wav;;;\n"))
    assert [row.utterance.path.name for row in table.rows] == ["a.wav", "b.wav"]
    assert table.ignored_columns == ()


def test_other_columns_may_hold_another_separator(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "file;arousal, valence\na.wav;0,5, 0,7\n"))
    assert (len(table.rows), table.ignored_columns) == (1, ("arousal, valence",))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("file;start;end\na.wav;0,5;1,250\nb.wav;2;3\n", [(0.5, 1.25), (2.0, 3.0)]),
        ("file;start;end\na.wav;0.5;1.250\n", [(0.5, 1.25)]),
        ("file\tstart\na.wav\t0,25\n", [(0.25, None)]),
        ('file,start,end\na.wav,"0,5","12,25"\n', [(0.5, 12.25)]),
    ],
)
def test_seconds_may_have_a_decimal_comma(
    tmp_path: Path, content: str, expected: list[tuple[float | None, float | None]]
) -> None:
    assert times(write(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label;speaker\na.wav,x;y\n", "separates its columns by commas and by semicolons; save it with one"),
        ("file;speaker\tend\na.wav;x\t1\n", "by tabs and by semicolons"),
        ("file;x,file\na.wav;x,y\n", "by commas and by semicolons"),
        ("file;start;end\na.wav;0,5;1.5\n", "line 2: the list writes seconds with decimal commas and with"),
        ("file;end\na.wav;0,5\nb.wav;2.250\n", "line 3: the list writes seconds with decimal commas and with"),
        ("file;end\na.wav;1.234,5\n", "line 2: the list writes seconds with decimal commas and with"),
        ("file;end\na.wav;1,2,3\n", "line 2 has end '1,2,3'; write seconds from 0"),
        ('file,end\na.wav,"1,250"\n', r"line 2 has end '1,250', which may also mean thousands; write .* as 1\.250"),
        ("file\tend\na.wav\t12,250\n", "may also mean thousands"),
        ("file;speaker\na.wav;ann;x\n", "more cells than columns; quote a cell that holds semicolons"),
    ],
)
def test_a_list_that_could_mean_two_things_is_refused_in_one_sentence(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_table(write(tmp_path, content))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
