"""What a person sees when something is wrong: one sentence with the remedy, the right exit code, nothing half-made."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.crossing import source
from tests.support import cli
from tests.support.crossing import export

pytestmark = pytest.mark.journey


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


def new_request(crossing, folder: Path) -> Path:
    result = cli.target("request", "--keys", crossing.target_keys, "--out", folder / "new.request")
    assert result.code == 0, result.stderr
    return folder / "new.request"


# --- the source's audio -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corpus", "code", "words"),
    [
        ("emodb={missing}", 2, "check the path"),
        ("emodb={empty}", 13, "wav"),
        ("csv={empty}", 2, "labels.csv"),
        ("nosuchrecipe={empty}", 2, "emodb"),
        ("emodb", 2, "RECIPE=PATH"),
    ],
)
def test_a_corpus_that_is_not_there_is_refused(tmp_path, corpus, code, words):
    empty = tmp_path / "empty"
    empty.mkdir()
    text = corpus.format(missing=tmp_path / "missing", empty=empty)
    result = cli.source("train", "--corpus", text, "--out", tmp_path / "run")
    assert result.code == code, result.stderr
    assert words in result.refusal()
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("classes", "words"),
    [("anger,anxious", "'anxious' is not a known class"), ("anger", "two classes or more"), ("anger,calm", "'calm'")],
)
def test_classes_that_cannot_be_learned_are_refused(crossing, tmp_path, classes, words):
    result = cli.source(
        *("train", "--corpus", f"csv={crossing.source_labels}", "--classes", classes, "--out", tmp_path / "run")
    )
    assert result.code == 2
    assert words in result.refusal()


def test_a_corpus_of_one_class_is_refused(tmp_path):
    wav = write_wav(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000))
    (tmp_path / "labels.csv").write_text(f"file,label,speaker\n{wav.name},anger,s1\n")
    result = cli.source("train", "--corpus", f"csv={tmp_path / 'labels.csv'}", "--out", tmp_path / "run")
    assert result.code == 13
    assert "at least two" in result.refusal()


def test_utterances_of_other_classes_are_left_out_and_counted_aloud(crossing, tmp_path):
    (tmp_path / "short.yaml").write_text("epochs: 1\n")
    result = cli.source(
        *("train", "--corpus", f"csv={crossing.source_labels}", "--classes", "anger,sadness"),
        *("--config", tmp_path / "short.yaml", "--cache", crossing.work / "source.cache", "--out", tmp_path / "run"),
    )
    assert result.code == 0
    assert "left out 36 utterances of other classes (12 fear, 12 happiness, 12 neutral)" in result.stderr


def test_a_recognition_rate_is_not_claimed_where_no_speaker_could_be_held_out(crossing, tmp_path):
    rows = crossing.source_labels.read_text().splitlines()
    folder = crossing.source_labels.parent
    one_speaker = [rows[0]] + [f"{folder}/{row}" for row in rows[1:] if row.endswith("_01")]
    (tmp_path / "labels.csv").write_text("\n".join(one_speaker))
    result = cli.source(
        *("train", "--corpus", f"csv={tmp_path / 'labels.csv'}", "--format", "json"),
        *("--cache", crossing.work / "source.cache", "--out", tmp_path / "run"),
    )
    assert result.code == 0, result.stderr
    assert "not estimated" in result.stderr
    assert (result.json()["uar_source"], result.json()["num_speakers"]) == (0.0, 1)


@pytest.fixture
def gloomy(crossing, tmp_path):
    """The source's list with a word for sadness that nobody knows."""
    rows = crossing.source_labels.read_text().replace(",sadness,", ",gloom,").splitlines()
    folder = crossing.source_labels.parent
    (tmp_path / "labels.csv").write_text("\n".join([rows[0]] + [f"{folder}/{row}" for row in rows[1:]]))
    return tmp_path / "labels.csv"


def test_labels_that_are_no_emotion_are_refused_with_the_option_that_mends_it(crossing, gloomy, adapted, tmp_path):
    training = ("train", "--corpus", f"csv={gloomy}", "--cache", crossing.work / "source.cache", "--out", tmp_path)
    evaluating = ("evaluate", "--model", adapted, "--labels", gloomy)
    adapting = ("adapt", "--bundle", crossing.bundle, "--audio", gloomy, "--labels", gloomy, "--out", tmp_path / "new")
    joining = ("federate", "try", "--site", f"csv={gloomy}", "--site", f"csv={gloomy}", "--out", tmp_path / "run")
    for result in (cli.source(*training), cli.target(*evaluating), cli.target(*adapting), cli.source(*joining)):
        assert result.code == 2, result.stderr
        assert "('gloom' 12 times); say what a word counts as, such as --relabel gloom=anger" in result.refusal()


