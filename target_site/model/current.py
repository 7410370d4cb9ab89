"""Name the model in use by a link, and change it in one step.

Whoever opens the link finds the old model or the new one, and never a part of either.
"""

import os
import secrets
from pathlib import Path

from ecan_core.errors import UsageError
from protocol.files import cannot_write


def in_use(link: Path) -> Path | None:
    """Return the folder of the model in use; None if there is none yet.

    Raises:
        UsageError: there is something else than a link, or the link leads nowhere.
    """
    if not link.is_symlink():
        if link.exists():
            raise UsageError(f"{link} is no link, and would be replaced by one; move it and name the place for a link.")
        return None
    return followed(link)


def followed(place: Path) -> Path | None:
    """Return the folder behind a name or a link; None if there is none yet.

    Raises:
        UsageError: there is a link that leads nowhere.
    """
    if place.is_symlink() and not place.is_dir():
        raise UsageError(f"{place} leads to no folder; put the model back that it named, or remove the link.")
    return place.resolve() if place.is_dir() else None


def put_in_use(model: Path, link: Path) -> None:
    """Let a link name a model, in one step that survives a power cut.

    The link holds the way from its own folder, so that both can be mounted elsewhere.

    Raises:
        FileError: the link cannot be written; the old one stays.
    """
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.symlink_to(os.path.relpath(model.resolve(), link.parent.resolve()))
        temporary.replace(link)
        descriptor = os.open(link.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise cannot_write(link, error) from error
    finally:
        temporary.unlink(missing_ok=True)
