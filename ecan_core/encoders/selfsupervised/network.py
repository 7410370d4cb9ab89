"""Hear by the lower layers of wav2vec 2.0, HuBERT or WavLM.

They are what a network hears that was trained to complete speech, without a word of text.

Source: Baevski et al., "wav2vec 2.0", NeurIPS 2020; Hsu et al., "HuBERT", 2021; Chen et al., "WavLM", 2022; the
networks of torchaudio.
Differs: the upper third of the layers is left out; what is read is the average of two of them, as one layer hands it
to the next, over the frames in which somebody speaks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.encoders.activity import active_frames
from ecan_core.encoders.selfsupervised.form import EncoderForm
from ecan_core.encoders.selfsupervised.tensors import collected, expected
from ecan_core.encoders.weights import Shape

if TYPE_CHECKING:
    from torch import Tensor

Samples = npt.NDArray[np.float32]

MAX_S = 8.0
"""Longest stretch that is heard, in seconds: the end of a longer utterance."""

_LEVEL = 0.07  # rms of the sound for an encoder that was not trained on unit variance
_FLOOR = 1e-7  # of the variance, as Hugging Face's feature extractor has it


@dataclass(frozen=True, eq=False)
class SelfSupervised:
    """Hold a network and the form that it has.

    Attributes:
        form: Of what is kept.
        network: torchaudio's, ready to use.
        is_rounded: Whether matrices and convolutions multiply numbers that are rounded to bfloat16. A processor made
            for it is 2.5 times as fast then.
    """

    form: EncoderForm
    network: Any
    is_rounded: bool = False

    def embed(self, samples: Samples) -> Samples:
        """Compute the mean of two layers over frames with speech.

        Args:
            samples: One utterance at 16 kHz, [T]; level and offset do not matter.

        Returns:
            Means, [E].
        """
        import torch

        sound = _prepared(samples, self.form)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.is_rounded):
            layers, _ = self.network.extract_features(torch.from_numpy(sound)[None])
            lower, upper = (layers[number - 1][0] for number in self.form.heard_layers)
            active = active_frames(sound, self.form.hop, len(upper))
            mean: Samples = ((lower + upper) / 2)[torch.from_numpy(active)].mean(dim=0).float().numpy()
        return mean


def network_of(form: EncoderForm, tensors: Mapping[str, "Tensor"]) -> SelfSupervised:
    """Build a network of tensors that fit its form."""
    network = empty_network(form)
    state = {name: collected(name, tensors) for name in network.state_dict()}
    network.load_state_dict(state, assign=True)
    return SelfSupervised(form, network.eval().requires_grad_(False))


def tensor_shapes(form: EncoderForm) -> dict[str, Shape]:
    """Return every tensor of a form, by Hugging Face's name, as a shape."""
    return expected(empty_network(form).state_dict())


def _prepared(samples: Samples, form: EncoderForm) -> Samples:
    """Take the last 8 s and bring them to mean 0 and the encoder's level.

    Short sound is continued by silence.
    """
    sound = samples[-int(MAX_S * SAMPLE_RATE) :]
    sound = np.pad(sound, (0, max(0, form.min_samples - len(sound)))).astype(np.float64)
    sound = sound - sound.mean()
    level = 1.0 if form.unit_variance else _LEVEL
    leveled: Samples = (level * sound / np.sqrt(np.square(sound).mean() + _FLOOR)).astype(np.float32)
    return leveled


def empty_network(form: EncoderForm) -> Any:
    """Build a network without numbers.

    Nothing is allocated and no random number is drawn.
    """
    import torch

    from ecan_core.runtime.torchaudio_compat import torchaudio

    arguments: dict[str, Any] = {
        "extractor_mode": f"{form.conv_norm}_norm",
        "extractor_conv_layer_config": list(form.conv_layers),
        "extractor_conv_bias": form.conv_bias,
        "encoder_embed_dim": form.hidden_size,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": form.position_kernel,
        "encoder_pos_conv_groups": form.position_groups,
        "encoder_num_layers": form.num_layers,
        "encoder_num_heads": form.num_heads,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": form.intermediate_size,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": form.stable,
        "encoder_layer_drop": 0.0,
        "aux_num_out": None,
    }
    with torch.device("meta"):
        if form.model_type == "wavlm":
            positions = {"encoder_num_buckets": form.num_buckets, "encoder_max_distance": form.max_distance}
            return torchaudio.models.wavlm_model(**arguments, **positions)
        return torchaudio.models.wav2vec2_model(**arguments)
