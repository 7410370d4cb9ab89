"""List every byte of a bundle or a sealed file before it is believed.

The list is for people and for machines.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from protocol.bundle import sealing
from protocol.bundle.frame import MAX_BUNDLE_BYTES
from protocol.bundle.sealing import MAX_SEALED_BYTES, SealingKey
from protocol.bundle.weights import Buffer
from protocol.files import read_bounded
from protocol.identity import signing
from protocol.identity.fingerprints import in_fours
from protocol.inspection import leakage
from protocol.inspection.capacity import largest_share
from protocol.inspection.description import Description, Row, describe, describe_sealed
from protocol.inspection.meanings import EPOCH, is_digest, meaning

SIGNATURE_RANDOM_BITS = {signing.CLASSIC: 252, signing.HYBRID: 252 + 8 * 3309}
"""What a signer who breaks the rules could hide in a signature, by its suite.

In one of Ed25519 that is its random half. Of one of ML-DSA-65 nobody has counted it, so all of it stands here.
"""
SEGMENT_RANDOM_BITS = 508
"""The same of whoever seals, per segment: 256 bits of ML-KEM and 252 of X25519."""

_COLUMNS = ("offset", "bytes", "field", "type", "shape", "class", "sha256")
_RIGHT_ALIGNED = 2
_SHOWN_DIGITS = 16


def inspect(path: Path, sealing_key: SealingKey | None = None) -> dict[str, Any]:
    """List a bundle or a sealed file as JSON values.

    What it states, every run of bytes in order, and the totals.

    Args:
        path: the file.
        sealing_key: opens a sealed file, whose listing then has that of the bundle under ``inside``.

    Raises:
        FileError: the file cannot be read.
        MalformedError: it is laid out neither as a bundle nor as a sealed file.
        UnauthenticError: it carries no signature, or the key does not open it.
    """
    data = read_bounded(path, max(MAX_BUNDLE_BYTES, MAX_SEALED_BYTES))
    if data.startswith(sealing.MAGIC):
        return _sealed_listing(path, data, sealing_key)
    return _bundle_listing(path, data)


def listed_rows(data: Buffer) -> list[dict[str, Any]]:
    """List every run of bytes of a bundle, as in `inspect`."""
    return [_row(row) for row in describe(data).rows]


def format_text(listing: dict[str, Any]) -> str:
    """Format the listing of `inspect` as text.

    A summary, what the source states, and one line per run of bytes.
    """
    if "sealed" not in listing:
        return "\n".join(_bundle_lines(listing))
    lines = [*_sealed_lines(listing)]
    if listing["inside"] is not None:
        lines += ["", *_bundle_lines(listing["inside"])]
    return "\n".join(lines)


def _bundle_listing(path: Path, data: Buffer) -> dict[str, Any]:
    description = describe(data)
    return {
        "bundle": str(path),
        **_bytes(description.rows),
        "sha256": description.digest.hex(),
        "signer": description.signer.hex(),
        "signature_holds": description.signature_holds,
        "weights_hold": description.weights_hold,
        **_readable(description),
        "stated": [
            {
                "field": field.name,
                "value": field.value,
                "meaning": meaning(field.name, field.value),
                "free_bits": round(field.bits, 2),
            }
            for field in description.fields
        ],
        "free_bits": round(sum(field.bits for field in description.fields), 2),
        "signature_suite": description.suite,
        "signature_random_bits": SIGNATURE_RANDOM_BITS[description.suite],
        "capacity": _capacity(description),
    }


def _sealed_listing(path: Path, data: bytes, sealing_key: SealingKey | None) -> dict[str, Any]:
    description = describe_sealed(data)
    inside = None if sealing_key is None else _bundle_listing(path, sealing.unseal(data, sealing_key))
    num_segments = sum(row.field == "segment" for row in description.rows)
    return {
        "sealed": str(path),
        **_bytes(description.rows),
        "sha256": description.digest.hex(),
        "grant": description.grant.hex(),
        "plain_bytes": description.plain_bytes,
        "sealing_random_bits": num_segments * SEGMENT_RANDOM_BITS,
        "inside": inside,
    }


def _bytes(rows: Sequence[Row]) -> dict[str, Any]:
    totals = Counter[str]()
    for row in rows:
        totals[row.category] += row.num_bytes
    return {"bytes": totals.total(), "rows": [_row(row) for row in rows], "totals": dict(totals)}


def _capacity(description: Description) -> dict[str, Any]:
    """Return what the weights could carry at most, as numbers.

    One number is the share of the shortest corpus that the manifest allows.
    """
    bound = description.capacity
    hours = description.stated.hours
    return {
        "bits": math.ceil(bound.bits),
        "bytes": bound.num_bytes,
        "written_bits": bound.written,
        "taken_by_values": round(bound.by_values, 2),
        "taken_by_order": {name: round(bits, 2) for name, bits in bound.by_order.items()},
        "hours_at_least": 2.0**hours,
        "share_at_most": round(largest_share(bound.bits, hours), 4),
    }


def _readable(description: Description) -> dict[str, Any]:
    """Put the manifest's numbers into words."""
    stated = description.stated
    released = EPOCH + timedelta(days=stated.day)
    return {
        "audience": stated.audience.hex(),
        "grant": stated.grant.hex(),
        "release": stated.release,
        "classes": list(stated.classes),
        "released": released.isoformat(),
        "valid_until": (released + timedelta(days=stated.valid_days)).isoformat(),
        "leakage": list(leakage.in_words(stated)),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "offset": row.offset,
        "bytes": row.num_bytes,
        "field": row.field,
        "type": row.type,
        "shape": list(row.shape),
        "sha256": row.sha256.hex(),
        "class": str(row.category),
    }


