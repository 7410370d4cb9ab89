"""Small random encoders of the true form, and Hugging Face folders of them."""

import json

import torch
from safetensors.torch import save_file

from ecan_core.runtime.torchaudio_compat import torchaudio

WIDTH, INSIDE, LAYERS, HEADS = 16, 24, 6, 4
CHANNELS, KERNELS, STRIDES = [8, 12, 8], [10, 4, 3], [5, 8, 4]  # a frame every 10 ms
POSITIONS = {"num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 2}
OLD, NEW = ("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")


def config_of(model_type="wav2vec2", norm="group", stable=False, **changes):
    config = {
        "architectures": ["Something"],
        "model_type": model_type,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INSIDE,
        "conv_dim": CHANNELS,
        "conv_kernel": KERNELS,
        "conv_stride": STRIDES,
        "conv_bias": norm == "layer",
        "feat_extract_norm": norm,
        "do_stable_layer_norm": stable,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-05,
        "layerdrop": 0.1,
        "mask_time_prob": 0.05,
    } | POSITIONS
    if model_type == "wavlm":
        config |= {"num_buckets": 8, "max_bucket_distance": 20}
    return {key: value for key, value in (config | changes).items() if value is not ...}


def random_network(config, seed=0):
    """The network as torchaudio makes it, dropout and all, with weights that differ everywhere."""
    arguments = {
        "extractor_mode": {"group": "group_norm", "layer": "layer_norm"}[config["feat_extract_norm"]],
        "extractor_conv_layer_config": list(zip(CHANNELS, KERNELS, STRIDES, strict=True)),
        "extractor_conv_bias": config["conv_bias"],
        "encoder_embed_dim": config["hidden_size"],
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 6,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": config["num_hidden_layers"],
        "encoder_num_heads": HEADS,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": INSIDE,
        "encoder_ff_interm_dropout": 0.1,
        "encoder_dropout": 0.1,
        "encoder_layer_norm_first": config["do_stable_layer_norm"],
        "encoder_layer_drop": 0.1,
        "aux_num_out": None,
    }
    make = torchaudio.models.wav2vec2_model
    if config["model_type"] == "wavlm":
        make = torchaudio.models.wavlm_model
        arguments |= {"encoder_num_buckets": 8, "encoder_max_distance": 20}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make(**arguments).eval()
        size = 0.3 if config["hidden_size"] == WIDTH else 0.02
        for parameter in network.parameters():
            parameter.add_(size * torch.randn(parameter.shape))
            parameter.copy_(parameter.half())  # a file of half the size
    return network


def exported(network, spelling=NEW):
    """Names a network's tensors as Hugging Face does, written out a second time and by hand."""
    state = {}
    for part, here in (
        ("feature_extractor", network.feature_extractor),
        ("feature_projection", network.encoder.feature_projection),
        ("encoder", network.encoder.transformer),
    ):
        state |= {f"{part}.{name}": tensor.detach().clone() for name, tensor in here.state_dict().items()}
    for index in range(len(network.encoder.transformer.layers)):
        place = f"encoder.layers.{index}.attention"
        for part in ("weight", "bias"):
            if f"{place}.attention.in_proj_{part}" in state:
                stacked = state.pop(f"{place}.attention.in_proj_{part}")
                for which, tensor in zip("qkv", stacked.chunk(3), strict=True):
                    state[f"{place}.{which}_proj.{part}"] = tensor.clone()
                state[f"{place}.out_proj.{part}"] = state.pop(f"{place}.attention.out_proj.{part}")
    for old, new in zip(spelling, NEW, strict=True):
        state[f"encoder.pos_conv_embed.conv.{old}"] = state.pop(f"encoder.pos_conv_embed.conv.{new}")
    return state


def write(folder, config, tensors, preprocessor=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def encoder_in(folder, seed=0, preprocessor=None, **form):
    config = config_of(**form)
    network = random_network(config, seed)
    return write(folder, config, exported(network), preprocessor), network


def usable_encoder(folder, seed=0, preprocessor=None, **form):
    """A folder of an encoder that is as wide as a network reads, and small in everything else."""
    return encoder_in(folder, seed, preprocessor, **{"hidden_size": 768, "num_hidden_layers": 3} | form)[0]
