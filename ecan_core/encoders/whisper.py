"""Run the first blocks of OpenAI's Whisper encoder.

They are what a recognizer of speech hears before it hears words.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, and its public code.
Differs: only the convolutions and two of the blocks are kept; an utterance is not padded to 30 s, so that the cost
grows with its length; what is read is the stream between the blocks, averaged over the frames in which somebody
speaks. Batches are padded, and padding never reaches a result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.encoders.activity import active_frames
from ecan_core.encoders.weights import Shape
from ecan_core.encoders.windows import slaney_filters

if TYPE_CHECKING:
    from torch import Tensor

Samples = npt.NDArray[np.float32]
Weights = Mapping[str, "Tensor"]

WIDTH, HEADS, BLOCKS, INSIDE = 384, 6, 2, 1536
"""Of Whisper tiny: channels E, attention heads, blocks that are kept, width of the feed-forward layers."""
NUM_BANDS, WINDOW, HOP = 80, 400, 160
POSITIONS = 1500
DIM = BLOCKS * WIDTH
"""Numbers per utterance: the mean after each block."""
MAX_S = 8.0
"""Longest stretch that is heard, in seconds: the end of a longer utterance."""

_LEVEL = 0.07  # rms of the sound that the encoder is given
_FLOOR = 1e-10
_FRAME = 2 * HOP  # samples per frame after the convolutions, 20 ms


def tensor_shapes() -> dict[str, Shape]:
    """Return every tensor that is kept, by Hugging Face's name, as a shape."""
    shapes: dict[str, Shape] = {
        "conv1.weight": (WIDTH, NUM_BANDS, 3),
        "conv1.bias": (WIDTH,),
        "conv2.weight": (WIDTH, WIDTH, 3),
        "conv2.bias": (WIDTH,),
        "embed_positions.weight": (POSITIONS, WIDTH),
    }
    for block in range(BLOCKS):
        shapes |= {f"layers.{block}.{name}": shape for name, shape in _BLOCK_SHAPES.items()}
    return shapes


_BLOCK_SHAPES: dict[str, Shape] = {
    **{f"self_attn.{part}_proj.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")},
    **{f"self_attn.{part}_proj.bias": (WIDTH,) for part in ("q", "v", "out")},  # keys have none
    **{
        f"{norm}.{part}": (WIDTH,)
        for norm in ("self_attn_layer_norm", "final_layer_norm")
        for part in ("weight", "bias")
    },
    "fc1.weight": (INSIDE, WIDTH),
    "fc1.bias": (INSIDE,),
    "fc2.weight": (WIDTH, INSIDE),
    "fc2.bias": (WIDTH,),
}


