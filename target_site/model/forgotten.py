"""Keep in a model's folder the marks of whom it must not hear again."""

import json
from dataclasses import asdict
from pathlib import Path

from ecan_core.data.forgotten import KEY_BYTES, NOBODY, Forgotten
from ecan_core.errors import ModelError, SettingsError
from ecan_core.settings.parse import parse_settings
from protocol.errors import Code, FileError
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
