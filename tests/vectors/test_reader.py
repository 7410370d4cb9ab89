"""Two readers that share no code agree about every bundle: ours, and the one that was written from the page."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.bundle import frame as bundle
from protocol.bundle import trust
from protocol.bundle.architecture import tensor_specs
from protocol.bundle.form import ModelForm
from protocol.bundle.manifest import PAYLOAD_TYPE
from protocol.bundle.trust import ANY_AUDIT, Anchor, AuditTerms
from protocol.bundle.weights import header
from protocol.errors import ProtocolError
from protocol.identity import signing
from tests.vectors import make, reader
from tests.vectors.test_vectors import ANCHOR, NAMES, golden

IN_ONE_PASS = {"NOT_CANONICAL", "DUP_KEY", "RANGE"}
"""Faults of text that one reader meets in another order than the other."""


def verdict_of_ours(data: bytes, anchor: Anchor) -> str:
    try:
        trust.verify(data, anchor)
    except ProtocolError as refusal:
        return str(refusal.code)
    return "ACCEPTED"


def verdict_of_the_other(data: bytes, anchor: Anchor) -> str:
    known = {name: value for name, value in vars(anchor).items() if name != "audit"}
    site = reader.Site(**known, **vars(anchor.audit))
    try:
        reader.read(data, site)
    except reader.BundleRefusedError as refusal:
        return str(refusal)
    return "ACCEPTED"


def compare(data: bytes, anchor: Anchor = ANCHOR) -> str:
    ours, other = verdict_of_ours(data, anchor), verdict_of_the_other(data, anchor)
    assert ours == other or {ours, other} <= IN_ONE_PASS, data[:1200]
    return ours


def parts(name: str) -> tuple[bytes, bytes]:
    frame = bundle.split(golden(name))
    return frame.envelope, bytes(frame.weights)


def resigned(name: str, payload: bytes, weights: bytes | None = None, key: Ed25519PrivateKey = make.RELEASE) -> bytes:
    """What a dishonest source can make: anything, validly signed."""
    return bundle.assemble(signing.sign(PAYLOAD_TYPE, payload, key), parts(name)[1] if weights is None else weights)


def restated(name: str, changes: dict[str, Any], weights: bytes | None = None) -> bytes:
    payload = json.loads(signing.parse_envelope(parts(name)[0]).payload)
    fields = {field: value for field, value in {**payload, **changes}.items() if value is not None}
    if weights is not None:
        fields |= {"weights_sha256": hashlib.sha256(weights).hexdigest(), "weights_len": len(weights)}
    return resigned(name, json.dumps(fields, sort_keys=True, separators=(",", ":")).encode(), weights)


@pytest.mark.parametrize("name", NAMES)
def test_both_accept_the_golden_bundles(name: str) -> None:
    assert compare(golden(name)) == "ACCEPTED"


@pytest.mark.parametrize("name", NAMES)
def test_both_judge_a_damaged_frame_alike(name: str) -> None:
    data, seen = golden(name), Counter[str]()
    weights_start = len(data) - len(parts(name)[1])
    for end in (*range(0, 40), weights_start - 1, weights_start, len(data) - 1):
        seen[compare(data[:end])] += 1
    for byte in range(24):
        for bit in range(8):
            changed = bytearray(data)
            changed[byte] ^= 1 << bit
            seen[compare(bytes(changed))] += 1
    seen[compare(data + b"\0")] += 1
    seen[compare(data + data)] += 1
    assert not seen["ACCEPTED"]
    assert {"TRUNCATED", "MAGIC", "VERSION", "FLAGS", "LENGTH", "TRAILING"} <= seen.keys()


def damages(text: bytes, rng: random.Random) -> Iterator[bytes]:
    """Text with one or two small damages of many kinds."""
    alphabet = b'{}[]",:0123456789abcdef=-+ .\\\n\x00\x7f\xffeE_/ntruls'
    for _ in range(400):
        changed = bytearray(text)
        for _ in range(rng.randint(1, 2)):
            place = rng.randrange(len(changed))
            deed = rng.randrange(5)
            if deed == 0:
                changed[place] = rng.choice(alphabet)
            elif deed == 1:
                changed.insert(place, rng.choice(alphabet))
            elif deed == 2:
                del changed[place]
            elif deed == 3:
                end = min(len(changed), place + rng.randint(1, 30))
                changed[place:place] = changed[place:end]
            else:
                del changed[place : place + rng.randint(1, 30)]
        yield bytes(changed)


@pytest.mark.parametrize("name", NAMES)
def test_both_judge_a_damaged_envelope_alike(name: str) -> None:
    envelope, weights = parts(name)
    seen = Counter(compare(bundle.assemble(changed, weights)) for changed in damages(envelope, random.Random(name)))
    assert seen["ACCEPTED"] == sum(changed == envelope for changed in damages(envelope, random.Random(name)))
    assert len(seen) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_both_judge_a_damaged_manifest_alike_though_it_is_signed(name: str) -> None:
    payload = signing.parse_envelope(parts(name)[0]).payload
    seen = Counter(compare(resigned(name, changed)) for changed in damages(payload, random.Random(name)))
    assert len(seen) >= 6


VALUES = (
    None,
    -17,
    -16,
    -1,
    0,
    1,
    2,
    3,
    12,
    13,
    15,
    16,
    31,
    32,
    90,
    91,
    200,
    201,
    1000,
    1001,
    4095,
    4096,
    65535,
    65536,
)
VALUES += (16777216, 10**15)
OTHER_VALUES = (
    True,
    "",
    "none",
    "passed",
    "overridden",
    "failed",
    "speaker",
    "q8p2",
    "frames-v1",
    "00" * 16,
    "0A" * 32,
    "ab" * 32,
    [],
    {},
    [1],
    {"a": 1},
)


@pytest.mark.parametrize("field", sorted(reader.FIELDS | {"note"}))
def test_both_judge_every_field_alike(field: str) -> None:
    for value in (*VALUES, *OTHER_VALUES):
        compare(restated("tdnn", {field: value}))


@pytest.mark.parametrize("name", ["ssl-768", "ssl-1024"])
@pytest.mark.parametrize("field", ["encoder", "arch", "frontend"])
def test_both_judge_what_names_an_encoder_alike(name: str, field: str) -> None:
    for value in (*VALUES, *OTHER_VALUES, *reader.FRONT_ENDS, *reader.WIDTHS):
        compare(restated(name, {field: value}))
        compare(restated(name, {field: value, "encoder": None}))


@pytest.mark.parametrize("held", [None, (), ("ssl-1024",), ("ssl-768", "ssl-1024")], ids=str)
def test_both_refuse_an_encoder_that_is_not_here(held: tuple[str, ...] | None) -> None:
    encoders = None if held is None else frozenset(make.ENCODERS[name] for name in held)
    anchor = Anchor(issuer=ANCHOR.issuer, today=make.TODAY, encoders=encoders)
    is_here = held is None or "ssl-768" in held
    assert compare(golden("ssl-768"), anchor) == ("ACCEPTED" if is_here else "NOT_FOUND")
    assert compare(golden("mlp"), anchor) == "ACCEPTED"


def with_values(name: str, *changes: tuple[str, int, int]) -> bytes:
    """Weights with some bytes changed, each a tensor's name, a place in it (from its end if negative), and a byte."""
    arch, classes, norm = make.MODELS[name]
    specs = tensor_specs(ModelForm(arch, len(classes), norm))
    changed = bytearray(parts(name)[1])
    starts, place = {}, len(header(specs))
    for spec in specs:
        starts[spec.name] = (place, place + spec.num_bytes)
        place += spec.num_bytes
    for tensor, offset, value in changes:
        changed[starts[tensor][offset < 0] + offset] = value & 0xFF
    return bytes(changed)


