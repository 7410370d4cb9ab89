import numpy as np
import pytest

from ecan_core.audio.statistics.tally import Tally, correlations, quantiles


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("columns", [(), (3,)])
def test_quantiles_agree_with_numpy(count, columns):
    values = np.random.default_rng(count).normal(size=(count, *columns))
    np.testing.assert_allclose(
        quantiles(values, (0, 5, 50, 90, 100)), np.percentile(values, (0, 5, 50, 90, 100), axis=0)
    )


def test_correlations_agree_with_numpy():
    values = np.random.default_rng(0).normal(size=(200, 4)) * 10
    np.testing.assert_allclose(correlations(values), np.corrcoef(values.T)[np.triu_indices(4, 1)], atol=1e-3)


def test_a_constant_column_is_correlated_with_nothing():
    values = np.column_stack([np.arange(9.0), np.ones(9)])
    assert correlations(values).tolist() == [0.0]


def test_an_empty_curve_counts_as_absent():
    tally = Tally()
    tally.distribution("pitch", np.zeros(0), (5, 50), absent=-3.0)
    assert tally.values == {"pitch.mean": -3.0, "pitch.std": 0.0, "pitch.q05": -3.0, "pitch.q50": -3.0}
