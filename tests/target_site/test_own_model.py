"""An adapted model is used as it was made here, or not at all."""

import shutil

import pytest

from protocol.errors import Code, Unauthentic
from target_site.adapted import load_adapted
from target_site.model_folder import FACTS, SIGNATURE
from target_site.own_model import require_own_model, sign_model
from tests.support import cli
from tests.support.models import save_untrained
from tests.support.sites import new_site

TENSORS = ("weights", "source", "normalizer", "unadapted")


@pytest.fixture
def keys(tmp_path):
    return new_site().write(tmp_path / "keys")


@pytest.fixture
def model(tmp_path, keys):
    folder = save_untrained(tmp_path / "model")
    sign_model(folder, keys, None)
    return folder


def change_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_model_is_known_as_this_sites_own(model, keys):
    require_own_model(model, keys)


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_with_one_changed_bit_is_refused_without_any_key(model, name):
    change_last_byte(model / f"{name}.safetensors")
    with pytest.raises(Unauthentic, match="was changed") as caught:
        load_adapted(model)
    assert (caught.value.code, caught.value.exit_code) == (Code.DIGEST, 10)


def test_facts_that_were_written_anew_are_refused_with_the_keys(model, keys):
    path = model / FACTS
    path.write_bytes(path.read_bytes().replace(b'"temperature": 1.0', b'"temperature": 9.0'))
    load_adapted(model)
    with pytest.raises(Unauthentic, match="not the one that was signed"):
        require_own_model(model, keys)


def test_a_signature_that_was_taken_away_is_missed(model, keys):
    (model / SIGNATURE).unlink()
    with pytest.raises(Unauthentic, match="adapt again with --keys") as caught:
        require_own_model(model, keys)
    assert caught.value.code is Code.SIG_MISSING


def test_the_signature_of_another_site_does_not_count(model, tmp_path):
    with pytest.raises(Unauthentic) as caught:
        require_own_model(model, new_site().write(tmp_path / "others"))
    assert caught.value.code is Code.KEY_UNKNOWN


def test_the_signature_of_another_model_does_not_count(model, keys, adapted):
    shutil.copy(adapted / SIGNATURE, model / SIGNATURE)
    with pytest.raises(Unauthentic):
        require_own_model(model, keys)


@pytest.mark.parametrize("command", ["predict", "evaluate", "onnx"])
def test_no_command_uses_a_model_with_a_changed_weight(command, crossing, adapted, tmp_path):
    if command == "onnx":
        pytest.importorskip("onnxscript")
    model = tmp_path / "model"
    shutil.copytree(adapted, model)
    change_last_byte(model / "weights.safetensors")
    heard = ("--cache", tmp_path / "features.cache")
    words = {
        "predict": ("--audio", crossing.target_labels, "--out", tmp_path / "out", *heard),
        "evaluate": ("--labels", crossing.target_labels, *heard),
        "onnx": ("--out", tmp_path / "out"),
    }
    refused = cli.target(command, "--model", model, *words[command])
    assert refused.code == 10
    assert "[DIGEST]" in refused.refusal()


def test_with_keys_only_what_they_signed_is_used(crossing, adapted, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(adapted, model)
    words = ("predict", "--model", model, "--audio", crossing.target_labels, "--keys", crossing.target_keys)
    rest = ("--cache", crossing.work / "target.cache", "--out", tmp_path / "out")
    assert cli.target(*words, *rest).code == 0
    (model / SIGNATURE).unlink()
    refused = cli.target(*words, *rest)
    assert refused.code == 10
    assert "[SIG_MISSING]" in refused.refusal()
