from pathlib import Path

import numpy as np
import pytest

from ecan_core.data.features import FeatureTable
from ecan_core.utterance import Utterance
from target_site.results.predictions import Predictions


def predictions(num_sure: int, num: int = 20) -> Predictions:
    scores = np.full((num, 2), 0.5)
    scores[:num_sure] = [0.9, 0.1]
    utterances = tuple(Utterance(id=f"{row}", path=Path(f"{row}.wav")) for row in range(num))
    table = FeatureTable(utterances=utterances, features=(np.zeros(1),) * num, durations_s=(1.0,) * num, refusals=())
    return Predictions(table=table, scores=scores, least_confidence=np.full(2, 0.6))


@pytest.mark.parametrize(("num_sure", "is_told"), [(0, True), (2, True), (3, False), (20, False)])
def test_a_model_that_is_sure_of_nearly_nothing_says_what_to_do_next(num_sure, is_told):
    advice = predictions(num_sure).advice
    assert bool(advice) == is_told
    assert ("adapt --labels" in advice and f"{20 - num_sure} of 20" in advice) == is_told
