"""Hostile trained models given to the gate through `ecan-source grant` and `export`: what leaves, and what does not.

Rows S13 to S16; S01 to S12 are about the audit, see tests/hostile/test_audits.py.
"""

import csv
import gzip
import io
import json
import os
import pickle  # noqa: TID251 - the attack itself; nothing here reads one
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from protocol.bundle import frame
from protocol.bundle.architecture import model_shapes
from protocol.bundle.sealing import unseal
from protocol.sandbox.landlock import landlock_abi
from source_site.keys.folder import LEDGER_FILE, LEDGER_FOLDER, init_keys, open_ledger, outbox_file, released_file
from tests.hostile import command_line
from tests.hostile.command_line import Ending, check_refused
from tests.protocol.samples import FORM, random_model
from tests.source_site.training.runs import FACTS
from tests.support import markers
from tests.support.sites import Site, new_site
from tests.support.speech import synthesize

TIER_0 = "tier 0, no audit: nobody has measured what this model remembers, and its manifest says so\n"
"""Said of a run that could be read."""

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")

MARKER = "zq7person"
MODEL = random_model()
NAMES = tuple(model_shapes(FORM))


class Source:
    """A source site that is asked to let a model out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys, self.run = folder / "keys", folder / "run"
        init_keys(self.keys)
        self.run.mkdir()

    def grant(self, weights: bytes, facts: Mapping[str, object] | bytes | None = None) -> tuple[Ending, Site]:
        """Have a tensor file let out that a training is said to have written."""
        said = facts if isinstance(facts, bytes) else json.dumps({**asdict(FACTS), **(facts or {})}).encode()
        (self.run / "run.json").write_bytes(said)
        path = self.run / "weights.safetensors"
        path.unlink(missing_ok=True)
        path.write_bytes(weights)
        return self.ask()

    def ask(self, command: str = "grant", *more: object) -> tuple[Ending, Site]:
        site = new_site()
        (self.folder / "site.request").write_bytes(site.request)
        words = ("--model", self.run, "--keys", self.keys, "--request", self.folder / "site.request", *more)
        return command_line.run("ecan-source", command, *words, folder=self.folder), site

    def kept_back(self, site: Site) -> None:
        """Nothing was granted, sealed or released, and the books hold."""
        ledger = open_ledger(self.keys)
        ledger.verify()
        assert ledger.find(site.grant) is None
        assert not outbox_file(self.keys, site.grant).exists()
        assert not released_file(self.keys, site.grant).exists()
        assert not any(path.name.endswith(".part") for path in self.keys.rglob("*"))

    def left(self, site: Site) -> bytes:
        """The bundle that a site can open."""
        return bytes(unseal(outbox_file(self.keys, site.grant).read_bytes(), site.identity.sealing_key))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp("source"))


def check_kept_back(source: Source, data: bytes, code: int, word: str, *, facts=None, never=(MARKER,)) -> str:
    """The model is refused as the table says; what was said."""
    ending, site = source.grant(data, facts)
    check_refused(ending, code, word, input_bytes=2 * len(data), never=never)
    source.kept_back(site)
    return ending.stderr


def changed(**tensors: object) -> bytes:
    """The tensor file of a sound model with some tensors changed, added or, by None, left out."""
    merged = {**MODEL, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}
    return save({name: np.ascontiguousarray(tensor) for name, tensor in merged.items() if tensor is not None})


def with_value(name: str, value: float) -> bytes:
    tensor = MODEL[name].copy()
    tensor.flat[tensor.size // 2] = value
    return save({**MODEL, name: tensor})


def written(header: object, data: bytes) -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def taken_apart() -> tuple[dict[str, dict[str, object]], bytes]:
    """A sound tensor file: its header and its data."""
    sound = save(MODEL)
    (length,) = struct.unpack_from("<Q", sound)
    return json.loads(sound[8 : 8 + length]), sound[8 + length :]


# S13: what quantization may cost, and the facts that say it.


@pytest.mark.parametrize(
    ("uar_float", "uar_source"),
    [
        pytest.param(0.811, 0.805, id="S13a-loss-of-0.6-points"),
        pytest.param(0.8051, 0.8, id="S13b-loss-of-0.51-points"),
        pytest.param(0.8, 0.0, id="S13c-loss-of-everything"),
    ],
)
def test_row_a_model_that_loses_too_much_by_quantization_stays(source, uar_float, uar_source):
    facts = {"uar_float": uar_float, "uar_source": uar_source}
    check_kept_back(source, save(MODEL), 11, "UTILITY", facts=facts)


def test_a_loss_of_half_a_point_is_let_out(source):
    ending, site = source.grant(save(MODEL), {"uar_float": 0.805, "uar_source": 0.8})
    assert ending.code == 0, ending.stderr
    assert source.left(site)


FACTS_OF_NO_TRAINING = {
    "S13d-a-rate-below-zero": ({"uar_source": -1.0}, ""),
    "S13e-a-rate-that-is-no-number": ({"uar_source": float("nan")}, ""),
    "S13f-an-infinite-rate": ({"uar_float": float("inf")}, ""),
    "S13g-a-rate-of-500-percent": ({"uar_source": 5.0, "uar_float": 5.0}, "RANGE"),
    "S13h-a-rate-of-text": ({"uar_source": "0.8"}, ""),
    "S13i-tiny-hours": ({"hours": 1e-300}, "RANGE"),
    "S13j-endless-hours": ({"hours": 1e300}, "RANGE"),
    "S13k-many-utterances": ({"num_utterances": 10**400}, "RANGE"),
    "S13l-many-speakers": ({"num_speakers": 10**100}, "RANGE"),
    "S13m-no-classes": ({"classes": []}, "RANGE"),
    "S13n-one-class": ({"classes": ["anger"]}, "RANGE"),
    "S13o-one-class-twice": ({"classes": ["anger", "anger", "fear", "sadness"]}, ""),
    "S13p-classes-in-another-order": ({"classes": ["sadness", "anger", "neutral", "happiness"]}, ""),
    "S13q-a-name-as-a-class": ({"classes": [MARKER] * 4}, ""),
    "S13r-a-path-as-architecture": ({"arch": f"../{MARKER}"}, ""),
    "S13s-another-architectures-front-end": ({"arch": "tdnn-frames-v1"}, ""),
    "S13t-another-normalization": ({"normalization": MARKER}, "ENUM"),
    "S13u-an-escape-sequence": ({"frontend": "\x1b[31m\n"}, ""),
}


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        *(pytest.param(*row, id=name) for name, row in FACTS_OF_NO_TRAINING.items()),
        pytest.param({"uar_float": 10**400}, "", id="S13v-a-rate-beyond-any-float"),
        pytest.param({"hours": 0.0}, "", id="S13w-no-hours"),
        pytest.param({"hours": -1.0}, "", id="S13x-negative-hours"),
        pytest.param({"num_utterances": 0}, "", id="S13y-no-utterances"),
        pytest.param({"num_speakers": -3}, "", id="S13z-fewer-than-no-speakers"),
    ],
)
def test_row_facts_that_no_training_writes_are_refused(source, facts, word):
    said = check_kept_back(source, save(MODEL), 12, word, facts=facts, never=[MARKER, "\x1b"])
    assert said.removeprefix(TIER_0).count("\n") == 1


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        pytest.param(b"", "", id="S13za-empty"),
        pytest.param(b"[]", "", id="S13zb-a-list"),
        pytest.param(bytes(range(256)), "", id="S13zc-bytes"),
        pytest.param(b"9" * 5000, "", id="S13zd-a-number-of-5000-digits"),
        pytest.param(b" " * 70_000, "LENGTH", id="S13ze-70-kib"),
        pytest.param(json.dumps({**asdict(FACTS), "note": "x"}).encode(), "", id="S13zf-an-unknown-fact"),
        pytest.param(b"[" * 60_000, "", id="S13zg-60000-brackets"),
    ],
)
def test_row_a_file_of_facts_that_is_none_is_refused(source, facts, word):
    check_kept_back(source, save(MODEL), 12, word, facts=facts)


# S14: values.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.nan, id="S14a-nan"),
        pytest.param(np.inf, id="S14b-inf"),
        pytest.param(-np.inf, id="S14c-minus-inf"),
        pytest.param(3e38, id="S14d-huge"),
        pytest.param(-1e30, id="S14e-minus-huge"),
    ],
)
def test_row_a_value_that_is_no_weight_stays(source, name, value):
    said = check_kept_back(source, with_value(name, value), 11, "EGRESS")
    assert f"{name} has a value {'too large for the grid' if np.isfinite(value) else 'that is not finite'}" in said


@pytest.mark.parametrize(
    ("center", "scale", "named"),
    [
        pytest.param(np.nan, 1.0, "input.center", id="S14f-center-nan"),
        pytest.param(0.0, np.inf, "input.scale", id="S14g-scale-inf"),
        pytest.param(3e38, 1.0, "input.center", id="S14h-center-huge"),
        pytest.param(0.0, 3e38, "input.scale", id="S14i-scale-huge"),
    ],
)
def test_row_statistics_that_are_none_stay(source, center, scale, named):
    form = FORM._replace(normalization="none")
    model = random_model(*form)
    model["input.center"][3], model["input.scale"][3] = center, scale
    said = check_kept_back(source, save(model), 11, "EGRESS", facts={"normalization": "none"})
    assert named in said


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param({name: np.zeros_like(tensor) for name, tensor in MODEL.items()}, id="S14j-all-zero"),
        pytest.param({"head.weight": MODEL["head.weight"] * [[0], [1], [1], [1]]}, id="S14k-a-class-without-weights"),
    ],
)
def test_row_an_empty_model_stays(source, tensors):
    model = {name: np.asarray(tensor, np.float32) for name, tensor in {**MODEL, **tensors}.items()}
    said = check_kept_back(source, save(model), 11, "EGRESS")
    assert "head.weight" in said


# S15: files that are no tensors, and tensors that are not the architecture's.


class Planted:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.trace),)


def checkpoint(trace: Path) -> bytes:
    """What `torch.save` writes: a zip archive with a pickle in it."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Planted(trace), protocol=2))
        archive.writestr("archive/data/0", bytes(64))
        archive.writestr("archive/version", "3\n")
    return data.getvalue()


