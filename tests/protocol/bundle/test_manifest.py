import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bundle.architecture import ARCHITECTURES, NORMALIZATIONS, READ_BY_ADDED
from protocol.bundle.manifest import (
    EMOTIONS,
    ENCODER_SCHEMA,
    IMPLIED,
    SCHEMA,
    VALID_DAYS,
    Manifest,
    free_bits,
    half_percents,
    label_mask,
    log2_bucket,
)
from protocol.errors import MalformedError
from tests.protocol.samples import AUDITED, code_only, manifest_of, packed, says_what_to_do

MANIFEST = manifest_of(packed())
DATA = MANIFEST.to_bytes()


def rewritten(**changes: object) -> bytes:
    """The manifest with some JSON values changed, canonical again; None removes a field."""
    fields = {**json.loads(DATA), **changes}
    kept = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()


def replaced(old: bytes, new: bytes) -> bytes:
    assert DATA.count(old) == 1
    return DATA.replace(old, new)


def test_a_manifest_says_this_and_no_more() -> None:
    assert set(json.loads(DATA)) == set(SCHEMA)
    assert MANIFEST.classes == ("anger", "happiness", "neutral", "sadness")
    assert MANIFEST.front_end == "stats-v1"
    assert len(DATA) < 1200


bounded = st.integers(0, 31)


def manifest_read_by(arch: str, encoder: bytes, **fields: Any) -> Manifest:
    """A manifest that names an encoder where its architecture asks for one."""
    return Manifest(arch=arch, encoder=encoder if arch in READ_BY_ADDED else b"", **fields)


