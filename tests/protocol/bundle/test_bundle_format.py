"""docs/bundle-format.md says what the code does."""

import re
from pathlib import Path

import pytest

from protocol.bundle import frame, override, sealing, trust
from protocol.bundle.architecture import FRAME_DIM, READ_BY_ADDED, STATISTICS_DIM
from protocol.bundle.manifest import EMOTIONS, ENCODER_SCHEMA, IMPLIED, MAX_MANIFEST_BYTES, SCHEMA, free_bits
from protocol.bundle.stated_audit import BARS, FIGURES, LEAST_NETWORKS
from protocol.bundle.weights import MAX_BIAS, MAX_EXPONENT, MAX_WEIGHT, MIN_EXPONENT
from protocol.statements import offers, receipts, request, revocations, succession

PAGE = (Path(__file__).parents[3] / "docs" / "bundle-format.md").read_text()


def test_the_manifest_table_lists_every_field_with_its_free_bits() -> None:
    section = PAGE.partition("## Manifest")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([\d.]+) \|", section, re.MULTILINE)
    assert [name for name, _ in rows] == [*SCHEMA, *ENCODER_SCHEMA]
    for name, bits in rows:
        assert float(bits) == pytest.approx(0 if name in IMPLIED else SCHEMA[name].bits, abs=0.005), name
    assert all(f"`{arch}`" in section for arch in READ_BY_ADDED)
    assert f"**{free_bits():.2f}**" in section
    assert f"at most {MAX_MANIFEST_BYTES} bytes" in section


@pytest.mark.parametrize("tier", BARS)
def test_the_bars_of_a_tier_are_listed(tier: int) -> None:
    cells = [f"tier {tier}", *(BARS[tier].get(name, "") for name in FIGURES), f"{LEAST_NETWORKS[tier]} or more"]
    assert f"| {' | '.join(map(str, cells))} |".replace("|  |", "| |") in PAGE


def test_the_label_bits_are_listed_in_order() -> None:
    assert ", ".join(f"{bit} {word}" for bit, word in enumerate(EMOTIONS)) in PAGE


def test_the_ranges_of_the_integers_are_those_of_the_verifier() -> None:
    ranges = f"q lies in [-{MAX_WEIGHT}, {MAX_WEIGHT}], b in [-{MAX_BIAS}, {MAX_BIAS}]"
    assert f"{ranges}, e in [{MIN_EXPONENT}, {MAX_EXPONENT}]" in PAGE


def test_the_heads_of_both_files_are_those_of_the_code() -> None:
    assert f"`{frame.MAGIC.hex(' ')}`" in PAGE
    assert f"`{sealing.MAGIC.hex(' ')}`" in PAGE
    assert f"| {sealing.HEAD.size} | N + {sealing.SEGMENT_OVERHEAD} · n |" in PAGE
    assert f"pieces of {sealing.SEGMENT_BYTES} bytes" in PAGE
    assert f"above r + {trust.MAX_RELEASE_STEP} is refused" in PAGE
    assert f"S = {STATISTICS_DIM}" in PAGE
    assert f"M = {FRAME_DIM}" in PAGE


@pytest.mark.parametrize(
    ("payload_type", "schema"),
    [
        (request.PAYLOAD_TYPE, request._SCHEMA),
        (receipts.PAYLOAD_TYPE, receipts._SCHEMA),
        (offers.OFFER_TYPE, offers._OFFER),
        (offers.CHECKPOINT_TYPE, offers._CHECKPOINT),
        (revocations.PAYLOAD_TYPE, revocations._SCHEMA),
        (succession.PAYLOAD_TYPE, succession._SCHEMA),
        (succession.HYBRID_PAYLOAD_TYPE, succession._HYBRID_SCHEMA),
        (override.OFFICER_TYPE, override._OFFICER),
        (override.OVERRIDE_TYPE, override._OVERRIDE),
    ],
)
def test_every_other_signed_file_is_listed_with_its_fields(payload_type: str, schema: dict[str, object]) -> None:
    short = payload_type.removeprefix("application/vnd.ecan.")
    (row,) = re.findall(rf"^\| [^|]+ \| `{re.escape(short)}` \| [^|]+ \| (.+) \|$", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) - {"accepted", "refused"} == set(schema)
