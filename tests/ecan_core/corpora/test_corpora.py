from pathlib import Path

import pytest

from ecan_core.corpora import RECIPES, read_corpus
from ecan_core.data.labeled import unused
from ecan_core.errors import AudioError, UsageError
from ecan_core.utterance import Utterance

REAL_CORPORA = Path(__file__).parents[4] / "shared/corpora"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def write_list(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_the_recipes_are_those_of_the_command_line() -> None:
    names = "emodb emovo enterface casia ravdess cremad nemo savee tess urdu turev csv"
    assert sorted(RECIPES) == sorted(names.split())


def test_a_corpus_folder_becomes_utterances_with_labels_and_prefixed_speakers(tmp_path: Path) -> None:
    touch(tmp_path, "wav/03a01Fa.wav", "wav/16b10Wb.flac")
    corpus = read_corpus("emodb", tmp_path)
    assert corpus.name == "emodb"
    assert [labeled.label for labeled in corpus.utterances] == ["happiness", "anger"]
    assert corpus.without_labels() == (
        Utterance(id="wav/03a01Fa.wav", path=tmp_path / "wav/03a01Fa.wav", speaker="emodb_03"),
        Utterance(id="wav/16b10Wb.flac", path=tmp_path / "wav/16b10Wb.flac", speaker="emodb_16"),
    )


def test_files_that_do_not_fit_and_second_copies_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a/03a01Fa.wav", "b/03a01Fa.wav", "a/03a01Fa.flac", "a/noise.wav", "a/readme.txt")
    corpus = read_corpus("emodb", tmp_path)
    assert [labeled.utterance.id for labeled in corpus.utterances] == ["a/03a01Fa.flac"]
    assert corpus.left_out == {"file name does not fit the layout": 1, "second copy of a recording": 2}


def test_an_unknown_recipe_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no corpus recipe 'ravdes'; did you mean 'ravdess'\?"):
        read_corpus("ravdes", tmp_path)
    with pytest.raises(UsageError, match="the recipes are casia, cremad"):
        read_corpus("1234", tmp_path)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_missing_path_is_wrong_usage(tmp_path: Path, recipe: str) -> None:
    with pytest.raises(UsageError, match="check the path") as caught:
        read_corpus(recipe, tmp_path / "absent")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"csv"}))
@pytest.mark.parametrize("names", [(), ("noise.wav", "other/1.flac")])
def test_a_folder_where_nothing_fits_is_refused_with_the_layout(
    tmp_path: Path, recipe: str, names: tuple[str, ...]
) -> None:
    with pytest.raises(AudioError, match=f"named as in the {recipe} corpus; it should hold files such as") as caught:
        read_corpus(recipe, touch(tmp_path, *names))
    assert caught.value.exit_code == 13
    assert "noise" not in str(caught.value)


def test_a_corpus_of_videos_is_refused_with_the_remedy(tmp_path: Path) -> None:
    touch(tmp_path, "subject 1/anger/sentence 1/s1_an_1.avi")
    with pytest.raises(AudioError, match=r"as video; extract the sound of each file to a \.wav"):
        read_corpus("enterface", tmp_path)


def test_sound_beside_the_videos_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "subject 1/anger/sentence 1/s1_an_1.avi", "subject 1/anger/sentence 1/s1_an_1.wav")
    assert len(read_corpus("enterface", tmp_path).utterances) == 1


@pytest.mark.parametrize(
    "header",
    ["file,label,speaker", "path,label,speaker", "speaker,label,path", "language,file,label,speaker"],
)
def test_a_list_of_any_column_order_becomes_a_corpus(tmp_path: Path, header: str) -> None:
    cells = {"file": "x/a.wav", "path": "x/a.wav", "label": "Happy", "speaker": "ann", "language": "de"}
    path = write_list(tmp_path / "ward.csv", header, ",".join(cells[name] for name in header.split(",")))
    (labeled,) = read_corpus("csv", path).utterances
    assert labeled.label == "happiness"
    assert labeled.utterance == Utterance(id="x/a.wav", path=tmp_path / "x/a.wav", speaker="ward_ann")


def test_a_folder_stands_for_its_list_and_gives_the_corpus_its_name(tmp_path: Path) -> None:
    write_list(tmp_path / "ward/labels.csv", "file,label,speaker", "a.wav,fear,ward_1", "b.wav,anger,2")
    corpus = read_corpus("csv", tmp_path / "ward")
    assert corpus == read_corpus("csv", tmp_path / "ward/labels.csv")
    assert corpus.name == "ward"
    assert [utterance.speaker for utterance in corpus.without_labels()] == ["ward_1", "ward_2"]


def test_a_list_may_name_parts_of_a_file_and_no_speaker(tmp_path: Path) -> None:
    path = write_list(tmp_path / "l.csv", "file,label,start,end,channel", "a.wav,fear,0.5,2,1", "a.wav,fear,2,3,1")
    first, second = read_corpus("csv", path).without_labels()
    assert (first.start_s, first.end_s, first.channel, first.speaker) == (0.5, 2.0, 1, None)
    assert second.start_s == 2.0


def test_a_list_of_json_lines_becomes_a_corpus(tmp_path: Path) -> None:
    path = write_list(tmp_path / "l.jsonl", '{"file": "a.wav", "label": "fear"}')
    assert read_corpus("csv", path).labels == ("fear",)


