import json
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save, save_file

from ecan_core.encoders.selfsupervised.folder import read_encoder, read_folder
from ecan_core.errors import ModelError
from protocol.encoders.canonical import canonical_bytes
from tests.ecan_core.audio.sounds import syllables
from tests.support.selfsupervised import config_of, encoder_in, exported, usable_encoder


def parts_of(folder):
    beside = folder / "preprocessor_config.json"
    preprocessor = beside.read_bytes() if beside.exists() else None
    return (folder / "config.json").read_bytes(), preprocessor, (folder / "model.safetensors").read_bytes()


def canonical(folder):
    return canonical_bytes(*read_folder(*parts_of(folder)))


def keep(data, path):
    path.write_bytes(data)
    return path, sha256(data).hexdigest()


def refused(*parts):
    with pytest.raises(ModelError) as caught:
        read_folder(*parts)
    message = str(caught.value)
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 400
    return message


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return usable_encoder(tmp_path_factory.mktemp("hub"))


def test_the_file_that_is_kept_holds_two_thirds_of_the_layers_and_their_form(folder, tmp_path):
    data = canonical(folder)
    whole = load_file(folder / "model.safetensors")
    kept = load(data)
    assert whole.keys() - kept.keys() == {name for name in whole if name.startswith("encoder.layers.2.")}
    assert all(torch.equal(whole[name], tensor.float()) for name, tensor in kept.items())
    encoder = read_encoder(*keep(data, tmp_path / "file"))
    assert (encoder.form.hidden_size, encoder.form.num_layers, encoder.form.heard_layers) == (768, 2, (1, 2))
    assert np.isfinite(encoder.embed(syllables())).all()


def test_the_same_folder_gives_the_same_bytes_and_what_is_not_used_does_not_count(folder, tmp_path):
    data = canonical(folder)
    assert canonical(usable_encoder(tmp_path / "again", attention_dropout=0.5)) == data
    assert canonical(usable_encoder(tmp_path / "other", seed=1)) != data
    assert canonical(usable_encoder(tmp_path / "type", model_type="hubert")) != data
    assert canonical(usable_encoder(tmp_path / "level", preprocessor={"do_normalize": False})) != data


@pytest.mark.parametrize("width", [16, 512])
def test_a_width_that_no_network_reads_is_refused(tmp_path, width):
    said = refused(*parts_of(encoder_in(tmp_path, hidden_size=width)[0]))
    assert f"is {width} wide and no network reads by that; take one of width 768 or 1024." in said


@pytest.mark.parametrize("value", [0.0, 3e38])
def test_an_encoder_that_cannot_answer_is_refused(folder, value):
    config, preprocessor, weights = parts_of(folder)
    of_zero = "encoder.pos_conv_embed.conv.parametrizations.weight.original1"
    name = of_zero if value == 0 else "encoder.layers.0.attention.v_proj.weight"
    tensors = load(weights)
    broken = save(tensors | {name: torch.full_like(tensors[name], value)})
    assert "answers a plain tone with numbers that are not finite" in refused(config, preprocessor, broken)


@pytest.mark.parametrize("end", [0, 4, 8, 100, 0.5, -1])
def test_truncated_weights_are_refused(folder, end):
    config, preprocessor, weights = parts_of(folder)
    end = int(end * len(weights)) if isinstance(end, float) else end
    assert "model.safetensors is damaged or something else" in refused(config, preprocessor, weights[:end])


def test_a_pickle_under_the_right_name_is_refused(folder, tmp_path):
    config, preprocessor, weights = parts_of(folder)
    torch.save(load(weights), tmp_path / "file")  # noqa: TID251
    assert "damaged or something else" in refused(config, preprocessor, (tmp_path / "file").read_bytes())


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"3", b'{"hidden_size": ' + b"9" * 5000 + b"}"], ids=len
)
def test_what_is_not_json_is_refused(folder, text):
    config, _, weights = parts_of(folder)
    assert "config.json is not" in refused(text, None, weights)
    assert "preprocessor_config.json is not" in refused(config, text, weights)


@pytest.mark.parametrize(
    ("stated", "said"), [(b'{"sampling_rate": 8000}', "16000 Hz"), (b'{"do_normalize": 1}', "do_normalize")]
)
def test_a_preprocessor_that_does_not_fit_is_refused(folder, stated, said):
    config, _, weights = parts_of(folder)
    assert said in refused(config, stated, weights)


@pytest.mark.parametrize(
    "beside", [None, {"note": "x"}, {"form": ""}, {"form": "[]"}, {"form": json.dumps(config_of("bert"))}], ids=str
)
def test_a_file_that_no_folder_gave_is_refused_even_under_its_own_hash(folder, tmp_path, beside):
    path = tmp_path / "file"
    save_file(load_file(folder / "model.safetensors"), path, metadata=beside)
    with pytest.raises(ModelError):
        read_encoder(path, sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\xff" * 100])
def test_a_file_without_a_header_is_refused(tmp_path, data):
    with pytest.raises(ModelError, match="header is not JSON"):
        read_encoder(*keep(data, tmp_path / "file"))


def test_a_form_that_the_tensors_do_not_have_is_refused(folder, tmp_path):
    kept = read_folder(*parts_of(folder))
    form = json.dumps(json.loads(kept.form) | {"num_hidden_layers": 1})
    with pytest.raises(ModelError, match="other tensors than its network has"):
        read_encoder(*keep(canonical_bytes(kept.tensors, form), tmp_path / "file"))


def test_one_changed_bit_is_refused(folder, tmp_path):
    path, digest = keep(canonical(folder), tmp_path / "file")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not the one that its name says"):
        read_encoder(path, digest)


def test_the_modules_are_imported_without_torch():
    program = "import sys, ecan_core.encoders.front_end; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_files_are_left_as_they_were(tmp_path):
    folder, network = encoder_in(tmp_path, hidden_size=768, num_hidden_layers=1)
    read_folder(*parts_of(folder))
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor, exported(network)[name])
