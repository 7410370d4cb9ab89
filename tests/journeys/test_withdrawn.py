"""A source takes back what it has released, and hands over to new keys."""

import json
import shutil

import pytest

from target_site.trust.remembered import note_keys
from tests.support import cli
from tests.support.crossing import carry

pytestmark = pytest.mark.journey


@pytest.fixture
def keys(crossing, tmp_path):
    """Both sites' keys after the crossing, to be changed."""
    shutil.copytree(crossing.source_keys, tmp_path / "source-keys")
    shutil.copytree(crossing.target_keys, tmp_path / "target-keys")
    return tmp_path


def revoke(keys, *words):
    result = cli.source("revoke", "--keys", keys / "source-keys", "--format", "json", *words)
    assert result.code == 0, result.stderr
    return result.json()["file"]


def update(keys, statement):
    result = cli.target("trust", "update", "--keys", keys / "target-keys", "--statement", statement)
    assert result.code == 0, result.stderr
    return result


def adapt(crossing, keys, *words):
    return cli.target(
        *("adapt", "--bundle", crossing.bundle, "--audio", crossing.target_labels, "--out", keys / "out"),
        *("--cache", crossing.work / "cache" / "target", "--method", "none", *words),
    )


def test_a_withdrawn_model_is_not_adapted_or_used_with_the_sites_keys(crossing, adapted, keys):
    update(keys, revoke(keys, "--release", 1))
    own = ("--keys", keys / "target-keys")
    refused = adapt(crossing, keys, *own)
    assert refused.code == 11
    assert "withdrawn" in refused.refusal()
    predict = ("predict", "--model", adapted, "--audio", crossing.target_labels, "--out", keys / "predicted")
    used = cli.target(*predict, "--cache", crossing.work / "cache" / "target", *own)
    assert used.code == 11
    assert "withdrawn" in used.refusal()
    assert not (keys / "predicted").exists()


def test_withdrawal_is_checked_with_the_keys_of_before_where_nobody_names_them(crossing, adapted, keys):
    bundle, model = keys / "model.ecan", keys / "adapted"
    for name in ("", ".receipt", ".approval"):
        shutil.copy(f"{crossing.bundle}{name}", f"{bundle}{name}")
    shutil.copytree(adapted, model)
    facts = json.loads((model / "adapted.json").read_text())
    facts["provenance"]["site"]["keys"] = str(keys / "target-keys")
    (model / "adapted.json").write_text(json.dumps(facts))
    update(keys, revoke(keys, "--release", 1))
    predict = ("predict", "--model", model, "--audio", crossing.target_labels, "--out", keys / "predicted")
    again = ("adapt", "--bundle", bundle, "--audio", crossing.target_labels, "--out", keys / "out", "--method", "none")
    unasked = cli.target(*again)
    assert unasked.code == 0
    assert "give --keys to check" in unasked.stderr
    note_keys(bundle, keys / "target-keys")
    for words in (predict, again):
        refused = cli.target(*words)
        assert refused.code == 11
        assert "withdrawn" in refused.refusal()


def test_a_model_that_was_not_withdrawn_is_used_with_the_sites_keys(crossing, adapted, keys):
    update(keys, revoke(keys, "--key", "ab" * 32, "--unknown"))
    own = ("--keys", keys / "target-keys")
    assert adapt(crossing, keys, *own).code == 0
    predict = ("predict", "--model", adapted, "--audio", crossing.target_labels, "--out", keys / "predicted")
    assert cli.target(*predict, "--cache", crossing.work / "cache" / "target", *own).code == 0


def test_an_adapted_model_that_does_not_say_where_it_is_from_is_not_used(crossing, adapted, keys):
    shutil.copytree(adapted, keys / "adapted")
    path = keys / "adapted" / "adapted.json"
    facts = json.loads(path.read_text())
    del facts["provenance"]["issuer"]
    path.write_text(json.dumps(facts))
    result = cli.target(
        *("predict", "--model", keys / "adapted", "--audio", crossing.target_labels, "--out", keys / "predicted"),
        *("--keys", keys / "target-keys"),
    )
    assert result.code != 0
    assert "adapt again" in result.refusal()


def test_after_a_rotation_the_statement_is_all_that_a_target_needs(crossing, keys):
    rotated = cli.source("keys", "rotate", "--keys", keys / "source-keys")
    assert rotated.code == 0, rotated.stderr
    said = update(keys, keys / "source-keys" / "public" / "succession")
    assert rotated.stdout.strip() in said.stderr
    carried = carry(crossing.run, keys / "source-keys", keys / "target-keys", keys, trust=crossing.fingerprint)
    assert "has handed over" in carried.said