def behind_a_header(payload: bytes) -> bytes:
    """Looks like a safetensors file to whoever reads nine bytes."""
    return struct.pack("<Q", len(payload) + 1) + b"{" + payload


SOUND = save(MODEL)
OTHER_FILES = {
    "S15a-pickle-protocol-4": lambda trace: pickle.dumps(Planted(trace), protocol=4),
    "S15b-pickle-protocol-0": lambda trace: pickle.dumps(Planted(trace), protocol=0),
    "S15c-torch-checkpoint": checkpoint,
    "S15d-pickle-behind-a-header": lambda trace: behind_a_header(pickle.dumps(Planted(trace), protocol=4)),
    "S15e-zip-behind-tensors": lambda trace: SOUND + checkpoint(trace),
    "S15f-gzip": lambda trace: gzip.compress(SOUND, mtime=0),
    "S15g-elf": lambda trace: b"\x7fELF\x02\x01\x01" + bytes(4096),
    "S15h-empty": lambda trace: b"",
    "S15i-seven-bytes": lambda trace: SOUND[:7],
    "S15j-nine-bytes": lambda trace: SOUND[:9],
    "S15k-truncated-header": lambda trace: SOUND[:200],
    "S15l-truncated-data": lambda trace: SOUND[:-1],
    "S15m-one-byte-more": lambda trace: SOUND + b"\0",
    "S15n-header-length-2-63": lambda trace: struct.pack("<Q", 2**63) + SOUND[8:],
    "S15o-header-length-2-64": lambda trace: b"\xff" * 8 + SOUND[8:],
    "S15p-header-length-0": lambda trace: bytes(8) + SOUND[8:],
    "S15q-deep-header": lambda trace: written(b'{"a":' * 50_000, b""),
    "S15r-header-of-text": lambda trace: written(b'{"note": "' + MARKER.encode() + b'"}', b""),
    "S15s-html": lambda trace: b"<html><body>" + MARKER.encode(),
    "S15t-numpy": lambda trace: b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}",
    "S15u-hdf5": lambda trace: b"\x89HDF\r\n\x1a\n" + bytes(100),
    "S15v-onnx-like": lambda trace: b"\x08\x07\x12\x07pytorch" + bytes(100),
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in OTHER_FILES.items()])
def test_row_what_is_no_tensor_file_is_refused_and_never_run(source, tmp_path, content):
    trace = tmp_path / "trace"
    check_kept_back(source, content(trace), 12, "")
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "missing"], ids=lambda kind: f"S15w-{kind}")
def test_row_weights_that_are_no_file_are_refused(source, kind):
    source.grant(SOUND)
    path = source.run / "weights.safetensors"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    try:
        ending, site = source.ask()
    finally:
        if kind == "folder":
            path.rmdir()
        elif kind != "missing":
            path.unlink()
    assert ending.word in ("NOT_REGULAR", "NOT_FOUND", "STORAGE")
    check_refused(ending, ending.code if ending.code in (12, 16) else 16, ending.word)
    source.kept_back(site)


