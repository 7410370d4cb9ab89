"""``ecan-target trust``: what a person sees and changes of the trust state."""

from pathlib import Path

import pytest

from protocol.identity import signing
from protocol.identity.identities import Role
from protocol.identity.key_files import write_identity
from protocol.statements.offers import NO_HEAD, CheckpointFields, sign_checkpoint
from protocol.statements.revocations import Revocations, sign_revocations
from protocol.statements.succession import sign_succession
from target_site.trust.checkpoints import SignedCheckpoint, keep_checkpoint
from target_site.trust.state import STATE_FILE, load_trust_state, update_trust_state
from tests.support import cli
from tests.support.sites import TODAY, new_identity, new_site

SOURCE, HEIR = new_identity(Role.SOURCE), new_identity(Role.SOURCE)
WEIGHTS = b"w" * 32
HAND_OVER = sign_succession(SOURCE.signing_key, HEIR.signing_key, 1, last_list=3, last_release=5)


def listed(version=1, signer=SOURCE):
    revocations = Revocations(version=version, day=TODAY, weights=frozenset({WEIGHTS}), keys=frozenset())
    return sign_revocations(revocations, signer.signing_key)


@pytest.fixture
def keys(tmp_path):
    return new_site().write(tmp_path / "keys")


@pytest.fixture
def known(keys):
    """A site that has received something from the source."""
    update_trust_state(keys, lambda state: state.reset(SOURCE.fingerprint, 5))
    return keys


def trust(command, keys, *words):
    return cli.target("trust", command, "--keys", keys, *words)


def update(keys, tmp_path, statement, *words):
    path = tmp_path / "statement"
    path.write_bytes(statement)
    return trust("update", keys, "--statement", path, *words)


def test_a_new_site_knows_nothing_and_says_so(keys):
    assert trust("show", keys).stdout == "nothing was received from any source yet\n"
    assert trust("show", keys, "--format", "json").json() == []


def test_what_is_known_of_a_source_is_listed(known, tmp_path):
    assert update(known, tmp_path, listed(3)).code == 0
    assert update(known, tmp_path, HAND_OVER).code == 0
    sources = {entry["source"]: entry for entry in trust("show", known, "--format", "json").json()}
    old = sources[SOURCE.fingerprint.hex()]
    assert (old["release"], old["weights_sha256"], old["revocation_list"]) == (5, None, 3)
    assert (old["revoked_weights"], old["successor"]) == ([WEIGHTS.hex()], HEIR.fingerprint.hex())
    assert sources[HEIR.fingerprint.hex()]["release"] == 5
    text = trust("show", known).stdout
    assert f"source {SOURCE.fingerprint.hex()}" in text
    assert f"1 models, 0 keys (list 3 of {old['revocation_day']})" in text
    assert f"successor  {HEIR.fingerprint.hex()}" in text


def test_the_last_checkpoint_is_shown_with_the_file_that_proves_it(known):
    (entry,) = trust("show", known, "--format", "json").json()
    assert (entry["ledger_entry"], entry["ledger_head"], entry["checkpoint"]) == (0, None, None)
    assert "none kept" in trust("show", known).stdout
    stated = CheckpointFields(grant=bytes(16), seq=4, head=b"h" * 32, seen=0, seen_head=NO_HEAD, day=TODAY)
    statement = sign_checkpoint(stated, SOURCE.online_key)
    signed = SignedCheckpoint(stated=stated, statement=statement, endorsement=SOURCE.online_endorsement)
    keep_checkpoint(known, SOURCE.fingerprint, signed)
    since = load_trust_state(known).of(SOURCE.fingerprint)
    update_trust_state(known, lambda state: state.saw(SOURCE.fingerprint, stated, since=since))
    (entry,) = trust("show", known, "--format", "json").json()
    assert (entry["ledger_entry"], entry["ledger_head"]) == (4, stated.head.hex())
    text = trust("show", known).stdout
    assert f"entry 4, head {stated.head.hex()}" in text
    assert entry["checkpoint"] in text
    assert Path(entry["checkpoint"]).read_bytes() == statement


def test_a_revocation_list_is_learned_by_hand(known, tmp_path):
    result = update(known, tmp_path, listed(2), "--format", "json")
    assert result.json()["kind"] == "revocations"
    assert result.json()["weights"] == [WEIGHTS.hex()]
    assert "1 models and 0 keys are withdrawn" in result.stderr
    assert load_trust_state(known).revoked(SOURCE.fingerprint) == {WEIGHTS}


def test_an_older_list_is_refused(known, tmp_path):
    update(known, tmp_path, listed(2))
    result = update(known, tmp_path, listed(1))
    assert result.code == 11
    assert "list 2 is known" in result.refusal()