@dataclass(frozen=True, eq=False)
class Whisper:
    """Hold the weights of the first blocks.

    Attributes:
        weights: As `tensor_shapes` says, float32.
        is_rounded: Whether the matrices of the blocks multiply numbers that are rounded to bfloat16 and add them up in
            float32. A processor made for it is nearly twice as fast then, and an utterance's numbers move by about a
            sixtieth of what they differ by between utterances.
    """

    weights: Weights
    is_rounded: bool = False

    @cached_property
    def _matrices(self) -> Weights:
        """Return what the blocks multiply by, in the numbers that they multiply."""
        import torch

        kind = torch.bfloat16 if self.is_rounded else torch.float32
        return {name: tensor.to(kind) for name, tensor in self.weights.items() if name.startswith("layers.")}

    def embed(self, sounds: Sequence[Samples]) -> Samples:
        """Compute the means after each block, over frames with speech.

        Args:
            sounds: B utterances at 16 kHz, [T] each; level and offset do not matter.

        Returns:
            Means after the first block, then after the second, [B, 2 E].
        """
        import torch

        heard = [_prepared(sound) for sound in sounds]
        with torch.inference_mode():
            streams = self.streams([log_mel(sound) for sound in heard])
            means = [_means(row, streams, frames_with_speech(sound)) for row, sound in enumerate(heard)]
            embedded: Samples = torch.stack(means).numpy()
        return embedded

    def streams(self, mels: Sequence["Tensor"]) -> list["Tensor"]:
        """Run the blocks on log-mel spectra.

        Args:
            mels: B spectra, [M, F] each.

        Returns:
            What goes on after each block, [B, F / 2, E] each; beyond an utterance's end it means nothing.
        """
        import torch
        from torch.nn import functional
        from torch.nn.utils.rnn import pad_sequence

        lengths = torch.tensor([mel.shape[1] for mel in mels])
        hidden = pad_sequence([mel.T for mel in mels], batch_first=True).transpose(1, 2)  # [B, M, F]
        hidden = functional.gelu(self._convolved("conv1", hidden, stride=1)) * _inside(lengths)[:, None]
        frames = (lengths + 1) // 2
        hidden = functional.gelu(self._convolved("conv2", hidden, stride=2)).transpose(1, 2)  # [B, F / 2, E]
        hidden = hidden + self.weights["embed_positions.weight"][: hidden.shape[1]]
        mask = None if len(mels) == 1 else _inside(frames)[:, None, None]
        streams = []
        for block in range(BLOCKS):
            hidden = self._block(f"layers.{block}.", hidden, mask)
            streams.append(hidden)
        return streams

    def _convolved(self, name: str, hidden: "Tensor", *, stride: int) -> "Tensor":
        from torch.nn import functional

        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.conv1d(hidden, weight, bias, stride=stride, padding=1)

    def _block(self, name: str, hidden: "Tensor", mask: "Tensor | None") -> "Tensor":
        """Apply a block that normalizes before each of its parts, [B, F, E]."""
        from torch.nn import functional

        hidden = hidden + self._attended(
            f"{name}self_attn.", self._normalized(f"{name}self_attn_layer_norm", hidden), mask
        )
        inside = functional.gelu(self._linear(f"{name}fc1", self._normalized(f"{name}final_layer_norm", hidden)))
        return hidden + self._linear(f"{name}fc2", inside)

    def _attended(self, name: str, hidden: "Tensor", mask: "Tensor | None") -> "Tensor":
        from torch.nn import functional

        queries, keys, values = (
            self._linear(f"{name}{part}_proj", hidden).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in "qkv"
        )
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self._linear(f"{name}out_proj", mixed.transpose(1, 2).flatten(2))

    def _linear(self, name: str, hidden: "Tensor") -> "Tensor":
        from torch.nn import functional

        weight, bias = self._matrices[f"{name}.weight"], self._matrices.get(f"{name}.bias")
        return functional.linear(hidden.to(weight.dtype), weight, bias).to(hidden.dtype)

    def _normalized(self, name: str, hidden: "Tensor") -> "Tensor":
        from torch.nn import functional

        return functional.layer_norm(hidden, (WIDTH,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])


def _means(row: int, streams: Sequence["Tensor"], active: npt.NDArray[np.bool_]) -> "Tensor":
    """Average one utterance's streams over its active frames, [2 E]."""
    import torch

    places = torch.from_numpy(np.flatnonzero(active))
    return torch.cat([stream[row, places].mean(dim=0) for stream in streams])


def _inside(lengths: "Tensor") -> "Tensor":
    """Mark the frames before each utterance's end, bool [B, F]."""
    import torch

    return torch.arange(int(lengths.max()))[None] < lengths[:, None]


def _prepared(samples: Samples) -> Samples:
    """Take the last 8 s and bring them to mean 0 and a fixed level.

    Short sound is continued by silence.
    """
    sound = samples[-int(MAX_S * SAMPLE_RATE) :].astype(np.float32)
    sound = sound - sound.mean()
    level = np.sqrt(np.square(sound).mean()) + 1e-12
    return np.pad(sound * (_LEVEL / level), (0, max(0, 2 * WINDOW - len(sound)))).astype(np.float32)


def log_mel(sound: Samples) -> "Tensor":
    """Compute Whisper's log-mel spectrum.

    Args:
        sound: At 16 kHz, [T].

    Returns:
        Decades of power within 8 below the loudest, shifted and shrunk as in training, [M, T / 160].
    """
    import torch

    spectrum = torch.stft(torch.from_numpy(sound), WINDOW, HOP, window=_hann(), center=True, return_complex=True)
    power = spectrum[:, :-1].abs().square()
    mel = (torch.from_numpy(slaney_filters(NUM_BANDS, WINDOW, SAMPLE_RATE)).T @ power).clamp_min(_FLOOR).log10()
    return (mel.clamp_min(mel.max() - 8.0) + 4.0) / 4.0


def rounds_fast() -> bool:
    """Return whether this processor multiplies bfloat16 by itself."""
    import torch

    return torch.cpu._is_avx512_bf16_supported()


@cache
def _hann() -> "Tensor":
    import torch

    return torch.hann_window(WINDOW)


def frames_with_speech(sound: Samples) -> npt.NDArray[np.bool_]:
    """Mark the frames in which somebody speaks, bool [T / 320]."""
    return active_frames(sound, _FRAME, -(-(len(sound) // HOP) // 2))
