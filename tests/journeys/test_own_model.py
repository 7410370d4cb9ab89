"""An adapted model that was changed is not used by any command."""

import shutil

import pytest

from protocol.errors import UnauthenticError
from target_site.model.folder import SIGNATURE
from target_site.trust.own_model import require_own_model
from tests.support import cli
from tests.support.models import save_untrained

pytestmark = pytest.mark.journey


def change_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_the_signature_of_another_model_does_not_count(crossing, adapted, tmp_path):
    model = save_untrained(tmp_path / "model")
    shutil.copy(adapted / SIGNATURE, model / SIGNATURE)
    with pytest.raises(UnauthenticError):
        require_own_model(model, crossing.target_keys)


@pytest.mark.parametrize("command", ["predict", "evaluate", "onnx"])
def test_no_command_uses_a_model_with_a_changed_weight(command, crossing, adapted, tmp_path):
    if command == "onnx":
        pytest.importorskip("onnxscript")
    model = tmp_path / "model"
    shutil.copytree(adapted, model)
    change_last_byte(model / "weights.safetensors")
    heard = ("--cache", tmp_path / "cache" / "features")
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
    rest = ("--cache", crossing.work / "cache" / "target", "--out", tmp_path / "out")
    assert cli.target(*words, *rest).code == 0
    (model / SIGNATURE).unlink()
    refused = cli.target(*words, *rest)
    assert refused.code == 10
    assert "[SIG_MISSING]" in refused.refusal()
