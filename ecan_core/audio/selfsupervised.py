"""Load front ends from a self-supervised encoder on the disk.

wav2vec 2.0, HuBERT and WavLM are known.

The folder has Hugging Face's layout: `config.json` states the form, `model.safetensors` holds the weights, and
`preprocessor_config.json`, if there is one, says whether the encoder was trained on sound of unit variance. Nothing
is fetched and no pickle is read. Before a number is used, every name and shape must be the one that the form asks for,
and the bytes that are hashed are the bytes that are parsed.

A name such as "ssl-hubert-768" does not identify the weights: `identity` does, and must be equal at both sites.
"""

import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import pairwise
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.audio.waveform import Waveform
from ecan_core.errors import ModelError, UsageError
from ecan_core.runtime.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor

Samples = npt.NDArray[np.float32]
Tensors = dict[str, "Tensor"]
Shape = tuple[int, ...]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PREPROCESSOR_FILE = "preprocessor_config.json"
MODEL_TYPES = ("wav2vec2", "hubert", "wavlm")

MAX_CONFIG_BYTES = 2**20
MAX_WEIGHTS_BYTES = 2**32  # a billion float32 weights: the largest published encoders but one
MAX_WINDOW_S = 30.0  # attention costs the square of this in memory
MIN_HOP, MAX_HOP = 80, 3200  # samples per frame; published encoders have 320

_VERSION = "ssl-pooling-v1"  # what is made of the layers; another pooling is another version
_VARIANCE_FLOOR = 1e-7  # of Hugging Face's feature extractor
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_LARGEST = {
    "hidden_size": 4096,
    "num_hidden_layers": 64,
    "num_attention_heads": 64,
    "intermediate_size": 16_384,
    "num_conv_pos_embeddings": 512,
    "num_conv_pos_embedding_groups": 64,
    "conv_dim": 1024,
    "conv_kernel": 64,
    "conv_stride": 32,
    "num_buckets": 2048,
    "max_bucket_distance": 16_384,
}
_MAX_CONV_LAYERS = 16
_FIXED = {  # what torchaudio's networks can only be; an absent key means the same
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
    "add_adapter": False,
    "adapter_attn_dim": None,
}
_MASK = "masked_spec_embed"  # used in training alone
_LINEAR_HEADS = ("lm_head", "quantizer.weight_proj", "project_hid", "project_q", "projector", "classifier")
_HEADS = {  # what stands beside an encoder for pretraining, recognition or classification
    "quantizer.codevectors",
    "layer_weights",
    *(f"{head}.{part}" for head in _LINEAR_HEADS for part in ("weight", "bias")),
}
_POSITION = "encoder.pos_conv_embed.conv."
_SPELLINGS = {  # weight norm as torch < 2.1 wrote it, and as it is written since
    f"{_POSITION}weight_g": f"{_POSITION}parametrizations.weight.original0",
    f"{_POSITION}weight_v": f"{_POSITION}parametrizations.weight.original1",
}


@dataclass(frozen=True, kw_only=True)
class EncoderForm:
    """Describe the form of an encoder, as its folder states it.

    Attributes:
        model_type: One of `MODEL_TYPES`.
        hidden_size: Width of the transformer, E.
        num_layers: Transformer layers.
        num_heads: Attention heads; they divide the width.
        intermediate_size: Width inside a feed-forward block.
        conv_layers: Channels, kernel and stride of each convolution, kernel and stride in its own input's steps.
        conv_bias: Whether the convolutions have a bias.
        conv_norm: "group" normalizes the first convolution over time, "layer" every convolution over channels.
        stable: Whether a layer normalizes before attention and not after it.
        position_kernel: Frames that the positional convolution sees.
        position_groups: Its groups; they divide the width.
        num_buckets: Buckets of relative positions (WavLM alone, else 0).
        max_distance: Frames beyond which positions are equally far (WavLM alone, else 0).
        unit_variance: Whether the waveform is brought to mean 0 and variance 1 first.
    """

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    conv_layers: tuple[tuple[int, int, int], ...]
    conv_bias: bool
    conv_norm: str
    stable: bool
    position_kernel: int
    position_groups: int
    num_buckets: int
    max_distance: int
    unit_variance: bool

    @property
    def hop(self) -> int:
        """Return the number of samples from one frame to the next."""
        return prod(stride for _, _, stride in self.conv_layers)

    @property
    def min_samples(self) -> int:
        """Return the number of samples that give two frames."""
        samples = 2
        for _, kernel, stride in reversed(self.conv_layers):
            samples = (samples - 1) * stride + kernel
        return samples


