"""Planted words and sounds, and a search for them in every form in which they could have travelled."""

import base64
import re
import zlib
from collections.abc import Iterator, Mapping

_ZLIB_STARTS = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")


def forms(marker: bytes) -> dict[str, bytes]:
    """The ways to write a marker: raw, hexadecimal, base64 at its three alignments, UTF-16, upper and lower case."""
    written = {"raw": marker, "hex": marker.hex().encode(), "HEX": marker.hex().upper().encode()}
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + marker)
        # The first and the last group also hold bits of the neighbors.
        written[f"base64+{shift}"] = whole[4 if shift else 0 : -4]
    with_text = _text(marker)
    if with_text:
        written |= {
            "utf-16-le": with_text.encode("utf-16-le"),
            "utf-16-be": with_text.encode("utf-16-be"),
            "lower": marker.lower(),
            "upper": marker.upper(),
            "reversed": marker[::-1],
        }
    return written


def found(markers: Mapping[str, bytes], haystacks: Mapping[str, bytes]) -> list[str]:
    """Where markers are, as sentences; none is what one hopes for."""
    return [
        f"{what} is in {place} ({form})"
        for place, data in haystacks.items()
        for view in (data, *inflated(data))
        for what, marker in markers.items()
        for form, written in forms(marker).items()
        if written in view
    ]


def inflated(data: bytes) -> Iterator[bytes]:
    """Whatever part of the data can be inflated."""
    for start in _ZLIB_STARTS.finditer(data):
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            yield inflater.decompress(data[start.start() :], 1 << 24)
        except zlib.error:
            continue


def _text(marker: bytes) -> str:
    try:
        return marker.decode("ascii")
    except UnicodeDecodeError:
        return ""