@pytest.mark.row("S15x", "a byte more than 256 MiB")
def test_row_weights_that_are_too_large_are_refused(source):
    num_bytes = 256 * 2**20 + 1
    source.grant(SOUND)
    os.truncate(source.run / "weights.safetensors", num_bytes)
    ending, site = source.ask()
    check_refused(ending, 12, "LENGTH", input_bytes=num_bytes)
    source.kept_back(site)


def overlapping() -> bytes:
    header, data = taken_apart()
    header["bottleneck.bias"]["data_offsets"] = header["head.bias"]["data_offsets"]
    return written(header, data)


def with_hole() -> bytes:
    header, data = taken_apart()
    for entry in header.values():
        entry["data_offsets"] = [offset + 16 for offset in entry["data_offsets"]]
    return written(header, MARKER.encode().ljust(16) + data)


def with_entry(**changes: object) -> bytes:
    header, data = taken_apart()
    header["head.weight"] |= changes
    return written(header, data)


BROKEN_HEADERS = {
    "S15y-overlap": overlapping,
    "S15z-hole": with_hole,
    "S15za-negative-offset": lambda: with_entry(data_offsets=[-4, 0]),
    "S15zb-overflowing-shape": lambda: with_entry(shape=[2**62, 2**62]),
    "S15zc-unknown-type": lambda: with_entry(dtype=MARKER),
    "S15zd-offsets-of-text": lambda: with_entry(data_offsets=MARKER),
    "S15ze-metadata-that-is-no-text": lambda: written({"__metadata__": {"n": 1}, **taken_apart()[0]}, taken_apart()[1]),
    "S15zf-two-headers": lambda: written(json.dumps(taken_apart()[0]).encode() * 2, taken_apart()[1]),
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in BROKEN_HEADERS.items()])
def test_row_a_header_that_does_not_fit_its_data_is_refused(source, content):
    check_kept_back(source, content(), 12, "")