@dataclass(frozen=True, kw_only=True)
class SelfSupervisedFrontEnd:
    """Average an encoder's layers: mean and deviation, float32 [2 E].

    The mean and the deviation are taken over time, of the average of all transformer layers.

    It carries the folder and hashes, not the weights: a worker process reads them again, once, and refuses them
    if they have changed. `load_front_end` makes one.

    Attributes:
        folder: Where the encoder lies.
        form: Its form.
        config_sha256: Hash of `config.json`, in hexadecimal.
        weights_sha256: Hash of `model.safetensors`, in hexadecimal.
    """

    folder: Path
    form: EncoderForm
    config_sha256: str
    weights_sha256: str

    @property
    def name(self) -> str:
        """Return the name that a model carries, such as "ssl-wav2vec2-768".

        It does not say which weights.
        """
        return f"ssl-{self.form.model_type}-{self.form.hidden_size}"

    @property
    def dim(self) -> int:
        """Return how many numbers an utterance has, 2 E."""
        return 2 * self.form.hidden_size

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Return the names: the mean of every channel, then its deviation."""
        return tuple(f"{what}.{index:04d}" for what in ("mean", "deviation") for index in range(self.form.hidden_size))

    @cached_property
    def identity(self) -> str:
        """Return what makes two sites' encoders the same one, in hexadecimal.

        Processor and libraries do not count.
        """
        facts = (_VERSION, self.name, self.weights_sha256, self.config_sha256, self.form.unit_variance)
        return sha256(repr(facts).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash that changes if equal sound gives other numbers.

        Files, code, libraries and processor count.
        """
        return sha256(self.identity.encode() + self.compute(_probe()).tobytes()).hexdigest()

    def compute(self, waveform: Waveform) -> Samples:
        """Compute the features of one utterance.

        The sound is cut into equal windows of at most 30 s, so that memory does not grow with its length; all
        frames count alike. Sound that is too short for two frames is continued by silence.

        Args:
            waveform: Sound at 16 kHz.

        Returns:
            Means, then deviations, [2 E].

        Raises:
            ModelError: The folder's files have changed since this front end was made.
        """
        weights_sha256, network = _encoder(self.folder, self.form)
        if weights_sha256 != self.weights_sha256:
            raise ModelError("The encoder's weights have changed since this command began; run it again.")
        count, total, squares = 0, np.zeros(self.form.hidden_size), np.zeros(self.form.hidden_size)
        with np.errstate(all="ignore"):  # numbers that are not finite are for the caller to refuse
            for window in _windows(_prepared(waveform.samples, self.form)):
                frames = _average_layer(network, window).astype(np.float64)
                count += len(frames)
                total += frames.sum(axis=0)
                squares += np.square(frames).sum(axis=0)
            mean = total / count
            deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
            return np.concatenate([mean, deviation]).astype(np.float32)


def load_front_end(folder: Path) -> SelfSupervisedFrontEnd:
    """Read an encoder from a folder, check all of it and try it once.

    Args:
        folder: Holds `config.json` and `model.safetensors`, and perhaps `preprocessor_config.json`.

    Returns:
        The front end; its weights stay in memory until another one is used.

    Raises:
        UsageError: There is no such folder.
        ModelError: The encoder is a pickle, incomplete, damaged, of an unknown type or not what its config says.
    """
    _refuse_other_weights(folder)
    config = _read(folder / CONFIG_FILE, MAX_CONFIG_BYTES)
    form = _form(_parsed(config, CONFIG_FILE), _unit_variance(folder / PREPROCESSOR_FILE))
    _encoder.cache_clear()
    weights_sha256, _ = _encoder(folder, form)
    front_end = SelfSupervisedFrontEnd(
        folder=folder, form=form, config_sha256=sha256(config).hexdigest(), weights_sha256=weights_sha256
    )
    if not np.isfinite(front_end.compute(_probe())).all():
        raise ModelError("The encoder answers a plain tone with numbers that are not finite; take another copy of it.")
    return front_end


