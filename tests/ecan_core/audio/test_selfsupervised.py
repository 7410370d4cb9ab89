import json
import pickle  # noqa: TID251
import subprocess
import sys

import numpy as np
import pytest
import torch
from ecan_core.audio.selfsupervised import load_front_end
from safetensors.torch import load_file, save_file

from ecan_core.audio import selfsupervised
from ecan_core.audio.waveform import Waveform
from ecan_core.errors import ModelError, UsageError
from ecan_core.runtime.torchaudio_compat import torchaudio
from tests.ecan_core.audio.sounds import noise, syllables

WIDTH, INSIDE, LAYERS, HEADS = 16, 24, 3, 4
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


def network_of(config, seed=0):
    """The network as torchaudio makes it, dropout and all, with weights that differ everywhere."""
    arguments = {
        "extractor_mode": {"group": "group_norm", "layer": "layer_norm"}[config["feat_extract_norm"]],
        "extractor_conv_layer_config": list(zip(CHANNELS, KERNELS, STRIDES, strict=True)),
        "extractor_conv_bias": config["conv_bias"],
        "encoder_embed_dim": WIDTH,
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 6,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": LAYERS,
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
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
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
    for index in range(LAYERS):
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
    network = network_of(config, seed)
    return write(folder, config, exported(network), preprocessor), network


def sound(samples):
    return Waveform(samples=np.asarray(samples, np.float32), sample_rate=16_000)


@torch.no_grad()
def frames_of(network, samples):
    """The average of a network's layers, [F, E]."""
    layers, _ = network.extract_features(torch.from_numpy(np.asarray(samples, np.float32))[None])
    assert len(layers) == LAYERS
    return torch.stack(layers).mean(dim=0)[0].double().numpy()


def pooled(frames):
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])


def unit(samples):
    return (samples - samples.mean()) / samples.std()


@pytest.mark.parametrize("spelling", [OLD, NEW], ids=["weight_g", "original0"])
@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("model_type", ["wav2vec2", "hubert", "wavlm"])
def test_a_read_encoder_answers_as_the_network_that_was_written(tmp_path, model_type, norm, stable, spelling):
    config = config_of(model_type, norm, stable)
    network = network_of(config)
    front_end = load_front_end(write(tmp_path, config, exported(network, spelling)))
    features = front_end.compute(sound(syllables()))
    np.testing.assert_allclose(features, pooled(frames_of(network, unit(syllables()))), rtol=1e-3, atol=1e-4)
    assert features.dtype == np.float32
    assert features[WIDTH:].min() > 0


def test_a_front_end_names_each_of_its_numbers(tmp_path):
    front_end = load_front_end(encoder_in(tmp_path, model_type="hubert")[0])
    assert front_end.name == "ssl-hubert-16"
    assert len(set(front_end.feature_names)) == len(front_end.feature_names) == front_end.dim == 2 * WIDTH
    assert front_end.compute(sound(syllables())).shape == (2 * WIDTH,)


@pytest.mark.parametrize("kept", [True, False], ids=["mask", "no mask"])
def test_what_stands_beside_the_encoder_is_left_out(tmp_path, kept):
    bare, network = encoder_in(tmp_path / "bare", model_type="hubert")
    tensors = {f"hubert.{name}": tensor for name, tensor in exported(network, OLD).items()}
    tensors |= {"lm_head.weight": torch.ones(32, WIDTH), "lm_head.bias": torch.ones(32)}
    tensors |= {"hubert.masked_spec_embed": torch.ones(WIDTH)} if kept else {}
    tuned = write(tmp_path / "tuned", config_of(model_type="hubert"), tensors)
    first, second = (load_front_end(folder).compute(sound(syllables())) for folder in (bare, tuned))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_computed_with_in_full(tmp_path, dtype):
    config = config_of()
    network = network_of(config)
    short = {name: tensor.to(dtype) for name, tensor in exported(network).items()}
    long = {name: tensor.float() for name, tensor in short.items()}
    folders = write(tmp_path / "short", config, short), write(tmp_path / "long", config, long)
    first, second = (load_front_end(folder).compute(sound(syllables())) for folder in folders)
    np.testing.assert_array_equal(first, second)


