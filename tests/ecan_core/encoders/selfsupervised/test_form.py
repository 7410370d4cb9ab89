import json

import pytest

from ecan_core.encoders.selfsupervised.form import config_of as config_from
from ecan_core.encoders.selfsupervised.form import form_of
from ecan_core.errors import ModelError
from tests.ecan_core.audio.sounds import noise
from tests.ecan_core.encoders.selfsupervised.layers import layers_of
from tests.support.selfsupervised import config_of, random_network


def refused(config):
    with pytest.raises(ModelError) as caught:
        form_of(config)
    message = str(caught.value)
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 400
    return message


@pytest.mark.parametrize("model_type", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_a_form_is_written_as_a_config_that_gives_it_again(model_type, norm):
    form = form_of(config_of(model_type, norm, norm == "layer", do_normalize=norm == "group"))
    assert form_of(json.loads(json.dumps(config_from(form)))) == form


@pytest.mark.parametrize(
    ("layers", "kept", "heard"), [(12, 8, (4, 8)), (24, 16, (8, 16)), (3, 2, (1, 2)), (2, 2, (1, 2)), (1, 1, (1, 1))]
)
def test_two_thirds_of_the_layers_are_kept_and_two_of_them_heard(layers, kept, heard):
    form = form_of(config_of(num_hidden_layers=layers)).kept
    assert (form.num_layers, form.heard_layers) == (kept, heard)


def test_two_frames_need_exactly_the_samples_that_the_form_says():
    network, least = random_network(config_of()), form_of(config_of()).min_samples
    assert least < 400
    for more, frames in ((0, 2), (159, 2), (160, 3)):
        assert len(layers_of(network, noise(1.0)[: least + more])[0]) == frames


@pytest.mark.parametrize(
    "model_type", [..., None, 3, ["wav2vec2"], "bert", "data2vec-audio", "Wav2Vec2", "\x1b[2J" * 99]
)
def test_an_unknown_type_is_refused(model_type):
    assert "take one of wav2vec2, hubert, wavlm" in refused(config_of(model_type=model_type))


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
        {"do_normalize": 1},
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
def test_a_config_out_of_bounds_is_refused(changes):
    assert next(iter(changes)) in refused(config_of(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"num_buckets": ...}, {"num_buckets": 2}, {"num_buckets": 2**20}, {"max_bucket_distance": 2}],
    ids=str,
)
def test_buckets_out_of_bounds_are_refused(changes):
    assert next(iter(changes)) in refused(config_of("wavlm", **changes))
