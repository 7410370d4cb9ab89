"""List cases about the frame of a bundle and its versions."""

import struct
from collections.abc import Iterator

from protocol.bundle import frame
from protocol.conformance.case import Case, Ending, malformed, unauthentic
from protocol.conformance.workshop import Workshop, changed
from protocol.errors import Code

GROUP = "frame"


def frames(shop: Workshop) -> Iterator[Case]:
    """Yield every case about the frame."""
    yield shop.case(GROUP, "honest", "honest", "a bundle as it should be", shop.bundle())
    for rule, faults in (
        ("magic", _magics(shop)),
        ("version", _versions(shop)),
        ("length", _lengths(shop)),
        ("truncated", _truncated(shop)),
        ("trailing", _trailing(shop)),
        ("section", _sections(shop)),
    ):
        for name, proves, content, ending in faults:
            yield shop.case(GROUP, name, rule, proves, shop.bundle(content, ending))


Faults = Iterator[tuple[str, str, bytes, Ending]]


def _parts(shop: Workshop) -> tuple[bytes, bytes, bytes]:
    """Return head, envelope and weights of the usual bundle."""
    data = shop.bundle_of()
    taken = frame.split(data)
    return data[: frame.HEAD.size], taken.envelope, bytes(taken.weights)


def _headed(shop: Workshop, **fields: int) -> bytes:
    """Return the usual bundle with another head."""
    head, envelope, weights = _parts(shop)
    _, major, flags, envelope_len, weights_len = frame.HEAD.unpack(head)
    told = {"major": major, "flags": flags, "envelope_len": envelope_len, "weights_len": weights_len} | fields
    return frame.MAGIC + struct.pack("<HHIQ", *told.values()) + envelope + weights


def _magics(shop: Workshop) -> Faults:
    data = shop.bundle_of()
    for place in range(8):
        yield f"magic-byte-{place}", "every byte of the magic counts", changed(data, place), malformed(Code.MAGIC)
    for name, start in (
        ("text-mode", b"ECAN\n\x1a\n"),
        ("sealed", b"ECSL\r\n\x1a\n"),
        ("zip", b"PK\x03\x04"),
        ("pickle", b"\x80\x04"),
    ):
        yield f"magic-{name}", "what begins otherwise is none", start + data[8:], malformed(Code.MAGIC)


def _versions(shop: Workshop) -> Faults:
    for major in (0, 1, 4, 0x0200, 65535):
        yield f"version-{major}", "no other version", _headed(shop, major=major), malformed(Code.VERSION)
    for flags in (1, 0x8000, 65535):
        yield f"flags-{flags}", "no flag is known", _headed(shop, flags=flags), malformed(Code.FLAGS)


def _lengths(shop: Workshop) -> Faults:
    for length in (0, 16385, 0xFFFFFFFF):
        yield (
            f"envelope-length-{length}",
            "an envelope has 1 to 16384 bytes",
            _headed(shop, envelope_len=length),
            malformed(Code.LENGTH),
        )
    for length in (0, frame.MAX_WEIGHTS_BYTES + 1, 1 << 63, (1 << 64) - 1):
        yield (
            f"weights-length-{length:x}",
            "weights have at most what any architecture has",
            _headed(shop, weights_len=length),
            malformed(Code.LENGTH),
        )
    too_long = shop.bundle_of() + bytes(frame.MAX_BUNDLE_BYTES)
    yield "longer-than-any", "no file is longer than any bundle", too_long, malformed(Code.LENGTH)


def _truncated(shop: Workshop) -> Faults:
    head, envelope, weights = _parts(shop)
    data = head + envelope + weights
    for length in (0, 1, 7, 8, 12, 23, 24, 24 + len(envelope) // 2, 24 + len(envelope), len(data) // 2, len(data) - 1):
        yield f"cut-to-{length}", "a bundle is whole", data[:length], malformed(Code.TRUNCATED)
    told = _headed(shop, weights_len=len(weights) + 1)
    yield "one-more-declared", "a bundle has what it declares", told, malformed(Code.TRUNCATED)


def _trailing(shop: Workshop) -> Faults:
    data = shop.bundle_of()
    for name, more in (
        ("zero", b"\0"),
        ("line-feed", b"\n"),
        ("block", bytes(4096)),
        ("head-again", data[:2000]),
        ("weights-again", shop.weights()[:40_000]),
        ("envelope-again", shop.envelope()),
        ("zip-directory", b"PK\x05\x06" + bytes(18)),
    ):
        yield f"trailing-{name}", "nothing follows the weights", data + more, malformed(Code.TRAILING)


def _sections(shop: Workshop) -> Faults:
    _, envelope, weights = _parts(shop)
    swapped = frame.assemble(weights[:16384], envelope + weights[16384:])
    yield "swapped", "the envelope comes first", swapped, malformed(Code.DEPTH)
    moved = _headed(shop, envelope_len=len(envelope) + 1, weights_len=len(weights) - 1)
    yield "border-moved-up", "the border is where it was signed", moved, malformed(Code.NOT_CANONICAL)
    moved = _headed(shop, envelope_len=len(envelope) - 1, weights_len=len(weights) + 1)
    yield "border-moved-down", "the border is where it was signed", moved, malformed(Code.NOT_CANONICAL)
    yield (
        "envelope-twice",
        "there is one envelope",
        frame.assemble(envelope * 2, weights),
        malformed(Code.NOT_CANONICAL),
    )
    yield (
        "weights-longer",
        "weights have the signed length",
        frame.assemble(envelope, weights + b"\0"),
        unauthentic(Code.DIGEST),
    )
    yield (
        "weights-shorter",
        "weights have the signed length",
        frame.assemble(envelope, weights[:-1]),
        unauthentic(Code.DIGEST),
    )
    yield (
        "weights-empty-envelope",
        "an envelope is JSON",
        frame.assemble(b"\0" * len(envelope), weights),
        malformed(Code.NOT_CANONICAL),
    )
