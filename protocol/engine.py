"""Flower's programs as child processes: a SuperLink at a coordinator, a SuperNode at each site. Imports no Flower.

Every process of it runs with telemetry and update checks off, TLS on, node keys demanded, and no installation of
packages at run time.
"""

import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocol.errors import Code, ConnectionFault
from protocol.federation.node_keys import lend_to_flower, load_node_key, make_node_key
from protocol.files import write_atomic

CA_FILE, CERTIFICATE_FILE, SERVER_KEY_FILE = "ca.crt", "server.crt", "server.key"
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
"""Every process of the engine calls nobody but the addresses that it was given, and installs nothing."""
_LINK = "coordinator"
_VALID_DAYS = 365
_PATIENCE_S, _LOOK_EVERY_S = 120.0, 3.0


def engine_environment(home: Path) -> dict[str, str]:
    """The environment of the engine's processes; ``home`` is where Flower keeps its files."""
    programs = str(Path(sys.executable).parent)
    return os.environ | QUIET | {"FLWR_HOME": str(home), "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}


def prepare_coordinator(folder: Path, host: str, *, announce: Callable[[str], None]) -> None:
    """Make a coordinator's keys, as `make_coordinator_keys`, and tell its operator what comes next."""
    make_coordinator_keys(folder, host, datetime.now(UTC))
    announce(f"next: give {folder / CA_FILE} to every site, and ask each for its node's public key")


def make_coordinator_keys(folder: Path, host: str, now: datetime) -> None:
    """Make the certificate authority and the TLS key of a SuperLink.

    The authority's own key is not kept: it signs this one certificate.

    Args:
        folder: where to write ``ca.crt``, which the sites need, ``server.crt`` and ``server.key``.
        host: the name or the address by which the sites reach the coordinator.
        now: the present time.

    Raises:
        StorageFault: the folder cannot be written.
    """
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = _name("ECAN-SER federation"), _name(host)
    root = _certificate(issuer, issuer, authority.public_key(), now)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    leaf = _certificate(subject, issuer, server.public_key(), now)
    leaf = leaf.add_extension(x509.SubjectAlternativeName([_alternative_name(host)]), critical=False)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, builder in ((CA_FILE, root), (CERTIFICATE_FILE, leaf)):
        pem = builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        write_atomic(folder / name, pem)
    private = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomic(folder / SERVER_KEY_FILE, private)


def node_command(address: str, ca: Path, key: int, site: Mapping[str, object], runtime_port: int) -> list[str]:
    """The command line of a site's SuperNode; ``key`` is a descriptor that it reads its node key from."""
    settings = " ".join(f"{name}={_toml(value)}" for name, value in site.items())
    return [
        *("flower-supernode", "--superlink", address, "--root-certificates", str(ca)),
        *("--auth-supernode-private-key", f"/dev/fd/{key}", "--node-config", settings),
        *("--host", "127.0.0.1", "--port", str(runtime_port)),
    ]


def join(
    site: Mapping[str, object],
    *,
    address: str,
    ca: Path,
    key: Path,
    home: Path,
    runtime_port: int,
    patience_s: float,
    announce: Callable[[str], None],
) -> None:
    """Run a site's SuperNode until it is ended from outside; without a key, make one and leave it at that.

    A coordinator takes a node that died for alive for up to a minute and lets it in no second time so long, so one
    that ends by itself is started again.

    Args:
        site: what the site's operator says of it.
        address: ``HOST:PORT`` of the coordinator.
        ca: the certificate that it is known by.
        key: the node's key.
        home: where Flower keeps its files.
        runtime_port: a port on loopback, for the node's own processes.
        patience_s: how long a node that is not let in tries.
        announce: tells a person.

    Raises:
        ConnectionFault: it was not let in.
        KeyFault: the node's key cannot be read.
        StorageFault: a key cannot be written.
    """
    if not key.exists():
        public = make_node_key(key)
        announce(
            f"give {public} to the coordinator, over a channel where nobody can swap it; run this command again when "
            "the node is let in"
        )
        return
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    node_key = load_node_key(key)
    began = time.monotonic()
    while True:
        with lend_to_flower(node_key) as lent:
            command = node_command(address, ca, lent, site, runtime_port)
            with engine_process(command, home, descriptors=(lent,)) as process:
                code = process.wait()
        if time.monotonic() - began > patience_s:
            raise ConnectionFault(
                Code.CONNECTION,
                f"The node ended with Flower's code {code}; check the address, ca.crt, and that the coordinator let "
                "the node's public key in.",
            )
        time.sleep(_LOOK_EVERY_S)


@contextmanager
def coordinator(keys: Path, address: str, home: Path) -> Iterator["Coordinator"]:
    """Run a SuperLink as long as the block lasts.

    Args:
        keys: folder that `make_coordinator_keys` made.
        address: ``HOST:PORT`` to listen on.
        home: where Flower keeps its files and its log.

    Raises:
        ConnectionFault: it did not start.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    host, _, port = address.rpartition(":")
    _configure(home, address, keys / CA_FILE)
    command = [
        *("flower-superlink", "--ssl-ca-certfile", str(keys / CA_FILE)),
        *("--ssl-certfile", str(keys / CERTIFICATE_FILE), "--ssl-keyfile", str(keys / SERVER_KEY_FILE)),
        *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
        *("--host", host, "--port", port, "--database", str(home / "superlink.db")),
    ]
    with (home / "superlink.log").open("wb") as log, engine_process(command, home, log) as process:
        link = Coordinator(home, process)
        link.wait_until_up()
        yield link


@contextmanager
def engine_process(
    command: Sequence[str], home: Path, log: Any = None, descriptors: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """One process of the engine, ended with the block together with those that it started; SIGTERM ends it as well."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    environment = engine_environment(home)
    process = subprocess.Popen(
        command, env=environment, stdout=log, stderr=log, start_new_session=True, pass_fds=descriptors
    )
    try:
        yield process
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_process(process)
        signal.signal(signal.SIGTERM, before)


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """End a process of the engine and those that it started: they are a session of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


class Coordinator:
    """A SuperLink that runs, as its operator speaks to it."""

    def __init__(self, home: Path, process: "subprocess.Popen[bytes]") -> None:
        self._home = home
        self._process = process

    def wait_until_up(self) -> None:
        """Wait until the SuperLink answers.

        Raises:
            ConnectionFault: it ended, or does not answer.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while self._asked("list", _LINK) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ConnectionFault(
                    Code.CONNECTION, f"The SuperLink did not start; see {self._home / 'superlink.log'}."
                )
            time.sleep(0.5)

    def register(self, public_key: Path) -> None:
        """Let a node in.

        Raises:
            ConnectionFault: Flower does not take the key.
        """
        if self._asked("supernode", "register", str(public_key), _LINK) is None:
            raise ConnectionFault(
                Code.CONNECTION, f"Flower does not take the node key {public_key}; let its site make one."
            )

    def nodes(self) -> list[dict[str, Any]]:
        """What is known of the nodes that were let in."""
        found: list[dict[str, Any]] = (self._asked("supernode", "list", _LINK) or {}).get("nodes", [])
        return found

    def start(self, app: Path, settings: Mapping[str, object]) -> str:
        """Start a run; returns Flower's number of it.

        Args:
            app: folder of a Flower app.
            settings: its configuration, in place of what its ``pyproject.toml`` says.

        Raises:
            ConnectionFault: Flower does not start it.
        """
        config = self._home / "run.toml"
        config.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in settings.items()))
        told = self._asked("run", str(app), _LINK, "--run-config", str(config))
        if told is None or "run-id" not in told:
            raise ConnectionFault(
                Code.CONNECTION, f"Flower does not start the run; see {self._home / 'superlink.log'}."
            )
        return str(told["run-id"])

    def status(self, run: str) -> str:
        """How a run stands: such as ``running`` or ``finished:completed``."""
        runs = (self._asked("list", _LINK, "--run-id", run) or {}).get("runs", [])
        return str(runs[0]["status"]) if runs else "unknown"

    def wait(self, run: str) -> None:
        """Wait until a run has ended.

        Raises:
            ConnectionFault: it ended without a model, or the SuperLink did.
        """
        while not (status := self.status(run)).startswith("finished"):
            if self._process.poll() is not None:
                raise self._fault("The SuperLink ended")
            self._follow(run)
            time.sleep(_LOOK_EVERY_S)
        if status != "finished:completed":
            raise ConnectionFault(
                Code.CONNECTION, f"The federation ended as {status}; see {self._home / 'superlink.log'}."
            )

    def _follow(self, run: str) -> None:
        """Wait as long as a run's log goes on: one process, where asking again and again starts one every time."""
        command = ["flwr", "log", run, _LINK, "--stream"]
        none = subprocess.DEVNULL
        subprocess.run(command, env=engine_environment(self._home), stdout=none, stderr=none, check=False)

    def _fault(self, what: str) -> ConnectionFault:
        return ConnectionFault(Code.CONNECTION, f"{what}; see {self._home / 'superlink.log'}.")

    def _asked(self, *words: str) -> dict[str, Any] | None:
        """What ``flwr`` answers, None where it refuses."""
        done = subprocess.run(
            ["flwr", *words, "--format", "json"],
            env=engine_environment(self._home),
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            told = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            return None
        return told if done.returncode == 0 and told.get("success", True) else None


def _configure(home: Path, address: str, ca: Path) -> None:
    link = f"address = {_toml(address)}\nroot-certificates = {_toml(str(ca.resolve()))}\n"
    (home / "config.toml").write_text(f'[superlink]\ndefault = "{_LINK}"\n\n[superlink.{_LINK}]\n{link}')


def _toml(value: object) -> str:
    """A value as TOML writes it, which is as JSON does for texts, numbers and truths."""
    return json.dumps(str(value) if isinstance(value, Path) else value)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
    return builder.not_valid_after(now.astimezone(UTC) + timedelta(days=_VALID_DAYS))
