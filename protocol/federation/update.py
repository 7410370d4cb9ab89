"""Define updates: how a site would change the weights of a bundle.

Nothing else leaves a site that adapts with others.

It has the closed schema of a bundle's weights: int8 rows with power-of-two scales, in safetensors bytes that a reader
predicts and compares. There is no name for a memory bank, a pseudo-label, a feature or a site's normalization.
"""

import hashlib
import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from protocol.bundle import weights
from protocol.bundle.architecture import ARCHITECTURES, MAX_CLASSES, MIN_CLASSES, TensorSpec, model_shapes, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.bundle.weights import Array, Arrays, Buffer
from protocol.errors import Code, MalformedError, RefusedError
from protocol.files import make_private_folder, read_bounded, write_atomic

MAX_UPDATE_BYTES = 16 << 20
LEFT = "left"
"""Folder among a site's keys with a copy of every update that left, by the digest of the weights that it changes."""
ROUNDING = 1.02
"""Rounding to the grid makes an update longer by less than this factor."""
_NO_STATISTICS = "corpus"
"""An update has no tensor for what inputs are standardized by, whatever the bundle's normalization."""
_SUFFIX = ".safetensors"


def encode_update(update: Mapping[str, Array], arch: str, num_classes: int) -> bytes:
    """Write the change of a bundle's weights, rounded to the grid.

    Args:
        update: float32 arrays by the names of `architecture.model_shapes`, without the input's center and scale.
        arch: id of the architecture.
        num_classes: C.

    Raises:
        MalformedError: a value is too large for the grid.
    """
    form = ModelForm(arch, num_classes, _NO_STATISTICS)
    return weights.encode(weights.quantize(update, form), tensor_specs(form))


def check_update(data: Buffer, arch: str, num_classes: int, longest: float) -> Arrays:
    """Check an update before it leaves.

    Args:
        data: what the process that heard the recordings wrote; it is not believed in anything.
        arch: id of the architecture.
        num_classes: C.
        longest: Euclidean length that an update may have.

    Returns:
        The float32 arrays that leave, by their names.

    Raises:
        RefusedError: a byte of it is not what the schema says, or it is longer.
    """
    form = ModelForm(arch, num_classes, _NO_STATISTICS)
    try:
        encoded = weights.decode(data, tensor_specs(form))
    except MalformedError as fault:
        raise _no_update("it is not laid out as a bundle's weights are") from fault
    for violation in weights.row_violations(encoded, form):
        raise _no_update(str(violation))
    update = weights.dequantize(encoded, form)
    if not (length := length_of(update)) <= longest * ROUNDING:
        raise _no_update(f"it has a length of {length:.3g} and may have {longest:.3g} at most")
    return update


def refuse_foreign(change: Mapping[str, Array], arch: str, num_classes: int, longest: float) -> None:
    """Refuse a returned sum that is no sum of updates.

    A site would otherwise adapt from weights that were made up to listen to it.

    Args:
        change: float32 arrays by their names.
        arch: id of the architecture.
        num_classes: C.
        longest: Euclidean length that so many rounds can have come to.

    Raises:
        RefusedError: a name, a shape or a type is another, or it is not finite, or longer.
    """
    found = {name: array.shape for name, array in change.items() if array.dtype == np.float32}
    if found != shapes(arch, num_classes) or not length_of(change) <= longest * ROUNDING:
        raise RefusedError(
            Code.EGRESS,
            "What came from the coordinator is no sum of updates of this model; let all sites install the same version "
            "and allow the same `longest`.",
        )


def shapes(arch: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of an update's arrays, in their order."""
    return model_shapes(ModelForm(arch, num_classes, _NO_STATISTICS))


def length_of(update: Mapping[str, Array]) -> float:
    """Return the Euclidean length of an update.

    All arrays count as one vector.
    """
    return math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in update.values()))


def updates_left(keys_dir: Path, weights_sha256: bytes) -> list[Path]:
    """List the copies of what left a site for one released model.

    They are in their order.
    """
    return sorted((keys_dir / LEFT / weights_sha256.hex()).glob(f"*{_SUFFIX}"))


