"""What a site may do with which voices."""

import re

import pytest

from ecan_core.errors import SettingsError, UsageError
from protocol.bundle.trust import AuditTerms
from protocol.errors import RefusedError
from target_site.site_policy import AT_WORK, PROHIBITED_PURPOSES, PURPOSES, SUBJECTS, read_policy

CALL_CENTRE = """\
purpose: service
subjects: caller
channels: [agent, caller]
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        (tmp_path / "site.yaml").write_text(text)
        return tmp_path / "site.yaml"

    return write


def test_a_call_centre_leaves_its_agents_out(written):
    parties = read_policy(written(CALL_CENTRE)).parties
    assert parties.roles == ("agent", "caller")
    assert "agent" in parties.discarded
    assert not set(SUBJECTS) & set(parties.discarded)
    assert parties.mixed_because is None


def test_without_channels_they_mean_nothing(written):
    policy = read_policy(written("purpose: care\nsubjects: patient\n"))
    assert policy.parties is None
    assert (policy.approval, policy.least_level, policy.adaptation.epochs) == ("required", 2, 15)
    assert policy.audit == AuditTerms(least_tier=0, accept_overridden=False)


def test_a_site_says_what_it_asks_of_an_audit(written):
    text = "purpose: care\nsubjects: patient\nleast_tier: 2\naccept_overridden: true\n"
    assert read_policy(written(text)).audit == AuditTerms(least_tier=2, accept_overridden=True)


@pytest.mark.parametrize("purpose", PROHIBITED_PURPOSES)
def test_a_prohibited_purpose_is_refused(written, purpose):
    with pytest.raises(RefusedError, match=r"prohibited \(EU AI Act, Article 5\(1\)\(f\)") as refused:
        read_policy(written(f"purpose: {purpose}\nsubjects: volunteer\n"))
    assert refused.value.exit_code == 11


@pytest.mark.parametrize("subjects", AT_WORK)
def test_people_at_work_or_in_education_are_no_subjects(written, subjects):
    with pytest.raises(RefusedError, match="prohibited"):
        read_policy(written(f"purpose: research\nsubjects: {subjects}\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subjects: patient\n", "purpose is missing"),
        ("purpose: care\n", "subjects is missing"),
        ("purpose: care\nsubject: patient\n", "did you mean subjects"),
        ("purpose: care\nsubjects: patient\nleast_level: 4\n", "least_level is 4"),
        ("purpose: care\nsubjects: patient\nleast_tier: 3\n", "least_tier is 3, but must be 0, 1 or 2"),
        ("purpose: care\nsubjects: patient\nleast_tier: no\n", "least_tier must be a whole number"),
        ("purpose: care\nsubjects: patient\naccept_overridden: 1\n", "accept_overridden must be"),
        ("purpose: care\nsubjects: patient\nleast_level: yes\n", "least_level must be a whole number"),
        ("purpose: care\nsubjects: patient\napproval: never\n", "approval must be one of required, not-needed"),
        ("purpose: care\nsubjects: patient\nchannels: [robot, caller]\n", "not 'robot'"),
        ("purpose: care\nsubjects: patient\nchannels: [patient]\nmixed_because: x\n", "has no effect with one channel"),
        (CALL_CENTRE + "mixed_because: ''\n", "must give a reason"),
        (CALL_CENTRE + f"mixed_because: {'x' * 201}\n", "at most 200"),
        (CALL_CENTRE + "adaptation:\n  epochs: 0\n", "adaptation.epochs is 0"),
        (CALL_CENTRE + "adaptation:\n  learning_rate: .nan\n", "adaptation.learning_rate must be a finite number"),
        ("a: &a [x]\nb: *a\n", "uses an anchor"),
        ("!!python/object:os.system x\n", "tag"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(written, text, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        read_policy(written(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "purpose: fun\nsubjects: patient\n",
            "'fun' is no purpose that this version knows; name one of care, research",
        ),
        (
            "purpose: care\nsubjects: cats\n",
            "'cats' is no kind of subjects that this version knows; name one of patient",
        ),
    ],
)
def test_a_purpose_that_nobody_has_looked_at_is_refused_like_a_prohibited_one(written, text, words):
    with pytest.raises(RefusedError, match=words) as caught:
        read_policy(written(text))
    assert caught.value.exit_code == 11


@pytest.mark.parametrize("mode", [0o666, 0o662, 0o620])
def test_rules_that_others_may_change_are_no_rules(written, mode):
    path = written(CALL_CENTRE)
    path.chmod(mode)
    with pytest.raises(RefusedError, match="chmod go-w"):
        read_policy(path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UsageError, match="no settings file"):
        read_policy(tmp_path / "site.yaml")


def test_the_manual_names_every_purpose_and_role():
    from pathlib import Path

    manual = (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()
    section = manual[manual.index("## A site's rules") :]
    for word in (*PURPOSES, *SUBJECTS, *AT_WORK):
        assert f"`{word}`" in section


@pytest.mark.parametrize(("name", "kept"), [("hospital", "patient"), ("call-centre", "caller")])
def test_the_examples_leave_everybody_out_who_is_at_work(name, kept):
    from pathlib import Path

    policy = read_policy(Path(__file__).resolve().parents[2] / "deploy" / f"site-{name}.yaml")
    assert [role for role in policy.channels if role not in policy.parties.discarded] == [kept]
    assert policy.subjects == kept
