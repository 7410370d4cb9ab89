import pytest
import torch

from ecan_core.encoders.selfsupervised.folder import tensors_kept
from ecan_core.encoders.selfsupervised.form import form_of
from ecan_core.errors import ModelError
from tests.support.selfsupervised import LAYERS, NEW, OLD, WIDTH, config_of, exported, random_network


def kept_of(config, tensors):
    return tensors_kept(form_of(config), tensors)


def refused(config, tensors):
    with pytest.raises(ModelError) as caught:
        kept_of(config, tensors)
    message = str(caught.value)
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 400
    return message


@pytest.fixture(params=["wav2vec2", "wavlm"])
def config(request):
    return config_of(request.param)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("spelling", [OLD, NEW], ids=["weight_g", "original0"])
@pytest.mark.parametrize("is_masked", [True, False], ids=["mask", "no mask"])
def test_what_stands_beside_the_lower_layers_is_left_out(config, spelling, is_masked):
    network = random_network(config)
    prefix = config["model_type"]
    tensors = {f"{prefix}.{name}": tensor for name, tensor in exported(network, spelling).items()}
    tensors |= {"lm_head.weight": torch.ones(32, WIDTH), "lm_head.bias": torch.ones(32)}
    tensors |= {f"{prefix}.masked_spec_embed": torch.ones(WIDTH)} if is_masked else {}
    kept = kept_of(config, tensors)
    assert same(kept, kept_of(config, exported(network)))
    assert {name.split(".")[2] for name in kept if name.startswith("encoder.layers.")} == set("0123")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_kept_in_full(config, dtype):
    short = {name: tensor.to(dtype) for name, tensor in exported(random_network(config)).items()}
    long = {name: tensor.float() for name, tensor in short.items()}
    assert same(kept_of(config, short), kept_of(config, long))


@pytest.mark.parametrize(
    "name", ["masked", "encoder.layers.1.attention.q_proj.bias", "encoder.layers.5.layer_norm.bias"]
)
def test_a_missing_tensor_is_refused(config, name):
    tensors = exported(random_network(config))
    gone = tensors.keys() if name == "masked" else [name]
    left = {key: tensors[key] for key in tensors.keys() - gone}
    assert "model.safetensors lacks " in refused(config, left | {"a": torch.ones(1)})


@pytest.mark.parametrize(
    "name",
    [
        f"encoder.layers.{LAYERS}.layer_norm.weight",
        *("adapter.weight", "lm_head.weight", "encoder\x1b[2J.weight", "x" * 10_000),
    ],
)
def test_an_extra_tensor_is_refused(config, name):
    tensors = exported(random_network(config)) | {name: torch.ones(WIDTH)}
    assert "that its form does not ask for" in refused(config, tensors)


def test_a_tensor_that_is_there_twice_is_refused(config):
    network = random_network(config)
    assert "weight_g" in refused(config, exported(network, OLD) | exported(network, NEW))
    prefixed = {f"{config['model_type']}.{name}": tensor for name, tensor in exported(network).items()}
    doubled = prefixed | {"encoder.layer_norm.weight": torch.ones(WIDTH)}
    assert "'encoder.layer_norm.weight' that its form does not ask for" in refused(config, doubled)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.layer_norm.weight", (WIDTH + 1,)),
        ("feature_projection.projection.weight", (8, WIDTH)),
        ("encoder.layers.0.attention.k_proj.weight", (WIDTH * WIDTH,)),
        ("encoder.pos_conv_embed.conv.parametrizations.weight.original0", (WIDTH, 1, 1)),
        ("encoder.layers.2.feed_forward.output_dense.bias", ()),
        ("encoder.layers.5.feed_forward.output_dense.bias", (0,)),
        ("masked_spec_embed", (1,)),
    ],
)
def test_a_tensor_of_another_shape_is_refused(config, name, shape):
    tensors = exported(random_network(config)) | {name: torch.ones(shape)}
    assert f"{name} of shape {list(shape)}" in refused(config, tensors)


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
def test_a_tensor_of_other_numbers_is_refused(config, tensor, said):
    assert said in refused(config, exported(random_network(config)) | {"encoder.layer_norm.bias": tensor})


@pytest.mark.parametrize("changes", [{"num_hidden_layers": LAYERS + 1}, {"conv_bias": True}, {"intermediate_size": 25}])
def test_the_tensors_of_another_form_are_refused(changes):
    said = refused(config_of(**changes), exported(random_network(config_of())))
    assert "take model.safetensors and config.json from the same model" in said