def signature_sentence(listing: dict[str, Any]) -> str:
    """Tell whether the listed bytes are signed, and by whom."""
    signer = in_fours(listing["signer"])
    if not listing["signature_holds"]:
        return f"DOES NOT HOLD, by {signer}"
    if not listing["weights_hold"]:
        return f"holds for the manifest alone: THE WEIGHTS ARE OTHERS, by {signer}"
    return f"holds in the suite {listing['signature_suite']}, by {signer}"


def _bundle_lines(listing: dict[str, Any]) -> Iterator[str]:
    yield f"bundle     {listing['bundle']}, {listing['bytes']} bytes, SHA-256 {in_fours(listing['sha256'])}"
    yield f"signature  {signature_sentence(listing)}; compare this with the source you trust"
    yield f"audience   {in_fours(listing['audience'])}, grant {in_fours(listing['grant'])}"
    yield f"release    {listing['release']} of {listing['released']}, valid until {listing['valid_until']}"
    yield f"classes    {', '.join(listing['classes'])}"
    yield f"capacity   {capacity_sentence(listing)}"
    for place, sentence in enumerate(listing["leakage"]):
        yield f"{'' if place else 'leakage':<10} {sentence}"
    yield ""
    yield "The source states:"
    for item in listing["stated"]:
        yield f"  {item['field']:<15} {_told(item):<66} {item['free_bits']:>6} free bits"
    yield f"  {listing['free_bits']} free bits in all"
    yield f"  {listing['signature_random_bits']} more in the signature, for a signer who breaks its rules"
    yield ""
    yield from _byte_lines(listing)


def _told(item: dict[str, Any]) -> str:
    """Return what a field says; digests without spaces, to copy."""
    return str(item["value"] if is_digest(item["value"], item["meaning"]) else item["meaning"])


def _sealed_lines(listing: dict[str, Any]) -> Iterator[str]:
    yield f"sealed     {listing['sealed']}, {listing['bytes']} bytes, SHA-256 {in_fours(listing['sha256'])}"
    yield f"grant      {in_fours(listing['grant'])}, as its outside says"
    yield f"inside     a bundle of {listing['plain_bytes']} bytes, {inside_sentence(listing)}"
    yield f"sealing    {listing['sealing_random_bits']} random bits, free for a dishonest sealer"
    yield ""
    yield from _byte_lines(listing)


def capacity_sentence(listing: dict[str, Any]) -> str:
    """Tell how much the weights could carry, whoever trained them."""
    bound = listing["capacity"]
    return (
        f"the weights could carry {bound['bits']} bits ({bound['bytes']} bytes) at most: "
        f"{100 * bound['share_at_most']:.1f} % or less of the corpus as speech at 6 kbit/s"
    )


def inside_sentence(listing: dict[str, Any]) -> str:
    """Tell whether the inside of a sealed file was seen.

    If it was not, the sentence says how to see it.
    """
    if listing["inside"] is not None:
        return "opened with this site's key"
    return (
        "not opened: at the target, inspect it with --keys; at the source, inspect the copy in the keys folder, "
        f"released/{listing['grant']}.ecan"
    )


def _byte_lines(listing: dict[str, Any]) -> Iterator[str]:
    yield "Every byte:"
    yield from _table([[str(row[column]) for column in _COLUMNS] for row in listing["rows"]])
    totals = ", ".join(f"{num_bytes} {category}" for category, num_bytes in listing["totals"].items())
    yield f"  {listing['bytes']} bytes in all: {totals}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield aligned columns with hashes cut short.

    The listing in JSON has them whole.
    """
    cut = [[*row[:-1], row[-1][:_SHOWN_DIGITS]] for row in (_COLUMNS, *rows)]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    for row in cut:
        cells = (
            cell.rjust(width) if index < _RIGHT_ALIGNED else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield ("  " + "  ".join(cells)).rstrip()
