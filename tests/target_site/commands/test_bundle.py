"""What the command line checks before it opens anything."""

import pytest

from tests.support import cli


def adapt_with(folder, yaml, *more):
    cli.site_rules(folder / "adapt.yaml", yaml)
    (folder / "model.ecan").write_bytes(b"no bundle")
    return cli.target(
        *("adapt", "--bundle", folder / "model.ecan", "--audio", folder, "--out", folder / "out"),
        *("--config", folder / "adapt.yaml", *more),
    )


@pytest.mark.parametrize(
    ("method", "yaml", "name"),
    [
        ("shot-im", "epochs: 3\nneighbor_weight: 0.5\n", "neighbor_weight"),
        ("aad", "dispersion: 0.5\n", "dispersion"),
        ("tent", "weight_decay: 0.0\n", "weight_decay"),
        ("t3a", "epochs: 3\n", "epochs"),
    ],
)
def test_a_setting_that_the_method_does_not_read_is_refused_before_anything_is_opened(tmp_path, method, yaml, name):
    result = adapt_with(tmp_path, yaml, "--research", "--method", method)
    assert result.code == 3
    assert result.refusal() == f"{name} is not read by --method {method}; leave it out or use --method ecan"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "yaml"), [("ecan", "dispersion: 0.5\n"), ("nrc", "num_neighbors: 3\n"), ("committee", "epochs: 3\n")]
)
def test_a_setting_that_the_method_reads_is_not_what_stops_it(tmp_path, method, yaml):
    result = adapt_with(tmp_path, yaml, "--research", "--method", method)
    assert result.code == 12
    assert "not a bundle" in result.refusal()


def test_a_method_for_comparisons_is_refused_without_the_word_for_it(tmp_path):
    result = adapt_with(tmp_path, "epochs: 3\n", "--method", "nrc")
    assert result.code == 2
    assert result.refusal().startswith("--method nrc serves comparisons")
    assert "--research" in result.refusal()
    assert not (tmp_path / "out").exists()
