"""Three sites adapt one model together, with all of them in one process; contained ones are real."""

import json
import time
from contextlib import ExitStack
from dataclasses import asdict, replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from safetensors.numpy import load

from ecan_core.data.forgotten import Forgotten
from ecan_core.data.unlabeled import list_utterances, whole_path
from protocol.errors import RefusedError
from protocol.federation import update as updates
from protocol.federation.in_process import InProcessGrid
from protocol.federation.masking import Roster
from protocol.federation.messages import Question
from protocol.federation.site.answers import Answers
from protocol.federation.site.book import Book
from protocol.files import make_private_folder
from target_site.federation.coordinator import TogetherPlan, adapt_together
from target_site.federation.joining import SUBJECT
from target_site.federation.member import Member, Round, Setting, adapt_round, conclude, terms_of
from target_site.model.adapted import load_adapted
from target_site.model.forgotten import write_forgotten
from target_site.results.rows import read_rows
from target_site.results.segments import Segment
from target_site.trust.own_model import require_own_model
from tests.source_site.training.runs import FACTS, write_run
from tests.support import cli
from tests.support.crossing import carry, new_source
from tests.support.engine import LINK_PORT, PATIENCE_S, assert_silent, is_of_engine, started, watched
from tests.support.lone_host import captured, lone_host
from tests.support.speech import synthesize

