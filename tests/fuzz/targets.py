"""What is fuzzed: every parser that meets bytes from another site. Each target says what must hold for any bytes.

A target takes bytes and returns, raises `ProtocolError`, or has found a fault. What was accepted must be written
again to the very bytes that were read. Signed content is signed here, so that the fuzzer gets past the signature;
weights are those of a tiny network that is registered here, so that it gets past the lengths.
"""

import base64
import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.bundle import architecture, frame, manifest, trust, weights
from protocol.bundle.architecture import Layer, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.bundle.trust import Anchor
from protocol.errors import ProtocolError
from protocol.identity import signing
from tests.vectors import make, reader

MAX_BYTES = 4096
TINY = ModelForm("tiny", 2, "none")
_SUCCESSIONS = ("succession", "succession-2")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One parser.

    Attributes:
        check: what must hold; an exception other than `ProtocolError` is a finding.
        seeds: valid inputs to start from.
    """

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


@contextlib.contextmanager
def tiny_network() -> Iterator[None]:
    """Register a network of a few hundred bytes for a while."""
    layers = {"tiny": (Layer(name="encoder.0", units=3, inputs=2, kernel=2, tiles=2),)}
    with (
        mock.patch.dict(architecture._ENCODERS, layers),
        mock.patch.dict(architecture.FRONT_ENDS, {"tiny": "stats-v1"}),
        mock.patch.object(architecture, "EMBEDDING_DIM", 2),
    ):
        yield


VECTORS = make.vectors()
HYBRID_VECTORS = json.loads(make.HYBRID_FILE.read_text())
ENVELOPE = VECTORS["bundles"]["mlp"]["envelope"].encode()
PAYLOAD = VECTORS["bundles"]["mlp"]["manifest"].encode()
READ_BY_ADDED = VECTORS["bundles"]["ssl-768"]["manifest"].encode()
ISSUER = signing.fingerprint_of(signing.raw_public_key(make.RELEASE))


def _statement(name: str) -> bytes:
    return base64.b64decode(VECTORS["statements"][name])


def _hybrid(name: str) -> bytes:
    """A statement of the suite hybrid-1."""
    return base64.b64decode(HYBRID_VECTORS["statements"][name])


def _payload_of(envelope: bytes) -> bytes:
    return signing.parse_envelope(envelope).payload


def _frame(data: bytes) -> None:
    parts = frame.split(data)
    assert frame.assemble(parts.envelope, bytes(parts.weights), parts.suite) == data


def _envelope(data: bytes) -> None:
    envelope = signing.parse_envelope(data)
    assert signing._render(envelope) == data
    signing.verify_envelope(envelope, payload_type=manifest.PAYLOAD_TYPE, signer=envelope.signer)


def _manifest(data: bytes) -> None:
    assert manifest.Manifest.from_bytes(data).to_bytes() == data


def _encoder_form(data: bytes) -> None:
    """How the file of an added encoder begins; nothing of it is believed."""
    from protocol.encoders.canonical import MODEL_TYPES, form_in

    form = form_in(data)
    assert form is None or (form.model_type in MODEL_TYPES and type(form.width) is int)


def _encoder_form_seeds() -> list[bytes]:
    import numpy as np

    from protocol.encoders.canonical import canonical_bytes

    form = json.dumps({"model_type": "wavlm", "hidden_size": 768})
    return [canonical_bytes({"a": np.zeros(2, "<f4")}, form), canonical_bytes({"a": np.zeros(2, "<f4")})]


def _weights_header(data: bytes) -> None:
    with tiny_network():
        weights.decode(data, tensor_specs(TINY))
        assert data.startswith(weights.header(tensor_specs(TINY)))


def _weights_values(data: bytes) -> None:
    """The data behind the header; accepted weights must pack to themselves."""
    with tiny_network():
        packed = weights.header(tensor_specs(TINY)) + data
        tensors = weights.dequantize(weights.unpack(packed, TINY), TINY)
        assert weights.pack(tensors, TINY) == packed


def _tiny_weights() -> list[bytes]:
    with tiny_network():
        specs = tensor_specs(TINY)
        data = b"".join(
            {"exponent": b"\xec", "weight": b"\x40", "scale": b"\x01", "center": b"\x02", "bias": b"\0"}[
                spec.name.rpartition(".")[2]
            ]
            * spec.num_bytes
            for spec in specs
        )
        biases = b"".join(
            struct.pack("<h", unit) for spec in specs if spec.dtype == "I16" for unit in range(*spec.shape)
        )
        data = biases + data[len(biases) :]
        return [data, weights.header(specs) + data]


def _signed_bundle(data: bytes) -> None:
    """A signed manifest of the fuzzer's making before golden weights."""
    sealed = frame.assemble(signing.sign(manifest.PAYLOAD_TYPE, data, make.RELEASE), make.grow_weights("mlp"))
    trust.verify(sealed, Anchor(issuer=ISSUER, today=make.TODAY))


