from collections.abc import Callable
from pathlib import Path

import pytest

from ecan_core.data.unlabeled import Listing, list_utterances
from ecan_core.errors import AudioError, UsageError
from ecan_core.utterance import Utterance

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes, name: str = "list.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def ids(listing: Listing) -> list[str]:
    return [utterance.id for utterance in listing.utterances]


def test_a_folder_is_searched_to_its_depths_in_a_fixed_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.WAV", "a/2.flac", "a/1.ogg", "notes.txt", "list.csv", ".hidden.wav", ".trash/x.wav")
    listing = list_utterances(tmp_path)
    assert ids(listing) == ["b.WAV", "a/1.ogg", "a/2.flac"]
    assert listing.utterances[1] == Utterance(id="a/1.ogg", path=tmp_path / "a/1.ogg")
    assert listing.ignored_columns == ()


def test_recordings_in_unreadable_formats_are_listed_so_that_their_refusal_is_seen(tmp_path: Path) -> None:
    touch(tmp_path, "call.m4a", "film.mp4")
    assert ids(list_utterances(tmp_path)) == ["call.m4a", "film.mp4"]


def test_a_single_file_and_a_pattern_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.wav", "one/b.wav", "two/a.wav", "two/a.txt")
    assert ids(list_utterances(tmp_path / "one/a.wav")) == ["a.wav"]
    assert ids(list_utterances(tmp_path / "*/a.*")) == ["one/a.wav", "two/a.wav"]
    assert ids(list_utterances(tmp_path / "**/*.wav")) == ["one/a.wav", "one/b.wav", "two/a.wav"]


def test_a_relative_pattern_is_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "calls/a.wav")
    monkeypatch.chdir(tmp_path)
    assert list_utterances(Path("calls/*.wav")).utterances[0].path == Path("calls/a.wav")


def test_a_pattern_that_means_nothing_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a pattern"):
        list_utterances(tmp_path / "har**r" / "*.wav")


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].wav", "a1.wav")
    assert ids(list_utterances(tmp_path / "a[1].wav")) == ["a[1].wav"]


def test_a_name_that_is_not_utf8_gets_an_id_that_can_be_written(tmp_path: Path) -> None:
    touch(tmp_path, "M\udcfcller.wav")
    (utterance,) = list_utterances(tmp_path).utterances
    assert utterance.id.encode() == rb"M\udcfcller.wav"
    assert utterance.path.exists()


@pytest.mark.parametrize(("place", "error", "code"), [("absent", UsageError, 2), ("absent.csv", UsageError, 2)])
def test_a_path_that_does_not_exist_is_wrong_usage(
    tmp_path: Path, place: str, error: type[UsageError], code: int
) -> None:
    with pytest.raises(error, match="check the path") as caught:
        list_utterances(tmp_path / place)
    assert caught.value.exit_code == code


@pytest.mark.parametrize("place", [".", "*.wav", "list.csv", "list.jsonl"])
def test_a_place_without_recordings_is_no_audio(tmp_path: Path, place: str) -> None:
    touch(tmp_path, "notes.txt", "list.jsonl")
    (tmp_path / "list.csv").write_text("file,speaker\n")
    with pytest.raises(AudioError, match="no recording in") as caught:
        list_utterances(tmp_path / place)
    assert caught.value.exit_code == 17


def test_a_list_gives_each_utterance_its_speaker_channel_and_times(write: Write) -> None:
    path = write("file,speaker,channel,start,end\na.wav,ann,,,\nb.wav,,1,,\nb.wav,bob,0,2.5,4\n")
    assert list_utterances(path).utterances == (
        Utterance(id="a.wav", path=path.parent / "a.wav", speaker="ann"),
        Utterance(id="b.wav#channel=1", path=path.parent / "b.wav", channel=1),
        Utterance(
            id="b.wav#channel=0&t=2.5,4.0",
            path=path.parent / "b.wav",
            speaker="bob",
            channel=0,
            start_s=2.5,
            end_s=4.0,
        ),
    )


def test_json_lines_say_the_same_as_csv(write: Write) -> None:
    csv = write("path,speaker,channel,start,end\na.wav,ann,,,\nb.wav,7,1,2.5,4\n")
    json = write(
        '{"path": "a.wav", "speaker": "ann", "channel": null}\n\n'
        '{"path": "b.wav", "speaker": 7, "channel": 1, "start": 2.5, "end": 4.0}\n',
        "list.jsonl",
    )
    assert list_utterances(csv) == list_utterances(json)


def test_a_list_as_spreadsheets_write_it_is_read(write: Write) -> None:
    path = write('\ufeffFile , SPEAKER\r\n"a, b.wav", ann \r\n,\r\nc.wav\r\n')
    first, second = list_utterances(path).utterances
    assert (first.id, first.speaker) == ("a, b.wav", "ann")
    assert (second.id, second.speaker) == ("c.wav", None)