@pytest.mark.parametrize("name", NAMES)
def test_both_judge_signed_weights_alike(name: str) -> None:
    arch, classes, norm = make.MODELS[name]
    rng, seen = random.Random(name), Counter[str]()
    for spec in tensor_specs(ModelForm(arch, len(classes), norm)):
        for value in (-128, -127, -21, -20, 0, 8, 9, 127):
            weights = with_values(name, (spec.name, rng.randrange(spec.num_bytes), value))
            seen[compare(restated(name, {}, weights))] += 1
    assert {"ACCEPTED", "VALUE", "UNIT_ORDER"} <= seen.keys()


def same_units(name: str, layer: str, following: str, *, used: bool) -> bytes:
    """Weights whose second unit of a layer is the same as the first, with or without a use in the next layer."""
    arch, classes, norm = make.MODELS[name]
    specs = {spec.name: spec for spec in tensor_specs(ModelForm(arch, len(classes), norm))}
    data = parts(name)[1]
    place, changes = len(header(list(specs.values()))), []
    for spec in specs.values():
        if spec.name in (f"{layer}.weight", f"{layer}.bias", f"{layer}.exponent"):
            width = spec.num_bytes // spec.shape[0]
            changes += [(spec.name, width + column, data[place + column]) for column in range(width)]
        if spec.name == f"{following}.weight" and not used:
            width = spec.num_bytes // spec.shape[0]
            kernel = spec.shape[2] if len(spec.shape) == 3 else 1
            tiles = spec.shape[1] // specs[f"{layer}.weight"].shape[0]
            units = spec.shape[1] // tiles
            changes += [
                (spec.name, row * width + (tile * units + 1) * kernel + tap, 0)
                for row in range(spec.shape[0])
                for tile in range(tiles)
                for tap in range(kernel)
            ]
        place += spec.num_bytes
    return with_values(name, *changes)