def per_utterance(dtype: type = np.float32) -> np.ndarray:
    """One row for every recording."""
    return np.zeros((FACTS.num_utterances, 256), dtype)


HEAD, BIAS = MODEL["head.weight"], MODEL["head.bias"]
OTHER_TENSORS = {
    "S15A-float16": ({"head__weight": HEAD.astype(np.float16)}, ["head.weight is not a float32 array"]),
    "S15B-float64": ({"head__weight": HEAD.astype(np.float64)}, ["head.weight is not a float32 array"]),
    "S15C-int8": ({"head__weight": HEAD.astype(np.int8)}, ["head.weight is not a float32 array"]),
    "S15D-int32": ({"head__weight": HEAD.astype(np.int32)}, ["head.weight is not a float32 array"]),
    "S15E-bool": ({"head__weight": HEAD > 0}, ["head.weight is not a float32 array"]),
    "S15F-extra": ({"extra": BIAS}, ["extra is not a tensor of this architecture"]),
    "S15G-extra-of-no-size": ({"extra": np.zeros((0, 7), np.float32)}, ["extra is not a tensor"]),
    "S15H-missing": ({"head__bias": None}, ["head.bias is missing"]),
    "S15I-renamed": ({"head__bias": None, "head__Bias": BIAS}, ["head.Bias is not a tensor", "head.bias is missing"]),
    "S15J-transposed": ({"head__weight": HEAD.T}, ["head.weight has shape"]),
    "S15K-flattened": ({"head__weight": HEAD.ravel()}, ["head.weight has shape"]),
    "S15L-one-class-more": (
        {"head__weight": np.vstack([HEAD, HEAD[:1]]), "head__bias": np.append(BIAS, BIAS[:1])},
        ["head.weight has shape", "head.bias has shape"],
    ),
    "S15M-per-utterance": ({"bank__features": per_utterance()}, ["bank.features is not a tensor"]),
    "S15N-per-utterance-in-bytes": ({"bank__features": per_utterance(np.uint8)}, ["bank.features is not a tensor"]),
    "S15O-per-utterance-under-a-known-name": ({"encoder__0__weight": per_utterance()}, ["encoder.0.weight has shape"]),
    "S15P-optimizer-state": (
        {f"optimizer.exp_avg.{name}": tensor for name, tensor in MODEL.items()},
        [f"optimizer.exp_avg.{name} is not a tensor" for name in NAMES],
    ),
    "S15Q-running-statistics": (
        {"bn__running_mean": BIAS, "bn__running_var": BIAS, "bn__num_batches_tracked": np.array([7])},
        ["bn.running_mean is not", "bn.running_var is not", "bn.num_batches_tracked is not"],
    ),
    "S15R-prototypes": ({"prototypes": np.zeros((4, 64), np.float32)}, ["prototypes is not a tensor"]),
}


