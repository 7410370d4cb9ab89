"""What the accountant promises: for one training, for several, and nothing where it is not installed."""

import builtins
import csv
import hashlib
import math
import sys

import pytest
from scipy.stats import norm

from ecan_core.errors import UsageError
from ecan_core.training.private import PrivateSettings
from source_site.training.privacy import promise, settings_for, usual_delta
from tests.support import cli

opacus = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("opacus") is None, reason="the extra `private` is not installed"
)


def exact_delta(epsilon: float, noise: float, steps: int) -> float:
    """Of composed Gaussian mechanisms, which are one with a smaller noise (Dong, Roth & Su, 2022)."""
    mu = math.sqrt(steps) / noise
    return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu))


@opacus
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_a_promise_is_kept_by_the_exact_formula_and_not_far_from_it(epsilon):
    settings = settings_for(epsilon, 1e-4, unit="utterance")
    promised = promise([settings], 1e-4)
    assert promised.epsilon <= epsilon + 0.01
    assert exact_delta(promised.epsilon, settings.noise_multiplier, settings.steps) <= 1e-4
    assert exact_delta(0.8 * promised.epsilon, settings.noise_multiplier, settings.steps) > 1e-4


@opacus
@pytest.mark.filterwarnings("ignore")
def test_releases_add_up():
    one = PrivateSettings(noise_multiplier=5.0)
    both = promise([one, one], 1e-4)
    assert promise([one], 1e-4).epsilon < both.epsilon < 2 * promise([one], 1e-4).epsilon
    assert exact_delta(both.epsilon, 5.0, 60) <= 1e-4


@opacus
def test_units_are_not_mixed():
    trainings = [PrivateSettings(noise_multiplier=5.0), PrivateSettings(noise_multiplier=5.0, unit="speaker")]
    with pytest.raises(UsageError, match="no common promise"):
        promise(trainings, 1e-4)


def test_delta_is_small_against_the_number_of_units():
    assert usual_delta(500) == pytest.approx(2e-4)


def test_a_missing_accountant_is_named_with_its_extra(monkeypatch):
    original = builtins.__import__

    def without(name, *words, **named):
        if name.startswith("opacus"):
            raise ImportError(name)
        return original(name, *words, **named)

    for name in [name for name in sys.modules if name.split(".")[0] == "opacus"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'ecan-ser\[private\]'"):
        settings_for(8.0, 1e-4, unit="utterance")


@opacus
@pytest.mark.journey
@pytest.mark.filterwarnings("ignore")
def test_a_private_run_keeps_its_promise_and_is_reproduced_by_its_key(crossing, tmp_path):
    import json

    corpus = ("--corpus", f"csv={crossing.source_labels}", "--cache", crossing.work / "source.cache")
    trained = cli.source("train", *corpus, "--out", tmp_path / "run", "--private", 8)
    assert trained.code == 0, trained.stderr
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert record["promise"]["unit"] == "utterance"
    assert 7.5 < record["promise"]["epsilon"] <= 8.01
    assert "epsilon 8" in trained.stderr or "epsilon 7" in trained.stderr
    assert "points), by chance 20.0 %" in trained.stderr
    key = tmp_path / "run" / "noise.key"
    assert hashlib.sha256(key.read_bytes()).hexdigest() == record["noise_key"]
    assert key.stat().st_mode & 0o077 == 0
    assert key.read_text() not in (tmp_path / "run" / "training.json").read_text()
    again = cli.source("reproduce", "--model", tmp_path / "run", *corpus, "--format", "json")
    assert again.code == 0, again.stderr
    assert again.json()["is_same_run"]
    key.unlink()
    assert "noise.key is gone" in cli.source("reproduce", "--model", tmp_path / "run", *corpus).refusal()


@opacus
@pytest.mark.journey
@pytest.mark.filterwarnings("ignore")
def test_a_private_network_that_answers_one_class_whatever_is_spoken_is_refused(crossing, tmp_path):
    with crossing.source_labels.open() as file:
        lines = list(csv.DictReader(file))
    once = {}  # each speaker is angry once and otherwise neutral
    for line in lines:
        once.setdefault(line["speaker"], line)
        line["file"] = crossing.source_labels.parent / line["file"]
        line["label"] = "anger" if once[line["speaker"]] is line else "neutral"
    with (tmp_path / "labels.csv").open("w") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    corpus = ("--corpus", f"csv={tmp_path / 'labels.csv'}", "--cache", crossing.work / "source.cache")
    result = cli.source("train", *corpus, "--out", tmp_path / "run", "--private", 8)
    assert result.code == 3
    assert "it answers 'neutral'; allow a larger epsilon" in result.refusal()
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    assert cli.source("train", *corpus, "--out", tmp_path / "run").code == 0  # a usual training balances classes


@opacus
@pytest.mark.journey
@pytest.mark.filterwarnings("ignore")
def test_few_speakers_cannot_be_protected_one_by_one(crossing, tmp_path):
    corpus = ("--corpus", f"csv={crossing.source_labels}", "--cache", crossing.work / "source.cache")
    result = cli.source("train", *corpus, "--out", tmp_path / "run", "--private", 8, "--private-unit", "speaker")
    assert result.code == 2
    assert "4 speakers cannot be hidden one by one, 500 can" in result.refusal()