@pytest.mark.parametrize(
    ("name", "layer", "following"),
    [
        ("mlp", "encoder.0", "bottleneck"),
        ("mlp", "bottleneck", "head"),
        ("tdnn", "encoder.0", "encoder.1"),
        ("tdnn", "encoder.2", "bottleneck"),
    ],
)
def test_both_judge_repeated_units_alike(name: str, layer: str, following: str) -> None:
    assert compare(restated(name, {}, same_units(name, layer, following, used=True))) == "UNIT_ORDER"
    assert compare(restated(name, {}, same_units(name, layer, following, used=False))) == "ACCEPTED"


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights[:-1],
        lambda weights: weights + b"\0",
        lambda weights: weights[:8] + b" " + weights[9:],
        lambda weights: weights.replace(b"encoder.0.bias", b"encoder.9.bias"),
        lambda weights: weights.replace(b"[128,", b"[129,"),
        lambda weights: bytes(len(weights)),
    ],
)
def test_both_judge_another_layout_alike(change: Callable[[bytes], bytes]) -> None:
    assert compare(restated("mlp", {}, change(parts("mlp")[1]))) == "HEADER_MISMATCH"


def test_both_judge_other_keys_types_and_digests_alike() -> None:
    payload = signing.parse_envelope(parts("mlp")[0]).payload
    assert compare(resigned("mlp", payload, key=make.NEXT)) == "KEY_UNKNOWN"
    assert compare(resigned("mlp", payload, weights=bytes(len(parts("mlp")[1])))) == "DIGEST"
    envelope = signing.sign("application/vnd.ecan.receipt.v1+json", payload, make.RELEASE)
    assert compare(bundle.assemble(envelope, parts("mlp")[1])) == "PAYLOAD_TYPE"
    renamed = parts("mlp")[0].replace(signing.raw_public_key(make.RELEASE).hex().encode(), b"00" * 32)
    assert compare(bundle.assemble(renamed, parts("mlp")[1])) == "KEY_UNKNOWN"


