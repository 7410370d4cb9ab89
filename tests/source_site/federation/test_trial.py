"""Several sites train one network: the Flower app with all sites in one process."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecan_core.errors import AudioError, SettingsError
from protocol.in_process import InProcessGrid, context_of
from source_site.federation import site as own
from source_site.federation.client import app
from source_site.federation.coordinator import federate
from source_site.federation.plan import EVERYBODY, HEARD, Plan, first_arrays, fresh_network, part
from tests.support import cli
from tests.support.speech import synthesize

CLASSES = ("anger", "happiness", "neutral", "sadness")
PLAN = Plan(classes=CLASSES, rounds=2, local_epochs=1, min_sites=3)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> list[Path]:
    """Three sites' corpora."""
    work = tmp_path_factory.mktemp("sites")
    names = ("harbor", "valley", "harbor")
    return [synthesize(work / str(number), name, seed=number) for number, name in enumerate(names)]


def described(corpora, tmp_path, **settings) -> list[dict]:
    return [
        {"recipe": "csv", "path": str(path), "cache": str(path.with_suffix(".cache")), **settings} for path in corpora
    ]


def outcome_of(plan, sites):
    return federate(InProcessGrid(app, sites), context_of(0, {}), plan)


def test_sites_train_one_network_and_end_in_a_run_that_the_gate_signs(corpora, tmp_path):
    (tmp_path / "plan.yaml").write_text("rounds: 2\nlocal_epochs: 1\n")
    words = [word for path in corpora for word in ("--site", f"csv={path}")]
    run = tmp_path / "run"
    told = cli.source("federate", "try", *words, "--config", tmp_path / "plan.yaml", "--out", run, "--format", "json")
    facts = json.loads(told.stdout)
    assert facts["num_utterances"] == sum(len(path.read_text().splitlines()) - 1 for path in corpora)
    assert facts["uar_source"] > 1 / len(facts["classes"])
    cli.source("keys", "init", "--out", tmp_path / "source-keys")
    cli.target("request", "--keys", tmp_path / "target-keys", "--out", tmp_path / "site.request")
    exported = cli.source(
        *("export", "--model", run, "--keys", tmp_path / "source-keys", "--request", tmp_path / "site.request"),
        *("--file", tmp_path / "carried.ecan"),
    )
    assert exported.code == 0
    assert (tmp_path / "carried.ecan").stat().st_size > 10_000


def test_a_masked_sum_is_the_plain_average(corpora, tmp_path):
    sites = described(corpora, tmp_path)
    plan = replace(PLAN, rounds=1)
    plain = outcome_of(plan, sites)
    masked = outcome_of(replace(plan, secure=True), sites)
    for name, array in plain.arrays.items():
        assert np.allclose(array, masked.arrays[name], atol=2e-5), name
    assert masked.facts.num_utterances == plain.facts.num_utterances


def test_a_round_is_the_average_of_what_each_site_trains(corpora, tmp_path):
    plan = replace(PLAN, rounds=1, estimate=False, strategy="fedavg")
    start = first_arrays(plan, len(CLASSES))
    sites = [own.site_from(config) for config in described(corpora, tmp_path)]
    trained = [own.train_round(site, plan, CLASSES, start, 1) for site in sites]
    federated = outcome_of(plan, described(corpora, tmp_path)).arrays
    name = "bottleneck.weight"
    by_hand = np.mean([part(arrays, EVERYBODY)[name] for arrays in trained], axis=0)
    assert np.allclose(federated[name], by_hand, atol=1e-5)


def test_a_site_that_insists_on_secrecy_takes_no_part_without(corpora, tmp_path):
    with pytest.raises(SettingsError, match="secure aggregation alone"):
        outcome_of(PLAN, described(corpora, tmp_path, secure=True))


def test_a_site_that_promises_its_utterances_takes_no_part_without_noise(corpora, tmp_path):
    with pytest.raises(SettingsError, match="an epsilon of 8"):
        outcome_of(replace(PLAN, epsilon=20.0), described(corpora, tmp_path, max_epsilon=8.0))


def test_a_private_federation_changes_no_weight_of_the_encoder(corpora, tmp_path):
    plan = replace(PLAN, epsilon=8.0)
    outcome = outcome_of(plan, described(corpora, tmp_path, max_epsilon=8.0))
    fresh = fresh_network(plan, len(CLASSES)).encoder.layers[0].weight.detach().numpy()
    assert np.allclose(outcome.arrays["encoder.0.weight"], fresh, atol=1e-6)
    assert outcome.facts.quantization_loss is None
    assert not any(name.startswith(HEARD) for name in first_arrays(plan, 4))


def test_sites_agree_on_the_classes_that_all_have(corpora, tmp_path):
    sites = described(corpora, tmp_path)
    sites[0]["relabel"] = "anger=fear,happiness=surprise"
    present = own.classes_of(own.site_from(sites[0]))
    assert "anger" not in present
    outcome = outcome_of(replace(PLAN, classes=()), sites)
    assert outcome.facts.classes == tuple(name for name in present if name in own.classes_of(own.site_from(sites[1])))


def test_sites_with_too_few_classes_in_common_are_told_to_map_them(corpora, tmp_path):
    sites = described(corpora, tmp_path)
    sites[0]["relabel"] = ",".join(
        f"{name}={other}" for name, other in zip(CLASSES, ("calm", "boredom") * 2, strict=True)
    )
    with pytest.raises(AudioError, match="let a site map its labels"):
        outcome_of(replace(PLAN, classes=()), sites)


def test_secrecy_takes_three_sites():
    with pytest.raises(SettingsError, match="min_sites"):
        Plan(secure=True, min_sites=2)


def test_a_plan_with_an_unknown_word_is_refused():
    with pytest.raises(SettingsError, match="send_features"):
        Plan.from_text('{"send_features": true}')
    with pytest.raises(SettingsError, match="no JSON object"):
        Plan.from_text("[")


def test_a_round_beyond_the_plan_is_refused(corpora, tmp_path):
    site = own.site_from(described(corpora, tmp_path)[0])
    with pytest.raises(SettingsError, match="round 3 is none of the 2"):
        own.train_round(site, PLAN, CLASSES, first_arrays(PLAN, 4), 3)
