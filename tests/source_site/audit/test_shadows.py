"""Networks of an audit: trained as the released one, on halves, and never twice."""

import os
import signal

import numpy as np
import pytest

from ecan_core.errors import SettingsError, StorageError
from ecan_core.model.predict import run
from ecan_core.training.train import TrainSettings
from protocol.bundle.form import ModelForm
from source_site.audit import shadows as module
from source_site.audit.shadows import left_out_parts, noisy_hits, random_halves, train_shadows
from source_site.training.material import Recipe, fit_network, quantize_network
from tests.source_site.audit.samples import CLASSES, random_material

RECIPE = Recipe(settings=TrainSettings(epochs=2))
MATERIAL = random_material()


def test_every_utterance_is_in_half_of_the_models():
    members = random_halves(10, 33, seed=0)
    assert (members.sum(axis=0) == 5).all()
    assert not np.array_equal(members, random_halves(10, 33, seed=1))


def test_an_audit_takes_up_what_a_killed_one_has_left(tmp_path):
    members = random_halves(4, len(MATERIAL), seed=0)
    done = []
    first = train_shadows(
        MATERIAL, members, RECIPE, seed=0, folder=tmp_path, workers=1, on_progress=lambda k, of: done.append((k, of))
    )
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    kept = sorted(tmp_path.iterdir())
    kept[0].unlink()
    kept[1].write_bytes(b"half of a fi")
    written = [path.stat().st_mtime_ns for path in kept[2:]]
    again = train_shadows(MATERIAL, members, RECIPE, seed=0, folder=tmp_path)
    assert sorted(tmp_path.iterdir()) == kept
    assert [path.stat().st_mtime_ns for path in kept[2:]] == written
    assert np.array_equal(first.logits, again.logits)


def test_other_settings_or_another_seed_take_nothing_up(tmp_path):
    members = random_halves(2, len(MATERIAL), seed=0)
    kept = []
    for recipe, seed in ((RECIPE, 0), (Recipe(settings=TrainSettings(epochs=1)), 0), (RECIPE, 1)):
        train_shadows(MATERIAL, members, recipe, seed=seed, folder=tmp_path, workers=1)
        kept.append(len(list(tmp_path.iterdir())))
    assert kept == [2, 4, 6]


def test_an_answer_is_that_of_the_network_as_a_bundle_holds_it(tmp_path):
    members = random_halves(2, len(MATERIAL), seed=0)
    found = train_shadows(MATERIAL, members, RECIPE, seed=3, folder=tmp_path, workers=1)
    network = fit_network(MATERIAL, np.flatnonzero(members[1]), RECIPE, seed=4001)
    plain = run(network, MATERIAL.inputs()).logits.numpy()
    quantize_network(network, ModelForm("mlp-stats-v1", len(CLASSES), "speaker"))
    assert np.array_equal(found.logits[1], run(network, MATERIAL.inputs()).logits.numpy())
    assert not np.array_equal(found.logits[1], plain)


def test_a_process_that_is_killed_is_said_and_no_answer_is_kept_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fit_network", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(StorageError, match="was killed, perhaps for want of memory; run it again"):
        train_shadows(MATERIAL, random_halves(4, len(MATERIAL), seed=0), RECIPE, seed=0, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_training_that_diverges_says_so_wherever_it_runs(tmp_path):
    hot = Recipe(settings=TrainSettings(epochs=2, learning_rate=1e30))
    with pytest.raises(SettingsError, match="diverged"):
        train_shadows(MATERIAL, random_halves(2, len(MATERIAL), seed=0), hot, seed=0, folder=tmp_path)


def test_two_processes_answer_as_one(tmp_path):
    members = random_halves(4, len(MATERIAL), seed=0)
    one, two = (
        train_shadows(MATERIAL, members, RECIPE, seed=0, folder=tmp_path / str(number), workers=number)
        for number in (1, 2)
    )
    assert np.array_equal(one.logits, two.logits)


def test_every_network_hears_the_same_noise_and_is_told_right_copies_alone():
    network = fit_network(MATERIAL, np.arange(len(MATERIAL)), RECIPE, seed=0)
    hits = noisy_hits(network, MATERIAL)
    assert np.array_equal(hits, noisy_hits(network, MATERIAL))
    assert hits.shape == (len(MATERIAL),)
    assert 0 <= hits.min() < hits.max() <= 24


def test_every_part_is_left_out_once_in_a_round():
    trained = left_out_parts(16, 40, seed=0)
    assert ((~trained[:8]).sum(axis=0) == 1).all()
    assert ((~trained[8:]).sum(axis=0) == 1).all()
    assert ((~trained).sum(axis=1) == 5).all()
    assert not np.array_equal(trained[:8], trained[8:])
