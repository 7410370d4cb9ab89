import hashlib
import json

import pytest

from protocol.errors import Malformed, StorageFault
from protocol.inspect import format_text, inspect
from tests.protocol.samples import AUDIENCE, GRANT, ISSUER, flipped, sealed


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "model.ecan"
    file.write_bytes(sealed())
    return file


def test_the_rows_cover_every_byte_once_and_each_has_its_hash(path):
    listing = inspect(path)
    offset = 0
    for row in listing["rows"]:
        assert row["offset"] == offset
        content = sealed()[offset : offset + row["bytes"]]
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        offset += row["bytes"]
    assert offset == listing["bytes"] == len(sealed()) == sum(listing["totals"].values())


def test_the_listing_says_who_signed_for_whom(path):
    listing = inspect(path)
    assert listing["signer"] == ISSUER.hex()
    assert listing["signature_holds"]
    assert (listing["audience"], listing["grant"]) == (AUDIENCE.hex(), GRANT.hex())
    assert listing["classes"] == ["anger", "happiness", "neutral", "sadness"]
    assert (listing["released"], listing["valid_until"]) == ("2026-02-16", "2026-05-17")


def test_the_free_bits_of_the_fields_add_up(path):
    listing = inspect(path)
    assert listing["free_bits"] == pytest.approx(sum(item["free_bits"] for item in listing["stated"]), abs=0.1)


def test_the_listing_is_json(path):
    listing = inspect(path)
    assert json.loads(json.dumps(listing)) == listing


def test_the_text_has_a_line_for_every_run_of_bytes_and_every_field(path):
    listing = inspect(path)
    text = format_text(listing)
    for row in listing["rows"]:
        assert f"  {row['field']} " in text
        assert row["sha256"][:16] in text
    for item in listing["stated"]:
        assert str(item["value"]) in text
    assert f"{len(sealed())} bytes in all" in text
    assert ISSUER.hex() in text


def test_a_signature_that_does_not_hold_is_said_aloud(path):
    listing = inspect(path)
    (signature,) = (row for row in listing["rows"] if row["field"] == "signature")
    (manifest,) = (row for row in listing["rows"] if row["field"] == "manifest")
    changed = bytearray(sealed())
    changed[signature["offset"]] = ord("A") if changed[signature["offset"]] != ord("A") else ord("B")
    path.write_bytes(changed)
    assert not inspect(path)["signature_holds"]
    assert "DOES NOT HOLD" in format_text(inspect(path))
    assert manifest["class"] == "stated"


def test_what_is_not_a_bundle_is_refused(path):
    path.write_bytes(flipped(sealed(), 0))
    with pytest.raises(Malformed):
        inspect(path)


def test_a_file_that_does_not_exist_is_a_storage_fault(tmp_path):
    with pytest.raises(StorageFault):
        inspect(tmp_path / "missing.ecan")
