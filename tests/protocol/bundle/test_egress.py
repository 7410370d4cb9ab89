import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.bundle import trust, weights
from protocol.bundle.architecture import ARCHITECTURES, NORMALIZATIONS, READ_BY_ADDED, model_shapes
from protocol.bundle.egress import EgressError, sign_bundle, violations
from protocol.bundle.form import ModelForm
from protocol.bundle.manifest import label_mask
from protocol.bundle.override import Override
from protocol.bundle.trust import AuditTerms
from protocol.bundle.weights import Arrays
from protocol.errors import MalformedError, RefusedError
from tests.protocol.samples import (
    ANCHOR,
    AUDITED,
    FIELDS,
    FORM,
    RELEASE_KEY,
    TODAY,
    packed,
    random_model,
    says_what_to_do,
)

SHAPES = model_shapes(FORM)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("norm", NORMALIZATIONS)
@pytest.mark.parametrize("classes", [("fear", "sadness"), ("anger", "calm", "disgust", "happiness", "neutral")])
def test_what_the_source_seals_the_target_verifies(arch: str, norm: str, classes: tuple[str, ...]) -> None:
    encoder = bytes(32) if arch in READ_BY_ADDED else b""
    fields = dataclasses.replace(FIELDS, arch=arch, norm=norm, labels=label_mask(classes), encoder=encoder)
    tensors = random_model(arch, len(classes), norm)
    assert violations(tensors, ModelForm(arch, len(classes), norm)) == ()
    sealed = sign_bundle(tensors, fields, RELEASE_KEY)
    verified = trust.verify(sealed, ANCHOR)
    assert verified.manifest.classes == classes
    assert {name: array.shape for name, array in verified.tensors().items()} == model_shapes(
        ModelForm(arch, len(classes), norm)
    )
    assert all(array.dtype == np.float32 for array in verified.tensors().values())


def test_the_same_model_is_sealed_to_the_same_bytes() -> None:
    assert sign_bundle(random_model(), FIELDS, RELEASE_KEY) == sign_bundle(random_model(), FIELDS, RELEASE_KEY)


def add(name: str, array: object) -> Callable[[Arrays], None]:
    return lambda tensors: tensors.update({name: array})  # type: ignore[dict-item]


def set_value(name: str, value: float) -> Callable[[Arrays], None]:
    def change(tensors: Arrays) -> None:
        tensors[name].flat[0] = value

    return change


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda tensors: tensors.pop("head.bias"), {("MISSING", "head.bias")}),
        (add("bank.features", np.zeros((375, 128), np.float32)), {("UNKNOWN_FIELD", "bank.features")}),
        (add("norm.running_mean", np.zeros(256, np.float32)), {("UNKNOWN_FIELD", "norm.running_mean")}),
        (add("input.center", np.zeros(4, np.float32)), {("UNKNOWN_FIELD", "input.center")}),
        (add("head.bias", np.zeros(4, np.float64)), {("TYPE", "head.bias")}),
        (add("head.bias", [0.0] * 4), {("TYPE", "head.bias")}),
        (add("head.bias", np.zeros(5, np.float32)), {("SHAPE", "head.bias")}),
        (add("head.bias", np.zeros((4, 1), np.float32)), {("SHAPE", "head.bias")}),
        (add("head.weight", np.ones((128, 4), np.float32)), {("SHAPE", "head.weight")}),
        (set_value("encoder.0.bias", np.nan), {("VALUE", "encoder.0.bias")}),
        (set_value("encoder.0.weight", -np.inf), {("VALUE", "encoder.0.weight")}),
        (set_value("encoder.0.weight", 32_600), {("VALUE", "encoder.0.weight")}),
        (add("head.weight", np.zeros((4, 128), np.float32)), {("VALUE", "head.weight")}),
        (set_value("head.bias", 500_000), {("VALUE", "head.weight")}),  # its weights vanish beside the bias
    ],
)
def test_a_model_that_breaks_a_rule_may_not_leave(
    change: Callable[[Arrays], object], broken: set[tuple[str, str]]
) -> None:
    tensors = random_model()
    change(tensors)
    assert {(violation.rule, violation.where) for violation in violations(tensors, FORM)} == broken
    with pytest.raises(EgressError) as caught:
        sign_bundle(tensors, FIELDS, RELEASE_KEY)
    assert caught.value.exit_code == 11
    assert caught.value.code == "EGRESS"