def test_a_succession_is_learned_by_hand(known, tmp_path):
    result = update(
        known,
        tmp_path,
        HAND_OVER,
        "--format",
        "json",
    )
    assert result.json()["successor"] == HEIR.fingerprint.hex()
    assert "handed over" in result.stderr
    assert load_trust_state(known).follow(SOURCE.fingerprint) == HEIR.fingerprint


def test_a_source_that_is_not_known_has_to_be_named(keys, tmp_path):
    result = update(keys, tmp_path, listed())
    assert result.code == 10
    assert "--trust" in result.refusal()
    assert update(keys, tmp_path, listed(), "--trust", SOURCE.fingerprint.hex()).code == 0
    assert load_trust_state(keys).knows(SOURCE.fingerprint)


def test_a_statement_of_another_source_than_the_named_one_is_refused(known, tmp_path):
    result = update(known, tmp_path, listed(signer=HEIR), "--trust", SOURCE.fingerprint.hex())
    assert result.code == 10
    assert not load_trust_state(known).knows(HEIR.fingerprint)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (signing.sign("application/vnd.ecan.receipt.v1+json", b"{}", SOURCE.signing_key), 10),
        (b"not signed", 12),
        (b"", 12),
        (listed() * 2, 12),
    ],
    ids=["another kind", "not signed", "empty", "twice"],
)
def test_something_else_is_no_statement(known, tmp_path, statement, code):
    result = update(known, tmp_path, statement)
    assert result.code == code
    assert result.refusal()
    assert load_trust_state(known).of(SOURCE.fingerprint).version == 0


def test_a_lost_memory_is_reset_by_a_person(keys):
    (keys / STATE_FILE).unlink()
    lost = trust("show", keys)
    assert lost.code == 10
    assert "ecan-target trust reset" in lost.refusal()
    assert "public/revocations" in lost.refusal()
    result = trust("reset", keys, "--trust", SOURCE.fingerprint.hex(), "--release", 4, "--format", "json")
    assert result.code == 0
    assert result.json()["release"] == 4
    assert "before 4 are refused" in result.stderr
    assert "`ecan-target trust update` with its public/succession" in result.stderr
    assert "public/revocations" in result.stderr
    assert load_trust_state(keys).lost
    assert load_trust_state(keys).of(SOURCE.fingerprint).release == 4


def test_what_was_withdrawn_before_a_loss_is_not_known_until_it_is_learned_again(keys, tmp_path):
    (keys / STATE_FILE).unlink()
    trust("reset", keys, "--trust", SOURCE.fingerprint.hex(), "--release", 4)
    assert "was reset; revocation list not known yet" in trust("show", keys).stdout
    assert trust("show", keys, "--format", "json").json()[0]["revocation_list"] is None
    assert update(keys, tmp_path, HAND_OVER).code == 0
    assert update(keys, tmp_path, listed(4, signer=HEIR)).code == 0
    assert "1 models, 0 keys (list 4 of 20" in trust("show", keys).stdout


def test_a_reset_of_a_source_without_a_release_says_that_any_may_come(keys):
    result = trust("reset", keys, "--trust", SOURCE.fingerprint.hex(), "--release", 0)
    assert "any release of" in result.stderr
    assert "before 0" not in result.stderr


def test_a_list_of_a_key_that_has_handed_over_is_refused(known, tmp_path):
    update(known, tmp_path, HAND_OVER)
    for words in ((), ("--trust", SOURCE.fingerprint.hex())):
        result = update(known, tmp_path, listed(9), *words)
        assert result.code == 11
        assert "only the heir's lists count" in result.refusal()
    assert load_trust_state(known).revoked(SOURCE.fingerprint) == frozenset()


@pytest.mark.parametrize("words", [["--release", 4], ["--trust", "ab" * 32], ["--trust", "ab" * 32, "--release", -1]])
def test_a_reset_names_the_source_and_the_release(keys, words):
    assert trust("reset", keys, *words).code == 2


def test_a_reset_of_a_source_by_another_name_or_in_another_folder_is_refused(keys, tmp_path):
    assert trust("reset", keys, "--trust", "nobody", "--release", 1).code == 3
    write_identity(SOURCE, tmp_path / "source")
    result = trust("reset", tmp_path / "source", "--trust", SOURCE.fingerprint.hex(), "--release", 1)
    assert result.code == 3
    assert "this site's keys" in result.refusal()
    assert not (tmp_path / "source" / STATE_FILE).exists()


def test_a_sources_folder_is_called_one_and_not_a_lost_memory(tmp_path):
    write_identity(SOURCE, tmp_path / "source")
    for result in (trust("show", tmp_path / "source"), update(tmp_path / "source", tmp_path, listed())):
        assert result.code == 3
        assert "holds a source's keys" in result.refusal()
        assert "trust reset" not in result.stderr


@pytest.mark.parametrize("command", ["show", "update", "reset"])
def test_every_command_has_an_example(command):
    assert "Example: ecan-target trust" in cli.target("trust", command, "--help").stdout