@pytest.mark.parametrize("release", [1, 6, 7, 8, 64, 71, 72, 65_535])
@pytest.mark.parametrize("last", [0, 1, 7, 8])
@pytest.mark.parametrize("same", [True, False])
def test_both_remember_releases_alike(release: int, last: int, same: bool) -> None:
    weights = hashlib.sha256(parts("mlp")[1]).digest() if same else bytes(32)
    compare(
        restated("mlp", {"release": release}),
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY, last_release=last, last_weights=weights),
    )


@pytest.mark.parametrize(
    "anchor",
    [
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY - 2),
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY - 3),
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY + 90),
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY + 91),
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY, audience=bytes(32)),
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY, grants=frozenset()),
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY, grants=frozenset({bytes(16), make.GRANT})),
        Anchor(issuer=bytes(32), today=make.TODAY),
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY, revoked=frozenset({ANCHOR.issuer})),
        Anchor(issuer=ANCHOR.issuer, today=make.TODAY, revoked=frozenset({make.AUDIENCE})),
    ],
)
def test_both_keep_to_the_same_policy(anchor: Anchor) -> None:
    compare(golden("mlp"), anchor)


FIGURES = {"lira_auc": 110, "lira_tpr1": 4, "file_auc": 110, "spk_auc": 120}


@pytest.mark.parametrize("audit", ["none", "measured", "passed", "overridden"])
@pytest.mark.parametrize("tier", [0, 1, 2])
def test_both_judge_what_is_said_of_an_audit_alike(tier: int, audit: str) -> None:
    rng = random.Random(f"{tier} {audit}")
    seen = Counter[str]()
    for _ in range(60):
        changes: dict[str, Any] = {
            name: rng.choices((0, most - 1, most, most + 1), (1, 6, 6, 1))[0] for name, most in FIGURES.items()
        }
        changes |= {"networks": rng.choices((0, 5, 6), (1, 2, 4))[0], "tier": tier, "audit": audit}
        changes |= rng.choice(
            (
                {"epsilon": 0, "delta": 0, "unit": "none"},
                {"epsilon": 80, "delta": 4, "unit": "utterance"},
                {"epsilon": rng.choice((0, 1)), "delta": rng.choice((0, 1)), "unit": rng.choice(("none", "speaker"))},
            )
        )
        if rng.random() < 0.3:
            changes |= dict.fromkeys((*FIGURES, "networks", "epsilon", "delta"), 0) | {"unit": "none"}
        asked = AuditTerms(least_tier=rng.randrange(3), accept_overridden=rng.random() < 0.5)
        anchor = Anchor(issuer=ANCHOR.issuer, today=make.TODAY, audit=asked)
        seen[compare(restated("tdnn", changes), anchor)] += 1
    assert "AUDIT" in seen
    assert ("ACCEPTED" in seen) == ((audit in ("passed", "overridden")) == (tier > 0))


@pytest.mark.parametrize("name", [*FIGURES, "networks"])
@pytest.mark.parametrize("tier", [1, 2])
def test_both_put_the_bars_at_the_same_height(tier: int, name: str) -> None:
    top = FIGURES if tier == 2 else FIGURES | {"lira_auc": 120, "lira_tpr1": 10, "file_auc": 120}
    stated = {"tier": tier, "audit": "passed", "networks": 4 + tier, **top}
    anchor = Anchor(issuer=ANCHOR.issuer, today=make.TODAY, audit=ANY_AUDIT)
    assert compare(restated("tdnn", stated), anchor) == "ACCEPTED"
    beyond = {name: stated[name] + (-1 if name == "networks" else 1)}
    is_free = tier == 1 and name == "spk_auc"
    assert compare(restated("tdnn", stated | beyond), anchor) == ("ACCEPTED" if is_free else "AUDIT")