def test_all_broken_rules_are_listed_at_once() -> None:
    tensors = random_model()
    del tensors["encoder.0.bias"]
    tensors["bank.scores"] = np.zeros(3, np.float32)
    tensors["bottleneck.bias"] = tensors["bottleneck.bias"].astype(np.float16)
    tensors["head.weight"][1] = 0
    with pytest.raises(EgressError) as caught:
        sign_bundle(tensors, FIELDS, RELEASE_KEY)
    listed = {violation.where for violation in caught.value.violations}
    assert listed == {"encoder.0.bias", "bank.scores", "bottleneck.bias", "head.weight"}
    assert str(caught.value) == (
        "The model may not leave: bank.scores is not a tensor of this architecture; encoder.0.bias is missing; "
        "bottleneck.bias is not a float32 array; head.weight has a class whose row is all zero; "
        "train it again with this version."
    )


def test_the_largest_value_of_the_grid_may_leave() -> None:
    tensors = random_model()
    for name in ("encoder.0.weight", "encoder.0.bias"):
        tensors[name].flat[0] = weights.largest_magnitude(name)
    assert violations(tensors, FORM) == ()


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (np.zeros(5, np.float32), r"head.bias has shape (5,) instead of (4,)"),
        (np.full(4, np.inf, np.float32), "head.bias has a value that is not finite"),
        (np.full(4, 2e7, np.float32), "head.bias has a value too large for the grid"),
    ],
)
def test_a_violation_says_what_is_wrong(tensor: weights.Array, why: str) -> None:
    assert [str(violation) for violation in violations({**random_model(), "head.bias": tensor}, FORM)] == [why]


def test_a_source_scale_that_is_not_positive_may_not_leave() -> None:
    form = ModelForm("mlp-stats-v1", 4, "none")
    tensors = random_model(*form)
    tensors["input.scale"][3] = 0
    assert [violation.where for violation in violations(tensors, form)] == ["input.scale"]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from(["remove", "rename", "reshape", "grow", "cast", "add"]),
    st.text(min_size=1, max_size=20).filter(lambda name: name not in SHAPES),
)
def test_no_tensor_can_be_added_removed_renamed_reshaped_or_retyped(name: str, deed: str, other: str) -> None:
    tensors = random_model()
    array = tensors[name]
    if deed == "add":
        tensors[other] = array
    else:
        del tensors[name]
        changed = {
            "rename": {other: array},
            "reshape": {name: array[None]},
            "grow": {name: np.concatenate([array, array[:1]])},
            "cast": {name: array.astype(np.float64)},
        }
        tensors |= changed.get(deed, {})
    assert violations(tensors, FORM)


def test_a_fault_in_the_encoder_is_caught_before_anything_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    honest_pack = weights.pack
    monkeypatch.setattr(weights, "pack", lambda *model: honest_pack(*model)[:-1] + b"\x80")
    with pytest.raises(MalformedError) as caught:
        sign_bundle(random_model(), FIELDS, RELEASE_KEY)
    assert caught.value.code == "VALUE"


@pytest.mark.parametrize("change", [{"release": 0}, {"grant": b"short"}, {"hours": 99}])
def test_a_manifest_out_of_range_is_not_sealed(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        sign_bundle(random_model(), dataclasses.replace(FIELDS, **change), RELEASE_KEY)  # type: ignore[arg-type]


OVERRIDDEN = dataclasses.replace(FIELDS, **AUDITED | {"audit": "overridden", "lira_auc": 166})
WORD = Override(weights_sha256=hashlib.sha256(packed()).digest(), tier=2, day=TODAY)


def test_an_overridden_audit_is_stated_where_an_officer_has_let_these_weights_out() -> None:
    sealed = sign_bundle(random_model(), OVERRIDDEN, RELEASE_KEY, override=WORD)
    takes_all = dataclasses.replace(ANCHOR, audit=AuditTerms(accept_overridden=True))
    assert trust.verify(sealed, takes_all).manifest.audit == "overridden"
    with pytest.raises(RefusedError, match="overridden"):
        trust.verify(sealed, ANCHOR)


@pytest.mark.parametrize(
    "word", [None, dataclasses.replace(WORD, weights_sha256=bytes(32)), dataclasses.replace(WORD, tier=1)]
)
def test_without_an_officers_word_for_weights_and_tier_nothing_is_signed(word: Override | None) -> None:
    with pytest.raises(RefusedError) as caught:
        sign_bundle(random_model(), OVERRIDDEN, RELEASE_KEY, override=word)
    assert caught.value.code == "AUDIT"
    assert says_what_to_do(caught)


def test_an_audit_that_did_not_pass_is_not_said_to_have_passed() -> None:
    with pytest.raises(RefusedError, match="fail that tier"):
        sign_bundle(random_model(), dataclasses.replace(OVERRIDDEN, audit="passed"), RELEASE_KEY, override=WORD)
