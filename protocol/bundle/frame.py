"""Frame a bundle: a fixed head, the signed envelope, the weights.

Not one byte more is allowed.

::

     0   8  magic, catches text-mode damage like PNG's
     8   2  major version: 2, or 3 where the envelope is signed in the suite hybrid-1
    10   2  flags, 0
    12   4  length E of the envelope
    16   8  length W of the weights
    24   E  envelope
    24+E W  weights

Numbers are little-endian. See docs/bundle-format.md.
"""

import struct
from dataclasses import dataclass

from protocol.bundle.architecture import ARCHITECTURES, MAX_CLASSES, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.bundle.weights import Buffer, encoded_bytes
from protocol.errors import Code, MalformedError
from protocol.identity.signing import CLASSIC, HYBRID

MAGIC = b"ECAN\r\n\x1a\n"
MAJOR = 2
MAJORS = {CLASSIC: MAJOR, HYBRID: 3}
"""The version of a bundle by the suite that it is signed in."""
MAX_ENVELOPE_BYTES = 16 * 1024
HEAD = struct.Struct("<8sHHIQ")

MAX_WEIGHTS_BYTES = max(encoded_bytes(tensor_specs(ModelForm(arch, MAX_CLASSES, "none"))) for arch in ARCHITECTURES)
MAX_BUNDLE_BYTES = HEAD.size + MAX_ENVELOPE_BYTES + MAX_WEIGHTS_BYTES
"""No bundle is longer: what a reader needs to set aside at most."""

_LIKELY_KINDS = {
    b"PK\x03\x04": "a zip archive or a PyTorch checkpoint",
    b"\x80": "a pickle",
    b"\x7fELF": "a program",
    b"\x1f\x8b": "a gzip archive",
    b"RIFF": "a sound file",
    b"{": "a request or a receipt",
    b"ECSL\r\n\x1a\n": "a sealed file that only its recipient can open",
}


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Hold the two parts of a frame, nothing of which is verified.

    Attributes:
        suite: the suite that the version stands for.
        envelope: a copy, at most `MAX_ENVELOPE_BYTES`.
        weights: a read-only view of the frame.
    """

    suite: str
    envelope: bytes
    weights: memoryview

    def check_suite(self, suite: str) -> None:
        """Check that the envelope is signed in the suite of the version.

        Raises:
            MalformedError: it is signed in another one.
        """
        if suite != self.suite:
            raise MalformedError(
                Code.VERSION,
                f"The bundle's version is that of {self.suite} and its key is of {suite}; ask for a new bundle.",
            )


def assemble(envelope: bytes, weights: bytes, suite: str = CLASSIC) -> bytes:
    """Put an envelope and weights into the frame of a suite."""
    return HEAD.pack(MAGIC, MAJORS[suite], 0, len(envelope), len(weights)) + envelope + weights


def split(data: Buffer) -> Bundle:
    """Take a frame apart without copying the weights.

    Only the structure is checked.

    Raises:
        MalformedError: not a bundle, of another version, cut short, or with anything after its end.
    """
    view = memoryview(data).toreadonly()
    _check_magic(bytes(view[: HEAD.size]))
    if len(view) < HEAD.size:
        raise MalformedError(Code.TRUNCATED, "The bundle is cut short; transfer it again.")
    _, major, flags, envelope_len, weights_len = HEAD.unpack_from(view)
    suites = [suite for suite, known in MAJORS.items() if known == major]
    if not suites:
        remedy = "ask for a new bundle" if major < MAJOR else "update ecan-ser"
        raise MalformedError(Code.VERSION, f"The bundle has format version {major}, known are 2 and 3; {remedy}.")
    if flags != 0:
        raise MalformedError(Code.FLAGS, "The bundle has flags that this version does not know; update ecan-ser.")
    if not 0 < envelope_len <= MAX_ENVELOPE_BYTES or not 0 < weights_len <= MAX_WEIGHTS_BYTES:
        raise MalformedError(Code.LENGTH, "The bundle declares lengths that no bundle has; ask for a new bundle.")
    weights_start = HEAD.size + envelope_len
    end = weights_start + weights_len
    if len(view) < end:
        raise MalformedError(Code.TRUNCATED, "The bundle is cut short; transfer it again.")
    if len(view) > end:
        raise MalformedError(Code.TRAILING, "The bundle has bytes after its end; transfer it again.")
    return Bundle(suite=suites[0], envelope=bytes(view[HEAD.size : weights_start]), weights=view[weights_start:])


def _check_magic(head: bytes) -> None:
    """Refuse what does not begin like a bundle; tell what it looks like."""
    start = head[: len(MAGIC)]
    if start == MAGIC:
        return
    if MAGIC.startswith(start):
        raise MalformedError(Code.TRUNCATED, "The bundle is cut short; transfer it again.")
    if head.startswith(b"ECAN"):
        raise MalformedError(Code.MAGIC, "The bundle was transferred in text mode; transfer it again in binary mode.")
    raise MalformedError(Code.MAGIC, f"This is not a bundle but {likely_kind(head)}; name the .ecan file.")


def likely_kind(head: bytes) -> str:
    """Describe in words what a file looks like by its first bytes."""
    for prefix, kind in _LIKELY_KINDS.items():
        if head.startswith(prefix):
            return kind
    return "a bare safetensors file" if head[8:9] == b"{" else "something else"
