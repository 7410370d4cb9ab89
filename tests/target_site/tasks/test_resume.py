"""An adaptation that was killed goes on, and ends as if it had not been."""

import copy
from pathlib import Path

import numpy as np
import pytest

from ecan_core.adaptation import site
from ecan_core.adaptation.registry import METHODS
from ecan_core.adaptation.settings import AdaptPlan, AdaptSettings, members_of
from ecan_core.adaptation.site import adapt_site
from ecan_core.data.features import FeatureTable
from ecan_core.model.weights import to_arrays
from ecan_core.utterance import Utterance
from target_site.tasks.resume import UNFINISHED, UnfinishedRun, forget_unfinished
from tests.ecan_core.town import NAMES, town, trained_in_town

PLAN = AdaptPlan("committee", AdaptSettings(epochs=1), 1)
NUM_MEMBERS = 3


@pytest.fixture(scope="module")
def source():
    return trained_in_town("speaker")


@pytest.fixture(scope="module")
def place():
    return town(3, count=150)


@pytest.fixture
def adapted_members(monkeypatch) -> list[str]:
    """The methods that were run, in order."""
    run = []

    def counting(name):
        def adapt(*arguments, **more):
            run.append(name)
            return METHODS[name](*arguments, **more)

        return adapt

    monkeypatch.setattr(site, "METHODS", {name: counting(name) for name in METHODS})
    return run


class Killed(UnfinishedRun):
    """A run that ends right after it has kept so many members."""

    left = 0

    def keep(self, *arguments) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        super().keep(*arguments)


def run_of(kind, out, place, mode, plan=PLAN, bundle=b"b" * 32):
    utterances = tuple(Utterance(id=str(row), path=Path("a"), speaker=who) for row, who in enumerate(place.speakers))
    table = FeatureTable(utterances=utterances, features=tuple(place.features), durations_s=(), refusals=())
    return kind(out, bundle=bundle, plan=plan, mode=mode, inputs=table.digest())


def adapt(source, place, mode, finished=None, plan=PLAN, told=None):
    return adapt_site(
        lambda: copy.deepcopy(source), place.features, place.speakers, NAMES,
        mode=mode, methods=members_of(plan.method), settings=plan.settings, seed=plan.seed, finished=finished,
        on_epoch=None if told is None else lambda record, _: told.append(record.epoch),
    )  # fmt: skip


def assert_same(one, other):
    assert np.array_equal(one.scores, other.scores)
    assert [member.records for member in one.members] == [member.records for member in other.members]
    for own, theirs in zip(one.networks, other.networks, strict=True):
        arrays, expected = to_arrays(own), to_arrays(theirs)
        assert all(np.array_equal(arrays[name], expected[name]) for name in expected)
    if other.preparation.ear is not None:
        for own, theirs in zip(one.preparation.ear.networks, other.preparation.ear.networks, strict=True):
            assert np.array_equal(to_arrays(own)["head.weight"], to_arrays(theirs)["head.weight"])


@pytest.mark.parametrize("mode", ["corpus", "speaker", "voice"])
def test_a_run_goes_on_behind_every_member_and_ends_with_the_same_numbers(
    tmp_path, source, place, mode, adapted_members
):
    whole = adapt(source, place, mode)
    total = len(adapted_members)
    assert total == NUM_MEMBERS * (1 if mode == "corpus" else 3)
    for num_kept in (0, 1, total // 2, total - 1):
        forget_unfinished(tmp_path)
        killed = run_of(Killed, tmp_path, place, mode)
        killed.left = num_kept
        with pytest.raises(KeyboardInterrupt):
            adapt(source, place, mode, killed)
        adapted_members.clear()
        told = []
        again = adapt(source, place, mode, run_of(UnfinishedRun, tmp_path, place, mode), told=told)
        assert len(adapted_members) == total - num_kept
        assert told == list(range(1, PLAN.settings.epochs * total + 1))
        assert_same(again, whole)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:40],
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data + b"\0",
    ],
    ids=["empty", "cut", "without-content", "flipped", "flipped-digest", "longer"],
)
def test_a_damaged_member_is_adapted_again(tmp_path, source, place, damage, adapted_members):
    whole = adapt(source, place, "corpus", run_of(UnfinishedRun, tmp_path, place, "corpus"))
    (kept,) = (tmp_path / UNFINISHED).glob("*/0-1")
    kept.write_bytes(damage(kept.read_bytes()))
    adapted_members.clear()
    again = adapt(source, place, "corpus", run_of(UnfinishedRun, tmp_path, place, "corpus"))
    assert adapted_members == [members_of(PLAN.method)[1]]
    assert_same(again, whole)


@pytest.mark.parametrize(
    "other",
    [
        {"bundle": b"c" * 32},
        {"plan": PLAN._replace(seed=2)},
        {"plan": PLAN._replace(settings=AdaptSettings(epochs=2))},
        {"plan": PLAN._replace(method="cahtn")},
        {"mode": "voice"},
        {"place": "louder"},
        {"place": "renamed"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_members_of_another_run_are_not_taken(tmp_path, source, place, other):
    run = run_of(UnfinishedRun, tmp_path, place, "corpus")
    adapt(source, place, "corpus", run)
    places = {
        "louder": place._replace(features=[*place.features[:-1], place.features[-1] + 1]),
        "renamed": place._replace(speakers=[*place.speakers[:-1], "somebody else"]),
    }
    changed = {"place": place, "mode": "corpus"} | other
    changed["place"] = places.get(changed["place"], place) if isinstance(changed["place"], str) else place
    elsewhere = run_of(UnfinishedRun, tmp_path, **changed)
    assert run.load(0, 0, copy.deepcopy(source)) is not None
    assert elsewhere.load(0, 0, copy.deepcopy(source)) is None


def test_what_is_kept_holds_no_row_of_features(tmp_path, source, place):
    """Scores of the utterances are kept, the memory bank is not."""
    from safetensors.numpy import load

    adapt(source, place, "corpus", run_of(UnfinishedRun, tmp_path, place, "corpus"))
    for path in (tmp_path / UNFINISHED).glob("*/*"):
        arrays = load(path.read_bytes()[32:])
        rows = {name: array.shape for name, array in arrays.items() if len(place.features) in array.shape}
        assert rows == {"scores": (len(place.features), place.labels.max() + 1)}


def test_a_finished_run_leaves_nothing(tmp_path, source, place):
    adapt(source, place, "corpus", run_of(UnfinishedRun, tmp_path, place, "corpus"))
    forget_unfinished(tmp_path)
    assert not list(tmp_path.iterdir())
    forget_unfinished(tmp_path)  # nor does it need anything
