"""Serve ciphertext: the exporter is the one source process with a socket.

    python -I -m source_site.release.exporter --keys KEYS --listen HOST:PORT [--grant HEX ...]

`ecan-source export` becomes this process by exec: a fresh interpreter that has never seen a model. It loads the TLS
key and the online key. Then it confines itself: of KEYS it can only read ``outbox/`` and ``public/`` and write
``ledger/``. It shows that the release key, ``released/`` and the run are out of its reach, and only then listens. It
may answer calls, but it may not make one.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from ecan_core.command_line.console import Narrator, run
from ecan_core.errors import EcanError
from protocol.announce import Announce
from protocol.errors import Code, ProtocolError, RefusedError, TimedOutError
from protocol.files import read_bounded
from protocol.identity.identities import ServerIdentity
from protocol.identity.key_files import ONLINE_KEY_FILE, SIGNING_KEY_FILE, TLS_KEY_FILE, load_server_identity
from protocol.identity.passphrase import MAX_PASSPHRASE_BYTES
from protocol.ledger.grants import GrantRecord, GrantState
from protocol.sandbox import confine, network, probes
from protocol.statements.revocations import MAX_REVOCATIONS_BYTES
from protocol.wire.address import Address, parse_address
from source_site.keys.folder import (
    LEDGER_FOLDER,
    OUTBOX,
    PUBLIC,
    RELEASED,
    RETIRED,
    open_ledger,
    refuse_half_rotated,
    revocations_file,
)
from source_site.release.outbox import clear_ended, read_kept_request, summary
from source_site.release.revoke import refuse_withdrawn

_TERMINATED = 143
_RESOLVER = ("/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf")
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ", "JOURNAL_STREAM", "ECAN_DEBUG")


def become_exporter(
    keys_dir: Path,
    listen: str,
    grants: Sequence[bytes],
    *,
    timeout_s: float,
    form: str,
    quiet: bool,
    passphrase: bytes | None,
    out_of_reach: Sequence[Path],
    unconfined: bool,
) -> NoReturn:
    """Replace this process by an exporter.

    Args:
        keys_dir: the source's keys.
        listen: ``HOST:PORT``.
        grants: what is served, 16 bytes each; none means all that are open.
        timeout_s: how long to wait for receipts, in seconds.
        form: ``text`` or ``json``.
        quiet: say nothing but errors.
        passphrase: what the keys are encrypted with; it goes through a pipe.
        out_of_reach: files and folders that the exporter must not be able to open, such as the run.
        unconfined: whether to go on where it cannot be confined.
    """
    words = ["--keys", str(keys_dir.resolve()), "--listen", listen, "--timeout", str(timeout_s), "--format", form]
    words += [word for grant in grants for word in ("--grant", grant.hex())]
    words += [word for path in out_of_reach for word in ("--out-of-reach", str(path.resolve()))]
    words += ["--quiet"] * quiet + ["--unconfined"] * unconfined
    if passphrase is not None:
        reading, writing = os.pipe()
        os.write(writing, passphrase)
        os.close(writing)
        os.set_inheritable(reading, True)
        words += ["--passphrase-from", str(reading)]
    surroundings = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-I", "-m", "source_site.release.exporter", *words], surroundings)


def export(
    keys_dir: Path,
    grants: Sequence[bytes],
    address: Address,
    identity: ServerIdentity,
    *,
    announce: Announce,
    timeout_s: float | None,
) -> tuple[GrantRecord, ...]:
    """Serve grants until each has ended or the time is up.

    Then clear the outbox of those that have ended.

    Args:
        keys_dir: the source's keys, of which ledger, outbox and public statements are used.
        grants: what is served, 16 bytes each; none means all that are open.
        address: where to listen.
        identity: the source's, without its release key.
        announce: told what is served and where.
        timeout_s: how long to serve, in seconds; None serves until every grant has ended.

    Returns:
        The grants as they are at the end; none if none is open and none was named.

    Raises:
        RefusedError: a grant is not in the ledger, or a model or the release key is withdrawn.
        FileError: a file of the outbox is missing or damaged.
        PeerError: the address cannot be listened on.
    """
    from source_site.release.server import serve  # gRPC starts threads when it is imported: the walls must stand before

    ledger = open_ledger(keys_dir)
    known = {record.grant: record for record in ledger.records()}
    wanted = dict.fromkeys(grants) or [grant for grant, record in known.items() if not record.state.has_ended]
    if not wanted:
        announce("no grant is open, so there is nothing to serve; issue one with `ecan-source grant`")
        return ()
    if not known.keys() >= set(wanted):
        raise RefusedError(Code.GRANT, "No such grant is open; issue one with `ecan-source grant`.")
    chosen = [known[grant] for grant in wanted]
    lasting = [record for record in chosen if not record.state.has_ended]
    refuse_withdrawn(keys_dir, identity.fingerprint, lasting)
    requests = [read_kept_request(keys_dir, record.grant) for record in lasting]
    listed = revocations_file(keys_dir)
    revocations = read_bounded(listed, MAX_REVOCATIONS_BYTES) if listed.exists() else b""
    for record in chosen:
        announce(f"serving grant {record.grant.hex()} to site {record.audience.hex()}")
    try:
        return serve(
            [record.grant for record in chosen],
            requests,
            ledger,
            identity,
            keys_dir / OUTBOX,
            revocations,
            address,
            announce=announce,
            timeout_s=timeout_s,
        )
    finally:
        clear_ended(keys_dir, ledger.records())


def wall_off(keys_dir: Path, out_of_reach: Sequence[Path], *, unconfined: bool) -> None:
    """Confine this process to what an exporter needs, and show that it is.

    Raises:
        ContainmentError: the kernel cannot, or the walls do not hold.
    """
    (keys_dir / PUBLIC).mkdir(mode=0o700, exist_ok=True)
    confine.confine(
        readable=[
            *confine.code_paths("source_site", "ecan_core"),
            *(path for path in map(Path, _RESOLVER) if path.exists()),
            keys_dir / PUBLIC,
        ],
        writable=[keys_dir / LEDGER_FOLDER],
        removable=[keys_dir / OUTBOX],
        network=network.Network.SERVE,
        required=not unconfined,
    )
    if not unconfined:
        hidden = (SIGNING_KEY_FILE, TLS_KEY_FILE, ONLINE_KEY_FILE, RELEASED, RETIRED)
        probes.probe_denied(
            [keys_dir, *(keys_dir / name for name in hidden), *out_of_reach], network=network.Network.SERVE
        )


def report(records: Sequence[GrantRecord], *, form: str, narrator: Narrator) -> None:
    """Report what became of grants, to machines and people."""
    if form == "json":
        click.echo(json.dumps({"grants": [summary(record) for record in records]}))
    for record in records:
        narrator.say(f"exported {record.size} bytes, SHA-256 {record.sealed_sha256.hex()}")
        if record.state is GrantState.CLOSED:
            narrator.say("the target verified it and sent its receipt: this grant is closed")


def require_receipts(records: Sequence[GrantRecord], timeout_s: float) -> None:
    """Refuse grants that did not end with a receipt.

    Raises:
        TimedOutError: one is still open.
        RefusedError: one was denied or has expired.
    """
    if any(not record.state.has_ended for record in records):
        raise TimedOutError(
            Code.DEADLINE, f"No receipt came within {timeout_s:g} s; run the command again to serve the same bundle."
        )
    for record in records:
        if record.state is not GrantState.CLOSED:
            raise RefusedError(
                Code.STATE,
                f"The grant {record.grant.hex()} ended without a receipt ({record.state.lower()}); "
                "ask the target site for a new request.",
            )


@click.command()
@click.option("--keys", "keys_dir", type=click.Path(path_type=Path), required=True)
@click.option("--listen", required=True)
@click.option("--grant", "grants", multiple=True)
@click.option("--timeout", "timeout_s", type=float, required=True)
@click.option("--format", "form", default="text")
@click.option("--quiet", is_flag=True)
@click.option("--passphrase-from", "passphrase_fd", type=int)
@click.option("--out-of-reach", multiple=True, type=click.Path(path_type=Path))
@click.option("--unconfined", is_flag=True)
def exporter(
    keys_dir: Path,
    listen: str,
    grants: tuple[str, ...],
    timeout_s: float,
    form: str,
    quiet: bool,
    passphrase_fd: int | None,
    out_of_reach: tuple[Path, ...],
    unconfined: bool,
) -> None:
    """Serve grants; started by `ecan-source export`."""
    signal.signal(signal.SIGTERM, _terminate)
    address = parse_address(listen)
    passphrase = None if passphrase_fd is None else os.read(passphrase_fd, MAX_PASSPHRASE_BYTES)
    refuse_half_rotated(keys_dir)
    identity = load_server_identity(keys_dir, passphrase)
    wall_off(keys_dir, out_of_reach, unconfined=unconfined)
    narrator = Narrator(quiet=quiet)
    chosen = [bytes.fromhex(grant) for grant in grants]
    records = export(keys_dir, chosen, address, identity, announce=narrator.say, timeout_s=timeout_s)
    require_receipts(records, timeout_s)
    report(records, form=form, narrator=narrator)


def main() -> NoReturn:
    """Run the exporter; its files and memory are the owner's alone."""
    os.umask(0o077)
    confine.forbid_dumps()
    run(exporter, prog_name="ecan-source export", error_types=(EcanError, ProtocolError))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End as after Ctrl-C.

    The grants stay as they are, and the same command goes on.
    """
    with contextlib.suppress(OSError):  # not `print`, which the signal may have interrupted
        os.write(2, b"error: terminated; run the same command again to go on.\n")
    raise click.exceptions.Exit(_TERMINATED)


if __name__ == "__main__":
    main()
