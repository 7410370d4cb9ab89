"""Inversions: a trace is found where reconstructions are members, and none where they are not."""

from dataclasses import replace

import numpy as np

from ecan_core.training.train import TrainSettings
from source_site.audit.reconstruction import STARTS, judge, try_reconstruction
from source_site.audit.shadows import random_halves
from source_site.training.material import Recipe
from tests.source_site.audit.samples import CLASSES, random_material

MEMBERS = random_halves(16, 120, seed=0)


def test_reconstructions_that_are_members_leave_no_doubt():
    random = np.random.default_rng(0)
    nearest = np.stack([random.choice(np.flatnonzero(row), 12) for row in MEMBERS[:8]])
    found = judge(nearest, MEMBERS, seed=0)
    assert (found.networks, found.count, found.near_members) == (8, 96, 1.0)
    assert found.probability < 0.01


def test_reconstructions_of_anything_are_at_chance():
    rare = 0
    for seed in range(20):
        nearest = np.random.default_rng(seed).integers(0, 120, size=(8, 12))
        rare += judge(nearest, MEMBERS, seed=seed, num_draws=200).probability <= 0.05
    assert rare <= 4


def test_the_same_utterance_found_again_and_again_is_no_evidence():
    nearest = np.zeros((8, 12), dtype=int)
    assert judge(nearest, MEMBERS, seed=0).probability > 0.05


def test_networks_of_an_audit_are_inverted():
    material = random_material(60)
    members = random_halves(8, 60, seed=0)
    found = try_reconstruction(material, members, Recipe(settings=TrainSettings(epochs=2)), seed=0, num_networks=2)
    assert found is not None
    assert (found.networks, found.count) == (2, 2 * STARTS * len(CLASSES))
    assert 0 < found.probability <= 1


def test_sequences_of_frames_are_not_inverted():
    frames = random_material(12)
    frames = replace(frames, values=tuple(np.zeros((5, 3), np.float32) for _ in range(12)))
    assert try_reconstruction(frames, random_halves(8, 12, seed=0), Recipe(), seed=0) is None
