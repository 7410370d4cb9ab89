import numpy as np
import pytest

from ecan_core.errors import UsageError
from ecan_core.model.architectures import ARCHITECTURES
from protocol.encoders.registry import WHISPER
from protocol.encoders.store import place_of
from protocol.errors import Code, RefusedError
from source_site.training.front_end import choose_network, front_end_of


def test_without_an_encoder_the_model_reads_statistics_and_a_person_is_told_what_is_lost(tmp_path):
    network, lost = choose_network("mlp", "auto", tmp_path)
    assert network == "mlp"
    assert "points of UAR less" in lost
    assert "ecan-source encoder fetch whisper-tiny.en" in lost


@pytest.mark.parametrize(("front_end", "network"), [("stats-v1", "mlp"), ("stats-whisper-v1", "mlp-whisper")])
def test_a_front_end_that_is_named_is_taken(front_end, network, tmp_path):
    assert choose_network("mlp", front_end, tmp_path) == (network, "")


def test_frames_go_with_one_front_end_alone(tmp_path):
    assert choose_network("tdnn", "auto", tmp_path) == ("tdnn", "")
    with pytest.raises(UsageError, match="leave --front-end out"):
        choose_network("tdnn", "stats-whisper-v1", tmp_path)


def test_a_missing_encoder_is_refused_in_one_sentence_that_says_how_to_get_it(tmp_path):
    with pytest.raises(RefusedError, match=r"whisper-tiny\.en is not in .*encoder fetch whisper-tiny\.en") as refusal:
        front_end_of(ARCHITECTURES["mlp-whisper"], tmp_path)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.NOT_FOUND, 11)
    assert not list(tmp_path.iterdir())


def test_another_file_is_refused_by_its_hash_also_where_the_front_end_is_chosen_by_the_machine(tmp_path):
    place_of(tmp_path, WHISPER).write_bytes(np.random.default_rng(0).bytes(1000))
    assert choose_network("mlp", "auto", tmp_path) == ("mlp-whisper", "")
    with pytest.raises(RefusedError, match=r"not the public encoder whisper-tiny\.en") as refusal:
        front_end_of(ARCHITECTURES["mlp-whisper"], tmp_path)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.DIGEST, 11)
