"""A model remembers the rules and the keys that it was adapted with."""

import json

import pytest

from ecan_core.data.calls import Parties
from ecan_core.errors import ModelError
from protocol.errors import RefusedError
from target_site.site_policy import SitePolicy
from target_site.trust.remembered import as_plain, note_keys, noted_keys, remembered

RULES = SitePolicy(purpose="service", subjects="caller", channels=("agent", "caller"))


def provenance(rules=RULES, keys=None, parties=None):
    return json.loads(json.dumps({"site": as_plain(rules, keys), "asked": {"parties": parties}}))


def test_rules_that_are_not_named_again_still_count():
    found = remembered(provenance(), None, None, None)
    assert found.rules == RULES
    assert found.parties == RULES.parties


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": ("caller", "agent")}, "channels = agent, caller, and the rules say caller, agent"),
        ({"channels": ()}, "and the rules say nothing"),
        ({"purpose": "care", "subjects": "patient"}, "purpose = 'service', and the rules say 'care'"),
        ({"mixed_because": "callers alone"}, "mixed_because = nothing"),
    ],
)
def test_rules_that_contradict_those_of_the_model_are_refused(changes, words):
    other = SitePolicy(**{"purpose": "service", "subjects": "caller", "channels": ("agent", "caller"), **changes})
    with pytest.raises(RefusedError, match=words):
        remembered(provenance(), other, None, None)


def test_other_rules_may_change():
    stricter = SitePolicy(
        purpose="service", subjects="caller", channels=("agent", "caller"), least_confidence=0.9, most_lost=0.0
    )
    assert remembered(provenance(), stricter, None, None).rules == stricter


def test_what_was_said_without_rules_is_remembered_as_well():
    said = {"roles": [], "discarded": [], "mixed_because": "a laboratory"}
    assert remembered(provenance(None, parties=said), None, None, None).parties == Parties(
        roles=(), mixed_because="a laboratory"
    )
    assert remembered(provenance(None), None, None, None).parties is None


def test_keys_are_found_again_as_long_as_they_are_there(tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    assert remembered(provenance(keys=keys), None, None, None).keys == keys
    assert remembered(provenance(keys=keys), None, None, tmp_path).keys == tmp_path
    keys.rmdir()
    assert remembered(provenance(keys=keys), None, None, None).keys is None


def test_a_model_of_before_remembers_nothing():
    assert remembered({"asked": {"parties": None}}, RULES, None, None) == (RULES, RULES.parties, None)


@pytest.mark.parametrize("site", [{"rules": {"purpose": 1}, "keys": None}, {"rules": None}, "x"])
def test_a_damaged_memory_is_refused(site):
    with pytest.raises(ModelError, match="adapt again"):
        remembered({"site": site}, None, None, None)


def test_the_keys_that_received_a_bundle_are_noted_beside_it(tmp_path):
    bundle, keys = tmp_path / "model.ecan", tmp_path / "keys"
    assert noted_keys(bundle) is None
    keys.mkdir()
    note_keys(bundle, keys)
    assert noted_keys(bundle) == keys
    keys.rmdir()
    assert noted_keys(bundle) is None
    (tmp_path / "model.ecan.keys").write_bytes(b"\xff\xfe")
    assert noted_keys(bundle) is None
