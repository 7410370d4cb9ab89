"""The examples of docs/api.md run as they stand, one after the other."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecan_core import api
from ecan_core.adaptation.settings import DEFAULT_METHOD, AdaptSettings, members_of
from ecan_core.adaptation.site import adapt_site
from ecan_core.adaptation.verdict import Verdict
from ecan_core.encoders.front_end import front_end_named
from ecan_core.errors import AudioError, ModelError, UsageError
from source_site.training.run_folder import save_run
from tests.source_site.training.runs import FACTS
from tests.support.speech import synthesize

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Two synthetic corpora, where the page says they lie."""
    folder = tmp_path_factory.mktemp("api")
    synthesize(folder / "harbor", "harbor")
    synthesize(folder / "valley", "valley", seed=1)
    return folder


@pytest.fixture(scope="module")
def harbor(corpora):
    return api.read_labeled(corpora / "harbor" / "labels.csv")


@pytest.fixture(scope="module")
def model(harbor):
    return api.train(harbor, seed=1)


@pytest.fixture(scope="module")
def valley(corpora):
    return api.read_speech(corpora / "valley" / "labels.csv")


def write_run(folder, model):
    folder.mkdir(exist_ok=True)
    facts = replace(FACTS, arch=model.arch, normalization=model.normalization, classes=model.classes)
    save_run(folder, model.weights, facts)
    return folder


def test_the_examples_of_the_page_run(corpora, model, monkeypatch, capsys):
    write_run(corpora / "run", model)
    monkeypatch.chdir(corpora)
    names = {}
    for example in EXAMPLES:
        exec(compile(example, PAGE.name, "exec"), names)
    told = capsys.readouterr().out
    assert len(EXAMPLES) == 5
    assert re.search(r"UAR [\d.]+ % as trained, [\d.]+ % adapted", told)
    assert "none inconclusive" in told
    assert "mlp-stats-v1 stats-v1 speaker" in told


def test_the_page_names_all_that_there_is():
    table = PAGE.read_text().partition("## What there is")[2]
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert named | {"Labeled"} == set(api.__all__)


def test_a_trained_model_tells_what_it_was_taught(harbor, model):
    assert api.uar(model, harbor) > 0.9
    assert model.scores(harbor.speech).shape == (60, 5)
    np.testing.assert_allclose(model.scores(harbor.speech).sum(axis=1), 1, atol=1e-5)


def test_an_adaptation_repeats_itself_and_leaves_the_model_as_it_was(model, valley):
    before = model.scores(valley)
    first, again = (api.adapt(model, valley, method="ecan", seed=2) for _ in range(2))
    np.testing.assert_array_equal(first.scores(valley), again.scores(valley))
    np.testing.assert_array_equal(model.scores(valley), before)
    assert first.temperature == again.temperature > 1


def test_a_reverted_adaptation_returns_the_model_as_it_was_received(model, valley, monkeypatch):
    undone = api.Judgement(verdict=Verdict.REVERTED, reason="in this test")
    monkeypatch.setattr(api, "judge_site", lambda *_, **__: undone)
    adapted = api.adapt(model, valley, method="shot-im", normalization="speaker")
    np.testing.assert_array_equal(adapted.scores(valley).argmax(axis=1), model.scores(valley).argmax(axis=1))


def test_an_answer_is_a_class_or_nothing_where_the_model_is_unsure(model, valley):
    adapted = api.adapt(model, valley, method="none")
    bars = [api.Abstention(least_confidence=least) for least in (0.0, 0.999999)]
    all_told, none_told = (adapted.answers(valley, bar) for bar in bars)
    assert all_told == [adapted.classes[row] for row in adapted.scores(valley).argmax(axis=1)]
    assert set(none_told) == {None}


def test_it_adapts_as_the_command_does(corpora, model, valley):
    """The same seed, speech and weights give the committee's scores that `adapt_site` gives the command."""
    speakers = [utterance.speaker for utterance in valley.utterances]
    site = adapt_site(
        *(model.network, valley.features, speakers, front_end_named(model.front_end).feature_names),
        mode="speaker",
        methods=members_of(DEFAULT_METHOD),
        settings=AdaptSettings(),
        seed=4,
    )
    adapted = api.adapt(model, valley, seed=4)
    assert adapted.judgement.verdict is not Verdict.REVERTED
    np.testing.assert_array_equal(api.soften(site.scores, adapted.temperature), adapted.scores(valley))


def test_a_run_is_read_as_it_was_written_and_a_damaged_one_is_refused(tmp_path, model, valley):
    run = write_run(tmp_path / "run", model)
    np.testing.assert_array_equal(api.read_model(run).scores(valley), model.scores(valley))
    (run / "weights.safetensors").write_bytes(b"none")
    with pytest.raises(ModelError, match="train again"):
        api.read_model(run)
    with pytest.raises(UsageError, match="ecan-source train"):
        api.read_model(tmp_path / "nothing")


def test_what_cannot_be_used_is_refused_in_a_sentence(corpora, model, valley, tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    with pytest.raises(AudioError, match="can be used"):
        api.read_speech(tmp_path)
    few = api.read_speech(next((corpora / "valley").rglob("*.wav")))
    with pytest.raises(AudioError, match="at least 8"):
        api.adapt(model, few)
    with pytest.raises(UsageError, match="normalized"):
        api.adapt(model, valley, normalization="none")


def test_the_core_alone_loads_nothing():
    code = "import sys, ecan_core; print([name for name in ('torch', 'numpy', 'ecan_core.api') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
