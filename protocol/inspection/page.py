"""Format the listing of a bundle as a page to print and sign.

The page is for whoever answers for the release.

One self-contained A4 page without scripts and without references to anything outside it. Every value is escaped.
"""

from collections.abc import Iterable
from html import escape
from string import Template
from typing import Any

from protocol.identity.fingerprints import in_fours
from protocol.inspection.listing import capacity_sentence, inside_sentence, signature_sentence
from protocol.inspection.meanings import is_digest

_LEGEND = {
    "fixed": "follows from the format, the architecture and the signer: nothing to choose",
    "stated": "the manifest, field by field on this page",
    "signature": "the source's signature",
    "learned": "the weights",
    "sealed": "ciphertext that only the recipient can open",
}
_SHOWN_DIGITS = 16


def format_html(listing: dict[str, Any]) -> str:
    """Format the listing of `protocol.inspection.listing.inspect` as a page."""
    bundle = listing if "sealed" not in listing else listing["inside"]
    parts = [_sealed_part(listing)] if "sealed" in listing else []
    if bundle is not None:
        parts.append(_bundle_part(bundle))
    return _PAGE.substitute(
        title="A bundle before it crosses" if bundle is not None else "A sealed file, not opened",
        parts="".join(parts),
    )


def _sealed_part(listing: dict[str, Any]) -> str:
    facts = {
        "sealed file": f"{listing['bytes']} bytes, SHA-256 {in_fours(listing['sha256'])}",
        "grant": f"{in_fours(listing['grant'])}, as its outside says",
        "inside": f"a bundle of {listing['plain_bytes']} bytes, {inside_sentence(listing)}",
    }
    return _facts(facts) + (_bytes(listing) if listing["inside"] is None else "")


def _bundle_part(listing: dict[str, Any]) -> str:
    holds = listing["signature_holds"] and listing["weights_hold"]
    facts = {
        "bundle": f"{listing['bytes']} bytes, SHA-256 {in_fours(listing['sha256'])}",
        "signature": signature_sentence(listing),
        "audience": in_fours(listing["audience"]),
        "grant": in_fours(listing["grant"]),
        "release": f"{listing['release']} of {listing['released']}, valid until {listing['valid_until']}",
        "classes": ", ".join(listing["classes"]),
        "capacity": capacity_sentence(listing),
        "leakage": " ".join(listing["leakage"]),
    }
    columns = _stated(listing), _tensors(listing) + _capacity(listing)
    return (
        _facts(facts, warned=() if holds else ("signature",))
        + f'<div class="columns"><div>{columns[0]}</div><div>{columns[1]}</div></div>'
        + _bytes(listing)
    )


def _facts(facts: dict[str, str], warned: Iterable[str] = ()) -> str:
    rows = (
        f"<tr{' class=warned' if name in warned else ''}><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f'<table class="facts">{"".join(rows)}</table>'


def _stated(listing: dict[str, Any]) -> str:
    rows = [(item["field"], _said(item), f"{item['free_bits']:.2f}") for item in listing["stated"]]
    total = ("in all, of 160", "", f"{listing['free_bits']:.2f}")
    return _table("What the source states", ("field", "what it says", "free bits"), [*rows, total])


def _capacity(listing: dict[str, Any]) -> str:
    bound = listing["capacity"]
    rows = [
        ("tensors as written", f"{bound['written_bits']}"),
        ("less: ranges of values and exponents", f"{bound['taken_by_values']:.2f}"),
        *((f"less: order of the units of {name}", f"{bits:.2f}") for name, bits in bound["taken_by_order"].items()),
        ("capacity, rounded up", f"{bound['bits']}"),
    ]
    return _table("What the weights could carry", ("bound from the grid alone", "bits"), rows)


def _tensors(listing: dict[str, Any]) -> str:
    rows = [
        (row["field"], f"{row['type']} {' x '.join(map(str, row['shape']))}", in_fours(row["sha256"][:_SHOWN_DIGITS]))
        for row in listing["rows"]
        if row["class"] == "learned"
    ]
    return _table("Tensors", ("name", "type and shape", "SHA-256 begins"), rows)


def _bytes(listing: dict[str, Any]) -> str:
    rows = [(category, _LEGEND[category], str(number)) for category, number in listing["totals"].items()]
    return _table("Every byte", ("class", "what it is", "bytes"), [*rows, ("in all", "", str(listing["bytes"]))])


def _table(caption: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f"<table><caption>{escape(caption)}</caption><tr>{titles}</tr>{lines}</table>"


def _said(item: dict[str, Any]) -> str:
    """Return what a field says; of a digest, how it begins."""
    if is_digest(item["value"], item["meaning"]):
        return f"{in_fours(item['value'][:_SHOWN_DIGITS])} ..."
    return str(item["meaning"])


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
@page { size: A4; margin: 10mm 15mm; }
body { font: 7.5pt/1.3 system-ui, sans-serif; color: #111; margin: 0 auto; max-width: 180mm; }
h1 { font-size: 14pt; margin: 0 0 1.5mm; }
p { margin: 0 0 2mm; }
table { border-collapse: collapse; width: 100%; margin: 0 0 3mm; break-inside: avoid; }
caption { text-align: left; font-weight: 600; font-size: 8.6pt; padding: 0 0 .6mm; }
th, td { text-align: left; vertical-align: top; padding: .3mm 1.2mm .3mm 0; border-top: .2pt solid #bbb;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
th { font-weight: 600; color: #444; white-space: nowrap; }
table:not(.facts) :is(td, th):first-child { overflow-wrap: normal; }
table:not(.facts) :is(td, th):last-child { text-align: right; white-space: nowrap; }
.facts th { width: 20mm; }
.facts .warned { color: #a00; font-weight: 700; }
.columns { display: grid; grid-template-columns: 1fr 1fr; column-gap: 8mm; }
.sign { display: grid; grid-template-columns: 2fr 1fr 2fr; column-gap: 8mm; margin-top: 10mm; }
.sign div { border-top: .6pt solid; padding-top: .8mm; }
@media screen {
  :root { color-scheme: light dark; }
  body { font-size: 15px; line-height: 1.45; max-width: 64rem; padding: 1rem; }
  h1 { font-size: 1.5rem; } caption { font-size: 1.05rem; padding: .6rem 0 .2rem; }
  th, td { padding: .2rem .6rem .2rem 0; }
  .facts th { width: auto; }
}
@media screen and (prefers-color-scheme: dark) {
  body { background: #10171e; color: #e3e8ed; } th { color: #a3b0bc; } .facts .warned { color: #f0857d; }
}
@media screen and (max-width: 56rem) {
  .columns { display: block; } table { display: block; overflow-x: auto; }
}
</style>
</head>
<body>
<h1>$title</h1>
<p>Made from the file's bytes alone. Nothing on this page was compared with a trusted key: compare the fingerprints.</p>
$parts
<p>I have looked at the above and agree to the release.</p>
<div class="sign"><div>Name</div><div>Date</div><div>Signature</div></div>
</body>
</html>
""")
