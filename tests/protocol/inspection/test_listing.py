import dataclasses
import hashlib
import html
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from protocol.bundle import sealing
from protocol.bundle.architecture import ARCHITECTURES, READ_BY_ADDED
from protocol.bundle.egress import sign_bundle
from protocol.bundle.sealing import SealingKey
from protocol.errors import FileError, MalformedError, UnauthenticError
from protocol.identity.fingerprints import in_fours
from protocol.identity.identities import Role, create_identity
from protocol.identity.key_files import write_identity
from protocol.inspection.listing import format_text, inspect
from protocol.inspection.page import format_html
from tests.protocol.samples import AUDIENCE, AUDITED, FIELDS, GRANT, ISSUER, RELEASE_KEY, flipped, random_model, sealed
from tests.support import cli


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


def test_what_is_stated_about_leakage_stands_in_the_text_and_on_the_page(path):
    fields = dataclasses.replace(FIELDS, **AUDITED)
    path.write_bytes(sign_bundle(random_model(), fields, RELEASE_KEY))
    listing = inspect(path)
    assert "clears tier 2" in listing["leakage"][0]
    for sentence in listing["leakage"]:
        assert sentence in format_text(listing)
        assert html.escape(sentence) in format_html(listing)
    assert "no audit" in inspect_of(sealed(), path)["leakage"][0]


def inspect_of(data, path):
    path.write_bytes(data)
    return inspect(path)


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
        assert (item["meaning"] in text) or (item["value"] in text)
    assert f"{len(sealed())} bytes in all" in text
    assert in_fours(ISSUER.hex()) in text


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
    with pytest.raises(MalformedError):
        inspect(path)


def test_a_file_that_does_not_exist_is_a_storage_fault(tmp_path):
    with pytest.raises(FileError):
        inspect(tmp_path / "missing.ecan")


def test_the_capacity_is_told_in_bits_bytes_and_as_a_share_of_the_shortest_possible_corpus(path):
    bound = inspect(path)["capacity"]
    assert bound["bits"] == pytest.approx(
        bound["written_bits"] - bound["taken_by_values"] - sum(bound["taken_by_order"].values()), abs=1
    )
    assert bound["bytes"] == pytest.approx(bound["bits"] / 8, abs=1)
    assert bound["hours_at_least"] == 0.25
    assert bound["share_at_most"] == pytest.approx(bound["bits"] / (900 * 6000), abs=1e-4)
    assert f"{bound['bits']} bits" in format_text(inspect(path))


SEALING_KEY = SealingKey.generate()


@pytest.fixture
def sealed_path(tmp_path):
    file = tmp_path / "carried.sealed"
    file.write_bytes(sealing.seal(sealed(), SEALING_KEY.public_key, GRANT))
    return file


def test_a_sealed_file_shows_its_outside_and_says_how_to_see_the_inside(sealed_path):
    listing = inspect(sealed_path)
    data = sealed_path.read_bytes()
    assert listing["bytes"] == len(data) == sum(row["bytes"] for row in listing["rows"])
    assert (listing["grant"], listing["plain_bytes"]) == (GRANT.hex(), len(sealed()))
    assert [row["field"] for row in listing["rows"]] == ["magic", "major", "suite", "grant", "plain_len", "segment"]
    assert listing["totals"]["sealed"] == len(data) - 36
    assert listing["sha256"] == hashlib.sha256(data).hexdigest()
    assert listing["inside"] is None
    text = format_text(listing)
    assert "--keys" in text
    assert f"released/{GRANT.hex()}.ecan" in text


def test_every_segment_of_a_sealed_file_is_a_row(sealed_path, monkeypatch):
    monkeypatch.setattr(sealing, "SEGMENT_BYTES", 50_000)
    sealed_path.write_bytes(sealing.seal(sealed(), SEALING_KEY.public_key, GRANT))
    listing = inspect(sealed_path)
    assert [row["field"] for row in listing["rows"]].count("segment") == 3
    assert listing["bytes"] == sealed_path.stat().st_size
    assert listing["sealing_random_bits"] == 3 * 508


def test_with_the_key_a_sealed_file_shows_its_inside_too(sealed_path, path):
    listing = inspect(sealed_path, SEALING_KEY)
    assert {**listing["inside"], "bundle": None} == {**inspect(path), "bundle": None}
    text = format_text(listing)
    assert "opened with this site's key" in text
    assert in_fours(ISSUER.hex()) in text