def test_labels_that_are_no_emotion_are_refused_by_name_with_the_remedy(tmp_path: Path) -> None:
    path = write_list(tmp_path / "l.csv", "file,label", "a.wav,fear", "b.wav,so la la", "c.wav,so la la", "d.wav,xxx")
    with pytest.raises(UsageError) as caught:
        read_corpus("csv", path)
    assert str(caught.value) == (
        f"{path}, line 3: a label is no emotion that is known here ('so la la' 2 times, 'xxx' once); say "
        "what a word counts as, such as --relabel 'so la la=anger', or leave out the row."
    )


@pytest.mark.parametrize(("word", "meant"), [("hapiness", "happiness"), ("Traurg", "sadness")])
def test_a_misspelled_label_is_refused_with_what_it_may_mean(tmp_path: Path, word: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"--relabel {word}={meant}"):
        read_corpus("csv", write_list(tmp_path / "l.csv", "file,label", f"a.wav,{word}"))


def test_a_refusal_names_some_unknown_labels_and_counts_the_others(tmp_path: Path) -> None:
    path = write_list(tmp_path / "l.csv", "file,label", *(f"{place}.wav,{'x' * 99}{place}" for place in range(20)))
    with pytest.raises(UsageError, match=", and 12 more") as caught:
        read_corpus("csv", path)
    assert len(str(caught.value)) < 1000


def test_labels_in_other_languages_are_known(tmp_path: Path) -> None:
    words = {"Ärger": "anger", "Angst": "fear", "Trauer": "sadness", "neutral": "neutral", "Freude": "happiness"}
    lines = [f"{place}.wav;{word}" for place, word in enumerate(words)]
    corpus = read_corpus("csv", write_list(tmp_path / "l.csv", "file;label", *lines))
    assert [item.label for item in corpus.utterances] == list(words.values())


@pytest.mark.parametrize("recipe", ["csv", "emodb"])
def test_labels_count_as_what_a_relabeling_says(tmp_path: Path, recipe: str) -> None:
    touch(tmp_path, "03a01Fa.wav", "03a01Wa.wav")
    write_list(tmp_path / "labels.csv", "file,label", "03a01Fa.wav,happy", "03a01Wa.wav,Wut")
    corpus = read_corpus(recipe, tmp_path, {"happiness": "excitement"})
    assert [item.label for item in corpus.utterances] == ["excitement", "anger"]


@pytest.mark.parametrize("recipe", ["csv", "emodb"])
def test_a_relabeling_that_changes_nothing_is_named(tmp_path: Path, recipe: str) -> None:
    touch(tmp_path, "03a01Fa.wav")
    write_list(tmp_path / "labels.csv", "file,label", "03a01Fa.wav,happiness")
    corpus = read_corpus(recipe, tmp_path, {"happiness": "excitement", "clam": "neutral"})
    assert unused({"happiness": "excitement"}, [corpus]) is None
    assert unused({"happiness": "excitement", "clam": "neutral"}, [corpus]) == (
        "--relabel changed nothing for 'clam': no row or file has such a label"
    )


def test_an_unknown_label_is_read_once_a_relabeling_names_it(tmp_path: Path) -> None:
    path = write_list(tmp_path / "l.csv", "file,label", "a.wav,Gereizt", "b.wav,fear")
    assert read_corpus("csv", path, {"gereizt": "anger"}).labels == ("anger", "fear")


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (["file,label", "a.wav,"], UsageError, "line 2 has no label"),
        (["file,speaker", "a.wav,ann"], UsageError, "line 2 has no label"),
        (["label,speaker", "anger,ann"], UsageError, "no column `file` or `path`"),
        (["file;label,x", "a.wav;anger,x", "b.wav;fear,x"], UsageError, "by commas and by semicolons"),
        (["file,label", "a.wav,fear", "a.wav,anger"], UsageError, "line 3 repeats an earlier line"),
        (["file,label", "a.wav,xxx"], UsageError, "no emotion that is known here"),
        (["file,label"], AudioError, "lists no utterance"),
    ],
)
def test_a_list_without_clear_labels_is_refused(
    tmp_path: Path, lines: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_corpus("csv", write_list(tmp_path / "l.csv", *lines))


def test_a_folder_without_a_list_and_a_file_that_is_none_are_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no list at .*labels\.csv"):
        read_corpus("csv", tmp_path)
    with pytest.raises(UsageError, match=r"a\.wav is not a list; name a \.csv"):
        read_corpus("csv", touch(tmp_path, "a.wav") / "a.wav")


@pytest.mark.corpus
@pytest.mark.parametrize(("recipe", "size"), [("emodb", 498), ("ravdess", 1440), ("nemo", 2255)])
def test_a_real_corpus_reads_the_same_by_its_layout_and_by_its_list(recipe: str, size: int) -> None:
    if not (REAL_CORPORA / recipe).is_dir():
        pytest.skip("the real corpora are not beside the project (../shared/corpora)")
    by_layout, by_list = read_corpus(recipe, REAL_CORPORA / recipe), read_corpus("csv", REAL_CORPORA / recipe)
    assert len(by_layout.utterances) == size
    assert set(by_layout.utterances) == set(by_list.utterances)
    assert by_layout.left_out == by_list.left_out == {}
