"""Name the files of ADAPTED, and replace an old model in one step.

A new model is written whole into ``.incoming``, ``adapted.json`` last. Until that file is there, the old model counts
and is untouched. From then on the new one counts, and is found wherever its files lie while they are being moved to
the place of the old ones. The next writer finishes what a killed process had begun.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ecan_core.errors import ModelError, UsageError
from protocol.files import cannot_write, make_private_folder, read_bounded, remove_folder

FORMAT = 4
MAX_BYTES = 1 << 30
FACTS = "adapted.json"
WEIGHTS = "weights.safetensors"
VOICES = "voices.safetensors"
EVALUATION = "evaluation.json"
SIGNATURE = "adapted.signature"
CACHE_FILE = "cache/features.cache"
"""In a folder of its own, which holds nothing else: a process that opens recordings may change all of it."""
EARLIER_CACHE_FILE = "features.cache"
UNFINISHED = ".unfinished"
REPLAY = ".replay"
CHANGE, UPDATE = ".change.safetensors", ".update.safetensors"
"""Where several sites adapt one model: what has come of it so far, and how this site would go on."""

_INCOMING = ".incoming"
_NOT_IN_EVERY_MODEL = (VOICES, EVALUATION, SIGNATURE)


class Reads(NamedTuple):
    """Name what fixes the encoder that a model is read by.

    Attributes:
        arch: id of the architecture.
        added_encoder: SHA-256 of an encoder that the site has added, in hexadecimal; empty where it needs none.
    """

    arch: str
    added_encoder: str = ""


@contextlib.contextmanager
def new_model(folder: Path) -> Iterator[Path]:
    """Return where to write a whole new model, ``adapted.json`` last.

    An earlier one that was not moved yet is lost.

    Raises:
        FileError: the folder cannot be written; the old model stays.
    """
    incoming = folder / _INCOMING
    remove_tree(incoming)
    make_private_folder(incoming)
    try:
        yield incoming
    except BaseException:
        remove_tree(incoming)
        raise


def finish_replacement(folder: Path) -> None:
    """Move a complete new model to the place of the old one.

    Nothing happens if there is none.

    A contained process writes the model and the one that started it moves it: the first version of Landlock has no
    moves from folder to folder.

    Raises:
        FileError: a file cannot be moved.
    """
    incoming = folder / _INCOMING
    if not (incoming / FACTS).is_file():
        return
    names = sorted(path.name for path in incoming.iterdir())
    try:
        for name in _NOT_IN_EVERY_MODEL:
            if name not in names:
                (folder / name).unlink(missing_ok=True)
        for name in sorted(names, key=lambda name: name == FACTS):
            (incoming / name).replace(folder / name)
        incoming.rmdir()
    except OSError as error:
        raise cannot_write(folder, error) from error


def file_of_model(folder: Path, name: str) -> Path:
    """Return where a file of the model lies.

    This also holds if a process was killed while it replaced the model.
    """
    incoming = folder / _INCOMING
    is_new = (incoming / FACTS).is_file() and (incoming / name).is_file()
    return incoming / name if is_new else folder / name


def read_facts(folder: Path) -> dict[str, Any]:
    """Read ``adapted.json``.

    Its key ``provenance`` holds what the model was made from; models of before call it ``receipt``.

    Raises:
        UsageError: there is no finished adaptation in ``folder``.
        ModelError: it is damaged or of another version.
    """
    path = file_of_model(folder, FACTS)
    if not path.is_file():
        raise UsageError(f"{folder} holds no finished adaptation: run `ecan-target adapt --out {folder}` first")
    try:
        facts = json.loads(read_bounded(path, MAX_BYTES))
        if facts["format"] != FORMAT:
            raise ModelError("this adapted model was written by another version: adapt again from the bundle")
        if "provenance" not in facts:
            facts["provenance"] = facts.pop("receipt")
        if not isinstance(facts["provenance"], dict):
            raise TypeError("no provenance")
    except (KeyError, TypeError, ValueError) as fault:
        raise damaged(folder) from fault
    return dict(facts)


def reads_of(folder: Path) -> Reads:
    """Return what an adapted model is read by.

    Raises:
        UsageError: there is no finished adaptation in ``folder``.
        ModelError: it is damaged or of another version.
    """
    try:
        card = read_facts(folder)["card"]
        return Reads(str(card["arch"]), str(card.get("added_encoder", "")))
    except (KeyError, TypeError, AttributeError) as fault:
        raise damaged(folder) from fault


def damaged(folder: Path) -> ModelError:
    """Return the error for a model whose files do not fit together."""
    return ModelError(f"the adapted model in {folder} is damaged: adapt again from the bundle")


def remove_tree(folder: Path) -> None:
    """Remove a folder of a model's folder, if there is one.

    Raises:
        FileError: it cannot be removed.
    """
    remove_folder(folder, first=FACTS)  # without it, what is left is no model


def weights_digest(folder: Path) -> bytes:
    """Return the SHA-256 of the adapted weights."""
    return hashlib.sha256(read_bounded(file_of_model(folder, WEIGHTS), MAX_BYTES)).digest()
