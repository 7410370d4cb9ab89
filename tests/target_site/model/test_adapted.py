import copy
import json
import os
import shutil
import signal
import sys
from itertools import count

import numpy as np
import pytest

from ecan_core.adaptation.settings import AdaptSettings
from ecan_core.adaptation.site import Preparation, adapt_site
from ecan_core.audio.frontend import FRONT_ENDS
from ecan_core.errors import ModelError
from ecan_core.model.architectures import ARCHITECTURES, build_network
from ecan_core.model.predict import committee_scores
from ecan_core.model.weights import to_arrays
from ecan_core.normalization.normalize import Moments, Normalizer
from target_site.model.adapted import AdaptedModel, load_adapted, save_adapted
from target_site.model.folder import VOICES, finish_replacement, new_model
from target_site.model.load import ModelCard

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
        temperature=1.5,
        provenance={"seed": seed},
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
        temperature=1.5,
        provenance={"seed": seed},
    )


def test_a_model_is_read_back_as_it_was_written(tmp_path):
    written = model(1)
    save_adapted(tmp_path, written)
    read = load_adapted(tmp_path)
    assert (read.card, read.provenance, read.preparation.normalizer.mode) == (
        written.card,
        written.provenance,
        "speaker",
    )
    for own, theirs in zip(read.weights, written.weights, strict=True):
        assert all(np.array_equal(own[name], theirs[name]) for name in theirs)
    assert read.preparation.normalizer.speakers.keys() == {"a", "ü"}
    for name, moments in written.preparation.normalizer.speakers.items():
        np.testing.assert_array_equal(read.preparation.normalizer.speakers[name].center, moments.center)
        np.testing.assert_array_equal(read.preparation.normalizer.speakers[name].scale, moments.scale)


def test_a_model_whose_provenance_has_its_old_name_is_read(tmp_path):
    save_adapted(tmp_path, model(1))
    path = tmp_path / "adapted.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({"receipt" if name == "provenance" else name: value for name, value in facts.items()}))
    assert load_adapted(tmp_path).provenance == {"seed": 1}


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


def replace_model(folder, new: AdaptedModel) -> None:
    with new_model(folder) as incoming:
        save_adapted(incoming, new)
    finish_replacement(folder)


def test_voices_go_when_a_model_without_them_is_saved_in_their_place(tmp_path):
    replace_model(tmp_path, model_with_voices(1))
    assert (tmp_path / VOICES).exists()
    replace_model(tmp_path, model(2))
    assert not (tmp_path / VOICES).exists()
    assert load_adapted(tmp_path).preparation.ear is None


KINDS = {"plain": model, "with voices": model_with_voices}


@pytest.mark.parametrize("new", KINDS)
@pytest.mark.parametrize("old", KINDS)
def test_a_run_that_dies_while_it_replaces_a_model_leaves_the_old_one_or_the_new_one(tmp_path, old, new):
    first, second = KINDS[old](1), KINDS[new](2)
    seen = []
    for steps in count():
        shutil.rmtree(tmp_path)
        replace_model(tmp_path, first)
        child = os.fork()
        if child == 0:  # a process of its own, which nothing can tidy up after
            die_after(steps)
            replace_model(tmp_path, second)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        read = load_adapted(tmp_path)
        seen.append(read.provenance["seed"])
        whole = first if seen[-1] == 1 else second
        assert read.preparation.normalizer.mode == whole.preparation.normalizer.mode
        assert len(read.weights) == len(whole.weights)
        for own, theirs in zip(read.weights, whole.weights, strict=True):
            assert all(np.array_equal(own[name], theirs[name]) for name in theirs)
        replace_model(tmp_path, model(3))
        assert load_adapted(tmp_path).provenance == {"seed": 3}
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            ["adapted.json", *(f"{name}.safetensors" for name in ("normalizer", "source", "unadapted", "weights"))]
        )
        if ended == 0:
            break
    assert seen == sorted(seen)  # once the new one is there, it stays
    assert 1 in seen
    assert seen.count(2) > 5


def die_after(steps: int) -> None:
    """Kill this process before it changes the file system for so many times and once."""
    left = iter(range(steps))

    def watch(event: str, arguments: tuple) -> None:
        changes = event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree")
        if (changes or (event == "open" and arguments[1] in ("w", "wb"))) and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": 1}', b"\xff"])
def test_facts_that_are_damaged_are_refused(tmp_path, content):
    save_adapted(tmp_path, model(1))
    (tmp_path / "adapted.json").write_bytes(content)
    with pytest.raises(ModelError):
        load_adapted(tmp_path)