def test_the_folder_says_whether_the_level_counts(tmp_path):
    form = {"norm": "layer", "stable": True}
    level = encoder_in(tmp_path / "level", preprocessor={"do_normalize": True, "sampling_rate": 16_000}, **form)[0]
    plain, network = encoder_in(tmp_path / "plain", preprocessor={"do_normalize": False}, **form)
    loud, soft = sound(syllables()), sound(0.3 * syllables())
    front_end = load_front_end(level)
    np.testing.assert_allclose(front_end.compute(loud), front_end.compute(soft), rtol=0.02, atol=0.02)
    fingerprint = front_end.fingerprint
    front_end = load_front_end(plain)
    np.testing.assert_allclose(front_end.compute(soft), pooled(frames_of(network, soft.samples)), rtol=1e-3, atol=1e-4)
    assert front_end.fingerprint != fingerprint


def test_the_same_sound_gives_the_same_numbers_whatever_was_asked_before(tmp_path):
    folder = encoder_in(tmp_path)[0]
    front_end = load_front_end(folder)
    first = front_end.compute(sound(syllables()))
    front_end.compute(sound(noise(3.0)))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        second = load_front_end(folder).compute(sound(syllables()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(first, second)


def test_reading_an_encoder_draws_no_random_number(tmp_path):
    folder = encoder_in(tmp_path)[0]
    before = torch.random.get_rng_state()
    load_front_end(folder).compute(sound(syllables()))
    assert torch.equal(before, torch.random.get_rng_state())


def test_long_sound_is_pooled_over_equal_windows(tmp_path, monkeypatch):
    folder, network = encoder_in(tmp_path, model_type="wavlm", preprocessor={"do_normalize": False})
    monkeypatch.setattr(selfsupervised, "MAX_WINDOW_S", 2.0)
    samples = np.concatenate([syllables(seconds=4.1), noise(0.4)])
    features = load_front_end(folder).compute(sound(samples))
    frames = np.concatenate([frames_of(network, part) for part in np.split(samples, 3)])
    np.testing.assert_allclose(features, pooled(frames), rtol=1e-3, atol=1e-4)


def test_half_a_minute_is_one_window_and_a_sample_more_is_two():
    assert [len(window) for window in selfsupervised._windows(np.zeros(480_000, np.float32))] == [480_000]
    assert [len(window) for window in selfsupervised._windows(np.zeros(480_001, np.float32))] == [240_000, 240_001]


@pytest.mark.parametrize("count", [0, 1, 100, 253, 254])
def test_the_shortest_sound_has_finite_features(tmp_path, count):
    front_end = load_front_end(encoder_in(tmp_path)[0])
    assert front_end.form.min_samples < 400
    features = front_end.compute(sound(noise(0.1)[:count]))
    assert np.isfinite(features).all()


def test_two_frames_need_exactly_the_samples_that_the_form_says(tmp_path):
    folder, network = encoder_in(tmp_path)
    least = load_front_end(folder).form.min_samples
    assert len(frames_of(network, noise(1.0)[:least])) == 2
    assert len(frames_of(network, noise(1.0)[: least + 159])) == 2
    assert len(frames_of(network, noise(1.0)[: least + 160])) == 3


def test_the_fingerprint_is_stable(tmp_path):
    first = load_front_end(encoder_in(tmp_path / "one")[0])
    second = load_front_end(encoder_in(tmp_path / "two")[0])
    assert (first.fingerprint, first.identity) == (second.fingerprint, second.identity)


def test_other_weights_or_another_config_have_another_fingerprint(tmp_path):
    folders = [
        encoder_in(tmp_path / "one")[0],
        encoder_in(tmp_path / "other weights", seed=1)[0],
        encoder_in(tmp_path / "other config", attention_dropout=0.5)[0],
        encoder_in(tmp_path / "other type", model_type="hubert")[0],
        encoder_in(tmp_path / "other level", preprocessor={"do_normalize": False})[0],
    ]
    front_ends = [load_front_end(folder) for folder in folders]
    assert len({front_end.identity for front_end in front_ends}) == len(folders)
    assert len({load_front_end(folder).fingerprint for folder in folders}) == len(folders)


def test_a_worker_gets_the_folder_and_not_the_weights(tmp_path):
    front_end = load_front_end(encoder_in(tmp_path)[0])
    features, packed = front_end.compute(sound(syllables())), pickle.dumps(front_end)
    assert len(packed) < 10_000
    program = (
        "import pickle, sys, numpy as np\n"
        "from ecan_core.audio.waveform import Waveform\n"
        "front_end, samples = pickle.load(sys.stdin.buffer)\n"
        "features = front_end.compute(Waveform(samples=samples, sample_rate=16_000))\n"
        "sys.stdout.buffer.write(features.tobytes())\n"
    )
    data = pickle.dumps((front_end, syllables()))
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], input=data, capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32), features)


