"""A source with a key of two algorithms, from its keys to a site that asks for both; each step is a real command."""

import json

import pytest

from benchmarks.crossing import Keys, hand_over, target
from tests.support import cli
from tests.support.crossing import export, succeeded

pytestmark = pytest.mark.journey


def test_a_model_crosses_signed_by_two_algorithms(crossing, tmp_path):
    made = cli.source("keys", "init", "--suite", "hybrid-1", "--out", tmp_path / "source-keys")
    keys = Keys(source=tmp_path / "source-keys", target=tmp_path / "target-keys", fingerprint=made.stdout.strip())
    hand_over(tmp_path, keys, crossing.run, tmp_path / "model.ecan")
    bundle = tmp_path / "model.ecan"
    listing = json.loads(target(tmp_path, "inspect", "--bundle", bundle, "--format", "json").stdout)
    assert (listing["signature_suite"], listing["signature_holds"]) == ("hybrid-1", True)
    assert listing["signature_random_bits"] > 26_000
    assert sum(row["bytes"] for row in listing["rows"]) == bundle.stat().st_size


def test_a_site_that_asks_for_two_algorithms_waits_until_its_source_has_them(crossing, tmp_path):
    source, keys = tmp_path / "source-keys", tmp_path / "target-keys"
    first = cli.source("keys", "init", "--out", source).stdout.strip()
    rules = cli.site_rules(tmp_path / "site.yaml", rules="signature_suites: [hybrid-1]\n")

    def received(name: str, trust: str) -> cli.Result:
        (tmp_path / name).mkdir()
        _, sealed = export(crossing.run, source, keys, tmp_path / name)
        words = ("receive", "--keys", keys, "--from", sealed, "--trust", trust, "--config", rules)
        return cli.target(*words, "--out", tmp_path / name / "model.ecan")

    refusal = received("one", first)
    assert (refusal.code, "[POLICY]" in refusal.stderr) == (11, True), refusal.stderr
    succeeded(cli.source("keys", "rotate", "--keys", source, "--suite", "hybrid-1"))
    told = ("trust", "update", "--keys", keys, "--statement", source / "public" / "succession", "--trust", first)
    succeeded(cli.target(*told), received("two", first))
    assert cli.source("keys", "rotate", "--keys", source, "--suite", "classic-1").code == 11
