"""A site that `init` has set up is watched: status, its logs, and what a shell's gatherer of logs gets."""

import json
import shutil

import pytest

from ecan_core.command_line.console import LOG_FORMAT
from tests.support import cli

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def site(crossing, tmp_path_factory):
    """A site with rules of `init`, which has adapted and predicted."""
    work = tmp_path_factory.mktemp("watched")
    shutil.copytree(crossing.target_keys, work / "keys")
    shutil.copytree(crossing.source_keys, work / "source-keys")
    rules, audio, kept = work / "site.yaml", crossing.target_labels, ("--cache", work / "cache" / "target")
    answers = ("--site", "Ward 3", "--purpose", "research", "--recordings", audio, "--channel", "only")
    own = ("--keys", work / "keys", "--config", rules)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv(LOG_FORMAT, "json")
    ended = [
        cli.target("init", *answers, "--out", rules),
        cli.target("adapt", "--bundle", crossing.bundle, "--audio", audio, *own, *kept, "--out", work / "adapted"),
        cli.target("predict", "--model", work / "adapted", "--audio", audio, *kept, "--out", work / "predictions"),
    ]
    monkeypatch.undo()
    assert [result.code for result in ended] == [0, 0, 0], [result.stderr for result in ended]
    return work, ended


def status(work, *words):
    return cli.target("status", "--model", work / "adapted", "--predictions", work / "predictions", *words)


def test_a_gatherer_of_logs_gets_objects_alone_also_of_what_reads_recordings(site):
    _, ended = site
    told = [json.loads(line) for result in ended for line in result.stderr.splitlines()]
    assert all({"at", "level", "message"} <= line.keys() for line in told)
    messages = " ".join(line["message"] for line in told)
    assert "contained at level" in messages
    assert "features: 60/60" in messages
    assert "predicted 60 utterances" in messages


def test_a_real_site_is_healthy_until_its_source_withdraws_the_model(site):
    work, _ = site
    well = status(work, "--format", "json")
    assert (well.code, well.json()["attention"]) == (0, [])
    revoked = cli.source("revoke", "--keys", work / "source-keys", "--release", 1, "--format", "json").json()["file"]
    assert cli.target("trust", "update", "--keys", work / "keys", "--statement", revoked).code == 0
    result = status(work)
    assert (result.code, result.stdout.splitlines()[0][:22]) == (19, "attention  WITHDRAWN: ")


def test_a_real_source_is_healthy(crossing):
    told = cli.source("status", "--keys", crossing.source_keys, "--format", "json")
    grants = {one["labels"]["state"]: one["value"] for one in told.json()["measures"] if one["name"] == "grants"}
    assert told.code == 0
    assert sum(grants.values()) >= 1  # other journeys may have been granted more


def test_the_log_of_a_real_site_is_told_in_words(site):
    work, _ = site
    told = cli.target("log", "show", "--folder", work / "adapted").stdout.splitlines()
    assert [line.partition("  ")[2].split()[0] for line in told] == ["began", "adapted:", "began", "predicted"]
    assert "Ada Byron approved bundle" in cli.target("log", "show", "--folder", work / "keys").stdout
