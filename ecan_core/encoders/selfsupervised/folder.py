"""Keep what is used of an encoder's folder, and read it again.

The folder has Hugging Face's layout: `config.json` states the form, `model.safetensors` holds the weights, and
`preprocessor_config.json`, if there is one, says whether the encoder was trained on sound of unit variance. No pickle
is read. What is kept is one file, whose hash names the encoder: the tensors of the lower layers, and their form beside
them.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.encoders.selfsupervised.form import WIDTHS, EncoderForm, config_of, flag, form_of
from ecan_core.encoders.selfsupervised.network import SelfSupervised, network_of, tensor_shapes
from ecan_core.encoders.selfsupervised.tensors import checked, plain_names
from ecan_core.encoders.weights import parsed, read_file
from ecan_core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 2**31
"""Half a billion float32 weights: two thirds of the largest published encoders but one."""

_MAX_HEADER_BYTES = 2**20
_FORM = "form"


class Kept(NamedTuple):
    """Hold what is kept of a folder.

    Attributes:
        tensors: The lower layers' tensors by Hugging Face's names, float32.
        form: Their form as JSON.
    """

    tensors: dict[str, npt.NDArray[np.float32]]
    form: str


def read_folder(config: bytes, preprocessor: bytes | None, weights: bytes) -> Kept:
    """Check all of a folder, try the encoder once, and return what is kept.

    Args:
        config: `config.json`.
        preprocessor: `preprocessor_config.json`; None if there is none.
        weights: `model.safetensors`.

    Raises:
        ModelError: The encoder is damaged, of an unknown type or width, or not what its config says.
    """
    form = form_of(_json(config, "config.json") | {"do_normalize": _unit_variance(preprocessor)})
    if form.hidden_size not in WIDTHS:
        known = " or ".join(map(str, WIDTHS))
        raise ModelError(
            f"The encoder is {form.hidden_size} wide and no network reads by that; take one of width {known}."
        )
    kept = tensors_kept(form, _loaded(weights))
    _try_once(network_of(form.kept, kept))
    told = json.dumps(config_of(form.kept), sort_keys=True, separators=(",", ":"))
    return Kept(tensors={name: tensor.numpy() for name, tensor in kept.items()}, form=told)


def tensors_kept(form: EncoderForm, tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Check every tensor of an encoder and return those of the kept layers.

    Raises:
        ModelError: One is missing, unknown, of another shape or not finite.
    """
    whole = checked(plain_names(dict(tensors), form), tensor_shapes(form), form)
    return {name: whole[name] for name in tensor_shapes(form.kept)}


def read_encoder(path: Path, encoder_sha256: str) -> SelfSupervised:
    """Read the file that was kept of an encoder.

    Raises:
        ModelError: The file is missing, damaged or another one.
    """
    data = read_file(path, encoder_sha256, MAX_BYTES)
    form = form_of(_stated_form(data))
    return network_of(form, parsed(data, tensor_shapes(form)))


def _stated_form(data: bytes) -> dict[str, Any]:
    """Read the form that stands in a file's header."""
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    header = _json(data[8 : 8 + min(length, _MAX_HEADER_BYTES)], "header")
    beside = header.get("__metadata__")
    if not isinstance(beside, dict) or not isinstance(beside.get(_FORM), str):
        raise ModelError("The encoder's file is not one that `encoder add` has written of a folder; add it again.")
    return _json(beside[_FORM].encode(), _FORM)


def _loaded(weights: bytes) -> dict[str, "Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        loaded: dict[str, Tensor] = load(weights)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError("The encoder's model.safetensors is damaged or something else; copy it again.") from error
    return loaded


def _try_once(encoder: SelfSupervised) -> None:
    """Refuse an encoder that has no answer to a tone of half a second."""
    t = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    with np.errstate(all="ignore"):
        answer = encoder.embed(np.sin(2 * np.pi * 180 * t).astype(np.float32))
    if not np.isfinite(answer).all():
        raise ModelError("The encoder answers a plain tone with numbers that are not finite; take another copy of it.")


def _unit_variance(preprocessor: bytes | None) -> bool:
    """Return whether the encoder expects sound of unit variance.

    Where the folder does not say, Hugging Face's own answer holds.
    """
    if preprocessor is None:
        return True
    config = _json(preprocessor, "preprocessor_config.json")
    if config.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise ModelError(f"The encoder was not trained on sound at {SAMPLE_RATE} Hz; take one that was.")
    return flag(config, "do_normalize", default=True)


def _json(data: bytes, name: str) -> dict[str, Any]:
    """Parse an object of JSON."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The encoder's {name} is not JSON; copy the folder again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"The encoder's {name} is not a JSON object; copy the folder again.")
    return value
