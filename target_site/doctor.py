"""Find what keeps this site from working, with one fix per fault.

One check looks at one thing.

The checks have the order in which things are needed: the programs, the kernel, the disk, this site's keys and clock.
Where a source is named, the way to it follows step by step: its name, its port, TLS, who answers. Checks that a failed
step makes pointless are left out. Nothing is changed, and nobody but the named source is called.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from ecan_core.command_line.console import without_foreign
from ecan_core.errors import EcanError
from protocol.encoders.registry import ENCODERS, AddedEncoder, Encoder
from protocol.encoders.store import added_hashes, default_folder, describe_added, require_encoder, state_of
from protocol.errors import Code, ContainmentError, FileError, KeyFileError, PeerError, ProtocolError, UnauthenticError
from protocol.ledger.grants import SECONDS_PER_DAY
from protocol.sandbox import confine, landlock
from protocol.sandbox import network as network_module
from protocol.wire.address import Address, parse_address
from target_site.model.encoders import PROGRAM

MIN_FREE_BYTES = 256 << 20
"""Less than this is a fault: a feature cache and a model must fit."""
GOOD_FREE_BYTES = 2 << 30
MIN_PYTHON = (3, 11)
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "grpc_proxy")
CONNECT_TIMEOUT_S = 10.0


class State(StrEnum):
    """Name how a check ended."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Describe what one check found.

    Attributes:
        check: what was looked at, in a few words.
        state: how it stands.
        said: what was found.
        fix: what to do about it; empty where nothing is to be done.
        exit_code: what a command would end with because of it; 0 unless it is a fault.
    """

    check: str
    state: State
    said: str
    fix: str = ""
    exit_code: int = 0


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Describe what is to be checked.

    Attributes:
        keys_dir: this site's keys; None leaves them out.
        out: where models are to be written.
        source: HOST:PORT of a source; None leaves the network out.
        trust: the source's fingerprint or its identity file; None takes any source.
        config: the site's rules; None for none.
        encoders: folder of public encoders; None takes the user's.
        now: the time that this machine believes in.
    """

    keys_dir: Path | None = None
    out: Path = Path()
    source: str | None = None
    trust: str | None = None
    config: Path | None = None
    encoders: Path | None = None
    now: datetime

    @property
    def today(self) -> int:
        """Return the present day, in days since 1970."""
        return int(self.now.timestamp()) // SECONDS_PER_DAY


class Note(NamedTuple):
    """Hold what is no fault and yet worth knowing, and what to do about it."""

    said: str
    fix: str


Check = Callable[[Circumstances], str | Note]
"""Looks at one thing: says that all is well, gives a note, or raises the fault, whose message names the remedy."""


def examine(circumstances: Circumstances) -> Iterator[Finding]:
    """Yield every check's finding, as soon as it is there."""
    checks = list(_LOCAL)
    if circumstances.keys_dir is not None:
        checks += _OF_KEYS
    for name, check in checks:
        yield _finding(name, check, circumstances)
    if circumstances.source is None:
        return
    for name, check in _OF_NETWORK:
        finding = _finding(name, check, circumstances)
        yield finding
        if finding.state is State.FAULT:
            return  # the later steps go the same way


class SiteError(EcanError):
    """Report that a site does not work as it is.

    The command ends with the code that other commands would end with.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def raise_first_fault(findings: Sequence[Finding]) -> None:
    """Raise the first fault, which the others may follow from.

    Raises:
        SiteError: there is one.
    """
    faults = [finding for finding in findings if finding.state is State.FAULT]
    if faults:
        first = faults[0]
        raise SiteError(
            f"{len(faults)} of {len(findings)} checks failed, first {first.check}; {first.fix}.", first.exit_code
        )


def _finding(name: str, check: Check, circumstances: Circumstances) -> Finding:
    try:
        found = check(circumstances)
    except (ProtocolError, EcanError) as fault:
        said, _, fix = str(fault).rstrip(".").rpartition("; ")
        return Finding(check=name, state=State.FAULT, said=said, fix=fix, exit_code=fault.exit_code)
    if isinstance(found, Note):
        return Finding(check=name, state=State.NOTE, said=found.said, fix=found.fix)
    return Finding(check=name, state=State.OK, said=found)


# The programs. -------------------------------------------------------------------------------------------------------


def _programs(_: Circumstances) -> str:
    if sys.version_info < MIN_PYTHON:
        raise EcanError(f"Python {sys.version.split()[0]} is too old; install Python 3.11 or newer.")
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in ("ecan-ser", "torch", "cryptography", "grpcio")
    ]
    return f"Python {sys.version.split()[0]}, {', '.join(versions)}"


def _own_packages(_: Circumstances) -> str:
    """Check that our packages are ours.

    They have plain names, which other distributions may have as well.
    """
    ours = Path(__file__).parent.parent
    for name in ("ecan_core", "protocol", "target_site"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).parent.parent != ours:
            raise _foreign(name)
        if name in {dist.name.lower().replace("-", "_") for dist in importlib.metadata.distributions()}:
            raise _foreign(name)
    return f"all of {ours}"


def _foreign(name: str) -> EcanError:
    return EcanError(
        f"Another distribution called {name!r} is installed and mixes its files with ours; {without_foreign(name)}."
    )


def _sound_libraries(_: Circumstances) -> str:
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:
        raise EcanError(f"The sound libraries do not load ({error}); reinstall soundfile and soxr.") from error
    return f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}"


# The machine. --------------------------------------------------------------------------------------------------------


def _kernel(_: Circumstances) -> str:
    """Check that a process can be confined here.

    It is tried in a process of its own, because confinement cannot be undone.
    """
    what = _fails_in_a_process(lambda: confine.confine(readable=(), network=network_module.Network.NONE))
    if what is not None:
        raise ContainmentError(Code.CONTAINMENT, what)
    alone = _fails_in_a_process(_leave_network) is None
    network = "" if alone else "; it stays in the machine's network, which its filter keeps it from"
    return (
        f"Landlock {landlock.landlock_abi()} and seccomp: recordings are read at level {3 if alone else 2} of "
        f"3{network}"
    )


def _leave_network() -> None:
    if not confine.leave_network():
        raise ContainmentError(Code.CONTAINMENT, "no network namespace can be made")


def _fails_in_a_process(attempt: Callable[[], object]) -> str | None:
    """Tell why an attempt fails in a forked process; None if it does not."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(writing, 1)  # walls close every other descriptor
            attempt()
            status = 0
        except ProtocolError as fault:
            os.write(1, str(fault).encode())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if status == 0:
        return None
    return said or "The kernel ends a process that walls itself in; use Linux 5.13 or newer on x86_64 or aarch64."


