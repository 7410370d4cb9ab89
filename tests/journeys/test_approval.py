"""No bundle is adapted that nobody at the site has put a name to."""

import json
import shutil
from pathlib import Path

import pytest

from target_site.accountability.audit_log import LOG
from target_site.trust.acceptance import open_accepted
from target_site.trust.approval import approval_path
from target_site.trust.approval import approve as name_it
from tests.support import cli

pytestmark = pytest.mark.journey


@pytest.fixture
def bundle(crossing, tmp_path) -> Path:
    """A bundle that was accepted and not approved."""
    copy = tmp_path / "model.ecan"
    shutil.copy(crossing.bundle, copy)
    shutil.copy(f"{crossing.bundle}.receipt", f"{copy}.receipt")
    return copy


def adapt(crossing, bundle, *more) -> cli.Result:
    return cli.target(
        *("adapt", "--bundle", bundle, "--audio", crossing.target_labels, "--out", bundle.parent / "out"),
        *("--method", "none", "--cache", crossing.work / "cache" / "target", *more),
    )


def approve(crossing, bundle, purpose="care", by="Dr. Ada Müller") -> cli.Result:
    keys = ("--keys", crossing.target_keys)
    return cli.target("approve", "--bundle", bundle, *keys, "--by", by, "--purpose", purpose)


def refused(result: cli.Result, code: int, words: str) -> None:
    assert result.code == code, result.stderr
    assert words in result.refusal()


def test_a_bundle_is_adapted_once_somebody_has_approved_it(crossing, bundle):
    refused(adapt(crossing, bundle), 11, "Nobody at this site has approved")
    assert not (bundle.parent / "out").exists()
    assert approve(crossing, bundle).code == 0
    result = adapt(crossing, bundle)
    assert result.code == 0, result.stderr
    assert "approved by Dr. Ada Müller for care" in result.stderr


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ((), "approved for research"),
        (("--purpose", "research"), "approved for research"),
        (("--purpose", "care"), "the rules of --config say research; leave it out"),
    ],
)
def test_the_purpose_is_that_of_the_rules_and_need_not_be_said_twice(crossing, bundle, tmp_path, said, outcome):
    rules = cli.site_rules(tmp_path / "site.yaml")
    words = ("approve", "--bundle", bundle, "--keys", crossing.target_keys, "--by", "Ada Byron")
    result = cli.target(*words, "--config", rules, *said)
    assert outcome in result.stderr
    assert approval_path(bundle).exists() == (result.code == 0)
    without = cli.target(*words)
    assert (without.code, "--config" in without.refusal()) == (2, True)


def test_what_was_done_stands_in_two_logs_and_no_path_does(crossing, bundle):
    assert approve(crossing, bundle).code == 0
    assert adapt(crossing, bundle).code == 0
    out = bundle.parent / "out"
    logs = {folder: (folder / LOG).read_text() for folder in (crossing.target_keys, out)}
    events = {folder: [json.loads(line) for line in text.splitlines()] for folder, text in logs.items()}
    assert [event["event"] for event in events[crossing.target_keys]][:2] == ["receive", "approve"]
    assert events[crossing.target_keys][-1]["by"] == "Dr. Ada Müller"
    assert [(event["event"], event["state"]) for event in events[out]] == [("adapt", "begun"), ("adapt", "done")]
    assert str(crossing.work) not in "".join(logs.values())
    for folder in logs:
        assert cli.target("log", "verify", "--folder", folder).code == 0


def test_another_sites_approval_does_not_do(crossing, bundle, tmp_path):
    verified = open_accepted(bundle, keys_dir=crossing.target_keys)
    assert cli.target("request", "--keys", tmp_path / "others", "--out", tmp_path / "request").code == 0
    name_it(bundle, verified, tmp_path / "others", by="Eve", purpose="care", today=1, passphrase=None)
    refused(adapt(crossing, bundle), 10, "")


def test_the_sites_rules_may_do_without(crossing, bundle, tmp_path):
    rules = cli.site_rules(tmp_path / "site.yaml", rules="approval: not-needed\n")
    assert adapt(crossing, bundle, "--config", rules).code == 0


def test_an_approval_for_another_purpose_does_not_do(crossing, bundle, tmp_path):
    assert approve(crossing, bundle, "care").code == 0
    rules = cli.site_rules(tmp_path / "site.yaml")
    refused(
        adapt(crossing, bundle, "--config", rules), 11, "was approved for care and the site's settings say research"
    )


def test_an_approval_is_bound_to_the_bundle_and_to_this_site(crossing, bundle):
    assert approve(crossing, bundle).code == 0
    approval = approval_path(bundle)
    good = approval.read_bytes()
    approval.write_bytes(good.replace(b'"signatures"', b'"signaturez"'))
    refused(adapt(crossing, bundle), 12, "")
    place = good.index(b'"payload":"') + 40
    approval.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    assert adapt(crossing, bundle).code in (10, 12)
    approval.write_bytes(b"")
    refused(adapt(crossing, bundle), 12, "")
    approval.unlink()
    approval.symlink_to(f"{crossing.bundle}.approval")
    refused(adapt(crossing, bundle), 12, "not a regular file")


def test_a_receipt_is_no_approval(crossing, bundle):
    shutil.copy(f"{bundle}.receipt", approval_path(bundle))
    refused(adapt(crossing, bundle), 10, "")


@pytest.mark.parametrize(
    ("purpose", "by", "code", "words"),
    [
        ("workplace", "Ada", 11, "prohibited"),
        ("education", "Ada", 11, "prohibited"),
        ("fun", "Ada", 11, "name one of care, research, service"),
        ("care", "", 2, "a person's name"),
        ("care", "x" * 65, 2, "a person's name"),
        ("care", "a\nb", 2, "a person's name"),
    ],
)
def test_an_approval_that_says_nothing_or_what_is_prohibited_is_refused(crossing, bundle, purpose, by, code, words):
    refused(approve(crossing, bundle, purpose, by), code, words)
    assert not approval_path(bundle).exists()


def test_what_was_never_accepted_cannot_be_approved(crossing, bundle):
    Path(f"{bundle}.receipt").unlink()
    refused(approve(crossing, bundle), 10, "")


def test_a_prohibited_purpose_stops_adapting_and_predicting(crossing, adapted, bundle, tmp_path):
    rules = tmp_path / "site.yaml"
    rules.write_text("purpose: staff-monitoring\nsubjects: volunteer\n")
    refused(adapt(crossing, bundle, "--config", rules), 11, "prohibited")
    predicting = ("predict", "--model", adapted, "--audio", crossing.target_labels, "--out", tmp_path / "out")
    refused(cli.target(*predicting, "--config", rules), 11, "prohibited")
