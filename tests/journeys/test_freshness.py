"""A source renews its list, and sites whose rules ask for a fresh one go on."""

import shutil

import pytest

from tests.support import cli
from tests.support.sites import new_site

pytestmark = pytest.mark.journey
RULES = "approval: not-needed\noldest_revocations_days: 30\ntogether: {rounds: 1, secure: false}\n"


def test_a_source_renews_its_list_and_the_site_goes_on(tmp_path):
    keys = new_site().write(tmp_path / "keys")
    source = tmp_path / "source"
    assert cli.source("keys", "init", "--out", source).code == 0
    for _ in range(2):
        done = cli.source("revoke", "--keys", source, "--renew", "--format", "json")
        assert (done.code, done.json()["version"]) == (0, 1), done.stderr
    told = cli.target(
        *("trust", "update", "--keys", keys, "--statement", done.json()["file"]),
        *("--trust", source / "identity.pem"),
    )
    assert told.code == 0, told.stderr
    listed = cli.target("trust", "show", "--keys", keys, "--format", "json").json()
    assert [entry["revocation_list"] for entry in listed] == [1]
    assert "0 days old" in cli.target("doctor", "--keys", keys).stdout


@pytest.mark.parametrize("words", [(), ("--renew", "--release", 1), ("--renew", "--key", "ab" * 32)])
def test_a_renewal_stands_alone(tmp_path, words):
    cli.source("keys", "init", "--out", tmp_path / "source")
    assert cli.source("revoke", "--keys", tmp_path / "source", *words).code == 2


def test_a_model_of_a_silent_source_is_not_received_adapted_or_used(crossing, adapted, tmp_path):
    keys, source = tmp_path / "keys", tmp_path / "source-keys"
    shutil.copytree(crossing.target_keys, keys)
    shutil.copytree(crossing.source_keys, source)
    config = cli.site_rules(tmp_path / "site.yaml", rules=RULES)
    (tmp_path / "ca.crt").write_text("")
    said = ("--keys", keys, "--config", config)
    heard = (*("--audio", crossing.target_labels), "--cache", crossing.work / "cache" / "target")
    commands = (
        (
            "receive",
            "--from",
            crossing.sealed,
            "--trust",
            crossing.fingerprint,
            "--out",
            tmp_path / "model.ecan",
            *said,
        ),
        ("adapt", "--bundle", crossing.bundle, "--method", "none", "--out", tmp_path / "adapted", *said, *heard),
        ("predict", "--model", adapted, "--out", tmp_path / "predicted", *said, *heard),
        ("evaluate", "--model", adapted, "--labels", crossing.target_labels, *said, *heard[2:]),
        (
            *("together", "join", "--to", "127.0.0.1:9", "--ca", tmp_path / "ca.crt", "--key", tmp_path / "node.key"),
            *("--bundle", crossing.bundle, "--audio", crossing.target_labels, "--out", tmp_path / "together", *said),
        ),
    )
    for words in commands:
        refused = cli.target(*words)
        assert (refused.code, "no revocation list" in refused.refusal()) == (11, True), refused.stderr
    assert not (tmp_path / "model.ecan").exists()
    assert not (tmp_path / "node.key").exists()
    statement = cli.source("revoke", "--keys", source, "--renew", "--format", "json").json()["file"]
    assert cli.target("trust", "update", "--keys", keys, "--statement", statement).code == 0
    for words in commands:
        assert cli.target(*words).code == 0
    assert (tmp_path / "node.key").exists()
    for words in commands[2:4]:
        with_keys_of_before = [word for word in words if word not in ("--keys", keys)]
        assert "no revocation list" in cli.target(*with_keys_of_before).refusal()


def test_no_other_program_is_given_a_model_of_a_silent_source(crossing, adapted, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    config = cli.site_rules(tmp_path / "site.yaml", rules=RULES)
    words = ("onnx", "--model", adapted, "--out", tmp_path / "out", "--config", config)
    refused = cli.target(*words, "--keys", crossing.target_keys)
    assert (refused.code, "no revocation list" in refused.refusal()) == (11, True), refused.stderr
    assert "no revocation list" in cli.target(*words).refusal()
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_a_person_is_forgotten_whatever_the_source_says(crossing, adapted, tmp_path):
    config = cli.site_rules(tmp_path / "site.yaml", rules=RULES)
    asked = cli.target(
        *("forget", "--model", adapted, "--speaker", "nobody", "--bundle", crossing.bundle),
        *("--audio", crossing.target_labels, "--keys", crossing.target_keys, "--config", config),
    )
    assert (asked.code, "adapted to no utterance of theirs" in asked.refusal()) == (2, True), asked.stderr