def refuse_spent(keys_dir: Path, weights_sha256: bytes, *, budget: int) -> None:
    """Refuse another update of a model whose budget is spent.

    As many have left as the site allows.

    Raises:
        RefusedError: that many have left.
    """
    if len(updates_left(keys_dir, weights_sha256)) >= budget:
        raise RefusedError(
            Code.POLICY,
            f"{budget} updates of this model have left the site, which is all that it allows; raise `rounds` under "
            "`together` in the site's settings, or adapt alone.",
        )


def keep_copy(keys_dir: Path, weights_sha256: bytes, data: Buffer, *, budget: int) -> Path:
    """Keep a copy of an update that is about to leave: it counts from now on.

    Raises:
        RefusedError: as many as the site allows have left already.
        FileError: the copy cannot be written.
    """
    refuse_spent(keys_dir, weights_sha256, budget=budget)
    folder = keys_dir / LEFT / weights_sha256.hex()
    make_private_folder(folder)
    copy = folder / f"{len(updates_left(keys_dir, weights_sha256)) + 1:04}{_SUFFIX}"
    write_atomic(copy, bytes(data))
    return copy


def list_left(keys_dir: Path) -> list[dict[str, Any]]:
    """List what left a site, update by update, as JSON values.

    Every tensor is listed with its shape, bytes and length.

    Raises:
        MalformedError: a copy is longer than an update.
        FileError: it cannot be read.
    """
    listing = []
    for folder in sorted((keys_dir / LEFT).glob("[0-9a-f]*")):
        for number, path in enumerate(updates_left(keys_dir, bytes.fromhex(folder.name)), start=1):
            data = read_bounded(path, MAX_UPDATE_BYTES)
            listing.append(
                {
                    "weights_sha256": folder.name,
                    "update": number,
                    "file": str(path),
                    "bytes": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                    **_content(data),
                }
            )
    return listing


def format_left(listing: list[dict[str, Any]]) -> str:
    """Format the listing of `list_left` as text.

    It has one block for every update, and the sum.
    """
    lines = []
    for update in listing:
        lines.append(
            f"update {update['update']} of model {update['weights_sha256'][:16]}...: {update['bytes']} bytes, "
            f"length {update['length']:.4f}, SHA-256 {update['sha256']}"
        )
        for tensor in update["tensors"]:
            shape = "x".join(map(str, tensor["shape"]))
            lines.append(
                f"  {tensor['name']:<20} {shape:<12} {tensor['bytes']:>8} bytes  length {tensor['length']:.4f}"
            )
    total = sum(update["bytes"] for update in listing)
    return "\n".join([*lines, f"{len(listing)} updates have left this site, {total} bytes in all"])


def _no_update(why: str) -> RefusedError:
    return RefusedError(Code.EGRESS, f"What was to leave this site is no update, because {why}; nothing left.")


def _content(data: Buffer) -> dict[str, Any]:
    """Return every tensor of a copy.

    The copy is recognized by the one header, among those of all models, that it begins with.
    """
    for arch, num_classes in product(ARCHITECTURES, range(MIN_CLASSES, MAX_CLASSES + 1)):
        form = ModelForm(arch, num_classes, _NO_STATISTICS)
        specs = tensor_specs(form)
        if len(data) == weights.encoded_bytes(specs) and data[: len(weights.header(specs))] == weights.header(specs):
            update = weights.dequantize(weights.decode(data, specs), form)
            return {"length": length_of(update), "tensors": [_tensor(spec, update) for spec in specs]}
    raise MalformedError(
        Code.HEADER_MISMATCH, "A copy of an update was changed after it left; ask who can write there."
    )


def _tensor(spec: TensorSpec, update: Arrays) -> dict[str, Any]:
    length = length_of({spec.name: update[spec.name]}) if spec.name in update else 0.0
    return {"name": spec.name, "shape": list(spec.shape), "bytes": spec.num_bytes, "length": length}
