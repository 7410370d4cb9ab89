"""UCon-SFDA against its slow twins."""

import numpy as np
import pytest
import torch

from ecan_core.adaptation.relatives.ucon import NOISE, LabelSets, adapt_ucon, label_set_loss, view_loss, with_noise
from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.data.inputs import FrameBatch
from ecan_core.model.architectures import ARCHITECTURES, build_network
from tests.ecan_core.adaptation.relatives import twins
from tests.ecan_core.adaptation.relatives.draws import B, C, N, features_and_scores
from tests.ecan_core.blobs import blobs, random_inputs, trained_network


def empty_sets(count=N):
    return LabelSets(
        candidates=torch.zeros((count, C), dtype=torch.bool), ambiguous=torch.zeros(count, dtype=torch.bool)
    )


@pytest.fixture(params=range(5))
def views(request):
    clean, noisy = (features_and_scores(B, request.param + offset)[1] for offset in (0, 50))
    return clean.requires_grad_(), noisy.requires_grad_()


def test_view_loss_equals_its_slow_twin_and_teaches_the_noisy_view_alone(views):
    clean, noisy = views
    loss = view_loss(clean, noisy)
    assert loss.item() == pytest.approx(twins.view(clean.tolist(), noisy.tolist()), abs=1e-5)
    loss.backward()
    assert clean.grad is None
    assert (noisy.grad != 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_label_set_loss_equals_its_slow_twin_and_skips_the_rows_that_do_not_count(seed):
    _, scores = features_and_scores(B, seed)
    scores.requires_grad_()
    draw = torch.Generator().manual_seed(seed)
    candidates = torch.rand(B, C, generator=draw) < 0.4
    candidates[:, seed % C] = True
    ambiguous = torch.rand(B, generator=draw) < 0.5
    ambiguous[0] = True
    loss = label_set_loss(scores, candidates, ambiguous)
    slow = twins.label_set(scores.tolist(), candidates.tolist(), ambiguous.tolist())
    assert loss.item() == pytest.approx(slow, abs=1e-5)
    loss.backward()
    assert torch.equal(scores.grad != 0, candidates & ambiguous[:, None])


def test_without_an_ambiguous_utterance_the_label_set_loss_is_zero_with_a_gradient_of_zero():
    _, scores = features_and_scores(B, 0)
    scores.requires_grad_()
    loss = label_set_loss(scores, torch.ones(B, C, dtype=torch.bool), torch.zeros(B, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert not scores.grad.any()


def test_label_sets_grow_and_never_shrink():
    sets, rows = empty_sets(), torch.tensor([4])
    sets.note(rows, torch.tensor([[0.35, 0.34, 0.2, 0.11]], requires_grad=True))
    assert sets.candidates[4].tolist() == [True, True, False, False]
    assert sets.ambiguous.nonzero().flatten().tolist() == [4]
    sets.note(rows, torch.tensor([[0.01, 0.01, 0.9, 0.08]]))
    assert sets.candidates[4].tolist() == [True, True, True, True]
    assert sets.ambiguous[4]
    assert not sets.candidates[:4].any()


def test_a_clear_prediction_is_not_ambiguous():
    sets = empty_sets()
    sets.note(torch.tensor([0, 1]), torch.tensor([[0.45, 0.4, 0.1, 0.05], [0.4, 0.38, 0.12, 0.1]]))
    assert sets.ambiguous[:2].tolist() == [False, True]


def test_noise_is_scaled_by_each_columns_deviation():
    torch.manual_seed(0)
    values = torch.randn(4000, 3) * torch.tensor([1.0, 10.0, 0.0])
    noise = with_noise(values) - values
    torch.testing.assert_close(noise.std(dim=0), NOISE * values.std(dim=0), rtol=0.1, atol=0.0)


def test_noise_leaves_the_lengths_of_frames_as_they_are():
    batch = FrameBatch(torch.randn(3, 20, 5), torch.tensor([20, 7, 11]))
    noisy = with_noise(batch)
    assert isinstance(noisy, FrameBatch)
    assert noisy.frames.shape == batch.frames.shape
    assert torch.equal(noisy.lengths, batch.lengths)


def test_frame_networks_adapt_too():
    network = build_network(ARCHITECTURES["tdnn"], input_dim=6, num_classes=C, normalization="corpus")
    records, _ = adapt_ucon(network, random_inputs("frames-v1", 6, count=8), AdaptSettings(epochs=1), seed=0)
    assert records[0].losses.keys() == {"neighbor", "view", "label_set"}
    assert np.isfinite(list(records[0].losses.values())).all()


def test_fewer_utterances_than_neighbors_are_no_fault():
    records, _ = adapt_ucon(trained_network(), blobs(3, seed=3)[0], AdaptSettings(epochs=2, num_neighbors=5), seed=0)
    assert all(np.isfinite(list(record.losses.values())).all() for record in records)


def test_a_part_of_the_bank_may_be_searched():
    settings = AdaptSettings(epochs=2, batch_size=8, candidates=12)
    records, _ = adapt_ucon(trained_network(), blobs(40, seed=3)[0], settings, seed=0)
    assert all(np.isfinite(list(record.losses.values())).all() for record in records)
