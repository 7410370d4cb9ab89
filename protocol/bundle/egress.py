"""Check the egress rules: only tensors of the architecture leave.

Names, types and shapes are derived and never given by the caller. So an optimizer's state, a memory bank or a table
per utterance has no name under which it could leave.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from protocol.bundle import frame, stated_audit, trust, weights
from protocol.bundle.architecture import model_shapes
from protocol.bundle.form import ModelForm
from protocol.bundle.manifest import PAYLOAD_TYPE, Manifest, ManifestFields
from protocol.bundle.override import Override
from protocol.bundle.trust import ANY_AUDIT, Anchor
from protocol.bundle.weights import Array
from protocol.errors import Code, RefusedError, Violation
from protocol.identity import signing


class EgressError(RefusedError):
    """Report that a model may not leave.

    Attributes:
        violations: every rule that it breaks.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        listed = "; ".join(map(str, violations))
        super().__init__(Code.EGRESS, f"The model may not leave: {listed}; train it again with this version.")
        self.violations = tuple(violations)


def violations(tensors: Mapping[str, Array], form: ModelForm) -> tuple[Violation, ...]:
    """List all rules that a model breaks; none if it may leave.

    Args:
        tensors: the model's float32 tensors by name: weights ``[units, inputs]`` or ``[units, inputs, kernel]``,
            biases ``[units]``.
        form: its form.
    """
    shapes = model_shapes(form)
    found = [
        Violation(rule=Code.UNKNOWN_FIELD, where=name, why="is not a tensor of this architecture")
        for name in sorted(tensors.keys() - shapes.keys())
    ]
    sound: dict[str, Array] = {}
    for name, shape in shapes.items():
        faults = list(_tensor_violations(tensors.get(name), name, shape))
        found += faults
        # Ones stand in for a faulty tensor, so that the rules below still judge the others.
        sound[name] = np.ones(shape, np.float32) if faults else tensors[name]
    ordered = weights.canonicalize(sound, form)
    encoded = weights.quantize(ordered, form)
    return (*found, *weights.value_violations(encoded, form))


def sign_bundle(
    tensors: Mapping[str, Array],
    fields: ManifestFields,
    release_key: signing.SigningKey,
    *,
    override: Override | None = None,
) -> bytes:
    """Turn a trained model into a signed bundle, if it may leave.

    Args:
        tensors: the model's float32 tensors by name, as in `violations`.
        fields: what the manifest is to say.
        release_key: the source's signing key.
        override: an officer's word for these weights, where the manifest is to say that the audit was overridden.

    Returns:
        The bundle; the target's own verifier has accepted it.

    Raises:
        EgressError: the model breaks a rule; all are listed.
        MalformedError: a manifest field is out of range, or the fields contradict each other.
        RefusedError: the figures of the audit do not bear out what the manifest is to say, or nobody has overridden it.
    """
    broken = violations(tensors, fields.form)
    if broken:
        raise EgressError(broken)
    packed = weights.pack(tensors, fields.form)
    public_key = signing.raw_public_key(release_key)
    issuer = signing.fingerprint_of(public_key)
    digest = hashlib.sha256(packed).digest()
    if fields.audit == stated_audit.OVERRIDDEN:
        _require_override(override, digest, fields.tier)
    manifest = Manifest(**dataclasses.asdict(fields), issuer=issuer, weights_sha256=digest, weights_len=len(packed))
    sealed = frame.assemble(
        signing.sign(PAYLOAD_TYPE, manifest.to_bytes(), release_key), packed, signing.suite_of(public_key)
    )
    trust.verify(
        sealed,
        Anchor(
            issuer=issuer,
            audience=fields.audience,
            grants=frozenset({fields.grant}),
            today=fields.day,
            audit=ANY_AUDIT,
        ),
    )
    return sealed


def _require_override(override: Override | None, digest: bytes, tier: int) -> None:
    if override is None or (override.weights_sha256, override.tier) != (digest, tier):
        raise RefusedError(
            Code.AUDIT,
            f"No officer has overridden the audit of these weights at tier {tier}; have an officer look at it, with "
            "`ecan-source officer override` at hand.",
        )


def _tensor_violations(tensor: object, name: str, shape: tuple[int, ...]) -> Iterator[Violation]:
    """Check that one tensor is there, of its type and shape, on the grid."""
    if tensor is None:
        yield Violation(rule=Code.MISSING, where=name, why="is missing")
    elif not isinstance(tensor, np.ndarray) or tensor.dtype != np.float32:
        yield Violation(rule=Code.TYPE, where=name, why="is not a float32 array")
    elif tensor.shape != shape:
        yield Violation(rule=Code.SHAPE, where=name, why=f"has shape {tensor.shape} instead of {shape}")
    elif not np.isfinite(tensor).all():
        yield Violation(rule=Code.VALUE, where=name, why="has a value that is not finite")
    elif np.abs(tensor).max() > weights.largest_magnitude(name):
        yield Violation(rule=Code.VALUE, where=name, why="has a value too large for the grid")