def _encoders(circumstances: Circumstances) -> str | Note:
    folder = circumstances.encoders or default_folder()
    brought = [AddedEncoder(sha256=name) for name in added_hashes(folder)]
    encoders: tuple[Encoder, ...] = (*ENCODERS.values(), *brought)
    states = {encoder.id: state_of(folder, encoder) for encoder in encoders}
    for encoder in encoders:
        if states[encoder.id] == "damaged":
            require_encoder(folder, encoder, PROGRAM)
    missing = [f"{known.id} ({known.purpose})" for known in ENCODERS.values() if states[known.id] != "here"]
    if missing:
        return Note(
            f"not in {folder}: {', '.join(missing)}", f"run `{PROGRAM} encoder fetch` for what models here need"
        )
    names = [*ENCODERS, *(describe_added(folder, encoder).name for encoder in brought)]
    return f"{', '.join(names)} are in {folder}"


def _disk(circumstances: Circumstances) -> str | Note:
    folder = next(path for path in (circumstances.out.resolve(), *circumstances.out.resolve().parents) if path.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FileError(
            Code.STORAGE, f"Nothing can be written to {folder} ({error.strerror}); choose another place for --out."
        ) from error
    free = shutil.disk_usage(folder).free
    said = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < MIN_FREE_BYTES:
        raise FileError(
            Code.STORAGE, f"Only {free >> 20} MiB are free at {folder}; make room for {MIN_FREE_BYTES >> 20} MiB."
        )
    if free < GOOD_FREE_BYTES:
        return Note(said, "keep 2 GiB free for some ten thousand recordings")
    return said


# The keys and the clock. ---------------------------------------------------------------------------------------------


def _keys(circumstances: Circumstances) -> str:
    from protocol.identity.key_files import PRIVATE_FILES, is_locked, load_identity, refuse_exposed
    from target_site.trust.keys import own_fingerprint
    from target_site.trust.state import load_trust_state

    assert circumstances.keys_dir is not None
    fingerprint = own_fingerprint(circumstances.keys_dir)
    for name in PRIVATE_FILES:
        if (circumstances.keys_dir / name).exists():
            refuse_exposed(circumstances.keys_dir / name)
    if not is_locked(circumstances.keys_dir):
        load_identity(circumstances.keys_dir)
    load_trust_state(circumstances.keys_dir)
    return f"this site is {fingerprint.hex()}"


def _clock(circumstances: Circumstances) -> str:
    """Check the clock against the dates of this site's own certificate.

    It shows a clock that is wrong by days.
    """
    from protocol.identity.key_files import load_public

    assert circumstances.keys_dir is not None
    certificate, now = load_public(circumstances.keys_dir).certificate, circumstances.now
    if now < certificate.not_valid_before_utc:
        raise KeyFileError(
            Code.NOT_YET,
            f"The clock says {now:%Y-%m-%d %H:%M} UTC, which is before this site's keys were made "
            f"({certificate.not_valid_before_utc:%Y-%m-%d}); set the clock, and keep it with a time service.",
        )
    if now > certificate.not_valid_after_utc:
        raise KeyFileError(
            Code.EXPIRED,
            f"This site's certificate ended on {certificate.not_valid_after_utc:%Y-%m-%d} and the clock says "
            f"{now:%Y-%m-%d}; set the clock, or make new keys with `ecan-target request` and a new --keys folder.",
        )
    return f"{now:%Y-%m-%d %H:%M} UTC, within the life of this site's certificate"


def _revocations(circumstances: Circumstances) -> str:
    """Tell how old the newest revocation list of every source is.

    A list that the rules call too old is a fault.
    """
    from target_site.site_policy import read_policy
    from target_site.trust.freshness import age_of_list, refuse_stale
    from target_site.trust.state import NONE, load_trust_state

    assert circumstances.keys_dir is not None
    try:
        state, today = load_trust_state(circumstances.keys_dir), circumstances.today
    except UnauthenticError:
        return "not known: see the keys"
    oldest = None if circumstances.config is None else read_policy(circumstances.config).oldest_revocations_days
    said = []
    for source in (one for one in state.sources if one.successor == NONE):
        refuse_stale(circumstances.keys_dir, source.issuer, oldest_days=oldest, today=today)
        age = age_of_list(state, source.issuer, today)
        said.append(f"{source.issuer.hex()[:16]}... {'none seen' if age is None else f'{age} days old'}")
    return ", ".join(said) or "nothing was received from any source yet"


# The way to the source. ----------------------------------------------------------------------------------------------


def _address(circumstances: Circumstances) -> Address:
    assert circumstances.source is not None
    return parse_address(circumstances.source)


def _proxies(_: Circumstances) -> str | Note:
    names = [name for name in PROXY_VARIABLES if os.environ.get(name)]
    if not names:
        return "none is set"
    said = f"{', '.join(names)} is set and not used: this site dials the source itself"
    return Note(said, "open the firewall for the source's address, or carry the file by hand")


def _name(circumstances: Circumstances) -> str:
    address = _address(circumstances)
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise PeerError(
            Code.ADDRESS,
            f"The name {address.host} is not known here ({error.strerror}); correct it, ask for this site's name "
            "server, or use the source's address in numbers.",
        ) from error
    return f"{address.host} is {', '.join(sorted({str(place[0]) for *_, place in found}))}"


def _port(circumstances: Circumstances) -> str:
    address = _address(circumstances)
    try:
        socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S).close()
    except ConnectionRefusedError as error:
        raise PeerError(
            Code.CONNECTION,
            f"Nobody listens at {address}; ask the source's operator whether `ecan-source export --listen` runs there.",
        ) from error
    except OSError as error:
        raise PeerError(
            Code.CONNECTION,
            f"{address} does not answer ({error.strerror or 'no reply'}); open the firewall for outgoing TCP to it.",
        ) from error
    return f"{address} accepts connections"


