"""CoWA-JMDS against its slow twins, and what it does when classes run empty."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from ecan_core.adaptation.relatives import cowa
from ecan_core.adaptation.relatives.cowa import adapt_cowa, joint_knowledge, mix, weighted_cross_entropy
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import FrameBatch
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.weights import to_arrays
from tests.ecan_core.adaptation.relatives import twins
from tests.ecan_core.adaptation.relatives.draws import B, C, N, features_and_scores
from tests.ecan_core.blobs import blobs, random_inputs, trained_network


@pytest.fixture(scope="module")
def source():
    return trained_network()


@pytest.mark.parametrize("seed", range(10))
def test_labels_and_weights_equal_their_slow_twin(seed):
    embeddings, scores = features_and_scores(N, seed)
    labels, weights = twins.joint_knowledge(embeddings.tolist(), scores.tolist())
    known = joint_knowledge(embeddings, scores)
    assert known.labels.tolist() == labels
    assert known.weights.tolist() == pytest.approx(weights, abs=1e-5)


def test_weights_are_shares_and_the_clearest_utterance_keeps_its_whole_score():
    embeddings, scores = features_and_scores(200, 1)
    labels, weights = joint_knowledge(embeddings, scores)
    own = scores.gather(1, labels[:, None])[:, 0]
    assert (weights >= 0).all()
    assert (weights <= own).all()
    assert torch.isclose(weights, own).sum() == 1


def test_a_class_without_mass_takes_no_utterance_and_leaves_the_weights_finite():
    embeddings, scores = features_and_scores(N, 2)
    scores[:, 1] = 0.0
    labels, weights = joint_knowledge(embeddings, scores / scores.sum(dim=1, keepdim=True))
    assert 1 not in labels.tolist()
    assert torch.isfinite(weights).all()
    assert weights.max() > 0.0


@pytest.mark.parametrize("count", [1, 2, N])
def test_equal_features_and_fewer_utterances_than_classes_leave_the_weights_finite(count):
    embeddings, scores = features_and_scores(1, 5)
    labels, weights = joint_knowledge(embeddings.expand(count, -1), scores.expand(count, -1))
    assert ((labels >= 0) & (labels < C)).all()
    assert ((weights >= 0) & (weights <= 1)).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_of_mixtures_equals_its_slow_twin_and_moves_the_logits_alone(seed):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, C, generator=draw, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, C, (B,), generator=draw)
    weights, share = (torch.rand(B, generator=draw, dtype=torch.float64) for _ in range(2))
    partner = torch.randperm(B, generator=draw)
    targets = functional.one_hot(labels, C).double()
    loss = weighted_cross_entropy(logits, mix(targets, partner, share), mix(weights, partner, share))
    slow = twins.mixture(logits.tolist(), labels.tolist(), weights.tolist(), partner.tolist(), share.tolist())
    assert loss.item() == pytest.approx(slow, abs=1e-5)
    loss.backward()
    assert (logits.grad != 0).all()


def test_utterances_without_weight_cost_nothing():
    assert weighted_cross_entropy(torch.randn(B, C), torch.full((B, C), 1 / C), torch.zeros(B)).item() == 0.0


def test_statistics_are_mixed_row_by_row():
    values, partner, share = torch.randn(3, 5), torch.tensor([1, 2, 0]), torch.tensor([1.0, 0.0, 0.25])
    mixed = mix(values, partner, share)
    torch.testing.assert_close(mixed, torch.stack([values[0], values[2], 0.25 * values[2] + 0.75 * values[0]]))


def test_frames_are_mixed_over_the_length_of_the_shorter_utterance():
    batch = FrameBatch(torch.randn(2, 9, 5), torch.tensor([9, 4]))
    mixed = mix(batch, torch.tensor([1, 0]), torch.tensor([0.5, 0.9]))
    assert isinstance(mixed, FrameBatch)
    assert mixed.lengths.tolist() == [4, 4]
    torch.testing.assert_close(mixed.frames[0], batch.frames.mean(dim=0))


def test_labels_are_found_anew_for_every_epoch_by_the_model_in_evaluation_mode(source, monkeypatch):
    network, calls = copy.deepcopy(source), []

    def watched(embeddings, scores):
        calls.append((network.training, embeddings.requires_grad))
        return joint_knowledge(embeddings, scores)

    monkeypatch.setattr(cowa, "joint_knowledge", watched)
    adapt_cowa(network, blobs(60, seed=2, shift=3.0)[0], AdaptSettings(epochs=3), seed=0)
    assert calls == [(False, False)] * 3


def test_the_head_stays_as_it_was_and_the_bottleneck_does_not(source):
    network = copy.deepcopy(source)
    adapt_cowa(network, blobs(60, seed=2, shift=3.0)[0], AdaptSettings(epochs=2), seed=0)
    before, after = to_arrays(source), to_arrays(network)
    assert np.array_equal(after["head.weight"], before["head.weight"])
    assert not np.array_equal(after["bottleneck.weight"], before["bottleneck.weight"])


def test_frame_networks_adapt_too():
    network = build_network(ARCHITECTURES["tdnn"], input_dim=6, num_classes=C, normalization="corpus")
    records, _ = adapt_cowa(network, random_inputs("frames-v1", 6, count=8), AdaptSettings(epochs=1), seed=0)
    assert np.isfinite(records[0].losses["mixture"])


def test_two_utterances_are_enough(source):
    records, _ = adapt_cowa(copy.deepcopy(source), blobs(2, seed=2)[0], AdaptSettings(epochs=2), seed=0)
    assert all(np.isfinite(list(record.losses.values())).all() for record in records)
