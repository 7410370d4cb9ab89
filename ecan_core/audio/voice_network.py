"""Hear whether somebody speaks, by the network of Silero VAD.

Its weights (MIT, 309,633 numbers) come with the package `silero-vad` and are read from there; nothing of that package
is run. The network is written out here for whole stretches of sound, which takes a tenth of the time.

Source: Silero Team, "Silero VAD", version 6.2, silero_vad/tinygrad_model.py.
Differs: the LSTM runs over a stretch at once; the result is the same up to rounding.
"""

import functools
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecan_core.errors import ModelError

RATE = 16_000
"""Samples per second that it reads."""
HOP = 512
"""Samples per score, 32 ms."""

_WEIGHTS = Path("data") / "silero_vad_16k.safetensors"
_SHA256 = "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1"
_CONTEXT, _WINDOW, _STEP, _PADDING = 64, 256, 128, 64  # samples
_CONVOLUTIONS = (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1))  # with their strides
_AT_ONCE = 1024  # scores


def voice_scores(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Score how surely somebody speaks.

    Args:
        samples: Sound at `RATE`, [T].

    Returns:
        From 0 to 1, one for every `HOP` samples begun, at least one, [T / HOP].

    Raises:
        ModelError: The weights are not installed, or others are.
    """
    import torch

    network, lstm = load_network()
    state, scores = None, []
    with torch.inference_mode():
        windows = _windows(torch.from_numpy(np.ascontiguousarray(samples, np.float32)))
        for block in windows.split(_AT_ONCE):
            hidden, state = lstm(_spectra(block, network), state)
            last = torch.nn.functional.linear(hidden.relu(), network["final_conv.weight"][..., 0])
            scores.append(torch.sigmoid(last + network["final_conv.bias"])[:, 0].numpy())
    return np.concatenate(scores)


def _windows(samples: Any) -> Any:
    """Cut a tensor into windows, each with the end of the one before."""
    import torch

    missing = -len(samples) % HOP if len(samples) else HOP
    return torch.nn.functional.pad(samples, (_CONTEXT, missing)).unfold(0, HOP + _CONTEXT, HOP)


def _spectra(windows: Any, network: dict[str, Any]) -> Any:
    """Return what the LSTM reads of some windows, [B, 128]."""
    from torch.nn import functional

    padded = functional.pad(windows[:, None], (0, _PADDING), "reflect")
    parts = functional.conv1d(padded, network["stft_conv.weight"], stride=_STEP)
    half = _WINDOW // 2 + 1
    values = (parts[:, :half].square() + parts[:, half:].square()).sqrt()
    for name, stride in _CONVOLUTIONS:
        weight, bias = network[f"{name}.weight"], network[f"{name}.bias"]
        values = functional.conv1d(values, weight, bias, stride=stride, padding=1).relu()
    return values[..., 0]


@functools.cache
def load_network() -> tuple[dict[str, Any], Any]:
    """Read the weights once, and return them with the LSTM.

    Raises:
        ModelError: The weights are not installed, or others are.
    """
    import torch
    from safetensors.torch import load

    network = load(_content())
    lstm = torch.nn.LSTM(128, 128)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    lstm.load_state_dict({f"{name}_l0": network[f"lstm_cell.{name}"] for name in names})
    return network, lstm.eval()


def _content() -> bytes:
    package = find_spec("silero_vad")
    places = [] if package is None else package.submodule_search_locations or []
    for file in (Path(place) / _WEIGHTS for place in places):
        if file.is_file() and sha256(content := file.read_bytes()).hexdigest() == _SHA256:
            return content
    raise ModelError("The weights of Silero VAD 6.2 are not installed; run `pip install 'silero-vad==6.2.3'`.")
