"""List cases about weights: digest, layout, values, order."""

import json
import struct
from collections.abc import Iterator

from protocol.bundle.architecture import ARCHITECTURES, FRONT_ENDS, NORMALIZATIONS, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.bundle.weights import header
from protocol.conformance.case import Case, malformed, unauthentic
from protocol.conformance.grown import tensor_places
from protocol.conformance.workshop import FORM, Workshop, changed
from protocol.errors import Code

GROUP = "weights"
_CLASSES = {2: 0b11, 4: 0b101101, 12: 0xFFF}
SCALED = ModelForm("mlp-stats-v1", 2, "none")

Change = tuple[str, int, int]
"""A tensor, a place in its bytes (from the end if negative), and the byte that comes there."""


def models(shop: Workshop) -> Iterator[Case]:
    """Yield every case about weights."""
    for form in (ModelForm("tdnn-frames-v1", 12, "none"), ModelForm("tdnn-frames-v1", 2, "corpus"), SCALED):
        name = f"honest-{form.arch}-{form.num_classes}-{form.normalization}"
        yield shop.case(GROUP, name, "honest", "every form of a model", shop.bundle(_of_form(shop, form)))
    yield from _digests(shop)
    ending = malformed(Code.HEADER_MISMATCH)
    for name, packed in _headers(shop):
        yield shop.case(GROUP, name, "header", "the header is predicted", shop.bundle(_weighing(shop, packed), ending))
    for name, content in _other_forms(shop):
        yield shop.case(GROUP, name, "header", "the manifest fixes the form", shop.bundle(content, ending))
    for name, form, changes in _values():
        step = shop.bundle(_with_bytes(shop, form, *changes), malformed(Code.VALUE))
        yield shop.case(GROUP, name, "value", "every value keeps the grid", step)
    for name, changes in _orders(shop):
        step = shop.bundle(_with_bytes(shop, FORM, *changes), malformed(Code.UNIT_ORDER))
        yield shop.case(GROUP, name, "unit-order", "units have one order", step)


def _weighing(shop: Workshop, packed: bytes) -> bytes:
    """Return a bundle of which the source has signed any weights."""
    return shop.bundle_of(shop.stated(packed), packed)


def _of_form(shop: Workshop, form: ModelForm, packed: bytes | None = None) -> bytes:
    packed = shop.weights("model", form) if packed is None else packed
    told = {"arch": form.arch, "frontend": FRONT_ENDS[form.arch], "norm": form.normalization}
    return shop.stating({"labels": _CLASSES[form.num_classes], **told}, packed)


def _with_bytes(shop: Workshop, form: ModelForm, *changes: Change) -> bytes:
    """Return a signed bundle with other bytes in its tensors."""
    packed, places = bytearray(shop.weights("model", form)), tensor_places(form)
    for name, place, value in changes:
        start, spec = places[name]
        packed[start + place % spec.num_bytes] = value & 0xFF
    return _of_form(shop, form, bytes(packed))


