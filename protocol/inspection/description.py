"""Describe a bundle or a sealed file byte by byte.

It is for someone who wants to look before trusting.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from protocol import canonical
from protocol.bundle import frame as bundle
from protocol.bundle import manifest, sealing, weights
from protocol.bundle.architecture import TensorSpec, tensor_specs
from protocol.bundle.manifest import Manifest
from protocol.bundle.weights import Buffer
from protocol.errors import Code, UnauthenticError
from protocol.identity import signing
from protocol.identity.signing import Envelope
from protocol.inspection.capacity import Capacity, capacity


class Category(StrEnum):
    """Name what bytes of a bundle are, for those who ask what can leave."""

    FIXED = "fixed"  # follows from the format, the architecture and the signer: nothing to choose
    STATED = "stated"  # the manifest, see its fields
    SIGNATURE = "signature"
    LEARNED = "learned"  # weights
    SEALED = "sealed"  # only the recipient can say


@dataclass(frozen=True, kw_only=True)
class Row:
    """Describe a run of bytes of a bundle.

    The rows of a description touch and cover the whole.
    """

    offset: int
    num_bytes: int
    field: str
    type: str
    shape: tuple[int, ...]
    sha256: bytes
    category: Category


@dataclass(frozen=True, kw_only=True)
class StatedField:
    """Describe one manifest field as written, and the source's choice in it.

    The choice is counted in bits.
    """

    name: str
    value: str | int
    bits: float


@dataclass(frozen=True, kw_only=True)
class Description:
    """Describe what a bundle holds and says of itself; believe nothing.

    Attributes:
        rows: every byte, in order.
        fields: the manifest, field by field.
        stated: the manifest.
        suite: what it is signed in.
        signer: fingerprint of the key it carries, 32 bytes.
        signature_holds: whether it is signed by that key, which is not to say by whom.
        weights_hold: whether the weights are those that the manifest names.
        digest: SHA-256 of all bytes.
        capacity: how much its weights could carry.
    """

    rows: tuple[Row, ...]
    fields: tuple[StatedField, ...]
    stated: Manifest
    suite: str
    signer: bytes
    signature_holds: bool
    weights_hold: bool
    digest: bytes
    capacity: Capacity


@dataclass(frozen=True, kw_only=True)
class SealedDescription:
    """Describe the outside of a sealed file; believe nothing.

    Attributes:
        rows: every byte, in order.
        grant: the grant it says it answers, 16 bytes.
        plain_bytes: length of the bundle inside.
        digest: SHA-256 of all bytes.
    """

    rows: tuple[Row, ...]
    grant: bytes
    plain_bytes: int
    digest: bytes


def describe(data: Buffer) -> Description:
    """List every byte of a bundle without trusting it.

    Raises:
        MalformedError: it is not laid out as a bundle.
        UnauthenticError: it has no signature, or one of something else than a manifest.
    """
    frame = bundle.split(data)
    envelope = signing.parse_envelope(frame.envelope)
    frame.check_suite(envelope.suite)
    if envelope.payload_type != manifest.PAYLOAD_TYPE:
        raise UnauthenticError(Code.PAYLOAD_TYPE, "The bundle's envelope holds no manifest; ask for a new bundle.")
    stated = Manifest.from_bytes(envelope.payload)
    specs = tensor_specs(stated.form)
    weights.decode(frame.weights, specs)
    parts = (*_BUNDLE_HEAD, *_envelope_parts(frame.envelope, envelope), *_weights_parts(specs))
    values = canonical.parse_object(envelope.payload, what="manifest", max_bytes=manifest.MAX_MANIFEST_BYTES)
    return Description(
        rows=tuple(_rows(data, parts)),
        fields=tuple(
            StatedField(name=name, value=values[name], bits=0.0 if name in manifest.IMPLIED else kind.bits)
            for name, kind in manifest.schema_of(stated.arch).items()
        ),
        stated=stated,
        suite=envelope.suite,
        signer=envelope.signer,
        signature_holds=_signature_holds(envelope),
        weights_hold=hashlib.sha256(frame.weights).digest() == stated.weights_sha256,
        digest=hashlib.sha256(data).digest(),
        capacity=capacity(stated.form),
    )


def describe_sealed(data: Buffer) -> SealedDescription:
    """List every byte of a sealed file without opening it.

    Raises:
        MalformedError: it is not laid out as a sealed file.
        RefusedError: it is a bundle that was not sealed.
    """
    outline = sealing.outline(data)
    segments = _segment_parts(outline.plain_bytes)
    return SealedDescription(
        rows=tuple(_rows(data, (*_SEALED_HEAD, *segments))),
        grant=outline.grant,
        plain_bytes=outline.plain_bytes,
        digest=hashlib.sha256(data).digest(),
    )


class _Part(NamedTuple):
    """Hold the next run of bytes, before offset and hash are known."""

    field: str
    type: str
    num_bytes: int
    category: Category
    shape: tuple[int, ...] = ()


_BUNDLE_HEAD = (
    _Part("magic", "bytes", 8, Category.FIXED),
    _Part("major", "u16", 2, Category.FIXED),
    _Part("flags", "u16", 2, Category.FIXED),
    _Part("envelope_len", "u32", 4, Category.FIXED),
    _Part("weights_len", "u64", 8, Category.FIXED),
)
_SEALED_HEAD = (
    _Part("magic", "bytes", 8, Category.FIXED),
    _Part("major", "u16", 2, Category.FIXED),
    _Part("suite", "u16", 2, Category.FIXED),
    _Part("grant", "bytes", 16, Category.FIXED),
    _Part("plain_len", "u64", 8, Category.FIXED),
)


def _envelope_parts(data: bytes, envelope: Envelope) -> Iterator[_Part]:
    """Yield an envelope's three variable strings and the JSON between."""
    position = 0
    for field, text, category in (
        ("manifest", signing.encode64(envelope.payload), Category.STATED),
        ("signer", envelope.public_key.hex(), Category.FIXED),
        ("signature", signing.encode64(envelope.signature), Category.SIGNATURE),
    ):
        start = data.index(text.encode("ascii"), position)
        yield _Part("envelope", "json", start - position, Category.FIXED)
        yield _Part(field, "text", len(text), category)
        position = start + len(text)
    yield _Part("envelope", "json", len(data) - position, Category.FIXED)


def _weights_parts(specs: Sequence[TensorSpec]) -> Iterator[_Part]:
    yield _Part("weights_header", "json", len(weights.header(specs)), Category.FIXED)
    for spec in specs:
        yield _Part(spec.name, spec.dtype, spec.num_bytes, Category.LEARNED, spec.shape)


def _segment_parts(plain_bytes: int) -> Iterator[_Part]:
    for start in range(0, plain_bytes, sealing.SEGMENT_BYTES):
        num_bytes = min(sealing.SEGMENT_BYTES, plain_bytes - start)
        yield _Part("segment", "ciphertext", num_bytes + sealing.SEGMENT_OVERHEAD, Category.SEALED)


def _rows(data: Buffer, parts: Iterable[_Part]) -> Iterator[Row]:
    view = memoryview(data)
    offset = 0
    for part in parts:
        content = view[offset : offset + part.num_bytes]
        yield Row(offset=offset, sha256=hashlib.sha256(content).digest(), **part._asdict())
        offset += part.num_bytes


def _signature_holds(envelope: Envelope) -> bool:
    try:
        signing.verify_envelope(envelope, payload_type=manifest.PAYLOAD_TYPE, signer=envelope.signer)
    except UnauthenticError:
        return False
    return True
