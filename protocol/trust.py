"""Every trust decision of the target, in one place and one order: bytes in, a `VerifiedBundle` or an error out.

Pure: no file, no network, no clock. `describe` lists what is in a bundle and believes none of it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import InitVar, dataclass
from enum import StrEnum
from types import MappingProxyType

from protocol import bundle, canonical, manifest, signing, weights
from protocol.architecture import tensor_specs
from protocol.errors import Code, Malformed, Refused
from protocol.manifest import Manifest
from protocol.weights import Array

CLOCK_TOLERANCE_DAYS = 2
"""How far ahead the source's calendar may be."""

_PROOF = object()


@dataclass(frozen=True, kw_only=True)
class VerifiedBundle:
    """A bundle that passed every check; only `verify` can make one.

    Attributes:
        manifest: what the source states.
        tensors: the model's float32 tensors by name, read-only.
        digest: SHA-256 of all bytes of the bundle.
    """

    manifest: Manifest
    tensors: Mapping[str, Array]
    digest: bytes
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("only protocol.trust.verify makes a VerifiedBundle")


def verify(
    data: bytes, *, issuer: bytes, audience: bytes | None, grant: bytes | None, today: int
) -> VerifiedBundle:
    """Verify a bundle; the first rule that is broken ends it.

    Args:
        data: all bytes of the bundle.
        issuer: fingerprint of the only release key that is trusted, 32 bytes.
        audience: fingerprint that the bundle must be released to, 32 bytes; None accepts any.
        grant: grant that it must be released under, 16 bytes; None accepts any.
        today: the present day, in days since 1970.

    Raises:
        Malformed: the bytes are not a bundle in its only encoding, or break a rule for weights.
        Unauthentic: not signed by the issuer.
        Refused: authentic, but for another site or grant, expired, or from the future.
    """
    frame = bundle.split(data)
    payload = signing.verify_envelope(
        signing.parse_envelope(frame.envelope), payload_type=manifest.PAYLOAD_TYPE, signer=issuer
    )
    stated = Manifest.from_bytes(payload)
    _check_policy(stated, issuer=issuer, audience=audience, grant=grant, today=today)
    _check_digest(stated, frame.weights)
    tensors = weights.unpack(frame.weights, stated.arch, len(stated.classes), stated.norm)
    return VerifiedBundle(
        manifest=stated,
        tensors=MappingProxyType(tensors),
        digest=hashlib.sha256(data).digest(),
        proof=_PROOF,
    )


class Category(StrEnum):
    """What bytes of a bundle are, to someone who asks what can leave with them."""

    FIXED = "fixed"  # the same in every bundle of this architecture
    STATED = "stated"  # manifest fields
    SIGNATURE = "signature"
    LEARNED = "learned"  # weights


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run of bytes of a bundle; the rows of a description touch and cover the whole."""

    offset: int
    num_bytes: int
    field: str
    type: str
    shape: tuple[int, ...]
    sha256: bytes
    category: Category


@dataclass(frozen=True, kw_only=True)
class StatedField:
    """One field of a manifest as it is written, and how many bits the source could choose in it."""

    name: str
    value: str | int
    bits: float


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a bundle consists of and says of itself; nothing in it is to be believed.

    Attributes:
        rows: every byte, in order.
        fields: the manifest.
        signer: fingerprint of the key it carries, 32 bytes.
        signature_holds: whether it is signed by that key, which is not to say by whom.
        digest: SHA-256 of all bytes.
    """

    rows: tuple[Row, ...]
    fields: tuple[StatedField, ...]
    signer: bytes
    signature_holds: bool
    digest: bytes


def describe(data: bytes) -> Description:
    """List every byte of a bundle without trusting it.

    Raises:
        Malformed: it is not laid out as a bundle.
    """
    frame = bundle.split(data)
    envelope = signing.parse_envelope(frame.envelope)
    stated = Manifest.from_bytes(envelope.payload)
    specs = tensor_specs(stated.arch, len(stated.classes), stated.norm)
    weights.decode(frame.weights, specs)
    parts = (*_HEAD_PARTS, *_envelope_parts(frame.envelope, envelope), *_weights_parts(specs))
    values = canonical.parse_object(
        envelope.payload, what="manifest", max_bytes=manifest.MAX_MANIFEST_BYTES
    )
    return Description(
        rows=tuple(_rows(data, parts)),
        fields=tuple(
            StatedField(name=name, value=values[name], bits=0.0 if name in manifest.IMPLIED else kind.bits)
            for name, kind in manifest.SCHEMA.items()
        ),
        signer=envelope.signer,
        signature_holds=_signature_holds(envelope),
        digest=hashlib.sha256(data).digest(),
    )


def _check_policy(
    stated: Manifest, *, issuer: bytes, audience: bytes | None, grant: bytes | None, today: int
) -> None:
    if stated.issuer != issuer:
        raise Refused(Code.KEY_UNKNOWN, "The manifest names another issuer than its signer; ask for a new bundle.")
    if audience is not None and stated.audience != audience:
        raise Refused(Code.AUDIENCE, "The bundle was released to another site; ask for one of your own.")
    if grant is not None and stated.grant != grant:
        raise Refused(Code.GRANT, "The bundle was released for another request; send the source your request.")
    if stated.day > today + CLOCK_TOLERANCE_DAYS:
        raise Refused(
            Code.NOT_YET, f"The bundle is from day {stated.day} and today is day {today}; check both clocks."
        )
    if today > stated.day + stated.valid_days:
        raise Refused(
            Code.EXPIRED,
            f"The bundle was valid until day {stated.day + stated.valid_days} and today is day {today}; "
            "ask for a new release.",
        )


def _check_digest(stated: Manifest, packed: bytes) -> None:
    if len(packed) != stated.weights_len or hashlib.sha256(packed).digest() != stated.weights_sha256:
        raise Malformed(Code.DIGEST, "The weights are not the ones that were signed; ask for a new bundle.")


class _Part(NamedTuple):
    """The next run of bytes, before its offset and its hash are known."""

    field: str
    type: str
    num_bytes: int
    category: Category
    shape: tuple[int, ...] = ()


_HEAD_PARTS = (
    _Part("magic", "bytes", 8, Category.FIXED),
    _Part("major", "u16", 2, Category.FIXED),
    _Part("flags", "u16", 2, Category.FIXED),
    _Part("envelope_len", "u32", 4, Category.FIXED),
    _Part("weights_len", "u64", 8, Category.FIXED),
)


def _envelope_parts(data: bytes, envelope: Envelope) -> Iterator[_Part]:
    """The three variable strings of an envelope and the fixed JSON between them."""
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


def _rows(data: bytes, parts: Iterable[_Part]) -> Iterator[Row]:
    offset = 0
    for part in parts:
        content = data[offset : offset + part.num_bytes]
        yield Row(offset=offset, sha256=hashlib.sha256(content).digest(), **part._asdict())
        offset += part.num_bytes


def _signature_holds(envelope: Envelope) -> bool:
    try:
        signing.verify_envelope(envelope, payload_type=manifest.PAYLOAD_TYPE, signer=envelope.signer)
    except Unauthentic:
        return False
    return True
