import numpy as np
import pytest

from ecan_core.audio.waveform import Waveform
from ecan_core.encoders.checks import check_file, check_folder
from ecan_core.errors import UsageError
from ecan_core.model.architectures import ARCHITECTURES
from protocol.encoders.add import Checks, add
from protocol.encoders.registry import WHISPER
from protocol.encoders.store import place_of
from protocol.errors import Code, RefusedError
from source_site.training.front_end import Reading, choose_network, front_end_of
from tests.ecan_core.audio.sounds import syllables
from tests.support.selfsupervised import usable_encoder


def test_without_an_encoder_the_model_reads_statistics_and_a_person_is_told_what_is_lost(tmp_path):
    network, lost, added = choose_network("mlp", "auto", tmp_path)
    assert (network, added) == ("mlp", "")
    assert "points of UAR less" in lost
    assert "ecan-source encoder fetch whisper-tiny.en" in lost


@pytest.mark.parametrize(("front_end", "network"), [("stats-v1", "mlp"), ("stats-whisper-v1", "mlp-whisper")])
def test_a_front_end_that_is_named_is_taken(front_end, network, tmp_path):
    assert choose_network("mlp", front_end, tmp_path) == Reading(network)


def test_frames_go_with_one_front_end_alone(tmp_path):
    assert choose_network("tdnn", "auto", tmp_path) == Reading("tdnn")
    with pytest.raises(UsageError, match="leave --front-end out"):
        choose_network("tdnn", "stats-whisper-v1", tmp_path)


def test_a_missing_encoder_is_refused_in_one_sentence_that_says_how_to_get_it(tmp_path):
    with pytest.raises(RefusedError, match=r"whisper-tiny\.en is not in .*encoder fetch whisper-tiny\.en") as refusal:
        front_end_of(ARCHITECTURES["mlp-whisper"], tmp_path)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.NOT_FOUND, 11)
    assert not list(tmp_path.iterdir())


def test_another_file_is_refused_by_its_hash_also_where_the_front_end_is_chosen_by_the_machine(tmp_path):
    place_of(tmp_path, WHISPER).write_bytes(np.random.default_rng(0).bytes(1000))
    assert choose_network("mlp", "auto", tmp_path) == Reading("mlp-whisper")
    with pytest.raises(RefusedError, match=r"not the public encoder whisper-tiny\.en") as refusal:
        front_end_of(ARCHITECTURES["mlp-whisper"], tmp_path)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.DIGEST, 11)


@pytest.fixture(params=[768, 1024])
def added(request, tmp_path):
    """An encoder that the source has added, among others that it has not: its folder and what it is called."""
    usable_encoder(tmp_path / "hub", model_type="hubert", hidden_size=request.param, num_hidden_layers=1)
    added = add(tmp_path / "hub", tmp_path / "encoders", Checks(file=check_file, folder=check_folder))
    return tmp_path / "encoders", added, request.param


def test_an_added_encoder_is_chosen_by_its_name_or_its_hash(added):
    folder, encoder, width = added
    assert encoder.name == f"hubert-{width}-{encoder.sha256[:8]}"
    for name in (encoder.name, encoder.sha256):
        reading = choose_network("mlp", name, folder)
        assert reading == Reading(f"mlp-ssl-{width}", added_encoder=encoder.sha256)
    assert choose_network("mlp", "auto", folder).network == "mlp"
    front_end = front_end_of(ARCHITECTURES[reading.network], folder, encoder.sha256)
    assert front_end.compute(Waveform(samples=syllables(), sample_rate=16_000)).shape == (423 + width,)


def test_a_name_that_is_not_here_is_answered_with_those_that_are(added):
    folder, encoder, _ = added
    (folder / f"{'ab' * 32}.safetensors").write_bytes(b"something else")
    for name in ("hubert", "stats-v2", "", "ab" * 32):
        with pytest.raises(UsageError) as refusal:
            choose_network("mlp", name, folder)
        assert f"take one of stats-v1, stats-whisper-v1, {encoder.name}, or run `ecan-source encoder add" in str(
            refusal.value
        )
    with pytest.raises(UsageError, match="leave --front-end out"):
        choose_network("tdnn", encoder.name, folder)


def test_an_added_encoder_that_is_gone_or_altered_is_refused(added):
    folder, encoder, width = added
    arch = ARCHITECTURES[f"mlp-ssl-{width}"]
    encoder.place.write_bytes(encoder.place.read_bytes() + b" ")
    with pytest.raises(RefusedError, match=r"is not the public encoder .*encoder add FOLDER") as refusal:
        front_end_of(arch, folder, encoder.sha256)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.DIGEST, 11)
    encoder.place.unlink()
    with pytest.raises(RefusedError, match=r"encoder add FOLDER --encoders") as refusal:
        front_end_of(arch, folder, encoder.sha256)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.NOT_FOUND, 11)