def _source(circumstances: Circumstances) -> str:
    """Check TLS, and who answers.

    A proxy that opens TLS on the way shows here.
    """
    from cryptography import x509

    from protocol.identity.identities import check_endorsement
    from protocol.wire.channel import shown_certificate, trusted_certificate
    from target_site.trust.acceptance import trusted_fingerprint

    address, now = _address(circumstances), circumstances.now
    data = shown_certificate(address, CONNECT_TIMEOUT_S)
    shown = x509.load_der_x509_certificate(data)
    try:
        endorsement = check_endorsement(data)
    except UnauthenticError as error:
        raise PeerError(
            Code.IDENTITY,
            f"{address} shows a certificate of {shown.issuer.rfc4514_string() or 'nobody'!r}, which is no ECAN source: "
            "another server, or a proxy that opens TLS on the way; have the address exempted from TLS inspection, "
            "or carry the file by hand.",
        ) from error
    if not shown.not_valid_before_utc <= now <= shown.not_valid_after_utc:
        raise PeerError(
            Code.IDENTITY,
            f"The certificate of {address} is for {shown.not_valid_before_utc:%Y-%m-%d} to "
            f"{shown.not_valid_after_utc:%Y-%m-%d} and the clock says {now:%Y-%m-%d}; "
            "set this machine's clock, or have the source rotate its keys.",
        )
    if circumstances.trust is None:
        return f"{address} is {endorsement.role} {endorsement.fingerprint.hex()}; compare it over the telephone"
    trusted = trusted_fingerprint(circumstances.trust)
    trusted_certificate(address, trusted, CONNECT_TIMEOUT_S)
    return f"{address} is the trusted source {trusted.hex()}"


_LOCAL: tuple[tuple[str, Check], ...] = (
    ("programs", _programs),
    ("packages", _own_packages),
    ("sound libraries", _sound_libraries),
    ("kernel", _kernel),
    ("disk", _disk),
    ("public encoders", _encoders),
)
_OF_KEYS: tuple[tuple[str, Check], ...] = (("keys", _keys), ("clock", _clock), ("revocation lists", _revocations))
_OF_NETWORK: tuple[tuple[str, Check], ...] = (
    ("proxies", _proxies),
    ("source's name", _name),
    ("source's port", _port),
    ("source's identity", _source),
)