def _probe() -> Waveform:
    """Return a fixed sound of half a second: a tone that rises and falls."""
    t = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    sound = np.sin(2 * np.pi * (150 + 40 * t) * t) ** 5 * np.hanning(len(t))
    return Waveform(samples=sound.astype(np.float32), sample_rate=SAMPLE_RATE)


def _prepared(samples: Samples, form: EncoderForm) -> Samples:
    """Pad short sound with silence and set the encoder's level, [T].

    The encoder was trained on sound of that level.
    """
    padded = np.pad(samples, (0, max(0, form.min_samples - len(samples)))).astype(np.float32, copy=False)
    if not form.unit_variance:
        return padded
    mean, variance = padded.mean(dtype=np.float64), padded.var(dtype=np.float64)
    level: Samples = ((padded - mean) / np.sqrt(variance + _VARIANCE_FLOOR)).astype(np.float32)
    return level


def _windows(samples: Samples) -> Iterator[Samples]:
    """Cut sound into the fewest equal windows of at most 30 s.

    Equal windows leave no short remainder.
    """
    count = ceil(len(samples) / (MAX_WINDOW_S * SAMPLE_RATE))
    for start, end in pairwise(len(samples) * index // count for index in range(count + 1)):
        yield samples[start:end]


def _average_layer(network: Any, window: Samples) -> Samples:
    """Average the outputs of all transformer layers, [F, E].

    The outputs are taken as one layer hands them to the next. A stable encoder's normalization after its last layer
    is left out, so that no layer weighs more than it does inside the encoder.
    """
    import torch

    with torch.inference_mode(), one_thread():
        layers, _ = network.extract_features(torch.from_numpy(np.array(window[None])))
        average: Samples = (sum(layers[1:], start=layers[0]) / len(layers))[0].numpy()
    return average


def _refuse_other_weights(folder: Path) -> None:
    """Refuse a folder whose weights have another form, before reading it.

    The message says what is wrong.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        message = (
            f"{folder} is not a folder that can be read; name the one that holds {CONFIG_FILE} and {WEIGHTS_FILE}."
        )
        raise UsageError(message) from error
    if WEIGHTS_FILE in names:
        return
    if any(name.endswith(_PICKLES) for name in names):
        raise ModelError(
            f"The encoder's weights are a pickle, which runs code when it is read; take the {WEIGHTS_FILE} of the same "
            "model, or convert it on a machine that has nothing to lose."
        )
    if f"{WEIGHTS_FILE}.index.json" in names:
        raise ModelError(f"The encoder's weights are split over several files; save them as one {WEIGHTS_FILE}.")


def _read(path: Path, max_bytes: int) -> bytes:
    """Read a whole regular file of bounded size from the encoder's folder."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"The encoder's {path.name} is not a regular file; copy the folder again.")
        if status.st_size > max_bytes:
            raise ModelError(f"The encoder's {path.name} is larger than {max_bytes} bytes; take a smaller encoder.")
        with path.open("rb") as file:
            return file.read(status.st_size)
    except FileNotFoundError as error:
        raise ModelError(f"The encoder's folder has no {path.name}; copy the folder again.") from error
    except OSError as error:
        raise ModelError(f"The encoder's {path.name} cannot be read; check its permissions.") from error


def _parsed(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The encoder's {name} is not JSON; copy the folder again.") from error
    if not isinstance(parsed, dict):
        raise ModelError(f"The encoder's {name} is not a JSON object; copy the folder again.")
    return parsed


def _unit_variance(path: Path) -> bool:
    """Return whether the encoder expects sound of unit variance.

    Where the folder does not say, Hugging Face's own answer holds.
    """
    if not path.exists():
        return True
    config = _parsed(_read(path, MAX_CONFIG_BYTES), path.name)
    if config.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise ModelError(f"The encoder was not trained on sound at {SAMPLE_RATE} Hz; take one that was.")
    return _flag(config, "do_normalize", default=True)


def _form(config: Mapping[str, Any], unit_variance: bool) -> EncoderForm:
    """Read the settings that are used of a config, each within its bounds.

    Every other key is ignored.
    """
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ModelError(f"The encoder is of the type {_shown(model_type)}; take one of {', '.join(MODEL_TYPES)}.")
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise ModelError(f"The encoder has {key} {_shown(config[key])}, which is not supported; take another one.")
    if config.get("feat_extract_norm") not in ("group", "layer"):
        raise _wrong("feat_extract_norm", config.get("feat_extract_norm"), '"group" or "layer"')
    wavlm = model_type == "wavlm"
    form = EncoderForm(
        model_type=model_type,
        hidden_size=_size(config, "hidden_size"),
        num_layers=_size(config, "num_hidden_layers"),
        num_heads=_size(config, "num_attention_heads"),
        intermediate_size=_size(config, "intermediate_size"),
        conv_layers=_conv_layers(config),
        conv_bias=_flag(config, "conv_bias", default=False),
        conv_norm=config["feat_extract_norm"],
        stable=_flag(config, "do_stable_layer_norm", default=False),
        position_kernel=_size(config, "num_conv_pos_embeddings"),
        position_groups=_size(config, "num_conv_pos_embedding_groups"),
        num_buckets=_size(config, "num_buckets") if wavlm else 0,
        max_distance=_size(config, "max_bucket_distance") if wavlm else 0,
        unit_variance=unit_variance,
    )
    _check_proportions(form)
    return form


def _check_proportions(form: EncoderForm) -> None:
    if form.hidden_size % form.num_heads:
        raise _wrong("num_attention_heads", form.num_heads, f"a divisor of hidden_size {form.hidden_size}")
    if form.hidden_size % form.position_groups:
        raise _wrong("num_conv_pos_embedding_groups", form.position_groups, f"a divisor of {form.hidden_size}")
    if not MIN_HOP <= form.hop <= MAX_HOP:
        raise _wrong("conv_stride", form.hop, f"strides whose product is from {MIN_HOP} to {MAX_HOP}")
    if form.min_samples > SAMPLE_RATE:
        raise _wrong("conv_kernel", form.min_samples, f"kernels that reach over at most {SAMPLE_RATE} samples")
    if form.model_type == "wavlm":
        if form.num_buckets % 4:
            raise _wrong("num_buckets", form.num_buckets, "a multiple of 4")
        if form.max_distance <= form.num_buckets // 4:
            raise _wrong("max_bucket_distance", form.max_distance, "more than a quarter of num_buckets")


def _conv_layers(config: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    keys = ("conv_dim", "conv_kernel", "conv_stride")
    for key in keys:
        values = config.get(key)
        if not isinstance(values, list) or not 1 <= len(values) <= _MAX_CONV_LAYERS:
            raise _wrong(key, values, f"a list of 1 to {_MAX_CONV_LAYERS} whole numbers")
        if len(values) != len(config["conv_dim"]):
            raise _wrong(key, values, "as long as conv_dim")
    dims, kernels, strides = ([_in_bounds(key, value) for value in config[key]] for key in keys)
    return tuple(zip(dims, kernels, strides, strict=True))


def _size(config: Mapping[str, Any], key: str) -> int:
    return _in_bounds(key, config.get(key))


def _in_bounds(key: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _LARGEST[key]:
        raise _wrong(key, value, f"a whole number from 1 to {_LARGEST[key]}")
    return value


def _flag(config: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def _wrong(key: str, value: Any, expected: str) -> ModelError:
    return ModelError(f"The encoder's {key} is {_shown(value)}, but must be {expected}; take another encoder.")


def _shown(value: Any) -> str:
    """Return a foreign value for messages: short, no control characters."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


@lru_cache(maxsize=1)
def _encoder(folder: Path, form: EncoderForm) -> tuple[str, Any]:
    """Read the weights and build the network.

    Returns their hash and a torch module that is ready to use.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = _read(folder / WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"The encoder's {WEIGHTS_FILE} is damaged or something else; copy it again.") from error
    network = _empty_network(form)
    state = network.state_dict()
    checked = _checked(_plain_names(tensors, form), _expected(state), form)
    network.load_state_dict({name: _collected(name, checked) for name in state}, assign=True)
    return sha256(data).hexdigest(), network.eval().requires_grad_(False)


def _empty_network(form: EncoderForm) -> Any:
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


def _plain_names(tensors: Tensors, form: EncoderForm) -> Tensors:
    """Rename an encoder's tensors to the bare encoder's current names.

    Tensors that do not belong to the encoder are left out.
    """
    prefix = f"{form.model_type}."
    if any(name.startswith(prefix) for name in tensors):
        inside = {name: tensor for name, tensor in tensors.items() if name not in _HEADS}
        if beside := [name for name in inside if not name.startswith(prefix)]:
            raise _unknown(min(beside))
        tensors = {name.removeprefix(prefix): tensor for name, tensor in inside.items()}
    if not tensors.keys() & set(_SPELLINGS.values()):
        tensors = {_SPELLINGS.get(name, name): tensor for name, tensor in tensors.items()}
    return tensors


def _expected(state: Mapping[str, "Tensor"]) -> dict[str, Shape]:
    """Return name and shape of every tensor that the folder must hold.

    The names are Hugging Face's for a network of torchaudio's.
    """
    return {
        name: (tensor.shape[0] // len(names), *tensor.shape[1:])
        for own_name, tensor in state.items()
        for names in [_names_of(own_name)]
        for name in names
    }


def _names_of(own_name: str) -> tuple[str, ...]:
    """Return Hugging Face's names for a tensor of torchaudio's.

    WavLM's input projection is three tensors there.
    """
    name = own_name.removeprefix("encoder.") if own_name.startswith("encoder.feature_projection.") else own_name
    name = name.replace("encoder.transformer.", "encoder.", 1).replace(".attention.attention.", ".attention.", 1)
    layer, projection, part = name.partition(".in_proj_")
    return tuple(f"{layer}.{which}_proj.{part}" for which in "qkv") if projection else (name,)


def _collected(own_name: str, tensors: Mapping[str, "Tensor"]) -> "Tensor":
    import torch

    parts = [tensors[name] for name in _names_of(own_name)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _checked(tensors: Tensors, expected: Mapping[str, Shape], form: EncoderForm) -> Tensors:
    """Return the tensors as float32, once all are as expected.

    Refuses what is missing, unknown, of another shape or not finite.
    """
    import torch

    shapes = {**expected, _MASK: (form.hidden_size,)}
    if missing := sorted(expected.keys() - tensors.keys()):
        raise _unfit(f"lacks {missing[0]} and {len(missing) - 1} more" if missing[1:] else f"lacks {missing[0]}")
    for name, tensor in sorted(tensors.items()):
        if name not in shapes:
            raise _unknown(name)
        if tuple(tensor.shape) != shapes[name]:
            raise _unfit(f"has {name} of shape {list(tensor.shape)} and not {list(shapes[name])}")
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise _unfit(f"has {name} as {tensor.dtype} and not as float32, float16 or bfloat16")
        if not tensor.isfinite().all():
            raise _unfit(f"has numbers in {name} that are not finite")
    return {name: tensors[name].to(torch.float32) for name in expected}


def _unknown(name: str) -> ModelError:
    return _unfit(f"has a tensor {_shown(name)} that its form does not ask for")


def _unfit(fault: str) -> ModelError:
    return ModelError(
        f"The encoder's {WEIGHTS_FILE} {fault}; take {WEIGHTS_FILE} and {CONFIG_FILE} from the same model."
    )
