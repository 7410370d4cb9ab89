"""An adapted model is used as it was made here, or not at all."""

import pytest

from protocol.errors import Code, UnauthenticError
from target_site.model.adapted import load_adapted
from target_site.model.folder import FACTS, SIGNATURE
from target_site.trust.own_model import require_own_model, sign_model
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
    with pytest.raises(UnauthenticError, match="was changed") as caught:
        load_adapted(model)
    assert (caught.value.code, caught.value.exit_code) == (Code.DIGEST, 10)


def test_facts_that_were_written_anew_are_refused_with_the_keys(model, keys):
    path = model / FACTS
    path.write_bytes(path.read_bytes().replace(b'"temperature": 1.0', b'"temperature": 9.0'))
    load_adapted(model)
    with pytest.raises(UnauthenticError, match="not the one that was signed"):
        require_own_model(model, keys)


def test_a_signature_that_was_taken_away_is_missed(model, keys):
    (model / SIGNATURE).unlink()
    with pytest.raises(UnauthenticError, match="adapt again with --keys") as caught:
        require_own_model(model, keys)
    assert caught.value.code is Code.SIG_MISSING


def test_the_signature_of_another_site_does_not_count(model, tmp_path):
    with pytest.raises(UnauthenticError) as caught:
        require_own_model(model, new_site().write(tmp_path / "others"))
    assert caught.value.code is Code.KEY_UNKNOWN