@pytest.mark.parametrize(("tensors", "listed"), [pytest.param(*row, id=name) for name, row in OTHER_TENSORS.items()])
def test_row_a_tensor_that_is_not_the_architectures_stays(source, tensors, listed):
    said = check_kept_back(source, changed(**tensors), 11, "EGRESS")
    assert all(one in said for one in listed)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2"], ids=lambda dtype: f"S15S-{dtype.lower()}")
def test_row_a_type_that_numpy_lacks_stays(source, dtype):
    header, data = taken_apart()
    width = 2 if dtype == "BF16" else 1
    first, last = header["head.weight"]["data_offsets"]
    cut = (last - first) * (4 - width) // 4
    for entry in header.values():
        entry["data_offsets"] = [offset - cut if offset >= last else offset for offset in entry["data_offsets"]]
    header["head.weight"] |= {"dtype": dtype, "data_offsets": [first, last - cut]}
    ending, site = source.grant(written(header, data[: last - cut] + data[last:]))
    assert (ending.code, ending.word) in ((12, ""), (11, "EGRESS"))
    check_refused(ending, ending.code, ending.word)
    source.kept_back(site)


@pytest.mark.row("S15T", "thousands of tensors")
def test_row_thousands_of_violations_are_counted(source):
    more = {f"more.{number:05}": np.zeros(1, np.float32) for number in range(3000)}
    said = check_kept_back(source, save({**MODEL, **more}), 11, "EGRESS")
    assert "2900 more are not listed" in said


@pytest.mark.row("S15U", "all violations in one refusal")
def test_row_all_violations_are_listed_at_once(source):
    broken = changed(
        **{"bank__features": per_utterance(), "head__bias": None, "head__weight": HEAD.T},
        bottleneck__bias=MODEL["bottleneck.bias"].astype(np.float64),
        encoder__0__bias=np.full_like(MODEL["encoder.0.bias"], np.nan),
        encoder__0__weight=MODEL["encoder.0.weight"] * np.float32(1e30),
    )
    said = check_kept_back(source, broken, 11, "EGRESS")
    for one in (
        "bank.features is not a tensor of this architecture",
        "encoder.0.weight has a value too large for the grid",
        "encoder.0.bias has a value that is not finite",
        "bottleneck.bias is not a float32 array",
        "head.weight has shape",
        "head.bias is missing",
    ):
        assert one in said


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x\nerror: verified y", id="S15V-a-name-with-a-new-line"),
        pytest.param("x\x1b[2J\x07", id="S15W-a-name-with-an-escape"),
        pytest.param("x\tEGRESS\ty", id="S15X-a-name-with-tabs"),
        pytest.param("\u202ex\u2066", id="S15Y-a-name-that-turns-the-line"),
        pytest.param("../../" + "x" * 3000, id="S15Z-a-name-like-a-path"),
        pytest.param("", id="S15Za-no-name"),
    ],
)
def test_row_a_tensors_name_steers_no_terminal(source, name):
    ending, site = source.grant(save({**MODEL, name: BIAS}))
    assert ending.code == 11, ending.stderr
    assert ending.word == "EGRESS"
    said = ending.stderr.removeprefix(TIER_0)
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    source.kept_back(site)


def beside(**metadata: str) -> bytes:
    return save(MODEL, metadata=metadata)


def with_inner_key() -> bytes:
    return with_entry(note=MARKER)


def padded() -> bytes:
    header, data = taken_apart()
    return written(json.dumps(header).encode() + b" " * 512 + b"\t\n" * 64, data)


def with_name_twice() -> bytes:
    """The first of two entries of one name points elsewhere; readers take the last."""
    header, data = taken_apart()
    text = json.dumps(header).encode()
    return written(b'{"head.bias": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, ' + text[1:], data)


