import numpy as np
import pytest

from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.errors import ModelError, UsageFault
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.weights import to_arrays
from ecan_core.normalize import Moments, Normalizer
from ecan_core.rounds import Preparation
from target_site import adapted
from target_site.adapted import AdaptedModel, load_adapted, save_adapted
from target_site.load import ModelCard

DIM = FRONT_ENDS["stats-v1"].dim


def model(seed: int) -> AdaptedModel:
    draw = np.random.default_rng(seed)

    def moments() -> Moments:
        return Moments(
            center=draw.normal(size=DIM).astype(np.float32), scale=draw.uniform(1, 2, DIM).astype(np.float32)
        )

    network = build_network(ARCHITECTURES["mlp"], input_dim=DIM, num_classes=2, normalization="speaker", seed=seed)
    return AdaptedModel(
        card=ModelCard(arch="mlp-stats-v1", normalization="speaker", classes=("anger", "fear")),
        weights=(to_arrays(network), to_arrays(network)),
        source_weights=to_arrays(network),
        preparation=Preparation(
            normalizer=Normalizer(mode="speaker", corpus=moments(), speakers={"a": moments(), "ü": moments()})
        ),
        unadapted=Preparation(normalizer=Normalizer(mode="corpus", corpus=moments())),
        receipt={"seed": seed},
    )


def test_a_model_is_read_back_as_it_was_written(tmp_path):
    written = model(1)
    save_adapted(tmp_path, written)
    read = load_adapted(tmp_path)
    assert (read.card, read.receipt, read.preparation.normalizer.mode) == (written.card, written.receipt, "speaker")
    for own, theirs in zip(read.weights, written.weights, strict=True):
        assert all(np.array_equal(own[name], theirs[name]) for name in theirs)
    assert read.preparation.normalizer.speakers.keys() == {"a", "ü"}
    for name, moments in written.preparation.normalizer.speakers.items():
        np.testing.assert_array_equal(read.preparation.normalizer.speakers[name].center, moments.center)
        np.testing.assert_array_equal(read.preparation.normalizer.speakers[name].scale, moments.scale)


@pytest.mark.parametrize("writes", range(5))
def test_a_run_that_dies_while_it_replaces_a_model_leaves_no_mixture(tmp_path, monkeypatch, writes):
    save_adapted(tmp_path, model(1))
    left = iter(range(writes))
    whole = adapted.write_atomic

    def dying(path, data):
        if next(left, None) is None:
            raise KeyboardInterrupt
        whole(path, data)

    monkeypatch.setattr(adapted, "write_atomic", dying)
    with pytest.raises(KeyboardInterrupt):
        save_adapted(tmp_path, model(2))
    with pytest.raises(UsageFault, match="no finished adaptation"):
        load_adapted(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": 1}', b"\xff"])
def test_facts_that_are_damaged_are_refused(tmp_path, content):
    save_adapted(tmp_path, model(1))
    (tmp_path / "adapted.json").write_bytes(content)
    with pytest.raises(ModelError):
        load_adapted(tmp_path)