def _two_readers(data: bytes) -> None:
    """An envelope; both readers must say the same, up to the policy, where weights do not matter yet."""
    sealed = frame.assemble(data, b"no weights") if 0 < len(data) <= 16_384 else data
    site = reader.Site(issuer=ISSUER, today=make.TODAY)
    with contextlib.suppress(reader.BundleRefusedError):
        reader.read(sealed, site)
        raise AssertionError("the second reader accepts a bundle without weights")
    other = _opened_by_the_other(data, site)
    try:
        ours = signing.verify_envelope(signing.parse_envelope(data), payload_type=manifest.PAYLOAD_TYPE, signer=ISSUER)
    except ProtocolError:
        assert other is None
        raise
    assert ours == other


def _opened_by_the_other(data: bytes, site: reader.Site) -> bytes | None:
    try:
        return reader.open_envelope(data, site.issuer, reader.MANIFEST_TYPE)
    except reader.BundleRefusedError:
        return None


def _two_readers_of_manifests(data: bytes) -> None:
    try:
        other = reader.read_manifest(data)
    except reader.BundleRefusedError:
        other = None
    try:
        ours = manifest.Manifest.from_bytes(data)
    except ProtocolError:
        assert other is None
        raise
    assert other == json.loads(ours.to_bytes())


def _inspect(data: bytes) -> None:
    """A signed manifest of the fuzzer's making, or a sealed file, as an officer looks at it."""
    from pathlib import Path

    from protocol.bundle import sealing
    from protocol.inspection import listing as inspect
    from protocol.inspection import page

    if data.startswith(sealing.MAGIC):
        listing = inspect._sealed_listing(Path("file"), data, None)
    else:
        envelope = signing.sign(manifest.PAYLOAD_TYPE, data, make.RELEASE)
        listing = inspect._bundle_listing(Path("file"), frame.assemble(envelope, make.grow_weights("mlp")))
    assert inspect.format_text(listing)
    assert page.format_html(listing).count("<script") == 0


def _request(data: bytes) -> None:
    from protocol.statements import request

    signer = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["request"]["test_only_key"]))
    request.open_request(signing.sign(request.PAYLOAD_TYPE, data, signer))


def _request_envelope(data: bytes) -> None:
    from protocol.statements import request

    request.open_request(data)


def _receipt(data: bytes) -> None:
    from protocol.statements import receipts

    read = receipts.open_receipt(signing.sign(receipts.PAYLOAD_TYPE, data, make.RECEIPT), signer=make.AUDIENCE)
    assert _payload_of(receipts.sign_receipt(read, make.RECEIPT)) == data


def _offer(data: bytes) -> None:
    from protocol.statements import offers

    read = offers.open_offer(signing.sign(offers.OFFER_TYPE, data, make.ONLINE), _statement("endorsement"), ISSUER)
    assert _payload_of(offers.sign_offer(read, make.ONLINE)) == data


def _checkpoint(data: bytes) -> None:
    from protocol.statements import offers

    read = offers.open_checkpoint(
        signing.sign(offers.CHECKPOINT_TYPE, data, make.ONLINE), _statement("endorsement"), ISSUER
    )
    assert _payload_of(offers.sign_checkpoint(read, make.ONLINE)) == data


def _revocations(data: bytes) -> None:
    from protocol.statements import revocations

    read = revocations.open_revocations(signing.sign(revocations.PAYLOAD_TYPE, data, make.RELEASE), ISSUER)
    assert _payload_of(revocations.sign_revocations(read, make.RELEASE)) == data


def _succession(data: bytes) -> None:
    from protocol.statements import succession

    kind = succession.PAYLOAD_TYPE if b"last_list" in data else succession.OLD_PAYLOAD_TYPE
    kind = succession.HYBRID_PAYLOAD_TYPE if b'"v":3' in data else kind
    succession.open_succession(signing.sign(kind, data, make.RELEASE), ISSUER)


def _officer(data: bytes) -> None:
    from protocol.bundle import override

    officer = override.open_officer(signing.sign(override.OFFICER_TYPE, data, make.RELEASE), ISSUER)
    assert officer == ISSUER or _payload_of(override.sign_officer(officer, make.RELEASE)) == data


def _override(data: bytes) -> None:
    from protocol.bundle import override

    signed = signing.sign(override.OVERRIDE_TYPE, data, make.OFFICER)
    read = override.open_override(signed, _statement("officer"), ISSUER)
    assert _payload_of(override.sign_override(read, make.OFFICER)) == data


def _sealed_outline(data: bytes) -> None:
    from protocol.bundle import sealing

    outline = sealing.outline(data)
    assert sealing.sealed_bytes(outline.plain_bytes) == len(data)


def _sealed_file(data: bytes) -> None:
    from protocol.bundle import sealing

    opening = sealing.SealingKey.from_pem(VECTORS["sealed"]["test_only_key"].encode())
    assert sealing.unseal(data, opening) == VECTORS["sealed"]["plain"].encode()


def _sealing_key(data: bytes) -> None:
    from protocol.bundle import sealing

    assert sealing.SealingPublicKey(raw=data).raw == data


