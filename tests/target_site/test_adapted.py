import copy
from itertools import count

import numpy as np
import pytest

from ecan_core.adapt import AdaptSettings
from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.errors import ModelError, UsageFault
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.weights import to_arrays
from ecan_core.normalize import Moments, Normalizer
from ecan_core.predict import committee_scores
from ecan_core.rounds import Preparation, adapt_site
from target_site import adapted
from target_site.adapted import VOICES, AdaptedModel, load_adapted, save_adapted
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
        received_weights=to_arrays(network),
        preparation=Preparation(
            normalizer=Normalizer(mode="speaker", corpus=moments(), speakers={"a": moments(), "ü": moments()})
        ),
        unadapted=Preparation(normalizer=Normalizer(mode="corpus", corpus=moments())),
        receipt={"seed": seed},
    )


def utterances(seed: int, num: int) -> list[np.ndarray]:
    """Two voices, far apart in every statistic."""
    draw = np.random.default_rng(seed)
    return [(draw.normal(size=DIM) + 3 * (row % 2)).astype(np.float32) for row in range(num)]


def model_with_voices(seed: int) -> AdaptedModel:
    network = build_network(ARCHITECTURES["mlp"], input_dim=DIM, num_classes=2, normalization="corpus", seed=seed)
    site = adapt_site(
        lambda: copy.deepcopy(network), utterances(seed, 120), [None] * 120, FRONT_ENDS["stats-v1"].feature_names,
        mode="voice", methods=("shot-im", "none"), settings=AdaptSettings(epochs=1), seed=seed,
    )  # fmt: skip
    return AdaptedModel(
        card=ModelCard(arch="mlp-stats-v1", normalization="corpus", classes=("anger", "fear")),
        weights=tuple(to_arrays(member) for member in site.networks),
        received_weights=to_arrays(network),
        preparation=site.preparation,
        unadapted=site.unadapted,
        receipt={"seed": seed},
    )


KINDS = {"plain": model, "with voices": model_with_voices}


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


def test_a_model_that_hears_voices_hears_them_alike_when_it_is_read_back(tmp_path):
    written = model_with_voices(1)
    save_adapted(tmp_path, written)
    read = load_adapted(tmp_path)
    assert read.preparation.normalizer.mode == "voice"
    for heard in (utterances(1, 120), utterances(2, 30)):  # what it was adapted to, and what it never heard
        names = read.preparation.ear.names(heard)
        assert len(set(names)) > 1
        assert names == written.preparation.ear.names(heard)
        rows = np.arange(len(heard))
        own, theirs = (side.preparation.inputs(heard, [None] * len(heard)) for side in (read, written))
        np.testing.assert_array_equal(own.batch(rows), theirs.batch(rows))
        np.testing.assert_array_equal(committee_scores(read.networks(), own), committee_scores(written.networks(), own))


def test_voices_go_when_a_model_without_them_is_saved_in_their_place(tmp_path):
    save_adapted(tmp_path, model_with_voices(1))
    assert (tmp_path / VOICES).exists()
    save_adapted(tmp_path, model(2))
    assert not (tmp_path / VOICES).exists()
    assert load_adapted(tmp_path).preparation.ear is None


@pytest.mark.parametrize(("old", "new", "num_writes"), [
    ("plain", "plain", 5), ("plain", "with voices", 6), ("with voices", "plain", 5), ("with voices", "with voices", 6),
])  # fmt: skip
def test_a_run_that_dies_while_it_replaces_a_model_leaves_no_mixture(tmp_path, monkeypatch, old, new, num_writes):
    first, second = KINDS[old](1), KINDS[new](2)
    whole = adapted.write_atomic
    for writes in count():
        save_adapted(tmp_path, first)
        left = iter(range(writes))

        def dying(path, data, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            whole(path, data)

        with monkeypatch.context() as patched:
            patched.setattr(adapted, "write_atomic", dying)
            try:
                save_adapted(tmp_path, second)
                break
            except KeyboardInterrupt:
                with pytest.raises(UsageFault, match="no finished adaptation"):
                    load_adapted(tmp_path)
    assert writes == num_writes
    assert load_adapted(tmp_path).receipt == {"seed": 2}


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": 1}', b"\xff"])
def test_facts_that_are_damaged_are_refused(tmp_path, content):
    save_adapted(tmp_path, model(1))
    (tmp_path / "adapted.json").write_bytes(content)
    with pytest.raises(ModelError):
        load_adapted(tmp_path)