pytestmark = [pytest.mark.journey, pytest.mark.slow]
ADDRESS = f"127.0.0.1:{LINK_PORT}"
FORM = (FACTS.arch, len(FACTS.classes))
RULES = "approval: not-needed\ntogether:\n  rounds: 1\n"
NO_CHANGE = {name: np.zeros(shape, np.float32) for name, shape in updates.shapes(*FORM).items()}


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Three sites of one operator, each with its own bundle of one release and its own recordings."""
    work = tmp_path_factory.mktemp("ward")
    write_run(work / "run")
    trust = new_source(work / "keys")
    settings = []
    for number in range(3):
        site = work / f"site{number}"
        site.mkdir()
        bundle = carry(work / "run", work / "keys", site / "keys", site, trust=trust, is_approved=False).bundle
        audio = synthesize(site / "audio", "harbor", speakers=2, utterances=1, seed=number)
        rules = cli.site_rules(site / "site.yaml", rules=RULES)
        settings.append(Setting(keys=site / "keys", bundle=bundle, audio=audio, config=rules, out=site / "adapted"))
    return settings


@pytest.fixture(scope="module")
def members(ward):
    """The same with node keys and books, and rosters that name each other."""
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in ward]
    publics = [key.public_key() for key in keys]
    return [
        Member(
            setting,
            answers=Answers(
                Book.create(setting.out.with_name("node.book"), SUBJECT, "a test", int(time.time())),
                setting.out.with_name("node-home"),
                Roster(publics[number], [*publics[:number], *publics[number + 1 :]]),
                keys[number],
            ),
            announce=lambda _: None,
        )
        for number, setting in enumerate(ward)
    ]


@pytest.fixture(scope="module")
def adapted(ward, members):
    """The same after they have adapted in secret, in one round."""
    grid = InProcessGrid([member.answer for member in members])
    assert adapt_together(grid, TogetherPlan(rounds=1, epochs=1)) == 3
    return ward


def test_every_site_ends_with_a_model_of_its_own_that_predicts(adapted):
    models = [load_adapted(member.out) for member in adapted]
    for member, model in zip(adapted, models, strict=True):
        assert model.provenance["together"] == 1
        assert model.provenance["verdict"] in ("improved", "inconclusive", "reverted")
        assert model.provenance["containment"]["level"] >= 2
        require_own_model(member.out, member.keys)
        assert "made together" in (member.out / "report.html").read_text()
        assert not [*member.out.glob(".change*"), *member.out.glob(".update*"), *member.out.glob(".unfinished")]
    centers = [model.preparation.normalizer.corpus.center for model in models]
    assert not np.array_equal(centers[0], centers[1]), "each site is normalized by its own statistics"
    place = adapted[0].out
    done = cli.target("predict", "--model", place, "--audio", adapted[0].audio, "--out", place.parent / "predictions")
    assert done.code == 0, done.stderr


def test_who_was_forgotten_is_not_heard_together_either(ward, tmp_path):
    site = replace(ward[2], out=tmp_path / "adapted")
    heard = [item.path for item in list_utterances(site.audio).utterances]
    make_private_folder(site.out)
    write_forgotten(site.out, Forgotten.begin().named([], heard[:2]))
    said = conclude(site, terms_of(site), wanted(site), NO_CHANGE)
    assert said.endswith("; 2 utterances of the forgotten were left out")
    left = {segment.recording for segment in read_rows(site.out / "segments.jsonl", Segment)}
    assert left == set(map(whole_path, heard[2:]))


def test_inspect_lists_what_left_every_site(adapted):
    for member in adapted:
        (listed,) = cli.target("inspect", "--left", "--keys", member.keys, "--format", "json").json()
        (copy,) = updates.updates_left(member.keys, bytes.fromhex(listed["weights_sha256"]))
        assert listed["bytes"] == copy.stat().st_size
        assert 0 < listed["length"] <= 2.0 * updates.ROUNDING
        text = cli.target("inspect", "--left", "--keys", member.keys).stdout
        assert f"1 updates have left this site, {listed['bytes']} bytes in all" in text


def test_what_is_returned_is_the_copy_to_the_bit_and_holds_nothing_of_a_recording(adapted):
    member = more_allowed(adapted[1])
    returned = adapt_round(member, terms_of(member), wanted(member), NO_CHANGE)
    _, copy = updates.updates_left(member.keys, bytes.fromhex(wanted(member).weights))
    data = copy.read_bytes()
    assert returned.keys() == NO_CHANGE.keys()
    again = updates.check_update(data, *FORM, 2.0)
    assert all(np.array_equal(returned[name], again[name]) for name in returned)
    assert {name.rsplit(".", 1)[0] for name in load(data)} == {"encoder.0", "bottleneck", "head"}
    words = [
        part.encode() for part in (*member.audio.read_text().replace(",", "\n").split(), str(member.audio)) if part
    ]
    assert not [word for word in words if len(word) > 3 and word in data]
    lengths = {len(copy.read_bytes()) for site in adapted for copy in updates.updates_left(site.keys, digest(site))}
    assert lengths == {len(data)}, "as many bytes whatever was heard"


def test_a_site_whose_budget_is_used_up_lets_nothing_more_leave(adapted, members):
    with pytest.raises(RefusedError, match="1 of this model may leave the site in all"):
        members[0].answer(asked(adapted[0], run=2, offers="00"))
    for copy in updates.updates_left(adapted[0].keys, digest(adapted[0])):
        copy.unlink()
    with pytest.raises(RefusedError, match="1 of this model may leave the site in all"):
        members[0].answer(asked(adapted[0], run=2, offers="00"))


def test_a_model_that_was_made_together_is_not_made_again_by_one_site(adapted):
    member = adapted[0]
    done = cli.target(
        *("forget", "--model", member.out, "--speaker", "x", "--bundle", member.bundle, "--audio", member.audio),
        *("--keys", member.keys, "--config", member.config),
    )
    assert done.code == 2
    assert "made together with other sites" in done.refusal()


def test_a_site_takes_no_part_on_other_terms(ward, members):
    with pytest.raises(RefusedError, match="masked sums alone"):
        members[2].answer(asked(ward[2], run=3))
    with pytest.raises(RefusedError, match="different models"):
        members[2].answer(asked(ward[2], run=3, offers="00", weights="00" * 32))
    setting = more_allowed(ward[2])
    made_up = NO_CHANGE | {"head.bias": np.ones(FORM[1], np.float32)}
    for change in (NO_CHANGE | {"bank": np.zeros(3, np.float32)}, made_up):
        with pytest.raises(RefusedError, match="no sum of updates"):
            adapt_round(setting, terms_of(setting), wanted(setting), change)


def test_a_site_whose_rules_say_nothing_of_it_does_not_join(ward, tmp_path):
    rules = cli.site_rules(tmp_path / "site.yaml", rules="approval: not-needed\n")
    (tmp_path / "ca.crt").write_text("")
    done = cli.target(
        *("together", "join", "--to", "127.0.0.1:9", "--ca", tmp_path / "ca.crt", "--key", tmp_path / "node.key"),
        *("--keys", ward[0].keys, "--bundle", ward[0].bundle, "--audio", ward[0].audio, "--config", rules),
        *("--out", tmp_path / "adapted"),
    )
    assert done.code == 11
    assert "lets no update leave" in done.refusal()
    assert not (tmp_path / "node.key").exists()


@pytest.mark.timeout(1200)
def test_two_sites_adapt_together_through_the_engine_and_nobody_else_is_called(ward, tmp_path):
    assert cli.target("together", "keys", "--host", "127.0.0.1", "--out", tmp_path / "ward").code == 0

    def joining(number: int):
        member = more_allowed(ward[number], "secure: false")
        return (
            *("together", "join", "--to", ADDRESS, "--ca", tmp_path / "ward" / "ca.crt"),
            *("--key", tmp_path / f"{number}.key", "--keys", member.keys, "--bundle", member.bundle),
            *("--audio", member.audio, "--config", member.config, "--out", tmp_path / f"adapted{number}"),
            *("--home", tmp_path / f"home{number}"),
        )

    for number in range(2):
        assert cli.target(*joining(number)).code == 0
    nodes = [word for number in range(2) for word in ("--node", tmp_path / f"{number}.pub")]
    with lone_host() as host, captured(host) as capture, ExitStack() as running:
        serving = running.enter_context(
            started(
                host,
                "ecan-target",
                *("together", "serve", "--federation", tmp_path / "ward", "--listen", ADDRESS, *nodes, "--plain"),
                *("--rounds", 1, "--epochs", 1, "--home", tmp_path / "serving", "--format", "json"),
            )
        )
        sites = [running.enter_context(started(host, "ecan-target", *joining(number))) for number in range(2)]
        environments = running.enter_context(watched([serving, *sites]))
        told, said = serving.communicate(timeout=PATIENCE_S)
        assert serving.returncode == 0, said + (tmp_path / "serving" / "superlink.log").read_text()[-6000:]
    assert json.loads(told) == {"sites": 2, "have_the_model": 2}
    assert [load_adapted(tmp_path / f"adapted{number}").provenance["together"] for number in range(2)] == [1, 1]
    assert_silent({number: told for number, told in environments.items() if is_of_engine(told)}, at_least=1)
    assert capture.outside == {}


def asked(setting, *, run: int, offers: str = "", **changes) -> Question:
    """The question for a first round."""
    fields = asdict(replace(wanted(setting), **changes)) | ({"offers": offers} if offers else {})
    return Question(run=run, kind="train", fields=fields, arrays=NO_CHANGE)


def wanted(member) -> Round:
    return Round(weights=digest(member).hex(), rounds=1, number=1, epochs=1, seed=1)


def digest(member) -> bytes:
    """Of the weights that all sites have."""
    return terms_of(member).weights


def more_allowed(member, also: str = "") -> Setting:
    """The site with a larger budget, and perhaps another rule of what may leave."""
    rules = member.config.with_name("more.yaml")
    rules.write_text(member.config.read_text().replace("rounds: 1\n", f"rounds: 9\n  {also}\n"))
    return replace(member, config=rules)