def _chunk(data: bytes) -> None:
    """Four bytes of offset, two of length, and then the message."""
    from protocol.wire import chunks

    if len(data) < 6:
        return
    offset, num_bytes = struct.unpack("<IH", data[:6])
    content = chunks.chunk_data(data[6:], offset, num_bytes + 1)
    assert chunks.chunk_message(offset, content) == data[6:]
    assert len(content) == num_bytes + 1


def _chunk_seeds() -> list[bytes]:
    from protocol.wire import chunks

    return [
        struct.pack("<IH", offset, len(content) - 1) + chunks.chunk_message(offset, content)
        for offset in (0, 65_536, 2**31)
        for content in (b"x", b"abc" * 50)
    ]


def _messages(data: bytes) -> None:
    """One byte chooses the message, the others are it."""
    from protocol.wire import codec
    from protocol.wire.ecan.v1 import release_pb2

    kinds = sorted(release_pb2.DESCRIPTOR.message_types_by_name)
    if not data:
        return
    message = codec.decoder(getattr(release_pb2, kinds[data[0] % len(kinds)]))(data[1:])
    assert codec.encode(message) == data[1:]


def _message_seeds() -> list[bytes]:
    from protocol.wire import codec
    from protocol.wire.ecan.v1 import release_pb2

    seeds = []
    for number, kind in enumerate(sorted(release_pb2.DESCRIPTOR.message_types_by_name)):
        message = getattr(release_pb2, kind)()
        for field in message.DESCRIPTOR.fields:
            setattr(message, field.name, b"word" if field.type == field.TYPE_BYTES else 5)
        seeds.append(bytes([number]) + codec.encode(message))
    return seeds


TARGETS = {
    "frame": Target(check=_frame, seeds=lambda: [frame.assemble(b"envelope", b"weights")]),
    "envelope": Target(
        check=_envelope, seeds=lambda: [ENVELOPE, HYBRID_VECTORS["bundles"]["mlp"]["envelope"].encode()]
    ),
    "manifest": Target(check=_manifest, seeds=lambda: [PAYLOAD, READ_BY_ADDED]),
    "encoder_form": Target(check=_encoder_form, seeds=_encoder_form_seeds),
    "weights_header": Target(check=_weights_header, seeds=lambda: _tiny_weights()[1:]),
    "weights_values": Target(check=_weights_values, seeds=lambda: _tiny_weights()[:1]),
    "signed_bundle": Target(check=_signed_bundle, seeds=lambda: [PAYLOAD]),
    "two_readers": Target(check=_two_readers, seeds=lambda: [ENVELOPE]),
    "two_readers_of_manifests": Target(check=_two_readers_of_manifests, seeds=lambda: [PAYLOAD, READ_BY_ADDED]),
    "inspect": Target(check=_inspect, seeds=lambda: [PAYLOAD, base64.b64decode(VECTORS["sealed"]["bytes"])]),
    "request": Target(check=_request, seeds=lambda: [_payload_of(base64.b64decode(VECTORS["request"]["bytes"]))]),
    "request_envelope": Target(check=_request_envelope, seeds=lambda: [base64.b64decode(VECTORS["request"]["bytes"])]),
    "receipt": Target(check=_receipt, seeds=lambda: [_payload_of(_statement("receipt"))]),
    "offer": Target(check=_offer, seeds=lambda: [_payload_of(_statement("offer"))]),
    "checkpoint": Target(check=_checkpoint, seeds=lambda: [_payload_of(_statement("checkpoint"))]),
    "revocations": Target(check=_revocations, seeds=lambda: [_payload_of(_statement("revocations"))]),
    "succession": Target(
        check=_succession, seeds=lambda: [*map(_payload_of, (*map(_statement, _SUCCESSIONS), _hybrid("succession-3")))]
    ),
    "officer": Target(check=_officer, seeds=lambda: [_payload_of(_statement("officer"))]),
    "override": Target(check=_override, seeds=lambda: [_payload_of(_statement("override"))]),
    "sealed_outline": Target(check=_sealed_outline, seeds=lambda: [base64.b64decode(VECTORS["sealed"]["bytes"])]),
    "sealed_file": Target(check=_sealed_file, seeds=lambda: [base64.b64decode(VECTORS["sealed"]["bytes"])]),
    "sealing_key": Target(check=_sealing_key, seeds=lambda: [_sealing_key_seed()]),
    "chunk": Target(check=_chunk, seeds=_chunk_seeds),
    "messages": Target(check=_messages, seeds=_message_seeds),
}


def _sealing_key_seed() -> bytes:
    from protocol.bundle import sealing

    return sealing.SealingKey.from_pem(VECTORS["sealed"]["test_only_key"].encode()).public_key.raw


def run(name: str, data: bytes) -> bool:
    """Whether a target accepts the bytes; any exception from here is a finding."""
    try:
        TARGETS[name].check(data)
    except ProtocolError:
        return False
    return True