def test_another_key_does_not_open_it(sealed_path):
    with pytest.raises(UnauthenticError) as caught:
        inspect(sealed_path, SealingKey.generate())
    assert caught.value.code == "DECRYPT"


def test_a_sealed_file_that_is_cut_is_refused(sealed_path):
    sealed_path.write_bytes(sealed_path.read_bytes()[:-1])
    with pytest.raises(MalformedError):
        inspect(sealed_path)


def test_the_page_holds_what_the_listing_says_and_refers_to_nothing_outside_itself(path, sealed_path):
    for listing in (inspect(path), inspect(sealed_path), inspect(sealed_path, SEALING_KEY)):
        page = format_html(listing)
        assert not re.search(r"<script|<link|<img|src=|href=|url\(|@import|https?:", page)
        assert in_fours(listing["sha256"]) in page
        assert all(word in page for word in ("Name", "Date", "Signature"))
        assert in_fours(GRANT.hex()) in page
    text = html.unescape(format_html(inspect(path)))
    for item in inspect(path)["stated"]:
        assert f">{item['field']}<" in text
        assert item["meaning"][:19] in text
    assert "head.weight" in text
    assert str(inspect(path)["capacity"]["bits"]) in text


def test_every_value_on_the_page_is_escaped(path):
    listing = inspect(path)
    hostile = "<script>alert(1)</script>&\"'"
    for key in ("sha256", "signer", "audience", "grant", "release", "released", "valid_until"):
        listing[key] = hostile
    listing["classes"] = [hostile]
    for item in listing["stated"]:
        item["field"] = item["value"] = hostile
    for row in listing["rows"]:
        row["field"] = row["type"] = row["sha256"] = hostile
    page = format_html(listing)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_page_warns_of_a_signature_that_does_not_hold(path):
    assert "class=warned" not in format_html(inspect(path))
    listing = {**inspect(path), "signature_holds": False}
    assert re.search("class=warned.*DOES NOT HOLD", format_html(listing))


def test_weights_that_were_not_signed_are_named(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    listing = inspect(path)
    assert listing["signature_holds"]
    assert not listing["weights_hold"]
    assert "THE WEIGHTS ARE OTHERS" in format_text(listing)
    assert re.search("class=warned.*THE WEIGHTS ARE OTHERS", format_html(listing))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_page_is_one_page(arch, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    encoder = bytes(32) if arch in READ_BY_ADDED else b""
    fields = dataclasses.replace(FIELDS, arch=arch, norm="none", labels=0xFFF, encoder=encoder, **AUDITED)
    (tmp_path / "model.ecan").write_bytes(sign_bundle(random_model(arch, 12, "none"), fields, RELEASE_KEY))
    (tmp_path / "page.html").write_text(format_html(inspect(tmp_path / "model.ecan")))
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    target = tmp_path / "page.pdf"
    subprocess.run([*command, f"--print-to-pdf={target}", tmp_path / "page.html"], check=True, capture_output=True)
    assert len(re.findall(rb"/Type\s*/Page\b", target.read_bytes())) == 1


@pytest.mark.parametrize("program", [cli.source, cli.target])
def test_both_sites_print_the_listing_and_the_page(program, path, tmp_path):
    listing = program("inspect", "--bundle", path, "--format", "json")
    assert listing.code == 0, listing.stderr
    assert json.loads(listing.stdout) == inspect(path)
    assert program("inspect", "--bundle", path).stdout.strip() == format_text(inspect(path)).strip()
    page = program("inspect", "--bundle", path, "--format", "html", "--out", tmp_path / "page.html")
    assert page.code == 0, page.stderr
    assert (tmp_path / "page.html").read_text() == format_html(inspect(path))


@pytest.mark.parametrize("options", [["--format", "html"], ["--out", "page.html"]])
@pytest.mark.parametrize("program", [cli.source, cli.target])
def test_a_page_needs_a_place(program, options, path):
    assert program("inspect", "--bundle", path, *options).code == 2


def test_the_target_opens_a_sealed_file_with_its_keys(tmp_path):
    identity = create_identity(Role.TARGET, datetime(2026, 2, 16, tzinfo=UTC))
    write_identity(identity, tmp_path / "keys")
    file = tmp_path / "carried.sealed"
    file.write_bytes(sealing.seal(sealed(), identity.sealing_key.public_key, GRANT))
    opened = cli.target("inspect", "--bundle", file, "--keys", tmp_path / "keys", "--format", "json")
    assert opened.code == 0, opened.stderr
    assert json.loads(opened.stdout)["inside"]["signer"] == ISSUER.hex()
