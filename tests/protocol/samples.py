"""Models, keys and bundles for the tests: small enough to read, real enough to verify."""

import dataclasses
import functools
import hashlib
import re

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.bundle import frame, weights
from protocol.bundle.architecture import model_shapes
from protocol.bundle.egress import sign_bundle
from protocol.bundle.form import ModelForm
from protocol.bundle.manifest import PAYLOAD_TYPE, Manifest, ManifestFields, label_mask
from protocol.bundle.trust import Anchor
from protocol.bundle.weights import Arrays
from protocol.errors import ProtocolError
from protocol.identity import signing

RELEASE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
ISSUER = signing.fingerprint_of(signing.raw_public_key(RELEASE_KEY))
AUDIENCE = hashlib.sha256(b"a receipt key").digest()
GRANT = bytes(range(16))
TODAY = 20_500
ANCHOR = Anchor(issuer=ISSUER, audience=AUDIENCE, grants=frozenset({GRANT}), today=TODAY)

ARCH, NUM_CLASSES, NORM = FORM = ModelForm("mlp-stats-v1", 4, "speaker")

FIELDS = ManifestFields(
    arch=ARCH,
    norm=NORM,
    labels=label_mask(("anger", "happiness", "neutral", "sadness")),
    audience=AUDIENCE,
    grant=GRANT,
    release=7,
    day=TODAY,
    valid_days=90,
    n_utt=9,
    n_spk=3,
    hours=-2,
    uar_src=150,
    uar_q_loss=1,
)

AUDITED: dict[str, object] = {
    "tier": 2,
    "audit": "passed",
    "networks": 6,
    "lira_auc": 110,
    "lira_tpr1": 4,
    "file_auc": 110,
    "spk_auc": 120,
    "epsilon": 80,
    "delta": 4,
    "unit": "utterance",
}
"""What a manifest says of an audit that just clears tier 2."""


def random_model(arch: str = ARCH, num_classes: int = NUM_CLASSES, norm: str = NORM, seed: int = 0) -> Arrays:
    """A model with plausible weights."""
    rng = np.random.default_rng(seed)
    tensors = {
        name: rng.normal(scale=0.05, size=shape).astype(np.float32)
        for name, shape in model_shapes(ModelForm(arch, num_classes, norm)).items()
    }
    if norm == "none":
        tensors["input.scale"] = np.abs(tensors["input.scale"]) + np.float32(0.1)
    return tensors


@functools.cache
def sealed() -> bytes:
    """A bundle as the source makes it."""
    return sign_bundle(random_model(), FIELDS, RELEASE_KEY)


def packed() -> bytes:
    """The weights of `sealed`."""
    return bytes(frame.split(sealed()).weights)


def manifest_of(packed_weights: bytes, **changes: object) -> Manifest:
    """The manifest that an honest source writes for these weights, with some fields changed."""
    fields: dict[str, object] = {
        **dataclasses.asdict(FIELDS),
        "issuer": ISSUER,
        "weights_sha256": hashlib.sha256(packed_weights).digest(),
        "weights_len": len(packed_weights),
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def signed(payload: bytes, packed_weights: bytes | None = None, key: Ed25519PrivateKey = RELEASE_KEY) -> bytes:
    """A bundle with a valid signature over any payload: what a dishonest source can make."""
    envelope = signing.sign(PAYLOAD_TYPE, payload, key)
    return frame.assemble(envelope, packed() if packed_weights is None else packed_weights)


def signed_weights(packed_weights: bytes) -> bytes:
    """A bundle with a valid signature over any weights."""
    return signed(manifest_of(packed_weights).to_bytes(), packed_weights)


def encoded_model(seed: int = 0) -> Arrays:
    """The integer tensors of a random model, writable and in canonical order."""
    return weights.quantize(weights.canonicalize(random_model(seed=seed), FORM), FORM)


def code_only(value: object) -> str:
    """Name a case of a table by the code that it expects: its bytes would not be readable."""
    return value if isinstance(value, str) else ""


def says_what_to_do(refusal: pytest.ExceptionInfo[ProtocolError]) -> bool:
    """Whether its message is one sentence: what is wrong, and what to do about it."""
    return re.fullmatch(r"[A-Z][a-z ].+[;:,] .+[a-z]\.", str(refusal.value)) is not None


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
