"""Read and write files safely: follow no links, leave no half files."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from protocol.errors import Code, FileError, MalformedError


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read a regular file that is not larger than it may be.

    Args:
        path: the file; a symbolic link is not followed.
        max_bytes: the largest size that is read, in bytes.

    Raises:
        MalformedError: it is a link, a folder, a pipe or a device, or it is larger than ``max_bytes``.
        FileError: it does not exist or cannot be read.
    """
    with _explained(path), os.fdopen(_open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise _too_long(path, max_bytes)
        data = file.read(max_bytes + 1)  # it may grow meanwhile
    if len(data) > max_bytes:
        raise _too_long(path, max_bytes)
    return data


def read_blocks(path: Path, max_bytes: int, *, start: int = 0, block_bytes: int = 1 << 20) -> Iterator[bytes]:
    """Read a regular file piece by piece.

    The same as `read_bounded`, for what does not fit into memory.

    Args:
        path: the file; a symbolic link is not followed.
        max_bytes: the largest size that is read, in bytes.
        start: where to begin, in bytes from its start.
        block_bytes: size of a piece; the last one may be shorter.

    Raises:
        MalformedError: see `read_bounded`.
        FileError: see `read_bounded`.
    """
    with _explained(path), os.fdopen(_open_regular(path), "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise _too_long(path, max_bytes)
        end = file.seek(start)
        while block := file.read(block_bytes):
            end += len(block)
            if end > max_bytes:  # it grew meanwhile
                raise _too_long(path, max_bytes)
            yield block


def write_atomic(path: Path, data: bytes | bytearray | memoryview, mode: int = 0o600) -> None:
    """Write a file whole or not at all, replacing an old one in one step.

    Args:
        path: the file; its folder must exist.
        data: the content.
        mode: the new file's permissions; the umask may take some away.

    Raises:
        FileError: the folder does not exist, or the disk is full, read-only or out of reach, or a device, a pipe or
            a folder has that name; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        if path.exists() and not path.is_file():  # root would replace /dev/stdout by a file
            raise FileError(Code.STORAGE, f"{path} is no file, and no file takes its place; name another one.")
        _write_synced(temporary, data, mode)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_readable(path: Path, data: bytes) -> None:
    """Write a file as `write_atomic` does, for every user to read.

    The umask of the command lines keeps other files to their owner.

    Raises:
        FileError: see `write_atomic`.
    """
    before = os.umask(0o022)
    try:
        write_atomic(path, data, 0o644)
    finally:
        os.umask(before)


def make_private_folder(folder: Path) -> None:
    """Make a folder for its owner alone, with its parents.

    One that is there stays as it is.

    Raises:
        FileError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(Code.STORAGE, f"{folder} cannot be made ({error.strerror}); choose another place.") from error


def refuse_link(path: Path) -> None:
    """Refuse a link where something is written or removed.

    Raises:
        FileError: it is one: whoever made it chose what is written or removed.
    """
    if path.is_symlink():
        raise FileError(Code.STORAGE, f"{path} is a link, through which nothing is written; move or remove it.")


def cannot_write(path: Path, error: OSError) -> FileError:
    """Return the error for a file that the system does not let us write."""
    if isinstance(error, FileNotFoundError):
        return FileError(
            Code.STORAGE,
            f"{path} cannot be written: the folder {path.parent} does not exist; make it or choose another place.",
        )
    return FileError(Code.STORAGE, f"{path} cannot be written ({error.strerror}); make room or choose another place.")


def remove_folder(folder: Path, *, first: str) -> None:
    """Remove a folder with all that it holds, if there is one.

    Args:
        folder: the folder.
        first: the file in it that goes before all others, so that nobody takes what a kill leaves for whole.

    Raises:
        FileError: it cannot be removed.
    """
    try:
        (folder / first).unlink(missing_ok=True)
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(folder, error) from error


def lies_within(path: Path, folder: Path) -> bool:
    """Return whether writing a file changes a folder.

    A link at the path itself would be replaced, not followed.
    """
    return path.parent.resolve().is_relative_to(folder.resolve())


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Explain why a file cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileError(Code.NOT_FOUND, f"{path} does not exist; check the path.") from error
    except OSError as error:
        raise FileError(Code.STORAGE, f"{path} cannot be read ({error.strerror}); check its permissions.") from error


def _too_long(path: Path, max_bytes: int) -> MalformedError:
    return MalformedError(Code.LENGTH, f"{path} is longer than {max_bytes} bytes; check that it is the right file.")


def _open_regular(path: Path) -> int:
    """Open a regular file for reading.

    The open descriptor is checked, so swapping the file changes nothing.
    """
    fault = MalformedError(Code.NOT_REGULAR, f"{path} is not a regular file; name the file itself.")
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket, or a device with nothing behind it
            raise fault from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise fault
    return descriptor


def _write_synced(path: Path, data: bytes | bytearray | memoryview, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Write a folder to the disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
