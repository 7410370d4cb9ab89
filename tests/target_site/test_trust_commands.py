"""``ecan-target trust``: what a person sees and changes of the trust state."""

import pytest

from protocol import signing
from protocol.identity import Role
from protocol.key_files import write_identity
from protocol.revocations import Revocations, seal_revocations
from protocol.succession import seal_succession
from target_site.trust_state import STATE_FILE, load_trust_state, update_trust_state
from tests.support import cli
from tests.support.sites import TODAY, new_identity, new_site

SOURCE, HEIR = new_identity(Role.SOURCE), new_identity(Role.SOURCE)
WEIGHTS = b"w" * 32


def listed(version=1, signer=SOURCE):
    revocations = Revocations(version=version, day=TODAY, weights=frozenset({WEIGHTS}), keys=frozenset())
    return seal_revocations(revocations, signer.signing_key)


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
    assert update(known, tmp_path, seal_succession(SOURCE.signing_key, HEIR.signing_key, 1)).code == 0
    sources = {entry["source"]: entry for entry in trust("show", known, "--format", "json").json()}
    old = sources[SOURCE.fingerprint.hex()]
    assert (old["release"], old["weights_sha256"], old["revocation_list"]) == (5, None, 3)
    assert (old["revoked_weights"], old["successor"]) == ([WEIGHTS.hex()], HEIR.fingerprint.hex())
    assert sources[HEIR.fingerprint.hex()]["release"] == 5
    text = trust("show", known).stdout
    assert f"source {SOURCE.fingerprint.hex()}" in text
    assert "1 models, 0 keys (list 3)" in text
    assert f"successor  {HEIR.fingerprint.hex()}" in text


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
    result = update(known, tmp_path, seal_succession(SOURCE.signing_key, HEIR.signing_key, 1), "--format", "json")
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
    result = trust("reset", keys, "--trust", SOURCE.fingerprint.hex(), "--release", 4, "--format", "json")
    assert result.code == 0
    assert result.json()["release"] == 4
    assert "before 4 are refused" in result.stderr
    assert load_trust_state(keys).lost
    assert load_trust_state(keys).of(SOURCE.fingerprint).release == 4


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


@pytest.mark.parametrize("command", ["show", "update", "reset"])
def test_every_command_has_an_example(command):
    assert "Example: ecan-target trust" in cli.target("trust", command, "--help").stdout
