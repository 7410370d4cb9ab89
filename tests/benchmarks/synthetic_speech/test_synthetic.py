import csv
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.synthetic_speech.scenes import EFFECTS, SCENES, SPREAD
from benchmarks.synthetic_speech.synthetic import write_corpus
from ecan_core.audio.prosody import track_prosody
from ecan_core.corpora import read_corpus
from ecan_core.labels import EMOTIONS


@pytest.fixture(scope="module")
def harbor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "harbor"
    write_corpus("harbor", folder, num_speakers=2, num_per_emotion=6, seed=0)
    return folder


def listed(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))


def sounds(folder: Path, label: str) -> list[np.ndarray]:
    return [soundfile.read(folder / row["file"])[0] for row in listed(folder) if row["label"] == label]


def digest(folder: Path) -> str:
    files = sorted(folder.rglob("*.*"))
    return sha256(b"".join(file.name.encode() + file.read_bytes() for file in files)).hexdigest()


def test_a_corpus_is_as_many_16_bit_files_as_its_list_says(harbor: Path) -> None:
    corpus = read_corpus("csv", harbor)
    assert corpus.labels == tuple(sorted(EFFECTS))
    assert len(corpus.utterances) == len(list(harbor.rglob("*.wav"))) == 2 * 6 * len(EFFECTS)
    assert {utterance.speaker for utterance in corpus.without_labels()} == {"harbor_01", "harbor_02"}
    for utterance in corpus.without_labels():
        info = soundfile.info(utterance.path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert 0.8 < info.duration < 8


def test_file_names_do_not_tell_the_label(harbor: Path) -> None:
    rows = listed(harbor)
    assert not any(emotion in row["file"] for row in rows for emotion in EMOTIONS)
    labels = [row["label"] for row in rows if row["speaker"] == "harbor_01"]
    assert labels != sorted(labels)


def test_equal_arguments_give_equal_files_and_others_do_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_corpus("valley", tmp_path / name, num_speakers=1, num_per_emotion=1, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_a_speaker_does_not_change_when_others_join(tmp_path: Path) -> None:
    for name, num_speakers in (("one", 1), ("two", 2)):
        write_corpus("harbor", tmp_path / name, num_speakers=num_speakers, num_per_emotion=1, seed=0)
    assert digest(tmp_path / "one/harbor_01") == digest(tmp_path / "two/harbor_01")


def test_nothing_is_clipped_and_nothing_is_silent(harbor: Path) -> None:
    for label in EFFECTS:
        for samples in sounds(harbor, label):
            assert np.abs(samples).max() < 0.999
            assert samples.std() > 1e-3


def test_sadness_is_slower_lower_and_flatter_than_happiness(harbor: Path) -> None:
    def measure(label: str) -> tuple[float, float, float]:
        tracks = [track_prosody(samples.astype(np.float32)).f0_hz for samples in sounds(harbor, label)]
        semitones = [12 * np.log2(f0[f0 > 0]) for f0 in tracks]
        length = np.mean([len(f0) for f0 in tracks])
        return (
            float(length),
            float(np.mean([s.mean() for s in semitones])),
            float(np.mean([s.std() for s in semitones])),
        )

    sad, happy = measure("sadness"), measure("happiness")
    assert sad[0] > 1.1 * happy[0]
    assert sad[1] < happy[1] - 2
    assert sad[2] < happy[2]


def test_the_pitch_that_is_heard_is_the_pitch_of_the_scene(harbor: Path) -> None:
    tracks = [track_prosody(samples.astype(np.float32)).f0_hz for samples in sounds(harbor, "neutral")]
    medians = [float(np.median(f0[f0 > 0])) for f0 in tracks]
    low_hz, high_hz = SCENES["harbor"].pitch_hz
    assert 0.7 * low_hz < min(medians) < max(medians) < 1.4 * high_hz


def test_the_other_corpus_comes_over_a_telephone(harbor: Path, tmp_path: Path) -> None:
    write_corpus("valley", tmp_path, num_speakers=2, num_per_emotion=1, seed=0)

    def treble_db(folder: Path) -> float:
        powers = [np.abs(np.fft.rfft(samples, 16000)) ** 2 for samples in sounds(folder, "anger")]
        return float(np.mean([10 * np.log10(p[5000:7000].sum() / p[500:3000].sum()) for p in powers]))

    assert treble_db(tmp_path) < treble_db(harbor) - 15


@pytest.mark.parametrize("label", [label for label in EFFECTS if label != "neutral"])
def test_every_emotion_is_told_from_neutral_by_several_cues(label: str) -> None:
    assert int((np.abs(EFFECTS[label]) > 2 * np.array(SPREAD)).sum()) >= 4


def test_the_command_writes_a_corpus_quickly(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "benchmarks.synthetic_speech.synthetic", "--name", "valley"]
    start = time.perf_counter()
    result = subprocess.run(
        [*command, "--out", str(tmp_path / "new/valley"), "--speakers", "2", "--utterances-per-emotion", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert len(listed(tmp_path / "new/valley")) == 30
    assert time.perf_counter() - start < 20


def test_the_command_refuses_an_unknown_corpus_in_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.synthetic_speech.synthetic",
        "--name",
        "desert",
        "--out",
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: Invalid value for '--name': 'desert' is not one of")