def test_a_relabeling_without_labels_to_read_is_refused(crossing, tmp_path):
    adapting = ("adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels, "--out", tmp_path / "new")
    result = cli.target(*adapting, "--relabel", "calm=neutral")
    assert result.code == 2
    assert "--relabel has no effect without --labels" in result.refusal()
    result = cli.target("evaluate", "--model", tmp_path, "--labels", crossing.target_labels, "--relabel", "gloom=blue")
    assert result.code == 2
    assert "'blue' is not a known class" in result.refusal()


def test_a_run_remembers_what_its_labels_counted_as(crossing, gloomy, tmp_path):
    (tmp_path / "short.yaml").write_text("epochs: 1\n")
    run, corpus = tmp_path / "run", ("--corpus", f"csv={gloomy}", "--cache", crossing.work / "source.cache")
    training = ("train", *corpus, "--relabel", "gloom=sadness", "--relabel", "Wut=fear", "--out", run)
    trained = cli.source(*training, "--config", tmp_path / "short.yaml")
    assert trained.code == 0
    assert "--relabel changed nothing for 'wut'" in trained.stderr
    record = json.loads((run / "training.json").read_text())
    assert record["relabel"] == {"gloom": "sadness", "wut": "fear"}
    again = ("reproduce", "--model", run, *corpus)
    assert cli.source(*again).code == 0
    assert cli.source("audit", "--model", run, *corpus, "--models", 8).code == 0
    other = cli.source(*again, "--relabel", "gloom=fear", "--relabel", "fear=sadness")
    assert other.code == 11
    assert "labels counted as gloom=sadness, wut=fear and count as fear=sadness, gloom=fear" in other.refusal()
    other = cli.source("audit", "--model", run, *corpus, "--relabel", "gloom=fear", "--relabel", "fear=sadness")
    assert other.code == 2
    assert "not the utterances that the run was trained on" in other.refusal()


def test_a_corpus_named_twice_is_refused(crossing, tmp_path):
    corpus = f"csv={crossing.source_labels}"
    result = cli.source("train", "--corpus", corpus, "--corpus", corpus, "--out", tmp_path / "run")
    assert result.code == 2
    assert "twice" in result.refusal()


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("learnin_rate: 0.1\n", "learning_rate?"),
        ("epochs: many\n", "epochs must be a whole number"),
        ("epochs: 0\n", "epochs is 0"),
        ("epochs: 1\nepochs: 2\n", "epochs"),
        ("- 1\n", "name: value"),
    ],
)
@pytest.mark.parametrize("command", ["train", "adapt"])
def test_settings_that_make_no_sense_are_refused_by_name(crossing, tmp_path, command, yaml, words):
    config = tmp_path / "settings.yaml"
    config.write_text(yaml)
    if command == "train":
        corpus = f"csv={crossing.source_labels}"
        result = cli.source("train", "--corpus", corpus, "--config", config, "--out", tmp_path / "out")
    else:
        cli.site_rules(config, yaml)
        audio = ("--audio", crossing.target_labels)
        result = cli.target("adapt", "--bundle", crossing.bundle, *audio, "--config", config, "--out", tmp_path / "out")
    assert result.code == 3
    assert words in result.refusal()
    assert files_in(tmp_path / "out") == set()


# --- the target's audio -------------------------------------------------------------------------------------------


def adapt(crossing, audio: Path, out: Path, *more: object) -> cli.Result:
    return cli.target("adapt", "--bundle", crossing.bundle, "--audio", audio, "--out", out, *more)


def test_a_missing_audio_folder_is_a_matter_of_usage(crossing, tmp_path):
    result = adapt(crossing, tmp_path / "missing", tmp_path / "out")
    assert result.code == 2
    assert "check the path" in result.refusal()


def test_an_empty_audio_folder_has_no_recording(crossing, tmp_path):
    (tmp_path / "empty").mkdir()
    result = adapt(crossing, tmp_path / "empty", tmp_path / "out")
    assert result.code == 17
    assert "no recording" in result.refusal()


def test_files_that_hold_no_sound_are_counted_by_reason(crossing, tmp_path):
    audio = tmp_path / "audio"
    write_wav(audio / "silent.wav", np.zeros(16_000))
    (audio / "empty.wav").write_bytes(b"")
    (audio / "text.wav").write_text("this is no sound")
    result = adapt(crossing, audio, tmp_path / "out")
    assert result.code == 13
    message = result.refusal()
    assert "None of the 3 utterances" in message
    assert "SILENT" in message
    assert not (tmp_path / "out" / "adapted.json").exists()