@given(
    st.builds(
        manifest_read_by,
        arch=st.sampled_from(ARCHITECTURES),
        encoder=st.binary(min_size=32, max_size=32),
        norm=st.sampled_from(NORMALIZATIONS),
        labels=st.sets(st.sampled_from(EMOTIONS), min_size=2).map(lambda words: label_mask(tuple(words))),
        audience=st.binary(min_size=32, max_size=32),
        grant=st.binary(min_size=16, max_size=16),
        release=st.integers(1, 0xFFFF),
        day=st.integers(0, 0xFFFF),
        valid_days=st.sampled_from(VALID_DAYS),
        n_utt=bounded,
        n_spk=bounded,
        hours=st.integers(-16, 15),
        uar_src=st.integers(0, 200),
        uar_q_loss=st.integers(0, 1),
        tier=st.just(0),
        audit=st.just("measured"),
        networks=st.integers(1, 12),
        lira_auc=st.integers(0, 200),
        lira_tpr1=st.integers(0, 200),
        file_auc=st.integers(0, 200),
        spk_auc=st.integers(0, 200),
        epsilon=st.integers(1, 1000),
        delta=st.integers(1, 15),
        unit=st.sampled_from(("utterance", "speaker")),
        issuer=st.binary(min_size=32, max_size=32),
        weights_sha256=st.binary(min_size=32, max_size=32),
        weights_len=st.integers(1, 0xFFFFFF),
    )
)
def test_every_manifest_reads_back_as_it_was_written(manifest: Manifest) -> None:
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data) == manifest
    assert Manifest.from_bytes(data).to_bytes() == data


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"arch":"mlp-stats-v1",' + DATA[1:], "DUP_KEY"),
        (replaced(b'"release":7', b'"release":7.0'), "NOT_CANONICAL"),
        (replaced(b'"release":7', b'"release":7e0'), "NOT_CANONICAL"),
        (replaced(b'"release":7', b'"release":07'), "NOT_CANONICAL"),
        (replaced(b'"release":7', b'"release":+7'), "NOT_CANONICAL"),
        (replaced(b'"n_spk":3', b'"n_spk":-0'), "NOT_CANONICAL"),
        (replaced(b'"release":7', b'"release":NaN'), "NOT_CANONICAL"),
        (replaced(b'"release":7', b'"release":Infinity'), "NOT_CANONICAL"),
        (replaced(b'"release":7', b'"release":' + b"9" * 4301), "LENGTH"),
        (replaced(b'"release":7', b'"release":' + b"9" * 1000), "RANGE"),
        (replaced(b'"release":7', b'"release":9223372036854775808'), "RANGE"),
        (replaced(b'"release":7', b'"release":65536'), "RANGE"),
        (replaced(b'"release":7', b'"release":0'), "RANGE"),
        (replaced(b'"release":7', b'"release":true'), "TYPE"),
        (replaced(b'"release":7', b'"release":"7"'), "TYPE"),
        (replaced(b'"release":7', b'"release":null'), "TYPE"),
        (replaced(b'"release":7', b'"release":[7]'), "TYPE"),
        (replaced(b'"v":2', b'"v":true'), "TYPE"),
        (replaced(b'"v":2', b'"v":1'), "RANGE"),
        (replaced(b'"valid_days":90', b'"valid_days":91'), "ENUM"),
        (replaced(b'"release":7', b'"release": 7'), "NOT_CANONICAL"),
        (replaced(b'"arch"', rb'"\u0061rch"'), "NOT_CANONICAL"),
        (DATA[:-1] + b',"a":1}', "NOT_CANONICAL"),
        (DATA + b"\n", "NOT_CANONICAL"),
        (b"\xef\xbb\xbf" + DATA, "NOT_CANONICAL"),
        (DATA.decode().encode("utf-16"), "NOT_CANONICAL"),
        (b"[" * 200_000, "LENGTH"),
        (b"[" * 4000, "DEPTH"),
        (b"", "NOT_CANONICAL"),
        (rewritten(note="recorded at home"), "UNKNOWN_FIELD"),
        (rewritten(arch="vgg-11"), "ENUM"),
        (rewritten(enc="f32"), "ENUM"),
        (rewritten(norm="batch"), "ENUM"),
        (rewritten(frontend="frames-v1"), "ENUM"),
        (rewritten(frontend="waveform"), "ENUM"),
        (rewritten(labels=0b100), "RANGE"),
        (rewritten(labels=1), "RANGE"),
        (rewritten(labels=1 << 12), "RANGE"),
        (rewritten(grant="00" * 15), "RANGE"),
        (rewritten(issuer="FF" * 32), "RANGE"),
        (rewritten(audience=""), "RANGE"),
        (rewritten(weights_len=0), "RANGE"),
        (rewritten(uar_src=201), "RANGE"),
        (rewritten(uar_q_loss=2), "RANGE"),
        (rewritten(n_utt=32), "RANGE"),
        (rewritten(tier=3), "ENUM"),
        (rewritten(tier=True), "TYPE"),
        (rewritten(audit="failed"), "ENUM"),
        (rewritten(unit="person"), "ENUM"),
        (rewritten(networks=13), "RANGE"),
        (rewritten(lira_auc=201), "RANGE"),
        (rewritten(spk_auc=-1), "RANGE"),
        (rewritten(epsilon=1001), "RANGE"),
        (rewritten(delta=16), "RANGE"),
        *[(rewritten(**{field: None}), "MISSING") for field in SCHEMA],
    ],
    ids=code_only,
)
def test_any_other_bytes_are_not_a_manifest(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        Manifest.from_bytes(data)
    assert caught.value.code == code
    assert says_what_to_do(caught)


MEASURED = AUDITED | {"tier": 0, "audit": "measured"}
NOTHING = dict.fromkeys(AUDITED, 0) | {"audit": "none", "unit": "none"}


@pytest.mark.parametrize("said", [NOTHING, MEASURED, AUDITED, AUDITED | {"tier": 1, "audit": "overridden"}])
def test_what_is_said_of_an_audit_is_read(said: dict[str, object]) -> None:
    assert Manifest.from_bytes(rewritten(**said)).tier == said["tier"]


@pytest.mark.parametrize(
    "said",
    [
        AUDITED | {"tier": 0},
        AUDITED | {"tier": 0, "audit": "overridden"},
        AUDITED | {"audit": "none"},
        AUDITED | {"audit": "measured"},
        NOTHING | {"tier": 1},
        NOTHING | {"audit": "measured"},
        NOTHING | {"audit": "passed", "tier": 2},
        NOTHING | {"networks": 1},
        NOTHING | {"lira_auc": 100},
        NOTHING | {"spk_auc": 1},
        NOTHING | {"epsilon": 80, "delta": 4, "unit": "utterance"},
        MEASURED | {"networks": 0},
        MEASURED | {"epsilon": 0},
        MEASURED | {"delta": 0},
        MEASURED | {"unit": "none"},
        MEASURED | {"epsilon": 0, "delta": 0},
        MEASURED | {"epsilon": 0, "unit": "none"},
        MEASURED | {"delta": 0, "unit": "none"},
    ],
)
def test_what_contradicts_itself_is_neither_read_nor_written(said: dict[str, object]) -> None:
    with pytest.raises(MalformedError) as caught:
        Manifest.from_bytes(rewritten(**said))
    assert caught.value.code == "AUDIT"
    assert says_what_to_do(caught)
    with pytest.raises(MalformedError):
        dataclasses.replace(MANIFEST, **said).to_bytes()


ADDED = dataclasses.replace(MANIFEST, arch="mlp-stats-ssl-768-v1", encoder=bytes(range(32)))


def test_a_manifest_names_an_added_encoder_by_its_hash_and_costs_no_free_bit() -> None:
    fields = json.loads(ADDED.to_bytes())
    assert set(fields) == {*SCHEMA, "encoder"}
    assert fields["encoder"] == bytes(range(32)).hex()
    assert Manifest.from_bytes(ADDED.to_bytes()) == ADDED


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"encoder": None}, "MISSING"),
        ({"encoder": "00" * 31}, "RANGE"),
        ({"encoder": "AB" * 32}, "RANGE"),
        ({"encoder": 7}, "TYPE"),
        ({"arch": "mlp-stats-v1", "frontend": "stats-v1"}, "UNKNOWN_FIELD"),
        ({"arch": "mlp-stats-whisper-v1", "frontend": "stats-whisper-v1"}, "UNKNOWN_FIELD"),
        ({"arch": "mlp-stats-ssl-1024-v1"}, "ENUM"),
    ],
)
def test_an_encoder_stands_only_where_the_architecture_asks_for_one(changes: dict[str, object], code: str) -> None:
    fields = {**json.loads(ADDED.to_bytes()), **changes}
    kept = {name: value for name, value in fields.items() if value is not None}
    with pytest.raises(MalformedError) as caught:
        Manifest.from_bytes(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode())
    assert caught.value.code == code
    assert says_what_to_do(caught)


