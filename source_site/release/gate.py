"""Sign models: the gate sees one tensor file and the release key.

It sees nothing else.

    python -I -m source_site.release.gate     one frame on stdin, one frame on stdout

The steps have this order:

1. Load the key.
2. Confine the process: no files but the installed code, nothing to write, no sockets, no programs.
3. Show that the walls hold.
4. Only then read the tensors, which a poisoned training may have made.
5. Quantize them, put them in canonical order and check them against the architecture (the egress rules).
6. Sign the bundle, verify it as the target will, and seal it to the site that asked.

Besides the gate, `keys init`, `keys rotate` and `revoke` load the release key; they are not confined, and they read
no model. The other end of the two pipes is `source_site.release.gate_client.run_gate`.

A frame is a head of canonical JSON behind its length (4 bytes, little-endian), then the body: the run's safetensors
file on the way in; the bundle and the sealed file, or the text of a refusal, on the way out.
"""

import dataclasses
import hashlib
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from protocol import canonical
from protocol.bundle import frame as bundle
from protocol.bundle import manifest, sealing
from protocol.bundle.egress import EgressError, sign_bundle
from protocol.bundle.manifest import ManifestFields
from protocol.bundle.override import MAX_STATEMENT_BYTES, open_override
from protocol.bundle.sealing import SealingPublicKey
from protocol.errors import (
    Code,
    ContainmentError,
    FileError,
    KeyFileError,
    MalformedError,
    ProtocolError,
    RefusedError,
    UnauthenticError,
    Violation,
)
from protocol.identity import signing
from protocol.identity.key_files import load_signing_key, mixed_keys
from protocol.identity.sealing_keys import PUBLIC_KEY_BYTES
from protocol.sandbox import confine, network, probes

MAX_WEIGHTS_BYTES = 256 * 1024 * 1024
"""The largest tensor file that is taken in."""
MAX_LISTED = 100
"""So many violations are listed one by one."""
MAX_ANSWER_BYTES = 64 * 1024 + bundle.MAX_BUNDLE_BYTES + sealing.MAX_SEALED_BYTES

_MAX_HEAD_BYTES = 128 * 1024
_MAX_STATEMENT_DIGITS = 2 * MAX_STATEMENT_BYTES
_LENGTH = struct.Struct("<I")
_MANIFEST_FIELDS = tuple(field.name for field in dataclasses.fields(ManifestFields))

FAULTS: tuple[type[ProtocolError], ...] = (
    KeyFileError,
    UnauthenticError,
    RefusedError,
    MalformedError,
    ContainmentError,
    FileError,
    ProtocolError,
)
"""What a gate may say instead of a bundle, besides the two kinds below."""
SEALED, EGRESS, DAMAGED = "Sealed", "EgressError", "Damaged"

