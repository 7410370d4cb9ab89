"""Hostile encoder files against the real `encoder add` and `encoder fetch` of both sites.

An encoder is the only foreign file beside a bundle that a site computes with. After every row nothing is kept.
"""

import io
import json
import os
import pickle  # noqa: TID251
import shutil
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from ecan_core.encoders import whisper
from protocol.encoders.add import MAX_FOLDER_BYTES
from protocol.encoders.package import MAX_WHEEL_BYTES
from protocol.encoders.registry import WHISPER, AddedEncoder
from protocol.encoders.store import place_of
from tests.hostile import command_line
from tests.hostile.command_line import check_refused
from tests.protocol.encoders.files import archive, model_bin, whisper_tensors
from tests.support import processes
from tests.support.selfsupervised import usable_encoder

processes.preload("ecan_core.encoders.checks", "ecan_core.encoders.selfsupervised.folder", "safetensors.torch", "torch")

PROGRAMS = ("ecan-source", "ecan-target")
MARKER = "attackers-own-words"
SLACK_BYTES = 2**28
"""What torch takes when it is first used, beside the input."""


class Runs:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (MARKER,)


def pickled():
    return pickle.dumps({MARKER: Runs()}, 2)


def state_archive():
    return archive({"archive/data.pkl": pickled(), "archive/version": b"3"})


def bomb():
    """A wheel that is small on the disk and has a member of a gigabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file, file.open(WHISPER.package.member, "w") as member:
        for _ in range(64):
            member.write(bytes(2**24))
    return buffer.getvalue()


FILES = {
    "empty": lambda: b"",
    "wrong": lambda: model_bin(whisper_tensors()),
    "pickled": pickled,
    "pickled in an archive": state_archive,
    "bomb": bomb,
    "safetensors of another": lambda: save({MARKER: np.zeros(3, "<f4")}),
    "wheel of another": lambda: archive({WHISPER.package.member: model_bin(whisper_tensors())}),
}


def run(program, tmp_path, *words, **more):
    folder = tmp_path / "here"
    folder.mkdir(exist_ok=True)
    return command_line.run(program, "encoder", *words, "--encoders", tmp_path / "encoders", folder=folder, **more)


def nothing_is_kept(tmp_path):
    encoders = tmp_path / "encoders"
    return (not encoders.exists() or list(encoders.iterdir()) == []) and not (tmp_path / "here" / MARKER).exists()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", FILES)
def test_row_a_file_that_is_no_known_encoder_is_refused_before_it_is_parsed(program, name, tmp_path):
    data = FILES[name]()
    (tmp_path / "file").write_bytes(data)
    ending = run(program, tmp_path, "add", tmp_path / "file")
    check_refused(ending, 12, "DIGEST", input_bytes=len(data), never=[MARKER])
    assert nothing_is_kept(tmp_path)


KINDS = {
    "link": (12, "NOT_REGULAR"),
    "pipe": (12, "NOT_REGULAR"),
    "huge": (12, "LENGTH"),
    "missing": (16, "NOT_FOUND"),
}


def lay_down(path, kind, *, target, max_bytes):
    """Put a link to `target`, a pipe or a file that is longer than `max_bytes` in a place."""
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(max_bytes + 1)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("kind", KINDS)
def test_row_what_is_no_regular_file_of_a_usual_size_is_refused(program, kind, tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"x")
    lay_down(path, kind, target=other, max_bytes=MAX_WHEEL_BYTES)
    check_refused(run(program, tmp_path, "add", path), *KINDS[kind])
    assert nothing_is_kept(tmp_path)


def whisper_folder(folder, change=None, drop=None):
    """A Hugging Face folder of a Whisper whose numbers are all zero, with a change."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    tensors = {f"model.encoder.{name}": np.zeros(shape, "<f2") for name, shape in whisper.tensor_shapes().items()}
    tensors = {name: tensor for name, tensor in (tensors | (change or {})).items() if name != drop}
    (folder / "model.safetensors").write_bytes(save(tensors))
    return folder


ONE = "model.encoder.conv1.bias"
CHANGES = {
    "another width": {"change": {ONE: np.zeros(512, "<f2")}},
    "not finite": {"change": {ONE: np.full(384, np.inf, "<f2")}},
    "missing tensor": {"drop": ONE},
}

