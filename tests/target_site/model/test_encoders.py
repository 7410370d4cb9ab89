from hashlib import sha256

import pytest

from protocol.encoders.registry import ENCODERS, WHISPER
from protocol.encoders.store import place_of
from protocol.errors import Code, RefusedError
from target_site.model.encoders import encoder_files, folder_for
from target_site.model.folder import Reads


def test_a_model_on_statistics_asks_for_no_encoder(tmp_path):
    assert folder_for(Reads("mlp-stats-v1"), tmp_path / "none") == tmp_path / "none"
    assert not list(tmp_path.iterdir())


def test_a_missing_encoder_is_refused_in_one_sentence_that_says_how_to_get_it(tmp_path):
    with pytest.raises(RefusedError, match=r"ecan-target encoder fetch whisper-tiny\.en --encoders") as refusal:
        folder_for(Reads("mlp-stats-whisper-v1"), tmp_path)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.NOT_FOUND, 11)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["altered", "a link", "a folder", "empty"])
def test_another_file_is_refused_by_its_hash(tmp_path, harm):
    place = place_of(tmp_path, WHISPER)
    if harm == "altered":
        place.write_bytes(bytes(WHISPER.num_bytes))
    elif harm == "a link":
        place.symlink_to("/etc/hostname")
    elif harm == "a folder":
        place.mkdir()
    else:
        place.touch()
    with pytest.raises(RefusedError, match=r"is not the public encoder whisper-tiny\.en") as refusal:
        folder_for(Reads("mlp-stats-whisper-v1"), tmp_path)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.DIGEST, 11)


ADDED = Reads("mlp-stats-ssl-768-v1", sha256(b"an encoder").hexdigest())


def test_an_added_encoder_is_known_by_its_hash_alone(tmp_path):
    place = tmp_path / f"{ADDED.added_encoder}.safetensors"
    with pytest.raises(RefusedError, match=r"ecan-target encoder add FOLDER --encoders") as refusal:
        folder_for(ADDED, tmp_path)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.NOT_FOUND, 11)
    place.write_bytes(b"another encoder")
    with pytest.raises(RefusedError, match=f"is not the public encoder {ADDED.added_encoder}") as refusal:
        folder_for(ADDED, tmp_path)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.DIGEST, 11)
    place.write_bytes(b"an encoder")
    assert folder_for(ADDED, tmp_path) == tmp_path


def test_a_contained_process_may_read_the_known_files_and_no_other_of_the_folder(tmp_path):
    known = tuple(place_of(tmp_path, encoder) for encoder in ENCODERS.values())
    (tmp_path / f"{'ab' * 32}.safetensors").touch()
    assert encoder_files(tmp_path, "") == known
    assert encoder_files(tmp_path, ADDED.added_encoder) == (*known, tmp_path / f"{ADDED.added_encoder}.safetensors")