_TASK: canonical.Schema = {
    **{name: manifest.SCHEMA[name] for name in _MANIFEST_FIELDS if name != "encoder"},
    "encoder": canonical.Text(64),  # in hexadecimal, or empty
    "issuer": canonical.Hex(32),
    "recipient": canonical.Hex(PUBLIC_KEY_BYTES),
    # Paths and passphrases in hexadecimal: they are bytes, not text.
    "key": canonical.Text(2 * 4096),
    "passphrase": canonical.Text(2 * 1024),
    "out_of_reach": canonical.Text(2 * 8 * 4096),
    "unconfined": canonical.Int(0, 1),
    "officer": canonical.Text(_MAX_STATEMENT_DIGITS),
    "override": canonical.Text(_MAX_STATEMENT_DIGITS),
}
_ANSWER: canonical.Schema = {
    "kind": canonical.OneOf((SEALED, EGRESS, DAMAGED, *(fault.__name__ for fault in FAULTS))),
    "code": canonical.OneOf(("", *Code)),
    "bundle_bytes": canonical.Int(0, bundle.MAX_BUNDLE_BYTES),
    "bundle_sha256": canonical.Hex(32),
    "sealed_sha256": canonical.Hex(32),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Describe what a gate is to do.

    Attributes:
        fields: what the manifest is to say.
        issuer: fingerprint of the release key, 32 bytes.
        recipient: the key that the bundle is sealed to.
        key_path: file of the release key.
        passphrase: what the file is encrypted with; None if it is not.
        out_of_reach: files and folders that the gate must not be able to open.
        unconfined: whether to go on where it cannot be confined.
        weights: the run's safetensors file, unread.
        officer: the statement that names the officer's key; empty where no audit is overridden.
        override: what that officer has signed; likewise.
    """

    fields: ManifestFields
    issuer: bytes
    recipient: SealingPublicKey
    key_path: Path
    passphrase: bytes | None = dataclasses.field(repr=False)
    out_of_reach: Sequence[Path]
    unconfined: bool = False
    weights: bytes = dataclasses.field(repr=False)
    officer: bytes = b""
    override: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the frame that a gate reads."""
        head = {
            **dataclasses.asdict(self.fields),
            "encoder": self.fields.encoder.hex(),
            "issuer": self.issuer,
            "recipient": self.recipient.raw,
            "key": os.fsencode(self.key_path).hex(),
            "passphrase": (self.passphrase or b"").hex(),
            "out_of_reach": b"\0".join(map(os.fsencode, self.out_of_reach)).hex(),
            "unconfined": int(self.unconfined),
            "officer": self.officer.hex(),
            "override": self.override.hex(),
        }
        return _frame(canonical.write_record(head, _TASK, what="task"), self.weights)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Task":
        """Read a frame."""
        head, weights = _unframe(data)
        task = canonical.read_record(head, _TASK, what="task", max_bytes=_MAX_HEAD_BYTES)
        task["encoder"] = bytes.fromhex(task["encoder"])
        paths = bytes.fromhex(task["out_of_reach"]).split(b"\0")
        return cls(
            fields=ManifestFields(**{name: task[name] for name in _MANIFEST_FIELDS}),
            issuer=task["issuer"],
            recipient=SealingPublicKey(raw=task["recipient"]),
            key_path=Path(os.fsdecode(bytes.fromhex(task["key"]))),
            passphrase=bytes.fromhex(task["passphrase"]) or None,
            out_of_reach=tuple(Path(os.fsdecode(path)) for path in paths if path),
            unconfined=bool(task["unconfined"]),
            weights=weights,
            officer=bytes.fromhex(task["officer"]),
            override=bytes.fromhex(task["override"]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """Describe what a gate answers.

    Attributes:
        kind: `SEALED`, or the kind of refusal.
        code: the refusal's code.
        bundle: the signed bundle.
        sealed: the bundle as its recipient alone can open it.
        message: of a refusal, the sentence.
        violations: of an `EGRESS`, every broken rule.
    """

    kind: str
    code: str = ""
    bundle: bytes = dataclasses.field(default=b"", repr=False)
    sealed: bytes = dataclasses.field(default=b"", repr=False)
    message: str = ""
    violations: tuple[Violation, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the frame that a gate writes."""
        head = {
            "kind": self.kind,
            "code": self.code,
            "bundle_bytes": len(self.bundle),
            "bundle_sha256": hashlib.sha256(self.bundle).digest(),
            "sealed_sha256": hashlib.sha256(self.sealed).digest(),
        }
        said = "\n".join(_lines(self.violations)) if self.violations else self.message
        body = self.bundle + self.sealed if self.kind == SEALED else said.encode("ascii", "backslashreplace")
        return _frame(canonical.write_record(head, _ANSWER, what="answer"), body)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Answer":
        """Read a frame and believe no more than its form.

        Raises:
            MalformedError: a gate does not write this.
        """
        head, body = _unframe(data)
        said = canonical.read_record(head, _ANSWER, what="answer", max_bytes=_MAX_HEAD_BYTES)
        kind, code, edge = said["kind"], said["code"], said["bundle_bytes"]
        if kind == SEALED:
            signed, sealed = body[:edge], body[edge:]
            digests = hashlib.sha256(signed).digest(), hashlib.sha256(sealed).digest()
            if not sealed or digests != (said["bundle_sha256"], said["sealed_sha256"]):
                raise MalformedError(Code.TRUNCATED, "The gate's answer is cut short; run the command again.")
            return cls(kind=kind, bundle=signed, sealed=sealed)
        text = body.decode("ascii", "replace")
        if kind == EGRESS:
            return cls(kind=kind, code=code, violations=tuple(_violations(text)))
        return cls(kind=kind, code=code, message=text)


def answer(data: bytes) -> Answer:
    """Do what a frame asks for and return the outcome; never raise."""
    try:
        return _seal(Task.from_bytes(data))
    except EgressError as refused:
        return Answer(kind=EGRESS, code=refused.code, violations=refused.violations)
    except SafetensorError:
        return Answer(kind=DAMAGED, code=Code.HEADER_MISMATCH)
    except ProtocolError as fault:
        return Answer(kind=_kind(fault), code=fault.code, message=str(fault))
    except Exception:  # its text could hold anything, and a traceback more
        return Answer(kind=ProtocolError.__name__, code=Code.INTERNAL)


def main() -> None:
    """Answer one frame."""
    confine.forbid_dumps()
    frame = sys.stdin.buffer.read(_LENGTH.size + _MAX_HEAD_BYTES + MAX_WEIGHTS_BYTES)
    sys.stdout.buffer.write(answer(frame).to_bytes())
    sys.stdout.buffer.flush()


def _seal(task: Task) -> Answer:
    release_key = _load_release_key(task)
    _wall_off(task)
    override = open_override(task.override, task.officer, task.issuer) if task.override else None
    signed = sign_bundle(_tensors(task.weights), task.fields, release_key, override=override)
    return Answer(kind=SEALED, bundle=signed, sealed=sealing.seal(signed, task.recipient, task.fields.grant))


def _wall_off(task: Task) -> None:
    """Confine this process and show that its walls hold.

    Its own key and everything that the task names must be out of its reach.
    """
    confine.confine(
        readable=confine.code_paths("source_site"), network=network.Network.NONE, required=not task.unconfined
    )
    if not task.unconfined:
        probes.probe_denied((task.key_path, *task.out_of_reach), network=network.Network.NONE)


def _load_release_key(task: Task) -> signing.SigningKey:
    key = load_signing_key(task.key_path, task.passphrase)
    if signing.fingerprint_of(signing.raw_public_key(key)) != task.issuer:
        raise mixed_keys(task.key_path.parent)
    return key


def _tensors(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Read the float tensors.

    A type that numpy does not have counts as damage.
    """
    try:
        return load(data)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise SafetensorError(str(error)) from error


def _kind(fault: ProtocolError) -> str:
    return next(kind.__name__ for kind in FAULTS if isinstance(fault, kind))


def _lines(violations: Sequence[Violation]) -> Iterator[str]:
    """Yield one line per violation.

    A tensor's name is whatever the file says and must not begin a line or a column.
    """
    for one in violations[:MAX_LISTED]:
        yield "\t".join((one.rule, *(part.encode("unicode_escape").decode("ascii") for part in (one.where, one.why))))
    if len(violations) > MAX_LISTED:
        yield f"{Code.EGRESS}\t{len(violations) - MAX_LISTED} more\tare not listed"


def _violations(text: str) -> Iterator[Violation]:
    for line in text.split("\n"):
        rule, where, why = line.split("\t")
        yield Violation(rule=Code(rule), where=where, why=why)


def _frame(head: bytes, body: bytes) -> bytes:
    return _LENGTH.pack(len(head)) + head + body


def _unframe(data: bytes) -> tuple[bytes, bytes]:
    if len(data) < _LENGTH.size:
        raise MalformedError(Code.TRUNCATED, "The frame is cut short.")
    (length,) = _LENGTH.unpack_from(data)
    if not 0 < length <= min(_MAX_HEAD_BYTES, len(data) - _LENGTH.size):
        raise MalformedError(Code.LENGTH, "The frame's head is cut short or too long.")
    edge = _LENGTH.size + length
    return data[_LENGTH.size : edge], data[edge:]


if __name__ == "__main__":
    main()
