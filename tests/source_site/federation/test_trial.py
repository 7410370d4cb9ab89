"""Several sites train one network: the rules of a federation with all sites in one process."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ecan_core.errors import AudioError, SettingsError
from protocol.errors import RefusedError
from protocol.federation.in_process import InProcessGrid
from source_site.federation.coordinator import federate
from source_site.federation.member import Rules, speech_of
from source_site.federation.orders import ANSWER_FILE, QUESTION_FILE, CountOrder, RoundOrder, Site
from source_site.federation.plan import EVERYBODY, HEARD, ConsortiumPlan, first_arrays, fresh_network, part
from source_site.federation.tasks import carry_out
from source_site.federation.trial import federate_here, members
from tests.support import cli
from tests.support.crossing import export, new_source
from tests.support.speech import synthesize

CLASSES = ("anger", "happiness", "neutral", "sadness")
PLAN = ConsortiumPlan(classes=CLASSES, rounds=2, local_epochs=1, min_sites=3)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> list[Path]:
    """Three sites' corpora."""
    work = tmp_path_factory.mktemp("sites")
    names = ("harbor", "valley", "harbor")
    return [synthesize(work / str(number), name, seed=number) for number, name in enumerate(names)]


def described(corpora, **settings) -> list[Site]:
    return [
        Site(recipe="csv", path=path, cache=path.with_suffix(".cache"), speech=speech_of("csv", path), **settings)
        for path in corpora
    ]


def test_sites_train_one_network_and_end_in_a_run_that_the_gate_signs(corpora, tmp_path):
    (tmp_path / "plan.yaml").write_text("rounds: 2\nlocal_epochs: 1\n")
    words = [word for path in corpora for word in ("--site", f"csv={path}")]
    run = tmp_path / "run"
    told = cli.source("federate", "try", *words, "--config", tmp_path / "plan.yaml", "--out", run, "--format", "json")
    facts = json.loads(told.stdout)
    assert facts["num_utterances"] == sum(len(path.read_text().splitlines()) - 1 for path in corpora)
    assert facts["uar_source"] > 1 / len(facts["classes"])
    new_source(tmp_path / "source-keys")
    _, sealed = export(run, tmp_path / "source-keys", tmp_path / "target-keys", tmp_path)
    assert sealed.stat().st_size > 10_000


def test_a_masked_sum_is_the_plain_average(corpora, tmp_path):
    # One round: a second one would train on from averages that differ in the last bit, and training enlarges that.
    sites, plan = described(corpora), replace(PLAN, rounds=1)
    plain = federate_here(sites, plan)
    masked = federate_here(sites, replace(plan, secure=True), Rules(secure=True))
    for name, array in plain.arrays.items():
        assert np.allclose(array, masked.arrays[name], rtol=0, atol=5e-7), name
    assert masked.facts == plain.facts


def test_a_round_is_the_average_of_what_each_site_trains(corpora, tmp_path):
    plan = replace(PLAN, rounds=1, estimate=False, strategy="fedavg")
    trained = [trained_alone(site, plan, tmp_path / str(number)) for number, site in enumerate(described(corpora))]
    federated = federate_here(described(corpora), plan).arrays
    name = "bottleneck.weight"
    by_hand = np.mean([part(arrays, EVERYBODY)[name] for arrays in trained], axis=0)
    assert np.allclose(federated[name], by_hand, atol=1e-5)


def trained_alone(site: Site, plan: ConsortiumPlan, work: Path) -> dict[str, np.ndarray]:
    work.mkdir()
    save_file(first_arrays(plan, len(CLASSES)), work / QUESTION_FILE)
    carry_out(RoundOrder(site=site, plan=plan.to_text(), classes=CLASSES, number=1, utterances=9, work=work))
    return load_file(work / ANSWER_FILE)


def test_a_site_that_insists_on_secrecy_takes_no_part_without(corpora):
    with pytest.raises(RefusedError, match="masked sums alone"):
        federate_here(described(corpora), PLAN, Rules(secure=True))


def test_a_site_that_promises_its_utterances_takes_no_part_without_noise(corpora):
    with pytest.raises(SettingsError, match="an epsilon of 8"):
        federate_here(described(corpora), replace(PLAN, epsilon=20.0), Rules(max_epsilon=8.0))


def test_a_promise_is_kept_over_all_runs_of_a_book(corpora, tmp_path):
    plan = replace(PLAN, epsilon=6.0)
    sites = members(described(corpora), plan, Rules(max_epsilon=8.0), tmp_path)
    first = federate(InProcessGrid([one.answer for one in sites]), plan)
    assert first.facts.num_utterances >= 1
    with pytest.raises(RefusedError, match="run was begun with another plan"):
        federate(InProcessGrid([one.answer for one in sites]), replace(plan, seed=1))
    with pytest.raises(RefusedError, match="above 8; its utterances have been asked for enough"):
        federate(InProcessGrid([one.answer for one in sites], run=2), plan)


def test_a_private_federation_changes_no_weight_of_the_encoder(corpora, tmp_path):
    plan = replace(PLAN, epsilon=8.0)
    outcome = federate_here(described(corpora), plan, Rules(max_epsilon=8.0))
    fresh = fresh_network(plan, len(CLASSES)).encoder.layers[0].weight.detach().numpy()
    assert np.allclose(outcome.arrays["encoder.0.weight"], fresh, atol=1e-6)
    assert outcome.facts.quantization_loss is None
    assert not any(name.startswith(HEARD) for name in first_arrays(plan, 4))


def test_sites_agree_on_the_classes_that_all_have(corpora):
    sites = described(corpora)
    sites[0] = replace(sites[0], relabel={"anger": "fear", "happiness": "surprise"})
    present, others = (carry_out(CountOrder(site=site))["classes"] for site in sites[:2])
    assert "anger" not in present
    outcome = federate_here(sites, replace(PLAN, classes=()))
    assert outcome.facts.classes == tuple(name for name in present if name in others)


def test_sites_with_too_few_classes_in_common_are_told_to_map_them(corpora):
    sites = described(corpora)
    sites[0] = replace(sites[0], relabel=dict(zip(CLASSES, ("calm", "boredom") * 2, strict=True)))
    with pytest.raises(AudioError, match="let a site map its labels"):
        federate_here(sites, replace(PLAN, classes=()))


def test_secrecy_takes_three_sites():
    with pytest.raises(SettingsError, match="min_sites"):
        ConsortiumPlan(secure=True, min_sites=2)


def test_a_plan_with_an_unknown_word_is_refused():
    with pytest.raises(SettingsError, match="send_features"):
        ConsortiumPlan.from_text('{"send_features": true}')
    with pytest.raises(SettingsError, match="no JSON object"):
        ConsortiumPlan.from_text("[")
