"""What a kubelet does to volumes before a pod starts, so that tests can do the same to a folder.

From its sources (pkg/volume: `volume_linux.go` and `util/atomic_writer.go`): a volume whose pod has an ``fsGroup`` gets
that group, and modes are widened; a secret is a folder of links.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

FILE, FOLDER, FILE_READ_ONLY = 0o660, 0o770, 0o440


def mount_secret(
    folder: Path, files: Mapping[str, bytes], *, group: int, version: str = "..2026_11_30_10_00_00.1"
) -> None:
    """Lay out a secret or a configMap of mode 0400 for a pod with this ``fsGroup``."""
    (folder / version).mkdir()
    for name, data in files.items():
        path = folder / version / name
        path.write_bytes(data)
        path.chmod(0o440)
        os.chown(path, -1, group)
        (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data").symlink_to(version)
    (folder / version).chmod(0o2755)
    folder.chmod(0o3777)
    os.chown(folder, -1, group)


def take_over(volume: Path, group: int, *, on_root_mismatch: bool) -> bool:
    """Give a volume to a pod's ``fsGroup``; returns whether anything in it was touched."""
    root = volume.stat()
    is_fit = root.st_gid == group and root.st_mode & FOLDER == FOLDER and root.st_mode & stat.S_ISGID
    if on_root_mismatch and is_fit:
        return False
    for path in (volume, *volume.rglob("*")):
        if path.is_symlink():
            continue
        os.chown(path, -1, group)
        widened = FOLDER | stat.S_ISGID if path.is_dir() else FILE
        path.chmod(stat.S_IMODE(path.stat().st_mode) | widened)
    return True