def test_weights_that_change_under_a_front_end_are_refused(tmp_path):
    front_end = load_front_end(encoder_in(tmp_path)[0])
    encoder_in(tmp_path, seed=1)
    selfsupervised._encoder.cache_clear()
    with pytest.raises(ModelError, match="have changed since this command began; run it again"):
        front_end.compute(sound(syllables()))


def test_the_module_is_imported_without_torch():
    program = "import sys, ecan_core.audio.selfsupervised; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def refusal(folder, kind=ModelError):
    with pytest.raises(kind) as caught:
        load_front_end(folder)
    message = str(caught.value)
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 400
    return message


def test_a_folder_that_is_not_there_is_a_fault_of_usage(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("nowhere", "file"):
        assert "is not a folder that can be read" in refusal(tmp_path / name, UsageError)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "checkpoint.ckpt"])
def test_a_pickle_is_refused_unread(tmp_path, name):
    folder, _ = encoder_in(tmp_path)
    (folder / "model.safetensors").rename(folder / name)
    assert "pickle, which runs code when it is read" in refusal(folder)


def test_a_pickle_under_the_right_name_is_refused(tmp_path):
    folder, network = encoder_in(tmp_path)
    torch.save(exported(network), folder / "model.safetensors")  # noqa: TID251
    assert "model.safetensors is damaged or something else" in refusal(folder)


