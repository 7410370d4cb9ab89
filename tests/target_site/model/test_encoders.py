import pytest

from protocol.encoders.registry import ENCODERS, WHISPER
from protocol.encoders.store import place_of
from protocol.errors import Code, RefusedError
from target_site.model.encoders import encoder_files, folder_for


def test_a_model_on_statistics_asks_for_no_encoder(tmp_path):
    assert folder_for("mlp-stats-v1", tmp_path / "none") == tmp_path / "none"
    assert not list(tmp_path.iterdir())


def test_a_missing_encoder_is_refused_in_one_sentence_that_says_how_to_get_it(tmp_path):
    with pytest.raises(RefusedError, match=r"ecan-target encoder fetch whisper-tiny\.en --encoders") as refusal:
        folder_for("mlp-stats-whisper-v1", tmp_path)
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
        folder_for("mlp-stats-whisper-v1", tmp_path)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.DIGEST, 11)


def test_a_contained_process_may_read_the_known_files_and_no_other_of_the_folder(tmp_path):
    assert encoder_files(tmp_path) == tuple(place_of(tmp_path, encoder) for encoder in ENCODERS.values())