@pytest.mark.parametrize("change", [{"encoder": b""}, {"encoder": bytes(31)}, {"arch": "mlp-stats-v1"}])
def test_an_encoder_that_does_not_fit_is_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        dataclasses.replace(ADDED, **change).to_bytes()


def test_a_manifest_that_could_not_be_read_is_not_written() -> None:
    for change in ({"labels": 1}, {"release": 0}, {"hours": 16}, {"norm": "batch"}):
        with pytest.raises(MalformedError):
            dataclasses.replace(MANIFEST, **change).to_bytes()


CHOSEN = {
    "arch": 2.32,
    "norm": 1.58,
    "labels": 12.00,
    "release": 16.00,
    "day": 16.00,
    "valid_days": 2.00,
    "n_utt": 5.00,
    "n_spk": 5.00,
    "hours": 5.00,
    "uar_src": 7.65,
    "uar_q_loss": 1.00,
    "tier": 1.58,
    "audit": 2.00,
    "networks": 3.70,
    "lira_auc": 7.65,
    "lira_tpr1": 7.65,
    "file_auc": 7.65,
    "spk_auc": 7.65,
    "epsilon": 9.97,
    "delta": 4.00,
    "unit": 1.58,
}
"""The fields in which a source has a choice, in bits; whoever adds one changes docs/bundle-format.md too."""


def test_a_source_can_choose_in_these_fields_alone_and_no_more_than_160_bits() -> None:
    assert {name: round(kind.bits, 2) for name, kind in SCHEMA.items() if name not in IMPLIED} == CHOSEN
    assert {*SCHEMA, *ENCODER_SCHEMA} == CHOSEN.keys() | IMPLIED
    assert round(free_bits(), 2) == 127.00 <= 160
    assert " ".join(sorted(IMPLIED)) == "audience enc encoder frontend grant issuer v weights_len weights_sha256"


def test_the_label_words_are_those_of_the_core() -> None:
    labels = pytest.importorskip("ecan_core.labels")
    assert labels.EMOTIONS == EMOTIONS


def test_sizes_are_told_as_powers_of_two_and_shares_in_half_percents() -> None:
    assert [log2_bucket(quantity) for quantity in (1, 535, 1024, 0.41)] == [0, 9, 10, -2]
    assert [half_percents(share) for share in (0.0, 0.713, 1.0)] == [0, 143, 200]