def test_split_or_absent_files_are_refused(tmp_path):
    folder, _ = encoder_in(tmp_path)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    assert "has no model.safetensors" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "split over several files" in refusal(folder)
    (folder / "model-00001-of-00002.safetensors").rename(folder / "model.safetensors")
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)
    (folder / "config.json").mkdir()
    assert "config.json is not a regular file" in refusal(folder)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 0.5, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    folder, _ = encoder_in(tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    end = int(kept * len(data)) if isinstance(kept, float) else kept
    (folder / "model.safetensors").write_bytes(data[:end])
    assert "model.safetensors is damaged or something else" in refusal(folder)


def test_files_of_absurd_size_are_refused_unread(tmp_path, monkeypatch):
    folder, _ = encoder_in(tmp_path)
    monkeypatch.setattr(selfsupervised, "MAX_WEIGHTS_BYTES", 1000)
    assert "model.safetensors is larger than 1000 bytes" in refusal(folder)
    (folder / "config.json").write_text(" " * (2**20 + 1))
    assert "config.json is larger than" in refusal(folder)


@pytest.mark.parametrize("name", ["masked", "encoder.layers.1.attention.q_proj.bias"])
@pytest.mark.parametrize("model_type", ["wav2vec2", "wavlm"])
def test_a_missing_tensor_is_refused(tmp_path, model_type, name):
    folder, network = encoder_in(tmp_path, model_type=model_type)
    tensors = exported(network)
    gone = tensors.keys() if name == "masked" else [name]
    write(folder, config_of(model_type), {key: tensors[key] for key in tensors.keys() - gone} | {"a": torch.ones(1)})
    assert "model.safetensors lacks " in refusal(folder)


@pytest.mark.parametrize(
    "name",
    ["encoder.layers.3.layer_norm.weight", "adapter.weight", "lm_head.weight", "encoder\x1b[2J.weight", "x" * 10_000],
)
def test_an_extra_tensor_is_refused(tmp_path, name):
    folder, network = encoder_in(tmp_path)
    write(folder, config_of(), exported(network) | {name: torch.ones(WIDTH)})
    assert "that its form does not ask for" in refusal(folder)


def test_a_tensor_that_is_there_twice_is_refused(tmp_path):
    folder, network = encoder_in(tmp_path)
    write(folder, config_of(), exported(network, OLD) | exported(network, NEW))
    assert "weight_g" in refusal(folder)
    tensors = exported(network)
    prefixed = {f"wav2vec2.{name}": tensor for name, tensor in tensors.items()}
    write(folder, config_of(), prefixed | {"encoder.layer_norm.weight": torch.ones(WIDTH)})
    assert "'encoder.layer_norm.weight' that its form does not ask for" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.layer_norm.weight", (WIDTH + 1,)),
        ("feature_projection.projection.weight", (8, WIDTH)),
        ("encoder.layers.0.attention.k_proj.weight", (WIDTH * WIDTH,)),
        ("encoder.pos_conv_embed.conv.parametrizations.weight.original0", (WIDTH, 1, 1)),
        ("encoder.layers.2.feed_forward.output_dense.bias", ()),
        ("encoder.layers.2.feed_forward.output_dense.bias", (0,)),
        ("masked_spec_embed", (1,)),
    ],
)
@pytest.mark.parametrize("model_type", ["wav2vec2", "wavlm"])
def test_a_tensor_of_another_shape_is_refused(tmp_path, model_type, name, shape):
    folder, network = encoder_in(tmp_path, model_type=model_type)
    write(folder, config_of(model_type), exported(network) | {name: torch.ones(shape)})
    assert f"{name} of shape {list(shape)}" in refusal(folder)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.full((WIDTH,), torch.nan), "not finite"),
        (torch.full((WIDTH,), torch.inf), "not finite"),
        (torch.ones(WIDTH, dtype=torch.int64), "torch.int64"),
        (torch.ones(WIDTH, dtype=torch.float64), "torch.float64"),
        (torch.ones(WIDTH).to(torch.float8_e4m3fn), "torch.float8"),
    ],
)
def test_a_tensor_of_other_numbers_is_refused(tmp_path, tensor, said):
    folder, network = encoder_in(tmp_path)
    write(folder, config_of(), exported(network) | {"encoder.layer_norm.bias": tensor})
    assert said in refusal(folder)


@pytest.mark.parametrize("value", [0.0, 3e38])
def test_an_encoder_that_cannot_answer_is_refused(tmp_path, value):
    folder, network = encoder_in(tmp_path)
    name = f"encoder.pos_conv_embed.conv.{NEW[1]}" if value == 0 else "encoder.layers.0.attention.v_proj.weight"
    tensors = exported(network)
    write(folder, config_of(), tensors | {name: torch.full_like(tensors[name], value)})
    assert "answers a plain tone with numbers that are not finite" in refusal(folder)


@pytest.mark.parametrize("form", [{"num_hidden_layers": LAYERS + 1}, {"conv_bias": True}, {"intermediate_size": 25}])
def test_a_config_of_another_encoder_is_refused(tmp_path, form):
    folder, network = encoder_in(tmp_path)
    write(folder, config_of(**form), exported(network))
    assert "take model.safetensors and config.json from the same model" in refusal(folder)


