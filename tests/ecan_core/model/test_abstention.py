import numpy as np
import pytest

from ecan_core.errors import SettingsError
from ecan_core.model.abstention import Abstention, is_uncertain, shown, usual_least

CLASSES = ("anger", "fear", "neutral", "sadness")


@pytest.mark.parametrize(("num_classes", "least"), [(2, 0.667), (3, 0.556), (4, 0.5), (6, 0.444), (8, 0.417)])
def test_the_more_classes_there_are_the_less_sure_a_model_must_be(num_classes, least):
    assert usual_least(num_classes) == pytest.approx(least, abs=5e-4)


def test_a_number_counts_for_every_class_and_a_named_class_has_its_own():
    least = Abstention(least_confidence=0.3, least_confidence_of={"fear": 0.8}).by_class(CLASSES)
    assert least.tolist() == [0.3, 0.8, 0.3, 0.3]
    assert (shown(least), shown(least[:1])) == ("0.3 to 0.8", "0.3")


def test_without_a_rule_a_named_class_still_has_its_own():
    assert Abstention(least_confidence_of={"anger": 0.6}).by_class(CLASSES).tolist() == [0.6, 0.5, 0.5, 0.5]


def test_a_class_that_the_model_does_not_tell_is_refused_by_name():
    with pytest.raises(SettingsError, match="'bordom', which this model does not tell; name some of anger, fear"):
        Abstention(least_confidence_of={"bordom": 0.6}).by_class(CLASSES)


@pytest.mark.parametrize("least", [-0.1, 1.0, float("nan")])
def test_a_bar_outside_of_its_range_is_refused(least):
    with pytest.raises(SettingsError, match="least_confidence is"):
        Abstention(least_confidence=least)
    with pytest.raises(SettingsError, match=r"least_confidence_of\.fear is"):
        Abstention(least_confidence_of={"fear": least})


def test_a_model_abstains_by_the_bar_of_the_class_that_it_would_tell():
    scores = np.array([[0.6, 0.4], [0.4, 0.6], [0.2, 0.8]])
    assert is_uncertain(scores, np.array([0.5, 0.7])).tolist() == [False, True, False]
