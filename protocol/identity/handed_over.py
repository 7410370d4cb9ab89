"""Tell whether others can reach a secret that is handed over.

A secret is usually a file for its user alone (0600). Two service managers have forms of their own:

* systemd puts credentials into the folder ``$CREDENTIALS_DIRECTORY``. From version 257 on they belong to root and an
  access list names the service's user, so their mode reads 0440.
* Kubernetes mounts a secret as ``NAME -> ..data/NAME`` and ``..data -> ..TIMESTAMP``. The files belong to root, and to
  the group of the pod (``fsGroup``), which may read them.
"""

import os
import stat
import struct
from pathlib import Path

MOUNTED = "..data"

_ROOT = 0
_ACCESS_LIST = "system.posix_acl_access"
_HEAD, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_USER, _GROUP_OWNER, _GROUP, _OTHER = 0x02, 0x04, 0x08, 0x20
_WRITE = 0o2


def located(path: Path) -> Path:
    """Return where a secret lies, which Kubernetes mounts behind two links.

    No other link is followed.
    """
    data = path.parent / MOUNTED
    try:
        if str(path.readlink()) != f"{MOUNTED}/{path.name}":
            return path
        version = str(data.readlink())
    except OSError:  # no link
        return path
    is_beside = version.startswith("..") and version not in ("..", MOUNTED) and "/" not in version
    return path.parent / version / path.name if is_beside else path


def is_exposed(path: Path) -> bool:
    """Return whether others than root and this user can reach a secret.

    Raises:
        OSError: it is not there.
    """
    place = located(path)
    status = place.stat()
    if place != path:
        return _is_listed(place) or not (_is_well_mounted(path, place) and _is_for_this_pod(status))
    if not stat.S_IMODE(status.st_mode) & 0o077:
        return False
    return not (_is_credential(path) and all(map(_is_for_this_user, (path, path.parent))))


def _is_credential(path: Path) -> bool:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.parent == Path(str(folder)) and not path.is_symlink()


def _is_listed(path: Path) -> bool:
    """Return whether an access list says who can reach a file.

    Kubernetes sets none.
    """
    try:
        return bool(os.getxattr(path, _ACCESS_LIST))
    except OSError:
        return False


def _is_for_this_user(path: Path) -> bool:
    """Return whether an access list lets in root and this user alone."""
    if path.stat().st_uid not in (_ROOT, os.geteuid()):
        return False
    try:
        listed = os.getxattr(path, _ACCESS_LIST)
    except OSError:  # no list: the mode says it all
        return not stat.S_IMODE(path.stat().st_mode) & 0o077
    return all(_lets_in_nobody_else(*entry) for entry in _ENTRY.iter_unpack(listed[_HEAD.size :]))


def _lets_in_nobody_else(tag: int, permissions: int, who: int) -> bool:
    if tag == _USER:
        return who == os.geteuid() and not permissions & _WRITE
    return tag not in (_GROUP_OWNER, _GROUP, _OTHER) or not permissions


def _is_for_this_pod(status: os.stat_result) -> bool:
    """Return whether nobody but root and this pod can read a mounted file.

    The pod's group, which may read it, is one of this process's.
    """
    mode = stat.S_IMODE(status.st_mode)
    is_own = status.st_uid in (_ROOT, os.geteuid())
    return is_own and not mode & 0o037 and (not mode & 0o040 or status.st_gid in (os.getegid(), *os.getgroups()))


def _is_well_mounted(path: Path, place: Path) -> bool:
    """Return whether nobody but root or this user can change a mount's links."""
    chain = [path.lstat(), (path.parent / MOUNTED).lstat(), place.parent.lstat(), path.parent.lstat()]
    if any(status.st_uid not in (_ROOT, os.geteuid()) for status in chain):
        return False
    version, mount = chain[2:]
    is_kept = not mount.st_mode & 0o022 or bool(mount.st_mode & stat.S_ISVTX)
    return stat.S_ISDIR(version.st_mode) and not version.st_mode & 0o022 and is_kept
