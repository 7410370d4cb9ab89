"""Keep in a model's folder the marks of whom it must not hear again."""

import json
from dataclasses import asdict
from pathlib import Path

from ecan_core.data.forgotten import KEY_BYTES, NOBODY, Forgotten
from ecan_core.errors import ModelError, SettingsError, UsageError
from ecan_core.settings.parse import parse_settings
from protocol.errors import Code, FileError, RefusedError
from protocol.files import read_bounded, write_atomic
from target_site.model.folder import MAX_BYTES, file_of_model

FORGOTTEN = "forgotten.json"


def read_forgotten(folder: Path) -> Forgotten:
    """Read whom a model must not hear.

    Raises:
        ModelError: the file is damaged.
        FileError: it cannot be read.
    """
    path = file_of_model(folder, FORGOTTEN)
    try:
        forgotten = parse_settings(Forgotten, dict(json.loads(read_bounded(path, MAX_BYTES))), FORGOTTEN)
        if len(bytes.fromhex(forgotten.key)) != KEY_BYTES:
            raise ValueError("no key")
    except FileError as fault:
        if fault.code is not Code.NOT_FOUND:
            raise
        return NOBODY
    except (TypeError, ValueError, SettingsError) as fault:
        raise ModelError(
            f"{path} is damaged, and tells who must not be heard: put a copy of it back, or adapt into a new folder"
        ) from fault
    return forgotten


def write_forgotten(folder: Path, forgotten: Forgotten) -> None:
    """Write whom a model must not hear; nothing where that is nobody.

    Raises:
        FileError: the file cannot be written.
    """
    if forgotten.marks:
        write_atomic(folder / FORGOTTEN, json.dumps(asdict(forgotten)).encode())


def inherited(folder: Path, earlier: Path | None) -> Forgotten:
    """Return whom a new model must not hear.

    Its folder names them, and so does the model that it follows.

    Args:
        folder: of the new model; may be empty.
        earlier: folder of the model that it follows; None if it follows none.

    Raises:
        UsageError: both name somebody, by marks that cannot be compared.
        ModelError: see `read_forgotten`.
        FileError: see `read_forgotten`.
    """
    own = read_forgotten(folder)
    theirs = NOBODY if earlier is None else read_forgotten(earlier)
    if not (own.marks and theirs.marks):
        return own if own.marks else theirs
    if own.key != theirs.key:
        raise UsageError(f"{folder} and {earlier} have each forgotten people of their own; choose a new --out folder.")
    return own.plus(theirs.marks)


def refuse_recalling(model: Path, earlier: Path) -> None:
    """Refuse a model that recalls somebody whom another one has forgotten.

    Raises:
        RefusedError: it was made without knowing of somebody.
        ModelError: see `read_forgotten`.
        FileError: see `read_forgotten`.
    """
    own, theirs = read_forgotten(model), read_forgotten(earlier)
    if theirs.marks and (own.key != theirs.key or not set(theirs.marks) <= set(own.marks)):
        raise RefusedError(
            Code.POLICY,
            f"{model} does not leave out everybody whom {earlier} has forgotten; adapt its bundle again into a new "
            f"folder with `--after {earlier}`.",
        )