def test_paths_are_taken_as_given_relative_to_the_list(write: Write, tmp_path: Path) -> None:
    path = write(f"file\n../other/a.wav\n{tmp_path}/b.wav\n")
    first, second = list_utterances(path).utterances
    assert first.path == tmp_path / "../other/a.wav"
    assert second.path == tmp_path / "b.wav"


def test_a_listed_file_that_does_not_exist_is_left_for_the_decoder_to_refuse(write: Write) -> None:
    assert ids(list_utterances(write("file\nabsent.wav\n"))) == ["absent.wav"]


def test_a_label_column_is_never_read(write: Write) -> None:
    path = write(b"file,label,speaker,emotion\na.wav,SECRET-MARKER \xff\x00,ann,SECRET-MARKER\nb.wav,,,\n")
    listing = list_utterances(path)
    assert "SECRET" not in repr(listing)
    assert listing.ignored_columns == ("label", "emotion")
    assert ids(listing) == ["a.wav", "b.wav"]


def test_a_label_field_of_json_lines_is_never_read(write: Write) -> None:
    path = write(b'{"file": "a.wav", "label": "SECRET-MARKER \xff", "x": [1]}\n', "list.jsonl")
    listing = list_utterances(path)
    assert "SECRET" not in repr(listing)
    assert listing.ignored_columns == ("label", "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column `file` or `path`"),
        ("speaker,label\nann,anger\n", "no column `file` or `path`"),
        ("a.wav\nb.wav\n", "no column `file` or `path`"),
        ("file,speaker,Speaker\na.wav,x,y\n", "names a column twice"),
        ("file,path\na.wav,b.wav\n", "line 2 has both a `file` and a `path`"),
        ("file,speaker\n,ann\n", "line 2 names no file"),
        ("file,speaker\na.wav,ann,extra\n", "line 2 has more cells than columns"),
        ('file\n"a.wav\n', "is not proper CSV"),
        ('file\n"a".wav\n', "is not proper CSV"),
        ("file,channel\na.wav,left\n", "line 2 has channel 'left'; write a whole number from 0"),
        ("file,channel\na.wav,-1\n", "line 2 has channel '-1'"),
        ("file,channel\na.wav,0.5\n", r"line 2 has channel '0\.5'"),
        ("file,start\na.wav,-0.1\n", r"line 2 has start '-0\.1'; write seconds from 0"),
        ("file,start\na.wav,nan\n", "line 2 has start 'nan'"),
        ("file,end\na.wav,inf\n", "line 2 has end 'inf'"),
        ('file,end\na.wav,"1,5,5"\n', r"line 2 has end '1,5,5'; write seconds from 0, such as 1\.25"),
        ("file,start,end\na.wav,2,1.5\n", r"line 2 ends at 1\.5 s, not after its start at 2 s"),
        ("file,start,end\na.wav,2,2\n", "line 2 ends at 2 s, not after its start at 2 s"),
        ("file,end\na.wav,0\n", "line 2 ends at 0 s, not after its start at 0 s"),
        ("file\na.wav\nb.wav\na.wav\n", r"line 4 repeats an earlier line \(.*line 2\)"),
        ("file\na.wav\n./a.wav\n", "line 3 repeats an earlier line"),
        ("file,start\na.wav,1\na.wav,1.0\n", "line 3 repeats an earlier line"),
        (b"file\nM\xfcller.wav\n", "line 2 has a file that is not UTF-8 text"),
        (b"file,speaker\na.wav,\x00\n", "line 2 has a speaker that is not UTF-8 text"),
        ("file\na.wav\n".encode("utf-16-le"), "is not UTF-8 text"),
        ("file\n" + "x" * 200_000, "field larger than field limit"),
    ],
)
def test_a_list_without_clear_meaning_is_refused_by_its_line(write: Write, content: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        list_utterances(write(content))
    assert "list.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]\n", "line 1 is not a JSON object"),
        ('{"file": "a.wav"\n', "line 1 is not a JSON object"),
        ("[" * 100_000, "line 1 is not a JSON object"),
        ('{"file": "a.wav"}\nx\n', "line 2 is not a JSON object"),
        ('{"speaker": "ann"}\n', "line 1 names no file"),
        ('{"file": ["a.wav"]}\n', "line 1 has a file that is neither text nor a number"),
        ('{"file": "a.wav", "channel": true}\n', "line 1 has a channel that is neither text nor a number"),
        ('{"file": "a.wav", "start": NaN}\n', "line 1 has start 'nan'"),
        ('{"file": "a.wav", "channel": 1.0}\n', r"line 1 has channel '1\.0'"),
    ],
)
def test_json_lines_without_clear_meaning_are_refused_by_their_line(write: Write, content: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list_utterances(write(content, "list.jsonl"))
