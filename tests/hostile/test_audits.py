"""Models whose audit fails, is missing or is another's, given to `ecan-source grant`; and what overrides it.

Rows S01, S04 to S08, S11 and S12; docs/leakage.md says where the others are, and which cannot occur here. Every bar of
a tier has its test in tests/source_site/audit/test_tiers.py.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import save

from protocol.bundle import frame, weights
from protocol.inspection.listing import inspect
from protocol.sandbox.landlock import landlock_abi
from source_site.audit.report import PROCEDURE, Attack, AuditReport, Capacity, save_report
from source_site.keys.folder import OFFICER_FILE, released_file
from source_site.release.budget import BUDGET_FILE
from source_site.training.run_folder import Promise
from tests.hostile import command_line
from tests.hostile.command_line import Ending, check_refused
from tests.hostile.test_models import Source
from tests.protocol.samples import FORM, random_model
from tests.source_site.audit.test_tiers import CANARIES, measured, passing
from tests.source_site.training.runs import FACTS
from tests.support.sites import Site

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


class Auditor(Source):
    """A source site whose models are audited."""

    def train(self, seed: int = 0, utterances: tuple[str, ...] = ("a", "b")) -> None:
        """Put a run in place that says what it has heard."""
        data = save(random_model(seed=seed))
        (self.run / "run.json").write_text(json.dumps(vars(FACTS)))
        (self.run / "weights.safetensors").write_bytes(data)
        self.run_sha256 = hashlib.sha256(data).hexdigest()
        self.weights_sha256 = hashlib.sha256(weights.pack(random_model(seed=seed), FORM)).hexdigest()
        told = {"run_sha256": self.run_sha256, "utterances": utterances, "recipe": {"private": None}, "promise": None}
        (self.run / "training.json").write_text(json.dumps(told))

    def audit(self, report: AuditReport, **changes: object) -> None:
        """Put an audit of that run in place, or of another one."""
        of_this = {"run_sha256": self.run_sha256, "weights_sha256": self.weights_sha256} | changes
        save_report(self.run, replace(report, **of_this))

    def do(self, *words: object) -> Ending:
        return command_line.run("ecan-source", *words, folder=self.folder)

    def stated(self, site: Site) -> dict[str, object]:
        """What the manifest of a released bundle says."""
        return {item["field"]: item["value"] for item in inspect(released_file(self.keys, site.grant))["stated"]}

    def refuse(self, word: str, *more: object, code: int = 11, says: str = "") -> None:
        ending, site = self.ask("grant", *more)
        check_refused(ending, code, word)
        assert says in ending.stderr
        self.kept_back(site)


@pytest.fixture
def source(tmp_path: Path) -> Auditor:
    made = Auditor(tmp_path)
    made.train()
    return made


def failing(tier: int = 1) -> AuditReport:
    """A report whose first attack finds far too many."""
    found = Attack(name="LiRA", target=PROCEDURE, measured=measured(0.83, 0.25, 0.1))
    return replace(passing(tier), attacks=(found, *passing(tier).attacks[1:]))


def with_tpr1(report: AuditReport, high: float) -> AuditReport:
    first = report.attacks[0]
    assert first.measured is not None
    worse = replace(first.measured, tpr1=replace(first.measured.tpr1, high=high))
    return replace(report, attacks=(replace(first, measured=worse), *report.attacks[1:]))


def lost_speakers(report: AuditReport) -> AuditReport:
    """9 speakers, too few to ask whether one was there."""
    note = "9 speakers, fewer than 20"
    kept = [replace(one, measured=None, note=note) if one.name == "speaker level" else one for one in report.attacks]
    return replace(report, num_speakers=9, attacks=tuple(kept))


def broken_promise(report: AuditReport) -> AuditReport:
    promise = Promise(epsilon=1.0, delta=1e-4, unit="utterance")
    return replace(report, promise=promise, canaries=replace(CANARIES, epsilon_low=1.5))


MUCH_ROOM = Capacity(num_bytes=9, share_of_speech=0.26)

ROWS: dict[str, tuple[int, Callable[[AuditReport], AuditReport], str]] = {
    "S04-29-utterances": (1, lambda report: replace(report, class_utterances=29), "CLASS_SUPPORT"),
    "S04-4-speakers": (2, lambda report: replace(report, class_speakers=4), "CLASS_SUPPORT"),
    "S05-one-speaker": (1, lambda report: replace(report, num_speakers=1), "SINGLE_SPEAKER"),
    "S06-nine-speakers": (2, lost_speakers, "NOT_MEASURABLE"),
    "S07-hits-of-2.1-percent": (2, lambda report: with_tpr1(report, 0.021), "AUDIT_FAILED"),
    "S08-broken-promise": (1, broken_promise, "DP_BROKEN"),
    "S12-much-room": (
        2,
        lambda report: replace(report, capacity=Capacity(num_bytes=9, share_of_speech=0.26)),
        "CAPACITY",
    ),
}


@pytest.mark.parametrize(("tier", "spoil", "word"), ROWS.values(), ids=ROWS)
def test_row_of_an_audit_that_fails(source, tier, spoil, word):
    source.audit(spoil(passing(tier)))
    source.refuse(word, "--tier", tier)


@pytest.mark.parametrize("tier", [0, 1])
def test_row_s01_an_audit_of_other_quantized_weights(source, tier):
    source.audit(passing(1), weights_sha256="00" * 32)
    source.refuse("AUDIT_BINDING", "--tier", tier)


def test_row_s01_an_audit_of_another_training(source):
    source.audit(passing(1), run_sha256="00" * 32)
    source.refuse("AUDIT_BINDING", "--tier", 1)
    ending, site = source.ask("grant")
    assert ending.code == 0, ending.stderr
    assert "tier 0, an audit of other weights: nobody has measured" in ending.stderr
    assert source.stated(site)["audit"] == "none"


def test_a_model_without_an_audit_leaves_at_tier_0_and_that_is_said_aloud(source):
    source.refuse("AUDIT", "--tier", 1)
    ending, site = source.ask("grant")
    assert "tier 0, no audit: nobody has measured what this model remembers" in ending.stderr
    stated = source.stated(site)
    assert (stated["tier"], stated["audit"], stated["networks"], stated["unit"]) == (0, "none", 0, "none")


def test_an_audit_is_stated_at_tier_0_though_nothing_is_asked_of_it(source):
    source.audit(failing())
    ending, site = source.ask("grant")
    assert ending.code == 0, ending.stderr
    stated = source.stated(site)
    assert (stated["tier"], stated["audit"], stated["lira_auc"], stated["lira_tpr1"]) == (0, "measured", 166, 50)


@pytest.mark.parametrize("tier", [1, 2])
def test_a_model_that_passes_says_so(source, tier):
    source.audit(passing(tier))
    ending, site = source.ask("grant", "--tier", tier)
    assert ending.code == 0, ending.stderr
    stated = source.stated(site)
    assert (stated["tier"], stated["audit"], stated["networks"]) == (tier, "passed", 4 + tier)


# The second officer.


def appoint(source: Auditor, name: str = "officer", *, register: bool = True) -> str:
    """Make a second officer, and register them; their key lies in a folder of that name."""
    made = source.do("officer", "init", "--out", source.folder / name)
    assert made.code == 0, made.stderr
    fingerprint = made.stdout.strip()
    if register:
        done = source.do("officer", "register", "--keys", source.keys, "--officer", fingerprint)
        assert done.code == 0, done.stderr
    return fingerprint


def overriding(source: Auditor, tier: int = 1, name: str = "officer") -> Path:
    """An officer's word for the run in place."""
    out = source.folder / f"{name}-{tier}.override"
    words = ("--key", source.folder / name, "--model", source.run, "--tier", tier, "--out", out)
    done = source.do("officer", "override", *words)
    assert done.code == 0, done.stderr
    assert f"it misses tier {tier}: LiRA on the procedure reaches an AUC" in done.stderr
    return out


