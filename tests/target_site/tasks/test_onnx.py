"""The ONNX file: its answers, what it says of itself, and what it does not say."""

from pathlib import Path

import numpy as np
import pytest

from ecan_core.adaptation.calibrate import soften
from ecan_core.adaptation.portable import PortableModel
from ecan_core.model.predict import committee_scores
from target_site.model.adapted import load_adapted
from target_site.tasks.onnx import TOLERANCE, drawn, largest_difference, to_onnx
from tests.support.models import save_untrained
from tests.target_site.model.test_adapted import DIM, model, model_with_voices, utterances

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

MODELS = {
    "by corpus": lambda folder: load_adapted(save_untrained(folder / "model")),
    "by speaker": lambda folder: with_source(model(1)),
    "by voice": lambda folder: with_source(model_with_voices(1)),
}


def with_source(adapted):
    adapted.provenance["weights_sha256"] = "00" * 32
    return adapted


@pytest.fixture(scope="module", params=MODELS)
def adapted(request, tmp_path_factory):
    return MODELS[request.param](tmp_path_factory.mktemp("model"))


def test_the_module_of_tensors_answers_as_the_model_does(adapted):
    features, speakers = drawn(adapted)
    known = sorted(adapted.preparation.normalizer.speakers)
    rows = torch.tensor([known.index(name) + 1 if name else 0 for name in speakers])
    portable = PortableModel(adapted.networks(), adapted.preparation, adapted.temperature)
    with torch.no_grad():
        scores = portable(torch.from_numpy(features), rows).numpy()
    ours = committee_scores(adapted.networks(), adapted.preparation.inputs(list(features), speakers))
    np.testing.assert_allclose(scores, soften(ours, adapted.temperature), atol=1e-5)


@pytest.mark.slow
def test_the_file_answers_as_the_model_does_and_names_nothing_of_this_machine(adapted):
    data = to_onnx(adapted)
    assert largest_difference(adapted, data) <= TOLERANCE
    read = onnx.load_from_string(data)
    meant = {entry.key: entry.value for entry in read.metadata_props}
    assert meant["classes"] == ",".join(adapted.card.classes)
    assert len(meant["features"].split(",")) == DIM
    for word in ("torch/", ".py", str(Path.home()), str(Path.cwd())):
        assert word.encode() not in data, word


@pytest.mark.slow
def test_a_file_with_other_weights_is_noticed(tmp_path):
    own, other = (MODELS["by speaker"](tmp_path), with_source(model(2)))
    assert largest_difference(own, to_onnx(other)) > 100 * TOLERANCE


def test_voices_are_told_apart_as_the_model_tells_them():
    heard = model_with_voices(1)
    portable = PortableModel(heard.networks(), heard.preparation, heard.temperature)
    sounds = utterances(2, 60)
    normalizer = heard.preparation.normalizer
    normalized = torch.from_numpy(np.stack(normalizer.by_corpus().apply(sounds, [None] * 60)))
    with torch.no_grad():
        rows = portable.ear(normalized).tolist()
    known = sorted(normalizer.speakers)
    assert [known[row - 1] for row in rows] == heard.preparation.ear.names(sounds)
    assert len(set(rows)) > 1
