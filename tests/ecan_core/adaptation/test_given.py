import numpy as np
import pytest
import torch

from ecan_core.adaptation.given import GivenLabels
from ecan_core.adaptation.registry import GUIDED, METHODS
from ecan_core.adaptation.settings import LEARNS_FROM_LABELS, members_of, refuse_without_labels
from ecan_core.data.inputs import inputs_of
from ecan_core.errors import UsageError
from ecan_core.model.architectures import ARCHITECTURES, build_network
from tests.ecan_core.town import NAMES, NUM_CLASSES, town

PLACE = town(3, count=60)
GIVEN = GivenLabels(rows=np.array([3, 5, 8]), classes=np.array([0, 0, 2]))


def loss_of(given: GivenLabels) -> float:
    network = build_network(
        ARCHITECTURES["mlp"], input_dim=len(NAMES), num_classes=NUM_CLASSES, normalization="corpus", seed=0
    ).eval()
    torch.manual_seed(0)
    return given.loss(network, inputs_of(PLACE.features)).item()


def test_classes_weigh_alike_however_many_labels_each_has():
    of_first, of_second = (
        loss_of(GivenLabels(rows=rows, classes=classes))
        for rows, classes in ((np.array([3, 5]), np.array([0, 0])), (np.array([8]), np.array([2])))
    )
    assert loss_of(GIVEN) == pytest.approx((of_first + of_second) / 2, rel=1e-5)


def test_given_classes_take_the_place_of_guesses():
    labels = torch.full((60,), 3)
    GIVEN.write_into(labels)
    assert labels[[3, 5, 8]].tolist() == [0, 0, 2]
    assert int((labels == 3).sum()) == 57
    scores = np.full((60, NUM_CLASSES), 0.25)
    known = GIVEN.known(scores)
    assert known[[3, 5, 8]].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]
    assert (known[GIVEN.others(60)] == 0.25).all()
    assert (scores == 0.25).all()


def test_the_methods_that_learn_from_labels_are_said_to():
    assert GUIDED.keys() == LEARNS_FROM_LABELS
    assert all(GUIDED[name] is METHODS[name] for name in GUIDED)


@pytest.mark.parametrize("method", sorted({"committee", *METHODS}))
def test_a_method_that_learns_from_no_labels_refuses_them(method):
    if set(members_of(method)) <= GUIDED.keys():
        refuse_without_labels(method)
        return
    with pytest.raises(UsageError, match="leave --labels out"):
        refuse_without_labels(method)
