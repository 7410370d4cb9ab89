import numpy as np
import pytest
import torch

from ecan_core.data.inputs import FrameInputs, StatisticsInputs
from ecan_core.errors import SettingsError
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.predict import predict_scores
from ecan_core.model.weights import to_arrays
from ecan_core.training.train import TrainSettings, hide_a_view, train
from tests.ecan_core.blobs import blobs, trained_network


def accuracy(network, inputs, labels):
    return float((predict_scores(network, inputs).argmax(axis=1) == labels.numpy()).mean())


def test_training_learns_what_generalizes_to_new_points_of_the_same_kind():
    assert accuracy(trained_network(), *blobs(200, seed=5)) > 0.9


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    first, again, other = (to_arrays(trained_network(seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["bottleneck.weight"], other["bottleneck.weight"])


def test_training_does_not_disturb_the_callers_random_numbers():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    trained_network()
    assert torch.equal(torch.rand(3), expected)


def test_a_rare_class_counts_as_much_as_a_frequent_one():
    inputs, labels = blobs(400, seed=2)
    rare = [row for row in range(400) if labels[row] != 0 or row % 80 == 0]
    network = build_network(ARCHITECTURES["mlp"], input_dim=12, num_classes=4, normalization="corpus")
    points = inputs.batch(torch.tensor(rare)).numpy()
    train(network, StatisticsInputs(points), labels[rare], TrainSettings(epochs=15), seed=0)
    new, new_labels = blobs(200, seed=8)
    hits = predict_scores(network, new).argmax(axis=1)[new_labels.numpy() == 0] == 0
    assert hits.mean() > 0.6


def test_the_temporal_network_learns_from_frames_of_unequal_length():
    draw = np.random.default_rng(0)

    def sequence(label):
        frames = draw.normal(0, 1, (draw.integers(20, 60), 8))
        frames[:, label] += 1.5
        return frames.astype(np.float16)

    labels = np.arange(90) % 3
    inputs = FrameInputs([sequence(label) for label in labels])
    network = build_network(ARCHITECTURES["tdnn"], input_dim=8, num_classes=3, normalization="corpus")
    train(network, inputs, torch.from_numpy(labels), TrainSettings(epochs=8), seed=0)
    fresh_labels = np.arange(30) % 3
    fresh = FrameInputs([sequence(label) for label in fresh_labels])
    assert (predict_scores(network, fresh).argmax(axis=1) == fresh_labels).mean() > 0.8


def test_the_score_of_an_utterance_does_not_depend_on_its_companions_in_the_batch():
    draw = np.random.default_rng(3)
    sequences = [draw.normal(0, 1, (length, 8)).astype(np.float32) for length in (15, 40, 90)]
    network = build_network(ARCHITECTURES["tdnn"], input_dim=8, num_classes=3, normalization="corpus")
    together = predict_scores(network, FrameInputs(sequences))
    alone = np.concatenate([predict_scores(network, FrameInputs([item])) for item in sequences])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": -1.0},
        {"label_smoothing": 1.0},
        {"view_dropout": 0.6},
        {"weight_decay": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused_by_name(change):
    with pytest.raises(SettingsError, match=next(iter(change))):
        TrainSettings(**change)


def test_a_training_that_diverges_is_refused_with_the_remedy():
    network = build_network(ARCHITECTURES["mlp"], input_dim=12, num_classes=4, normalization="corpus")
    inputs, labels = blobs(80, seed=2)
    with pytest.raises(SettingsError, match="lower learning_rate"):
        train(network, inputs, labels, TrainSettings(epochs=3, learning_rate=1e30), seed=0)


def two_views(normalization="corpus"):
    network = build_network(ARCHITECTURES["mlp-whisper"], input_dim=1191, num_classes=4, normalization=normalization)
    return network, torch.ones(4000, 1191), 1191 - network.encoder.num_heard


def test_each_view_is_hidden_from_its_share_of_the_utterances_and_never_both():
    network, batch, num_statistics = two_views()
    torch.manual_seed(0)
    seen = hide_a_view(network, batch, 0.25)
    statistics, heard = seen[:, :num_statistics], seen[:, num_statistics:]
    assert (statistics == statistics[:, :1]).all()  # a view is hidden whole
    assert (heard == heard[:, :1]).all()
    has_statistics, has_heard = statistics[:, 0] == 1, heard[:, 0] == 1
    assert (has_statistics | has_heard).all()
    assert 0.22 < (~has_statistics).float().mean() < 0.28
    assert 0.22 < (~has_heard).float().mean() < 0.28


def test_a_hidden_view_shows_the_mean_of_a_network_that_carries_one():
    network, batch, _ = two_views("none")
    network.standardize.center.fill_(7.0)
    seen = hide_a_view(network, batch, 0.5)
    assert ((seen == 7.0).any(dim=1) & (seen == 1.0).any(dim=1)).all()


def test_nothing_is_hidden_where_there_is_one_view_or_nothing_was_asked():
    network, batch, _ = two_views()
    assert hide_a_view(network, batch, 0.0) is batch
    alone = build_network(ARCHITECTURES["mlp"], input_dim=12, num_classes=4, normalization="corpus")
    assert hide_a_view(alone, batch, 0.5) is batch
