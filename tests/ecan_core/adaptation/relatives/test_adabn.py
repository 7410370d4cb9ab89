"""AdaBN: the target's statistics take the place of the source's, where the network has any."""

import copy

import numpy as np
import pytest
import torch

from ecan_core.adaptation.relatives import adabn
from ecan_core.adaptation.relatives.adabn import adapt_adabn
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import StatisticsInputs, inputs_of
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import to_arrays
from tests.ecan_core.adaptation.relatives import twins_gradient_free as twins

DIM = 5


def network(arch="mlp", normalization="none"):
    return build_network(ARCHITECTURES[arch], input_dim=DIM, num_classes=3, normalization=normalization, seed=1)


def draws(*shape):
    return np.random.default_rng(2).normal(3.0, 2.0, shape).astype(np.float32)


def assert_moments(adapted, rows):
    center, scale = twins.moments(rows.tolist())
    np.testing.assert_allclose(adapted.standardize.center, center, rtol=1e-5)
    np.testing.assert_allclose(adapted.standardize.scale, scale, rtol=1e-5)


@pytest.mark.parametrize("block", [3, 512])
def test_center_and_scale_become_those_of_the_target(monkeypatch, block):
    monkeypatch.setattr(adabn, "BLOCK", block)
    adapted, statistics = network(), draws(20, DIM)
    adapt_adabn(adapted, StatisticsInputs(statistics), AdaptSettings(), seed=0)
    assert_moments(adapted, statistics)


def test_padding_of_frames_does_not_count():
    adapted, sequences = network("tdnn"), [draws(length, DIM) for length in (30, 7, 12)]
    adapt_adabn(adapted, inputs_of(sequences), AdaptSettings(), seed=0)
    assert_moments(adapted, np.concatenate(sequences))


def test_a_target_that_is_moved_and_scaled_is_predicted_as_if_it_were_not():
    adapted, statistics = network(), draws(20, DIM)
    adapted.standardize.fit([statistics])
    before = predict_scores(adapted, StatisticsInputs(statistics))
    moved = StatisticsInputs(3.0 * statistics - 5.0)
    _, scores = adapt_adabn(adapted, moved, AdaptSettings(), seed=0)
    np.testing.assert_allclose(scores, before, atol=1e-5)
    np.testing.assert_array_equal(scores, predict_scores(adapted, moved))


def test_with_the_sites_own_normalization_there_is_nothing_to_change():
    source = network(normalization="corpus")
    adapted = copy.deepcopy(source)
    inputs = StatisticsInputs(draws(20, DIM))
    _, scores = adapt_adabn(adapted, inputs, AdaptSettings(), seed=0)
    before, after = to_arrays(source), to_arrays(adapted)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    np.testing.assert_array_equal(scores, predict_scores(source, inputs))


def test_nothing_but_the_statistics_changes_and_the_one_record_says_how_far_the_model_moved():
    source = network()
    adapted = copy.deepcopy(source)
    told = []
    records, scores = adapt_adabn(
        adapted, StatisticsInputs(draws(20, DIM)), AdaptSettings(), seed=0, on_epoch=lambda *record: told.append(record)
    )
    before, after = to_arrays(source), to_arrays(adapted)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"input.center", "input.scale"}
    assert [record.epoch for record in records] == [1]
    assert told[0][0] is records[0]
    np.testing.assert_array_equal(told[0][1], scores)


def test_a_single_utterance_has_no_deviation_and_is_left_at_scale_one():
    adapted = network()
    _, scores = adapt_adabn(adapted, StatisticsInputs(draws(1, DIM)), AdaptSettings(), seed=0)
    assert torch.equal(adapted.standardize.scale, torch.ones(DIM))
    assert np.isfinite(scores).all()
