import copy

import numpy as np
import pytest
import torch

from ecan_core.adaptation.banks import fill_banks
from ecan_core.adaptation.ecan import adapt
from ecan_core.adaptation.registry import METHODS
from ecan_core.adaptation.settings import NEIGHBOR_FORMS, SUPERVISED_FORMS, AdaptSettings
from ecan_core.errors import SettingsError
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import to_arrays
from tests.ecan_core.blobs import blobs, trained_network

SHIFT = 3.0


@pytest.fixture(scope="module")
def source():
    return trained_network()


@pytest.fixture(scope="module")
def target():
    return blobs(200, seed=21, shift=SHIFT)


def accuracy(network, inputs, labels):
    return float((predict_scores(network, inputs).argmax(axis=1) == labels.numpy()).mean())


def test_adaptation_recovers_part_of_what_the_shift_cost(source, target):
    inputs, labels = target
    network = copy.deepcopy(source)
    before = accuracy(network, inputs, labels)
    adapt(network, inputs, AdaptSettings(), seed=0)
    assert before < 0.95
    assert accuracy(network, inputs, labels) > before + 0.02


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_repeats_bit_for_bit(source, target, method):
    def run():
        network = copy.deepcopy(source)
        METHODS[method](network, target[0], AdaptSettings(epochs=3), seed=5)
        return to_arrays(network)

    first, again = run(), run()
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_no_adaptation_changes_nothing(source, target):
    network = copy.deepcopy(source)
    assert METHODS["none"](network, target[0], AdaptSettings(), seed=0).records == []
    before, after = to_arrays(source), to_arrays(network)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("neighbor_form", NEIGHBOR_FORMS)
@pytest.mark.parametrize("supervised_form", SUPERVISED_FORMS)
@pytest.mark.parametrize("pseudo_labels", ["vote", "own"])
def test_every_form_runs_and_moves_the_model(source, target, neighbor_form, supervised_form, pseudo_labels):
    network = copy.deepcopy(source)
    settings = AdaptSettings(
        epochs=2, neighbor_form=neighbor_form, supervised_form=supervised_form, pseudo_labels=pseudo_labels
    )
    records, _ = adapt(network, target[0], settings, seed=0)
    assert [record.epoch for record in records] == [1, 2]
    assert all(np.isfinite(list(record.losses.values())).all() for record in records)
    assert not np.array_equal(to_arrays(network)["bottleneck.weight"], to_arrays(source)["bottleneck.weight"])


def test_a_frozen_head_stays_as_it_was(source, target):
    network = copy.deepcopy(source)
    adapt(network, target[0], AdaptSettings(epochs=2, train_head=False), seed=0)
    assert np.array_equal(to_arrays(network)["head.weight"], to_arrays(source)["head.weight"])
    assert not np.array_equal(to_arrays(network)["bottleneck.bias"], to_arrays(source)["bottleneck.bias"])


def test_fewer_utterances_than_neighbors_are_no_fault(source):
    few = blobs(4, seed=3, shift=SHIFT)[0]
    records, _ = adapt(copy.deepcopy(source), few, AdaptSettings(epochs=2), seed=0)
    assert len(records) == 2


def test_banks_are_unit_length_rows_without_gradient_and_no_part_of_the_weights(source, target):
    banks = fill_banks(source, target[0])
    torch.testing.assert_close(banks.embeddings.norm(dim=1), torch.ones(200))
    torch.testing.assert_close(banks.scores.sum(dim=1), torch.ones(200))
    assert not banks.embeddings.requires_grad
    assert all(200 not in array.shape for array in to_arrays(source).values())


@pytest.mark.parametrize(
    "change",
    [
        {"neighbor_form": "ncl-6"},
        {"temperature": 0.0},
        {"num_neighbors": 0},
        {"batch_size": 1},
        {"dispersion": float("inf")},
    ],
)
def test_settings_out_of_range_are_refused_by_name(change):
    with pytest.raises(SettingsError, match=next(iter(change))):
        AdaptSettings(**change)