@pytest.mark.parametrize(
    "model_type", [..., None, 3, ["wav2vec2"], "bert", "data2vec-audio", "Wav2Vec2", "\x1b[2J" * 99]
)
def test_an_unknown_type_is_refused(tmp_path, model_type):
    folder, _ = encoder_in(tmp_path)
    (folder / "config.json").write_text(json.dumps(config_of() | config_of(model_type="bert")))
    config = {key: value for key, value in (config_of() | {"model_type": model_type}).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    assert "take one of wav2vec2, hubert, wavlm" in refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 0},
        {"hidden_size": -16},
        {"hidden_size": 2**40},
        {"hidden_size": 16.0},
        {"hidden_size": True},
        {"hidden_size": "16"},
        {"hidden_size": ...},
        {"num_hidden_layers": 10**300},
        {"num_hidden_layers": None},
        {"num_attention_heads": 3},
        {"num_attention_heads": 65},
        {"intermediate_size": 10**6},
        {"num_conv_pos_embeddings": 513},
        {"num_conv_pos_embedding_groups": 5},
        {"conv_dim": 8},
        {"conv_dim": []},
        {"conv_dim": [8] * 10_000},
        {"conv_dim": [8, 12]},
        {"conv_dim": [8, 12, 2**30]},
        {"conv_kernel": [10, 4, "3"]},
        {"conv_kernel": ...},
        {"conv_stride": [1, 1, 1]},
        {"conv_stride": [32, 32, 32]},
        {"conv_stride": [0, 8, 4]},
        {"conv_kernel": [10] * 8, "conv_dim": [8] * 8, "conv_stride": [32, 32, 3, 1, 1, 1, 1, 1]},
        {"conv_bias": "yes"},
        {"do_stable_layer_norm": 1},
        {"feat_extract_norm": "batch"},
        {"feat_extract_norm": ...},
        {"hidden_act": "relu"},
        {"feat_extract_activation": {}},
        {"layer_norm_eps": 1e-12},
        {"add_adapter": True},
        {"adapter_attn_dim": 16},
        {"feat_proj_layer_norm": False},
        {"conv_pos_batch_norm": True},
    ],
    ids=lambda changes: json.dumps({key: str(value) for key, value in changes.items()})[:60],
)
def test_a_config_out_of_bounds_is_refused(tmp_path, changes):
    folder, _ = encoder_in(tmp_path)
    (folder / "config.json").write_text(json.dumps(config_of(**changes)))
    assert next(iter(changes)) in refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [{"num_buckets": ...}, {"num_buckets": 2}, {"num_buckets": 2**20}, {"max_bucket_distance": 2}],
    ids=str,
)
def test_buckets_out_of_bounds_are_refused(tmp_path, changes):
    folder, _ = encoder_in(tmp_path, model_type="wavlm")
    (folder / "config.json").write_text(json.dumps(config_of("wavlm", **changes)))
    assert next(iter(changes)) in refusal(folder)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"3", b'{"hidden_size": ' + b"9" * 5000 + b"}"], ids=len
)
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_what_is_not_json_is_refused(tmp_path, name, text):
    folder, _ = encoder_in(tmp_path)
    (folder / name).write_bytes(text)
    assert f"{name} is not" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "said"), [({"sampling_rate": 8000}, "16000 Hz"), ({"do_normalize": 1}, "do_normalize")]
)
def test_a_preprocessor_that_does_not_fit_is_refused(tmp_path, changes, said):
    assert said in refusal(encoder_in(tmp_path, preprocessor=changes)[0])


def test_the_files_are_left_as_they_were(tmp_path):
    folder, network = encoder_in(tmp_path)
    load_front_end(folder).compute(sound(syllables()))
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor, exported(network)[name])
