"""docs/bundle-format.md says what the code does."""

import re
from pathlib import Path

import pytest

from protocol.manifest import EMOTIONS, IMPLIED, MAX_MANIFEST_BYTES, SCHEMA, free_bits
from protocol.weights import MAX_BIAS, MAX_EXPONENT, MAX_WEIGHT, MIN_EXPONENT

PAGE = (Path(__file__).parents[2] / "docs" / "bundle-format.md").read_text()


def test_the_manifest_table_lists_every_field_with_its_free_bits() -> None:
    section = PAGE.partition("## Manifest")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([\d.]+) \|", section, re.MULTILINE)
    assert [name for name, _ in rows] == list(SCHEMA)
    for name, bits in rows:
        assert float(bits) == pytest.approx(0 if name in IMPLIED else SCHEMA[name].bits, abs=0.005), name
    assert f"**{free_bits():.2f}**" in section
    assert f"at most {MAX_MANIFEST_BYTES} bytes" in section


def test_the_label_bits_are_listed_in_order() -> None:
    assert ", ".join(f"{bit} {word}" for bit, word in enumerate(EMOTIONS)) in PAGE


def test_the_ranges_of_the_integers_are_those_of_the_verifier() -> None:
    ranges = f"q lies in [-{MAX_WEIGHT}, {MAX_WEIGHT}], b in [-{MAX_BIAS}, {MAX_BIAS}]"
    assert f"{ranges}, e in [{MIN_EXPONENT}, {MAX_EXPONENT}]" in PAGE
