"""Faults are planted one at a time, for real, and the real command must name each with its fix."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from protocol.encoders.registry import WHISPER
from protocol.encoders.store import place_of
from protocol.identity.identities import Identity, Role, create_identity, private_pem
from protocol.identity.key_files import write_identity
from target_site.trust.state import STATE_FILE, create_trust_state
from tests.support.loopback import needs_loopback

pytestmark = pytest.mark.slow

COMMAND = (str(Path(sys.executable).with_name("ecan-target")), "doctor")
PAST, FUTURE = datetime(2010, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)
NO_NETWORK = ("unshare", "--map-root-user", "--user", "--net")


def doctor(*arguments: object, before: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    words = [*before, *COMMAND, "--format", "json", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=os.environ | environment)


def fault(run: subprocess.CompletedProcess[str]) -> tuple[str, str, int]:
    """The one check that failed, all that is said of it, and the exit code; every check before it was well."""
    findings = json.loads(run.stdout)["findings"]
    (bad,) = [finding for finding in findings if finding["state"] == "fault"]
    assert bad["fix"]
    assert run.returncode == bad["exit_code"]
    assert run.stderr.startswith(f"error: 1 of {len(findings)} checks failed, first {bad['check']}; {bad['fix']}")
    return bad["check"], bad["said"] + " " + bad["fix"], run.returncode


def keys_made(folder: Path, now: datetime | None = None) -> Path:
    create_trust_state(folder)
    write_identity(create_identity(Role.TARGET, now or datetime.now(UTC)), folder)
    return folder


@pytest.fixture
def keys(tmp_path) -> Path:
    return keys_made(tmp_path / "keys")


def test_a_site_without_faults_is_told_so(keys, tmp_path):
    run = doctor("--keys", keys, "--out", tmp_path)
    states = {finding["check"]: finding["state"] for finding in json.loads(run.stdout)["findings"]}
    assert (run.returncode, run.stderr) == (0, "")
    assert list(states) == [
        "programs",
        "packages",
        "sound libraries",
        "kernel",
        "disk",
        "public encoders",
        "keys",
        "clock",
        "revocation lists",
    ]
    assert set(states.values()) <= {"ok", "note"}


def test_people_read_lines_and_the_fix_stands_below_its_fault(keys):
    (keys / "tls.key").chmod(0o644)
    run = subprocess.run([*COMMAND, "--keys", str(keys)], capture_output=True, text=True, timeout=60)
    lines = run.stdout.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("fault keys: "))
    assert lines[at + 1] == f"      -> run `chmod 600 {keys / 'tls.key'}`"


# The machine. --------------------------------------------------------------------------------------------------------


def test_a_foreign_package_of_our_name_is_named(tmp_path):
    info = tmp_path / "protocol-3.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: protocol\nVersion: 3.1.0\n")
    check, said, code = fault(doctor(PYTHONPATH=str(tmp_path)))
    assert (check, code) == ("packages", 1)
    assert "pip uninstall protocol" in said


def test_a_broken_sound_library_is_named(tmp_path):
    (tmp_path / "soundfile.py").write_text("raise OSError('libsndfile.so.1: cannot open shared object file')\n")
    check, said, _ = fault(doctor(PYTHONPATH=str(tmp_path)))
    assert check == "sound libraries"
    assert "libsndfile.so.1" in said
    assert "reinstall" in said


def test_a_missing_encoder_is_a_note_that_says_how_to_get_it(tmp_path):
    run = doctor("--encoders", tmp_path)
    (finding,) = (one for one in json.loads(run.stdout)["findings"] if one["check"] == "public encoders")
    assert (run.returncode, finding["state"]) == (0, "note")
    assert "whisper-tiny.en (front end stats-whisper-v1)" in finding["said"]
    assert "ecan-target encoder fetch" in finding["fix"]


def test_an_altered_encoder_is_a_fault(tmp_path):
    place_of(tmp_path, WHISPER).write_bytes(b"something else")
    check, said, code = fault(doctor("--encoders", tmp_path))
    assert (check, code) == ("public encoders", 11)
    assert "not the public encoder whisper-tiny.en" in said


def test_a_kernel_without_walls_is_named():
    check, said, code = fault(doctor(before=(sys.executable, "-m", "tests.support.old_kernel")))
    assert (check, code) == ("kernel", 15)
    assert "Landlock" in said


@pytest.mark.parametrize(
    ("options", "words"), [("size=1m", "make room"), ("size=1g,ro", "choose another place")], ids=["full", "read-only"]
)
def test_a_disk_that_takes_nothing_is_named(tmp_path, options, words):
    script = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    before = ("unshare", "--map-root-user", "--user", "--mount", "sh", "-c", script, str(tmp_path))
    check, said, code = fault(doctor("--out", tmp_path / "new" / "model", before=before))
    assert (check, code) == ("disk", 16)
    assert words in said


# The keys and the clock. ---------------------------------------------------------------------------------------------


def test_a_key_that_others_can_read_is_named(keys):
    (keys / "sealing.key").chmod(0o640)
    check, said, code = fault(doctor("--keys", keys))
    assert (check, code) == ("keys", 3)
    assert "chmod 600" in said


def test_a_lost_memory_is_named(keys):
    (keys / STATE_FILE).unlink()
    check, said, code = fault(doctor("--keys", keys))
    assert (check, code) == ("keys", 10)
    assert "trust reset" in said


@pytest.mark.parametrize(("made", "words"), [(FUTURE, "before this site's keys were made"), (PAST, "ended on")])
def test_a_clock_that_does_not_fit_the_keys_is_named(tmp_path, made, words):
    check, said, _ = fault(doctor("--keys", keys_made(tmp_path / "keys", made)))
    assert check == "clock"
    assert words in said
    assert "set the clock" in said


# The way to the source. ----------------------------------------------------------------------------------------------


def test_a_name_that_nobody_knows_is_named():
    check, said, code = fault(doctor("--from", "source.invalid:7443", before=NO_NETWORK))
    assert (check, code) == ("source's name", 4)
    assert "name server" in said


def test_a_firewall_is_named():
    """In a namespace of its own nothing is routed; the address is one that is kept for documentation."""
    check, said, code = fault(doctor("--from", "192.0.2.7:7443", before=NO_NETWORK))
    assert (check, code) == ("source's port", 4)
    assert "firewall" in said


@needs_loopback
def test_a_port_where_nobody_listens_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    check, said, code = fault(doctor("--from", f"127.0.0.1:{port}"))
    assert (check, code) == ("source's port", 4)
    assert "ecan-source export --listen" in said


@needs_loopback
def test_a_server_of_another_kind_is_named():
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        check, said, code = fault(doctor("--from", f"127.0.0.1:{port}"))
    assert (check, code) == ("source's identity", 4)
    assert "does not speak TLS 1.3" in said


@needs_loopback
def test_a_proxy_that_opens_tls_is_named_with_its_issuer(tmp_path):
    with listening(*proxy_certificate(), tmp_path) as port:
        check, said, code = fault(doctor("--from", f"127.0.0.1:{port}"))
    assert (check, code) == ("source's identity", 4)
    assert "CN=Example Inspection CA" in said
    assert "exempted from TLS inspection" in said


@needs_loopback
def test_another_source_than_the_trusted_one_is_named(tmp_path):
    there, trusted = (create_identity(Role.SOURCE, datetime.now(UTC)) for _ in range(2))
    with listening(*shown_by(there), tmp_path) as port:
        address = f"127.0.0.1:{port}"
        assert doctor("--from", address, "--trust", there.fingerprint.hex()).returncode == 0
        check, said, code = fault(doctor("--from", address, "--trust", trusted.fingerprint.hex()))
    assert (check, code) == ("source's identity", 4)
    assert there.fingerprint.hex() in said
    assert trusted.fingerprint.hex() in said


@needs_loopback
@pytest.mark.parametrize("made", [PAST, FUTURE])
def test_a_certificate_of_another_time_is_named(tmp_path, made):
    with listening(*shown_by(create_identity(Role.SOURCE, made)), tmp_path) as port:
        check, said, _ = fault(doctor("--from", f"127.0.0.1:{port}"))
    assert check == "source's identity"
    assert "clock" in said


@needs_loopback
def test_a_proxy_setting_is_noted_and_not_used(tmp_path):
    with listening(*shown_by(create_identity(Role.SOURCE, datetime.now(UTC))), tmp_path) as port:
        run = doctor("--from", f"127.0.0.1:{port}", HTTPS_PROXY="http://127.0.0.1:9")
    assert run.returncode == 0
    (note,) = [finding for finding in json.loads(run.stdout)["findings"] if finding["check"] == "proxies"]
    assert note["state"] == "note"
    assert "HTTPS_PROXY" in note["said"]


def shown_by(identity: Identity) -> tuple[bytes, bytes]:
    return identity.certificate_pem, identity.tls_key_pem


def proxy_certificate() -> tuple[bytes, bytes]:
    """What a company's TLS inspection puts in the place of a server's certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example Inspection CA")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(PAST).not_valid_after(FUTURE)
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM), private_pem(key)


@contextlib.contextmanager
def listening(certificate: bytes, key: bytes, folder: Path) -> Iterator[int]:
    """A TLS 1.3 server that shows a certificate and says nothing."""
    (folder / "shown.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "shown.pem")
    context.set_alpn_protocols(["h2"])

    def greet(near: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(near, server_side=True) as encrypted:
            encrypted.recv(1)

    with _served(greet) as port:
        yield port


@contextlib.contextmanager
def answering(said: bytes) -> Iterator[int]:
    """A server that answers whatever comes with the same bytes."""

    def answer(near: socket.socket) -> None:
        with contextlib.suppress(OSError), near:
            near.recv(1 << 16)
            near.sendall(said)

    with _served(answer) as port:
        yield port


@contextlib.contextmanager
def _served(serve) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                near.settimeout(10)
                serve(near)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