def test_an_officer_overrides_a_failed_audit_and_the_manifest_says_so(source):
    appoint(source)
    source.audit(failing())
    source.refuse("AUDIT_FAILED", "--tier", 1)
    ending, site = source.ask("grant", "--tier", 1, "--override", overriding(source))
    assert ending.code == 0, ending.stderr
    assert "overridden by the officer: LiRA on the procedure reaches an AUC" in ending.stderr
    stated = source.stated(site)
    assert (stated["tier"], stated["audit"], stated["lira_auc"]) == (1, "overridden", 166)
    assert frame.split(source.left(site)).envelope


def test_an_audit_that_passes_needs_no_officer(source):
    appoint(source)
    source.audit(failing())
    word = overriding(source)
    source.audit(passing(1))
    ending, site = source.ask("grant", "--tier", 1, "--override", word)
    assert ending.code == 0, ending.stderr
    assert source.stated(site)["audit"] == "passed"
    again = ("--model", source.run, "--tier", 1, "--out", source.folder / "none")
    assert "nothing to override" in source.do("officer", "override", "--key", source.folder / "officer", *again).stderr


def test_an_override_is_for_one_model_and_one_tier(source):
    appoint(source)
    source.audit(failing())
    word, other_tier = overriding(source), overriding(source, 2)
    source.refuse("AUDIT_BINDING", "--tier", 1, "--override", other_tier)
    source.train(seed=1)
    source.audit(failing())
    source.refuse("AUDIT_BINDING", "--tier", 1, "--override", word)


