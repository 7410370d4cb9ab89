"""Every byte of a bundle as a list that people and machines can read, before anything in it is believed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from protocol.bundle import MAX_BUNDLE_BYTES
from protocol.description import Description, Row, describe
from protocol.files import read_bounded
from protocol.manifest import EMOTIONS

_EPOCH = date(1970, 1, 1)
_COLUMNS = ("offset", "bytes", "field", "type", "shape", "class", "sha256")
_RIGHT_ALIGNED = 2
_SHOWN_DIGITS = 16


def inspect(path: Path) -> dict[str, Any]:
    """List a bundle as JSON values: what it states, every run of bytes in order, and the totals.

    Raises:
        StorageFault: the file cannot be read.
        Malformed: it is not laid out as a bundle.
        Unauthentic: it carries no signature.
    """
    description = describe(read_bounded(path, MAX_BUNDLE_BYTES))
    totals = Counter[str]()
    for row in description.rows:
        totals[row.category] += row.num_bytes
    return {
        "bundle": str(path),
        "bytes": totals.total(),
        "sha256": description.digest.hex(),
        "signer": description.signer.hex(),
        "signature_holds": description.signature_holds,
        **_readable(description),
        "stated": [
            {"field": field.name, "value": field.value, "free_bits": round(field.bits, 2)}
            for field in description.fields
        ],
        "free_bits": round(sum(field.bits for field in description.fields), 2),
        "rows": [_row(row) for row in description.rows],
        "totals": dict(totals),
    }


def format_text(listing: dict[str, Any]) -> str:
    """The listing of `inspect` as text: a summary, what the source states, and one line per run of bytes."""
    return "\n".join(
        (
            *_summary(listing),
            "",
            "The source states:",
            *(
                f"  {item['field']:<15} {item['value']!s:<66} {item['free_bits']:>6} free bits"
                for item in listing["stated"]
            ),
            f"  {listing['free_bits']} free bits in all",
            "",
            "Every byte:",
            *_table([[str(row[column]) for column in _COLUMNS] for row in listing["rows"]]),
            f"  {listing['bytes']} bytes in all: "
            + ", ".join(f"{num_bytes} {category}" for category, num_bytes in listing["totals"].items()),
        )
    )


def _readable(description: Description) -> dict[str, Any]:
    """The manifest's numbers in words."""
    stated = {field.name: field.value for field in description.fields}
    labels, day, valid_days = (int(stated[name]) for name in ("labels", "day", "valid_days"))
    released = _EPOCH + timedelta(days=day)
    return {
        "audience": stated["audience"],
        "grant": stated["grant"],
        "release": stated["release"],
        "classes": [word for bit, word in enumerate(EMOTIONS) if labels >> bit & 1],
        "released": released.isoformat(),
        "valid_until": (released + timedelta(days=valid_days)).isoformat(),
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


def _summary(listing: dict[str, Any]) -> Iterator[str]:
    verdict = "holds" if listing["signature_holds"] else "DOES NOT HOLD"
    yield f"bundle     {listing['bundle']}, {listing['bytes']} bytes, SHA-256 {listing['sha256']}"
    yield f"signature  {verdict}, by {listing['signer']}; compare this with the source you trust"
    yield f"audience   {listing['audience']}, grant {listing['grant']}"
    yield f"release    {listing['release']} of {listing['released']}, valid until {listing['valid_until']}"
    yield f"classes    {', '.join(listing['classes'])}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Aligned columns; hashes are cut, for the listing in JSON has them whole."""
    cut = [[*row[:-1], row[-1][:_SHOWN_DIGITS]] for row in (_COLUMNS, *rows)]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    for row in cut:
        cells = (
            cell.rjust(width) if index < _RIGHT_ALIGNED else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield ("  " + "  ".join(cells)).rstrip()