def test_one_bad_file_among_good_ones_is_skipped_with_its_reason(crossing, tmp_path):
    audio = tmp_path / "audio"
    shutil.copytree(crossing.target_labels.parent, audio)
    write_wav(audio / "silent.wav", np.zeros(16_000))
    result = adapt(crossing, audio, tmp_path / "out", "--config", cli.site_rules(tmp_path / "site.yaml", "epochs: 1"))
    assert result.code in (0, 14), result.stderr
    assert "left out 1 (SILENT), such as " in result.stderr


def test_too_few_utterances_to_adapt_are_refused_but_can_be_predicted(crossing, tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    for wav in sorted(crossing.target_labels.parent.rglob("*.wav"))[:3]:
        shutil.copy(wav, audio)
    refused = adapt(crossing, audio, tmp_path / "out")
    assert refused.code == 13
    assert "--method none" in refused.refusal()
    assert adapt(crossing, audio, tmp_path / "out", "--method", "none").code == 0


def test_a_label_column_is_not_read_and_that_is_said(crossing, tmp_path):
    rules = cli.site_rules(tmp_path / "site.yaml", "epochs: 1")
    result = adapt(
        crossing,
        crossing.target_labels,
        tmp_path / "out",
        *("--config", rules, "--cache", crossing.work / "cache" / "target"),
    )
    assert result.code in (0, 14), result.stderr
    assert "label" in next(line for line in result.stderr.splitlines() if "not read" in line)


# --- the bundle ---------------------------------------------------------------------------------------------------


def new_sealed_file(crossing, folder: Path) -> Path:
    return export(crossing.run, crossing.source_keys, crossing.target_keys, folder)[1]


def copy_of_bundle(crossing, folder: Path) -> Path:
    copy = folder / "model.ecan"
    shutil.copy(crossing.bundle, copy)
    for suffix in ("receipt", "approval"):
        shutil.copy(f"{crossing.bundle}.{suffix}", f"{copy}.{suffix}")
    return copy


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data[:-1], 12),
        (lambda data: data[:100], 12),
        (lambda data: b"", 12),
        (lambda data: data + b"\0", 12),
        (lambda data: b"PK\x03\x04" + data[4:], 12),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), 10),
    ],
    ids=["one byte short", "cut", "empty", "one byte more", "a zip", "altered"],
)
@pytest.mark.parametrize("command", ["adapt", "receive"])
def test_a_damaged_bundle_is_refused(crossing, tmp_path, command, change, code):
    bundle = copy_of_bundle(crossing, tmp_path) if command == "adapt" else new_sealed_file(crossing, tmp_path)
    bundle.write_bytes(change(bundle.read_bytes()))
    if command == "adapt":
        out = tmp_path / "out"
        result = cli.target("adapt", "--bundle", bundle, "--audio", crossing.target_labels, "--out", out)
    else:
        out = tmp_path / "received.ecan"
        result = cli.target(
            *("receive", "--keys", crossing.target_keys, "--from", bundle),
            *("--trust", crossing.fingerprint, "--out", out),
        )
    assert result.code == code, result.stderr
    result.refusal()
    assert "verified" not in result.stderr
    assert not out.exists()


def test_a_bundle_that_nobody_accepted_here_is_refused(crossing, tmp_path):
    bundle = copy_of_bundle(crossing, tmp_path)
    Path(f"{bundle}.receipt").unlink()
    result = cli.target("adapt", "--bundle", bundle, "--audio", crossing.target_labels, "--out", tmp_path / "out")
    assert result.code == 10
    assert "ecan-target receive" in result.refusal()


def test_a_bundle_of_another_source_than_the_trusted_one_is_refused(crossing, tmp_path):
    other = cli.source("keys", "init", "--out", tmp_path / "other-keys").stdout.strip()
    result = cli.target(
        *("receive", "--keys", crossing.target_keys, "--from", crossing.sealed),
        *("--trust", other, "--out", tmp_path / "received.ecan"),
    )
    assert result.code == 10
    result.refusal()
    assert files_in(tmp_path) == files_in(tmp_path) - {"received.ecan", "received.ecan.receipt"}


def test_a_bundle_for_another_site_is_refused(crossing, tmp_path):
    cli.target("request", "--keys", tmp_path / "other-keys", "--out", tmp_path / "other.request")
    result = cli.target(
        *("receive", "--keys", tmp_path / "other-keys", "--from", crossing.sealed),
        *("--trust", crossing.fingerprint, "--out", tmp_path / "received.ecan"),
    )
    assert result.code == 10
    result.refusal()
    assert not (tmp_path / "received.ecan").exists()


# --- the export ---------------------------------------------------------------------------------------------------


