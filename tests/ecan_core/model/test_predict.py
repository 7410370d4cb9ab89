import numpy as np
import torch

from ecan_core.adaptation.health import examine
from ecan_core.data.inputs import MAX_FRAMES, FrameInputs
from ecan_core.model.predict import predict_scores, run
from tests.ecan_core.blobs import blobs, trained_network


def test_scores_are_probabilities_and_do_not_depend_on_the_batch_size():
    network, (inputs, _) = trained_network(), blobs(50, seed=3)
    scores = predict_scores(network, inputs)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    in_sevens = run(network, inputs, batch_size=7).logits.softmax(dim=1).numpy()
    np.testing.assert_allclose(scores, in_sevens, atol=1e-6)


def test_predicting_twice_gives_the_same_for_dropout_is_off():
    network, (inputs, _) = trained_network(), blobs(50, seed=3)
    network.train()
    assert np.array_equal(predict_scores(network, inputs), predict_scores(network, inputs))


def test_of_a_long_utterance_the_middle_is_read():
    frames = np.arange(MAX_FRAMES + 200, dtype=np.float32)[:, None]
    batch = FrameInputs([frames, frames[:10]]).batch(torch.tensor([0, 1]))
    assert batch.lengths.tolist() == [MAX_FRAMES, 10]
    assert batch.frames[0, 0].item() == 100
    assert batch.frames[1, 10:].abs().sum() == 0


def test_health_describes_shares_balance_and_agreement():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    source = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    health = examine(scores, source)
    assert health.class_shares == (0.75, 0.25)
    assert health.agreement == 0.75
    assert health.confidence == np.mean([0.9, 0.8, 0.7, 0.6])
    p = 0.65
    assert np.isclose(health.balance, -(p * np.log(p) + (1 - p) * np.log(1 - p)) / np.log(2))
