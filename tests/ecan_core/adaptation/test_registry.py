"""The table of what each method reads is held against what the methods do."""

import copy
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch

from ecan_core.adaptation.banks import MemoryBanks
from ecan_core.adaptation.registry import METHODS
from ecan_core.adaptation.settings import COMMITTEES, READS, AdaptSettings, check_settings
from ecan_core.errors import SettingsError
from ecan_core.model.weights import to_arrays
from tests.ecan_core.blobs import blobs, trained_network

START = AdaptSettings(epochs=2, batch_size=16, num_voters=5, dispersion=0.5, supervised_weight=1.0)
"""Settings under which each of them can make a difference: a decay needs something that decays."""
CHANGED = AdaptSettings(
    epochs=1,
    batch_size=20,
    optimizer="sgd",
    learning_rate=1e-3,
    encoder_rate=0.5,
    weight_decay=0.1,
    train_head=False,
    num_neighbors=2,
    num_voters=1,
    candidates=20,
    temperature=0.2,
    neighbor_form="ncl-1",
    supervised_form="scl-2",
    pseudo_labels="own",
    dispersion=0.25,
    dispersion_decay=3.0,
    diversity_weight=0.5,
    neighbor_weight=0.6,
    supervised_weight=0.5,
    certainty_weight=0.5,
)
FIELDS = [field.name for field in fields(AdaptSettings)]


@pytest.fixture(scope="module", autouse=True)
def _draws_that_leave_the_shuffling_as_it_is():
    """So that the rows that are searched count as a setting only where something is searched for."""
    draw = MemoryBanks.draw

    def draw_aside(banks, limit):
        with torch.random.fork_rng(devices=[]):
            return draw(banks, limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryBanks, "draw", draw_aside)
        yield


@cache
def source():
    return trained_network(normalization="none")


@cache
def adapted(method, settings):
    """All numbers that a method leaves, as one vector."""
    network = copy.deepcopy(source())
    _, scores = METHODS[method](network, blobs(60, seed=21, shift=3.0)[0], settings, seed=0)
    return np.concatenate([array.ravel() for array in [scores, *to_arrays(network).values()]])


def test_every_method_says_what_it_reads():
    assert READS.keys() == METHODS.keys()
    assert all(names <= set(FIELDS) for names in READS.values())


def test_ecan_reads_everything_so_that_the_remedy_holds():
    assert READS["ecan"] == set(FIELDS)
    check_settings("ecan", CHANGED)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_setting_counts_in_a_method_exactly_where_the_table_says_so(method, name):
    change = {name: getattr(CHANGED, name)}
    assert change[name] not in (getattr(START, name), getattr(AdaptSettings(), name))
    differs = not np.array_equal(adapted(method, START), adapted(method, replace(START, **change)))
    assert differs == (name in READS[method])


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_setting_is_refused_exactly_where_it_is_not_read(method, name):
    settings = AdaptSettings(**{name: getattr(CHANGED, name)})
    if name in READS[method]:
        check_settings(method, settings)
    else:
        with pytest.raises(SettingsError, match=f"^{name} is not read by --method {method}; "):
            check_settings(method, settings)


def test_the_first_setting_that_is_not_read_is_named_with_the_remedy():
    with pytest.raises(SettingsError) as refused:
        check_settings("shot-im", AdaptSettings(epochs=3, neighbor_weight=0.4, certainty_weight=1.0))
    words = "neighbor_weight is not read by --method shot-im; leave it out or use --method ecan"
    assert str(refused.value) == words


@pytest.mark.parametrize("method", [*METHODS, *COMMITTEES])
def test_the_defaults_are_never_refused(method):
    check_settings(method, AdaptSettings())


def test_in_a_committee_a_setting_counts_that_one_of_its_members_reads(monkeypatch):
    monkeypatch.setitem(COMMITTEES, "both", ("shot-im", "nrc"))
    check_settings("both", AdaptSettings(num_neighbors=3, train_head=False, epochs=2))
    with pytest.raises(SettingsError, match=r"^temperature is not read by --method both; "):
        check_settings("both", AdaptSettings(temperature=0.1))
