"""A site's desk: its keys folder and whatever lies beside it, laid out anew for every case."""

import shutil
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from protocol.statements.receipts import Receipt, Verdict, sign_receipt
from target_site.trust.state import STATE_FILE, TrustState, update_trust_state
from tests.hostile import bundles, command_line
from tests.hostile.bundles import MARKER, SECOND_GRANT, SECOND_REQUEST, SITE, TODAY, sha256
from tests.hostile.command_line import Ending, check_refused
from tests.protocol.samples import ISSUER
from tests.support import cli

TRUST = ISSUER.hex()

_OURS = {".stdout", ".stderr"}
_OF_SQLITE = ("-wal", "-shm")
_MAX_COMPARED_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Desk:
    """A target's folder.

    Attributes:
        folder: where commands run; hostile files lie here.
    """

    folder: Path
    keys: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", self.folder / "keys")

    def lay(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def remember(self, change: Callable[[TrustState], TrustState]) -> None:
        update_trust_state(self.keys, change)

    @property
    def state(self) -> Path:
        return self.keys / STATE_FILE

    def run(self, *words: object) -> Ending:
        return command_line.run("ecan-target", *words, folder=self.folder)

    def receive(self, source: object = "sealed", *options: object) -> Ending:
        return self.run(*receiving(source), *options)

    def adapt(self, *options: object, bundle: object = "model.ecan") -> Ending:
        return self.run(*adapting(bundle), *options)

    def run_replacing(self, name: str, other: str, opening: int, *words: object, trigger: str | None = None) -> Ending:
        """Run a command; a copy of another takes a file's place before the n-th opening, of it or of `trigger`."""
        copy = self.lay(f"{other}.copy", (self.folder / other).read_bytes())
        before = partial(replace_at, self.folder / name, copy, opening, trigger or name)
        return command_line.run("ecan-target", *words, folder=self.folder, before=before)

    def snapshot(self) -> dict[str, object]:
        return snapshot(self.folder)


def receiving(source: object = "sealed") -> tuple[object, ...]:
    return "receive", "--keys", "keys", "--from", source, "--trust", TRUST, "--out", "model.ecan"


def adapting(bundle: object = "model.ecan") -> tuple[object, ...]:
    return (
        "adapt",
        "--bundle",
        bundle,
        "--audio",
        "audio",
        "--method",
        "none",
        "--config",
        "site.yaml",
        "--out",
        "adapted",
    )


def replace_at(path: Path, other: Path, opening: int, trigger: str) -> None:
    """From now on in this process: replace a file right before another, or itself, is opened for the n-th time."""
    openings = iter(range(opening - 1))

    def watch(event: str, details: tuple[object, ...]) -> None:
        is_it = event == "open" and Path(str(details[0])).name == trigger
        if is_it and next(openings, None) is None and other.exists():
            other.replace(path)

    sys.addaudithook(watch)


def snapshot(folder: Path) -> dict[str, object]:
    """Every file of a folder: its kind, its mode and its content."""
    return {
        str(path.relative_to(folder)): _seen(path)
        for path in sorted(folder.rglob("*"))
        if path.name not in _OURS and not path.name.endswith(_OF_SQLITE)
    }


def _seen(path: Path) -> object:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return path.readlink()
    if stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_COMPARED_BYTES:
        return status.st_mode, path.read_bytes()
    return status.st_mode, status.st_size if stat.S_ISREG(status.st_mode) else None


def lay_out(folder: Path, template: Path) -> Desk:
    """A desk like the template."""
    shutil.copytree(template, folder, dirs_exist_ok=True, symlinks=True)
    return Desk(folder)


def write_template(folder: Path) -> Path:
    """The desk of `SITE`, which has made two requests."""
    keys = folder / "keys"
    SITE.write(keys)
    (keys / "requests" / f"{SECOND_GRANT.hex()}.request").write_bytes(SECOND_REQUEST)
    (folder / "audio").mkdir()
    cli.site_rules(folder / "site.yaml", rules="approval: not-needed\n")
    return folder


def receipt(plain: bytes, *, grant: bytes | None = None, key=None, **changes: object) -> bytes:
    """The word of `SITE` that it accepted a bundle."""
    fields: dict[str, object] = {
        "grant": SITE.grant if grant is None else grant,
        "sealed_sha256": sha256(b"sealed"),
        "digest": sha256(plain),
        "weights_sha256": sha256(bundles.packed()),
        "verdict": Verdict.ACCEPTED,
        "day": TODAY,
    }
    return sign_receipt(Receipt(**(fields | changes)), key or SITE.identity.signing_key)


def check_unchanged_refusal(
    desk_folder: Path,
    run: Callable[[], Ending],
    code: int,
    word: str,
    *,
    says: str = "",
    input_bytes: int = 0,
    never: Sequence[str] = (MARKER,),
) -> None:
    """A command that is refused as the table says, and has changed no file."""
    before = snapshot(desk_folder)
    ending = run()
    check_refused(ending, code, word, input_bytes=input_bytes, never=never)
    assert says in ending.stderr
    assert snapshot(desk_folder) == before
