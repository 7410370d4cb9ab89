"""Hostile encoder files against the real `encoder add` and `encoder fetch` of both sites.

An encoder is the only foreign file beside a bundle that a site computes with. After every row nothing is kept.
"""

import io
import json
import os
import pickle  # noqa: TID251
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save

from ecan_core.encoders import whisper
from protocol.encoders.package import MAX_WHEEL_BYTES
from protocol.encoders.registry import WHISPER
from protocol.encoders.store import place_of
from tests.hostile import command_line
from tests.hostile.command_line import check_refused
from tests.protocol.encoders.files import archive, model_bin, whisper_tensors
from tests.support import processes

processes.preload("ecan_core.encoders.checks", "safetensors.torch", "torch")

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
def test_a_file_that_is_no_known_encoder_is_refused_before_it_is_parsed(program, name, tmp_path):
    data = FILES[name]()
    (tmp_path / "file").write_bytes(data)
    ending = run(program, tmp_path, "add", tmp_path / "file")
    check_refused(ending, 12, "DIGEST", input_bytes=len(data), never=[MARKER])
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("kind", ["link", "pipe", "huge", "missing"])
def test_what_is_no_regular_file_of_a_usual_size_is_refused(program, kind, tmp_path):
    path = tmp_path / "file"
    if kind == "link":
        (tmp_path / "other").write_bytes(b"x")
        path.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(MAX_WHEEL_BYTES + 1)
    expected = {"link": (12, "NOT_REGULAR"), "pipe": (12, "NOT_REGULAR"), "huge": (12, "LENGTH")}
    check_refused(run(program, tmp_path, "add", path), *expected.get(kind, (16, "NOT_FOUND")))
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


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", CHANGES)
def test_a_whisper_that_its_network_cannot_use_is_refused(program, name, tmp_path):
    folder = whisper_folder(tmp_path / "hub", **CHANGES[name])
    ending = run(program, tmp_path, "add", folder)
    word = {"another width": "", "not finite": "VALUE", "missing tensor": "MISSING"}[name]
    check_refused(ending, 12, word, input_bytes=SLACK_BYTES)
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("cut", [0, 7, 1000, -1])
def test_a_truncated_whisper_is_refused(program, cut, tmp_path):
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
def test_a_folder_whose_config_says_no_encoder_is_refused(program, config, code, word, tmp_path):
    folder = whisper_folder(tmp_path / "hub")
    (folder / "config.json").write_bytes(config)
    check_refused(run(program, tmp_path, "add", folder), code, word, input_bytes=SLACK_BYTES)
    assert nothing_is_kept(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_folder_whose_weights_are_a_pickle_or_a_link_is_refused(program, tmp_path):
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
def test_a_forged_wheel_in_a_wheelhouse_is_refused(program, tmp_path):
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
def test_an_altered_file_in_the_folder_of_encoders_is_shown_as_damaged(program, tmp_path):
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