CHANGE_ENDS = {"another width": (12, ""), "not finite": (12, "VALUE"), "missing tensor": (12, "MISSING")}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", CHANGES)
def test_row_a_whisper_that_its_network_cannot_use_is_refused(program, name, tmp_path):
    code, word = CHANGE_ENDS[name]
    folder = whisper_folder(tmp_path / "hub", **CHANGES[name])
    check_refused(run(program, tmp_path, "add", folder), code, word, input_bytes=SLACK_BYTES)
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("cut", [0, 7, 1000, -1])
def test_row_a_truncated_whisper_is_refused(program, cut, tmp_path):
    weights = whisper_folder(tmp_path / "hub") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    check_refused(run(program, tmp_path, "add", tmp_path / "hub"), 12, "VALUE", input_bytes=SLACK_BYTES)
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("config", "code", "word"),
    [
        (b"", 12, "TYPE"),
        (b"[" * 100_000, 12, "TYPE"),
        (b"{}", 12, "TYPE"),
        (b"[1]", 12, "TYPE"),
        (b'{"model_type": "bert"}', 12, ""),
        (b'{"model_type": "hubert"}', 12, ""),
        (b" " * (2**20 + 1), 12, "LENGTH"),
    ],
)
def test_row_a_folder_whose_config_says_no_encoder_is_refused(program, config, code, word, tmp_path):
    folder = whisper_folder(tmp_path / "hub")
    (folder / "config.json").write_bytes(config)
    check_refused(run(program, tmp_path, "add", folder), code, word, input_bytes=SLACK_BYTES)
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
def test_row_a_folder_whose_weights_are_a_pickle_or_a_link_is_refused(program, tmp_path):
    folder = whisper_folder(tmp_path / "hub")
    (folder / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    weights = folder / "model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    check_refused(run(program, tmp_path, "add", folder), 12, "NOT_REGULAR", input_bytes=SLACK_BYTES)
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickled())
    check_refused(run(program, tmp_path, "add", folder), 16, "NOT_FOUND", input_bytes=SLACK_BYTES, never=[MARKER])
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
def test_row_a_forged_wheel_in_a_wheelhouse_is_refused(program, tmp_path):
    package = WHISPER.package
    name = f"{package.name.replace('-', '_')}-{package.version}"
    facts = f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n"
    kind = "Wheel-Version: 1.0\nGenerator: none\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    described = {f"{name}.dist-info/METADATA": facts, f"{name}.dist-info/WHEEL": kind, f"{name}.dist-info/RECORD": ""}
    wheel = archive({package.member: state_archive()} | described)
    (tmp_path / f"{name}-py3-none-any.whl").write_bytes(wheel)
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    ending = run(program, tmp_path, "fetch", WHISPER.id, environment=environment)
    assert (ending.code, ending.word) == (12, "DIGEST"), ending.stderr
    assert ending.stderr.strip().count("\n") == 0
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
def test_row_an_altered_file_in_the_folder_of_encoders_is_shown_as_damaged(program, tmp_path):
    (tmp_path / "encoders").mkdir()
    place_of(tmp_path / "encoders", WHISPER).write_bytes(save({MARKER: np.zeros(3, "<f4")}))
    ending = run(program, tmp_path, "list", "--format", "json")
    assert [row["state"] for row in json.loads(ending.stdout)] == ["damaged", "not here"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_honest_folder_is_kept_under_its_hash_as_before(program, tmp_path):
    folder = whisper_folder(tmp_path / "hub")
    assert run(program, tmp_path, "add", folder).code == 0
    (kept,) = (tmp_path / "encoders").iterdir()
    assert run(program, tmp_path, "add", kept).code == 12  # it is nobody's known encoder
    assert [path.name for path in (tmp_path / "encoders").iterdir()] == [kept.name]


# wav2vec 2.0, HuBERT and WavLM, which a site adds itself.


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    """A folder of a HuBERT that both sites would add; no test changes it."""
    return usable_encoder(tmp_path_factory.mktemp("hub"), model_type="hubert", num_hidden_layers=1)


@pytest.fixture
def folder(hubert, tmp_path):
    return shutil.copytree(hubert, tmp_path / "hub")


def rewrite(folder, **tensors):
    """Change some tensors of a folder; None takes one away."""
    merged = {**load_file(folder / "model.safetensors"), **tensors}
    data = save({name: tensor for name, tensor in merged.items() if tensor is not None})
    (folder / "model.safetensors").write_bytes(data)


LAST = "encoder.layers.0.final_layer_norm.bias"
TENSORS = {
    "another shape": {LAST: np.zeros(767, "<f4")},
    "not finite": {LAST: np.full(768, np.nan, "<f4")},
    "missing tensor": {LAST: None},
    "unknown tensor": {MARKER: np.zeros(3, "<f4")},
    "integers": {LAST: np.zeros(768, "<i8")},
    "no answer": {"encoder.pos_conv_embed.conv.parametrizations.weight.original1": np.zeros((768, 384, 6), "<f4")},
}
CONFIGS = {
    "another width": {"hidden_size": 512},
    "a width of 2 to 40": {"hidden_size": 2**40},
    "a billion layers": {"num_hidden_layers": 10**9},
    "more layers than there are": {"num_hidden_layers": 24},
    "another kind": {"model_type": MARKER},
    "kernels of a gigabyte": {"conv_kernel": [2**30, 4, 3]},
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", TENSORS)
def test_row_a_self_supervised_encoder_with_other_tensors_is_refused(program, name, folder, tmp_path):
    rewrite(folder, **TENSORS[name])
    ending = run(program, tmp_path, "add", folder)
    check_refused(ending, 12, "", input_bytes=SLACK_BYTES, never=[] if name == "unknown tensor" else [MARKER])
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", CONFIGS)
def test_row_a_self_supervised_encoder_of_another_form_is_refused(program, name, folder, tmp_path):
    config = json.loads((folder / "config.json").read_text()) | CONFIGS[name]
    (folder / "config.json").write_text(json.dumps(config))
    check_refused(run(program, tmp_path, "add", folder), 12, "", input_bytes=SLACK_BYTES)
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("cut", [0, 7, 1000, -1])
def test_row_a_truncated_self_supervised_encoder_is_refused(program, cut, folder, tmp_path):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    check_refused(run(program, tmp_path, "add", folder), 12, "", input_bytes=SLACK_BYTES)
    assert nothing_is_kept(tmp_path)


FOLDER_KINDS = {
    "pickle": (12, ""),
    "archive": (12, ""),
    "huge": (12, "LENGTH"),
    "link": (12, "NOT_REGULAR"),
    "pipe": (12, "NOT_REGULAR"),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("kind", FOLDER_KINDS)
@pytest.mark.parametrize("name", ["model.safetensors", "preprocessor_config.json"])
def test_row_a_file_of_a_folder_that_is_another_kind_of_file_is_refused(program, kind, name, folder, tmp_path):
    path = folder / name
    path.unlink(missing_ok=True)
    if kind in ("pickle", "archive"):
        path.write_bytes(pickled() if kind == "pickle" else state_archive())
    lay_down(path, kind, target=folder / "config.json", max_bytes=MAX_FOLDER_BYTES)
    ending = run(program, tmp_path, "add", folder)
    check_refused(ending, *FOLDER_KINDS[kind], input_bytes=SLACK_BYTES, never=[MARKER])
    assert nothing_is_kept(tmp_path)


@pytest.fixture(scope="module")
def kept(hubert, tmp_path_factory):
    """What a site has kept of the folder."""
    work = tmp_path_factory.mktemp("kept")
    ending = run("ecan-source", work, "add", hubert)
    assert ending.code == 0, ending.stderr
    (file,) = (work / "encoders").iterdir()
    return file


def harmed(kept, folder, harm):
    """Put another file in the place of one that was kept; returns that place."""
    data, place = kept.read_bytes(), folder / kept.name
    if harm == "link":
        place.symlink_to(kept)
    elif harm == "pipe":
        os.mkfifo(place)
    elif harm == "huge":
        with place.open("wb") as file:
            file.write(data)
            file.truncate(AddedEncoder.max_bytes + 1)
    else:
        changed = bytearray(data)
        changed[-1] ^= 1
        other = {"altered": bytes(changed), "truncated": data[:-1], "longer": data + b" ", "pickled": pickled()}
        place.write_bytes(other[harm])
    return place


HARMS = ("altered", "truncated", "longer", "pickled", "huge", "link", "pipe")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("harm", HARMS)
def test_row_a_kept_file_that_was_harmed_is_shown_as_damaged(program, harm, kept, tmp_path):
    (tmp_path / "encoders").mkdir()
    place = harmed(kept, tmp_path / "encoders", harm)
    rows = json.loads(run(program, tmp_path, "list", "--format", "json").stdout)
    assert [(row["sha256"], row["state"]) for row in rows[2:]] == [(place.stem, "damaged")]
    assert not (tmp_path / "here" / MARKER).exists()


@pytest.mark.parametrize("harm", ["altered", "truncated", "longer"])
def test_row_a_source_does_not_train_by_a_file_that_was_harmed(harm, kept, tmp_path):
    (tmp_path / "encoders").mkdir()
    harmed(kept, tmp_path / "encoders", harm)
    (tmp_path / "here").mkdir()
    ending = command_line.run(
        *("ecan-source", "train", "--corpus", f"csv={tmp_path / 'nothing.csv'}", "--front-end", kept.stem),
        *("--encoders", tmp_path / "encoders", "--out", tmp_path / "run"),
        folder=tmp_path / "here",
    )
    check_refused(ending, 11, "DIGEST", input_bytes=SLACK_BYTES)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_row_what_another_site_has_kept_is_no_file_to_add(program, kept, tmp_path):
    check_refused(run(program, tmp_path, "add", kept), 12, "DIGEST", input_bytes=SLACK_BYTES)
    assert nothing_is_kept(tmp_path)