def test_at_tier_0_there_is_nothing_to_override(source):
    (source.folder / "word").write_text("")
    source.refuse("", "--override", source.folder / "word", code=2, says="name the --tier")


def test_nothing_is_overridden_where_there_is_no_audit(source):
    appoint(source)
    source.audit(failing())
    word = overriding(source)
    (source.run / "audit.json").unlink()
    source.refuse("AUDIT", "--tier", 1, "--override", word)


def test_nobody_but_the_registered_officer_overrides(source):
    source.audit(failing())
    appoint(source, "stranger", register=False)
    word = overriding(source, name="stranger")
    source.refuse("KEY_MISSING", "--tier", 1, "--override", word, code=3, says="officer register")
    appoint(source)
    source.refuse("KEY_UNKNOWN", "--tier", 1, "--override", word, code=10)
    signed = overriding(source)
    damaged = bytearray(signed.read_bytes())
    place = damaged.index(b'"sig":"') + 20
    damaged[place : place + 1] = b"B" if damaged[place : place + 1] == b"A" else b"A"
    signed.write_bytes(damaged)
    source.refuse("SIG_INVALID", "--tier", 1, "--override", signed, code=10)
    signed.write_bytes(b"let it go")
    source.refuse("NOT_CANONICAL", "--tier", 1, "--override", signed, code=12)


def test_one_person_with_the_release_key_is_not_two(source):
    own = json.loads(source.do("keys", "show", "--keys", source.keys, "--format", "json").stdout)["release"]
    check_refused(source.do("officer", "register", "--keys", source.keys, "--officer", own), 11, "KEY_UNKNOWN")
    assert not (source.keys / OFFICER_FILE).exists()


def test_an_officer_is_not_replaced_in_silence(source):
    first = appoint(source)
    second = appoint(source, "second", register=False)
    register = ("officer", "register", "--keys", source.keys, "--officer")
    check_refused(source.do(*register, second), 3, "KEY_EXISTS")
    assert source.do(*register, first).code == 0
    check_refused(source.do("officer", "init", "--out", source.folder / "officer"), 3, "KEY_EXISTS")


def test_after_a_rotation_the_officer_is_registered_anew(source):
    officer = appoint(source)
    source.audit(failing())
    word = overriding(source)
    assert source.do("keys", "rotate", "--keys", source.keys).code == 0
    source.refuse("KEY_UNKNOWN", "--tier", 1, "--override", word, code=10)
    assert source.do("officer", "register", "--keys", source.keys, "--officer", officer).code == 0
    assert source.ask("grant", "--tier", 1, "--override", word)[0].code == 0


# S11: the budget of the speech.


def grant_models(source: Auditor, count: int) -> None:
    for seed in range(count):
        source.train(seed=seed)
        source.audit(passing(1))
        ending, _ = source.ask("grant", "--tier", 1)
        assert ending.code == 0, ending.stderr
        assert f"leave now: {seed + 1} of 3" in ending.stderr


def test_row_s11_a_fourth_model_of_the_same_speech(source):
    grant_models(source, 3)
    source.train(seed=3)
    source.audit(passing(1))
    source.refuse("RELEASE_BUDGET", "--tier", 1)
    assert source.ask("grant", "--tier", 1, "--releases", 4)[0].code == 0


@pytest.mark.parametrize("tier", [0, 1])
@pytest.mark.parametrize("loss", ["deleted", "put back"])
def test_row_s11_a_count_that_was_set_back_is_noticed(source, loss, tier):
    grant_models(source, 1)
    book = source.keys / BUDGET_FILE
    earlier = book.read_bytes()
    source.train(seed=1)
    source.audit(passing(1))
    assert source.ask("grant", "--tier", 1)[0].code == 0
    whole = book.read_bytes()
    if loss == "deleted":
        book.unlink()
    else:
        book.write_bytes(earlier)
    source.train(seed=2, utterances=("other", "speech"))
    source.audit(passing(1))
    source.refuse("RELEASE_BUDGET", "--tier", tier, says="restore the last copy")
    book.write_bytes(whole)
    assert source.ask("grant", "--tier", tier)[0].code == 0
    assert source.do("ledger", "verify", "--keys", source.keys).code == 0


def test_row_s11_what_was_counted_and_did_not_leave_stays_counted(source):
    source.audit(passing(1), weights_sha256="00" * 32)
    source.refuse("AUDIT_BINDING", "--tier", 1)
    source.train(seed=1)
    source.audit(passing(1))
    ending, _ = source.ask("grant", "--tier", 1)
    assert ending.code == 0, ending.stderr
    assert "leave now: 2 of 3" in ending.stderr