def _digests(shop: Workshop) -> Iterator[Case]:
    weights, ending = shop.weights(), unauthentic(Code.DIGEST)
    other = shop.weights("another")
    for name, content in (
        ("last-bit", shop.bundle_of(shop.stated(), changed(weights, -1))),
        ("first-bit", shop.bundle_of(shop.stated(), changed(weights, 0))),
        ("middle-bit", shop.bundle_of(shop.stated(), changed(weights, len(weights) // 2, 0x80))),
        ("of-another-release", shop.bundle_of(shop.stated(), other)),
        ("digest-of-zeros", shop.bundle_of(shop.stated(weights_sha256="00" * 32))),
        ("empty-digest", shop.bundle_of(shop.stated(weights_sha256=_EMPTY))),
    ):
        yield shop.case(GROUP, name, "digest", "the weights are the signed ones", shop.bundle(content, ending))
    for more in (-1, 1):
        content = shop.bundle_of(shop.stated(weights_len=len(weights) + more))
        step = shop.bundle(content, ending)
        yield shop.case(GROUP, f"length-{more:+}", "length", "the length is the signed one", step)


_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _headers(shop: Workshop) -> Iterator[tuple[str, bytes]]:
    """Yield weights with another header, or with the same said otherwise."""
    specs = tensor_specs(FORM)
    predicted = header(specs)
    text, data = predicted[8:].rstrip(), shop.weights()[len(predicted) :]
    first = json.loads(text).popitem()[0].encode()

    def headed(changed_text: bytes, more: bytes = b"") -> bytes:
        padded = changed_text.ljust(-(-len(changed_text) // 8) * 8)
        return struct.pack("<Q", len(padded)) + padded + data + more

    def entry(name: bytes, shape: bytes, length: int) -> bytes:
        end = len(data)
        return b',"%s":{"dtype":"I8","shape":[%s],"data_offsets":[%d,%d]}}' % (name, shape, end, end + length)

    yield "metadata", headed(b'{"__metadata__":{"note":"x"},' + text[1:])
    yield "empty-metadata", headed(b'{"__metadata__":{},' + text[1:])
    yield "tensor-of-no-size", headed(b'{"x":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},' + text[1:])
    yield "tensor-twice", headed(text[: text.index(b"}") + 1] + b"," + text[1:])
    yield "unknown-key", headed(text.replace(b'"dtype"', b'"note":"x","dtype"', 1))
    yield "space-inside", headed(text.replace(b",", b", ", 1))
    yield "eight-more-spaces", headed(text.ljust(-(-len(text) // 8) * 8 + 8))
    yield "tab-as-padding", headed(text + b"\t")
    yield "other-order", headed(_reversed(text))
    yield "renamed", headed(text.replace(first, b"t" + first[1:]))
    yield "transposed", headed(text.replace(b"[128,256]", b"[256,128]"))
    yield "unsigned", headed(text.replace(b'"I8"', b'"U8"', 1))
    yield "overlap", headed(text.replace(b'"data_offsets":[256,', b'"data_offsets":[0,', 1))
    yield "negative-offset", headed(text.replace(b'"data_offsets":[0,', b'"data_offsets":[-256,', 1))
    yield "memory-bank", headed(text[:-1] + entry(b"bank.features", b"8,8", 64), bytes(64))
    yield "running-mean", headed(text[:-1] + entry(b"norm.running_mean", b"256", 256), bytes(256))
    yield "header-length-2-to-63", struct.pack("<Q", 1 << 63) + shop.weights()[8:]
    yield "header-length-of-all", struct.pack("<Q", len(predicted) + len(data)) + shop.weights()[8:]
    yield "no-header", data
    yield "no-data", predicted
    yield "one-byte-more", shop.weights() + b"\0"
    yield "one-byte-less", shop.weights()[:-1]


def _reversed(text: bytes) -> bytes:
    return json.dumps(dict(reversed(json.loads(text).items())), separators=(",", ":")).encode()


def _other_forms(shop: Workshop) -> Iterator[tuple[str, bytes]]:
    packed = shop.weights()
    yield "fewer-classes", shop.bundle_of(shop.stated(packed, labels=0b11), packed)
    yield "more-classes", shop.bundle_of(shop.stated(packed, labels=0b11111), packed)
    told = {"arch": ARCHITECTURES[1], "frontend": FRONT_ENDS[ARCHITECTURES[1]]}
    yield "other-architecture", shop.stating(told, packed)
    yield "scaling-missing", shop.bundle_of(shop.stated(packed, norm=NORMALIZATIONS[0]), packed)
    scaled = shop.weights("model", ModelForm("mlp-stats-v1", 4, "none"))
    yield "scaling-left-in", shop.bundle_of(shop.stated(scaled), scaled)


def _values() -> Iterator[tuple[str, ModelForm, tuple[Change, ...]]]:
    for layer in ("encoder.0", "bottleneck", "head"):
        yield f"{layer}-weight-minus-128", FORM, ((f"{layer}.weight", 1, -128),)
        for exponent in (-21, 9, 127, -128):
            yield f"{layer}-exponent-{exponent}", FORM, ((f"{layer}.exponent", -1, exponent),)
    yield "bias-minus-32768", FORM, (("head.bias", 0, 0), ("head.bias", 1, 0x80))
    yield "exponent-free", FORM, tuple(("head.weight", place, 1) for place in range(128))
    yield "row-of-zeros-with-exponent", FORM, tuple(("bottleneck.weight", 100 * 256 + at, 0) for at in range(256))
    no_class = (*(("head.weight", 128 + at, 0) for at in range(128)), ("head.exponent", 1, -20))
    yield "class-of-zeros", FORM, no_class
    for name, value in (("zero", 0), ("negative", -1)):
        yield f"scale-{name}", SCALED, (("input.scale", 7, value),)
    yield "scaling-minus-128", SCALED, (("input.center", 0, -128),)
    yield "scaling-exponent-free", SCALED, (("input.center.exponent", 3, 8), ("input.center", 3, 1))


def _orders(shop: Workshop) -> Iterator[tuple[str, tuple[Change, ...]]]:
    """Yield units out of order, and equal units that are both in use."""
    for layer in ("encoder.0", "bottleneck"):
        yield f"{layer}-swapped", _swapped(shop, f"{layer}.bias", 2)
    for layer, width in (("encoder.0", 423), ("bottleneck", 256)):
        yield f"{layer}-equal-in-use", _equal_units(shop, layer, width)


def _swapped(shop: Workshop, name: str, width: int) -> tuple[Change, ...]:
    start = tensor_places(FORM)[name][0]
    data = shop.weights()[start : start + 2 * width]
    turned = data[width:] + data[:width]
    return tuple((name, at, byte) for at, byte in enumerate(turned))


def _equal_units(shop: Workshop, layer: str, width: int) -> tuple[Change, ...]:
    """Return the changes that make a layer's second unit its first."""
    places = tensor_places(FORM)
    found: list[Change] = []
    for part, size in (("weight", width), ("bias", 2), ("exponent", 1)):
        start = places[f"{layer}.{part}"][0]
        found += [(f"{layer}.{part}", size + at, shop.weights()[start + at]) for at in range(size)]
    return tuple(found)
