import numpy as np

from ecan_core.audio.statistics.tally import Tally, correlations, median, moments, quantiles

CURVES = [np.random.default_rng(count).normal(size=count) for count in (1, 2, 7, 100, 3)]


def test_quantiles_of_curves_of_any_lengths_agree_with_numpy():
    percents = [(50,), (0, 100), (5, 50, 90), (10, 25), (1, 99)]
    expected = [np.percentile(curve, which) for curve, which in zip(CURVES, percents, strict=True)]
    np.testing.assert_allclose(quantiles(CURVES, percents), np.concatenate(expected))


def test_moments_of_curves_of_any_lengths_agree_with_numpy():
    means, deviations = moments(CURVES)
    np.testing.assert_allclose(means, [curve.mean() for curve in CURVES])
    np.testing.assert_allclose(deviations, [curve.std() for curve in CURVES], atol=1e-15)


def test_the_median_agrees_with_numpy():
    for curve in CURVES:
        assert median(curve) == np.median(curve)
    assert median(np.zeros(0)) == 0


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