BESIDE_THE_TENSORS = {
    "S15Zb-free-text": lambda: beside(author=MARKER, transcript=f"{MARKER} said so", path=f"/home/{MARKER}"),
    "S15Zc-much-free-text": lambda: beside(**{f"note{number}": MARKER * 100 for number in range(100)}),
    "S15Zd-an-unknown-inner-key": with_inner_key,
    "S15Ze-padding": padded,
    "S15Zf-a-name-twice": with_name_twice,
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in BESIDE_THE_TENSORS.items()])
def test_row_what_stands_beside_the_tensors_never_leaves(source, content):
    """Refused, or dropped without a trace: the bundle holds the very weights of the clean file."""
    ending, site = source.grant(content())
    assert (ending.code, ending.word) in ((0, ""), (12, "")), ending.stderr
    outputs = {"stdout": ending.stdout.encode(), "stderr": ending.stderr.encode()} | kept_by(source)
    if ending.code == 0:
        plain = source.left(site)
        outputs |= {"what the site opens": plain, "what leaves": outbox_file(source.keys, site.grant).read_bytes()}
        _, clean = source.grant(SOUND)
        assert frame.split(plain).weights == frame.split(source.left(clean)).weights
    else:
        source.kept_back(site)
    assert markers.found({"the marker": MARKER.encode()}, outputs) == []


def kept_by(source: Source) -> dict[str, bytes]:
    """Everything in the keys folder, and the ledger as it is shown."""
    files = {
        f"keys/{path.relative_to(source.keys)}": path.read_bytes() for path in source.keys.rglob("*") if path.is_file()
    }
    assert f"keys/{LEDGER_FOLDER}/{LEDGER_FILE}" in files
    shown = [
        command_line.run("ecan-source", "ledger", "list", "--keys", source.keys, "--format", form, folder=source.folder)
        for form in ("text", "json")
    ]
    assert [one.code for one in shown] == [0, 0]
    return files | {f"ledger {number}": one.stdout.encode() for number, one in enumerate(shown)}


@pytest.mark.parametrize("command", ["grant", "export"], ids=lambda command: f"S15Zg-by-{command}")
def test_row_both_commands_pass_the_same_gate(source, command, tmp_path):
    source.grant(changed(bank__features=per_utterance()))
    more = () if command == "grant" else ("--file", tmp_path / "model.ecsl")
    ending, site = source.ask(command, *more)
    check_refused(ending, 11, "EGRESS")
    source.kept_back(site)
    assert list(tmp_path.iterdir()) == []


# S16: what a corpus knows about people.

FOLDER = "zq7folder"
PEOPLE = ("zq7speaker", "zq7file", "zq7transcript", "zq7diagnosis", FOLDER)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Source, Ending]:
    """A model of a corpus whose list says more than it should."""
    source = Source(tmp_path_factory.mktemp("trained"))
    folder = source.folder / FOLDER
    labels = synthesize(folder, "harbor", speakers=4, utterances=2)
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        new = folder / row["file"]
        new = new.rename(new.with_name(f"zq7file{number}.wav"))
        row |= {"file": str(new.relative_to(folder)), "speaker": f"zq7speaker {row['speaker']}"}
        row |= {"transcript": "zq7transcript, she said", "note": "zq7diagnosis\n=cmd|' /C calc'!A0"}
    with labels.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (source.folder / "short.yaml").write_text("epochs: 1\n")
    (source.run).rmdir()
    words = ("--corpus", f"csv={labels}", "--config", source.folder / "short.yaml", "--out", source.run)
    return source, command_line.run("ecan-source", "train", *words, folder=source.folder)


@pytest.mark.slow
@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: f"S16-{person.removeprefix('zq7')}")
def test_row_what_the_list_says_of_people_is_in_no_output(trained, person):
    source, training = trained
    assert training.code == 0, training.stderr
    granted, site = source.ask()
    assert granted.code == 0, granted.stderr
    outputs = kept_by(source) | {
        "the facts": (source.run / "run.json").read_bytes(),
        "the tensors": (source.run / "weights.safetensors").read_bytes(),
        "the names in the run's folder": repr(sorted(path.name for path in source.run.iterdir())).encode(),
        "what the grant said": granted.stdout.encode() + granted.stderr.encode(),
        "what leaves": outbox_file(source.keys, site.grant).read_bytes(),
        "what the site opens": source.left(site),
    }
    if person != FOLDER:  # which its operator has typed
        outputs["what the training said"] = training.stdout.encode() + training.stderr.encode()
    assert markers.found({person: person.encode()}, outputs) == []