def test_a_port_that_is_in_use_is_a_connection_fault(crossing, tmp_path):
    request = new_request(crossing, tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        result = source(
            tmp_path,
            *("export", "--model", crossing.run, "--keys", crossing.source_keys),
            *("--request", request, "--listen", listen),
            expect=4,
        )
    assert "choose another port" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("listen", ["127.0.0.1", "nowhere:port", ":0:0"])
def test_an_address_that_is_none_is_a_matter_of_usage(crossing, tmp_path, listen):
    request = new_request(crossing, tmp_path)
    result = cli.source(
        *("export", "--model", crossing.run, "--keys", crossing.source_keys, "--request", request, "--listen", listen)
    )
    assert result.code in (2, 4)
    result.refusal()


def test_a_request_that_was_altered_is_refused(crossing, tmp_path):
    request = new_request(crossing, tmp_path)
    data = bytearray(request.read_bytes())
    data[len(data) // 2] ^= 1
    request.write_bytes(data)
    result = cli.source(
        *("export", "--model", crossing.run, "--keys", crossing.source_keys),
        *("--request", request, "--file", tmp_path / "model.ecan"),
    )
    assert result.code in (10, 12)
    result.refusal()
    assert not (tmp_path / "model.ecan").exists()


def test_keys_that_exist_are_never_overwritten(crossing):
    before = (crossing.source_keys / "identity.pem").read_bytes()
    result = cli.source("keys", "init", "--out", crossing.source_keys)
    assert result.code == 3
    result.refusal()
    assert (crossing.source_keys / "identity.pem").read_bytes() == before


def test_a_key_file_that_others_can_read_is_refused(crossing, tmp_path):
    keys = tmp_path / "keys"
    shutil.copytree(crossing.source_keys, keys)
    for path in keys.glob("*.key"):
        path.chmod(0o644)
    request = new_request(crossing, tmp_path)
    result = cli.source(
        *("export", "--model", crossing.run, "--keys", keys, "--request", request),
        *("--file", tmp_path / "model.ecan"),
    )
    assert result.code == 3
    assert "600" in result.refusal()


def test_a_run_that_did_not_finish_cannot_be_exported(crossing, tmp_path):
    (tmp_path / "run").mkdir()
    request = new_request(crossing, tmp_path)
    result = cli.source(
        *("export", "--model", tmp_path / "run", "--keys", crossing.source_keys, "--request", request),
        *("--file", tmp_path / "model.ecan"),
    )
    assert result.code == 2
    assert "ecan-source train" in result.refusal()


def test_a_model_that_was_tampered_with_does_not_pass_the_gate(crossing, tmp_path):
    from safetensors.numpy import load_file, save_file

    run = tmp_path / "run"
    shutil.copytree(crossing.run, run)
    tensors = load_file(run / "weights.safetensors")
    tensors["bank.features"] = np.zeros((60, 128), np.float32)
    tensors["head.bias"] = np.full_like(tensors["head.bias"], np.nan)
    save_file(tensors, run / "weights.safetensors")
    request = new_request(crossing, tmp_path)
    result = cli.source(
        *("export", "--model", run, "--keys", crossing.source_keys, "--request", request),
        *("--file", tmp_path / "model.ecan"),
    )
    assert result.code == 11
    message = result.refusal()
    assert "bank.features" in message
    assert "head.bias" in message
    assert not (tmp_path / "model.ecan").exists()


# --- the adapted model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_folder_without_a_finished_adaptation_is_refused(crossing, tmp_path, command):
    (tmp_path / "adapted").mkdir()
    more = ("--audio", crossing.target_labels, "--out", tmp_path / "out")
    if command == "evaluate":
        more = ("--labels", crossing.target_labels)
    result = cli.target(command, "--model", tmp_path / "adapted", *more)
    assert result.code == 2
    assert "ecan-target adapt" in result.refusal()


def test_a_damaged_adaptation_is_refused(crossing, adapted, tmp_path):
    damaged = tmp_path / "adapted"
    shutil.copytree(adapted, damaged)
    (damaged / "weights.safetensors").write_bytes(b"\0" * 50)
    result = cli.target("predict", "--model", damaged, "--audio", crossing.target_labels, "--out", tmp_path / "out")
    assert result.code == 10
    assert "was changed" in result.refusal()


def test_labels_of_none_of_the_models_classes_are_refused(crossing, adapted, tmp_path):
    wav = next(crossing.target_labels.parent.rglob("*.wav"))
    labels = tmp_path / "labels.csv"
    labels.write_text(f"file,label,speaker\n{wav},calm,s1\n")
    result = cli.target("evaluate", "--model", adapted, "--labels", labels)
    assert result.code == 13
    assert "it knows" in result.refusal()
