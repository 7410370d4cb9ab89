import hashlib
import json
import threading
from datetime import UTC, datetime

import pytest

from ecan_core.errors import UsageError
from protocol.errors import Code, FileError, KeyFileError, RefusedError, UnauthenticError
from protocol.identity import signing
from protocol.ledger.grants import GrantState, SealedFacts
from protocol.statements.revocations import MAX_REVOKED, open_revocations
from source_site.keys.folder import init_keys, load_keys, open_ledger, outbox_file, revocations_file
from source_site.release.revoke import refuse_withdrawn, renew_revocations, revoke_key, revoke_release
from source_site.release.rotation import rotate_keys
from tests.support import cli

NOW_S = 20_500 * 86_400
KEY = b"k" * 32


@pytest.fixture
def keys(tmp_path):
    init_keys(tmp_path / "keys")
    return tmp_path / "keys"


def weights_of(model: int) -> bytes:
    return hashlib.sha256(b"weights %d" % model).digest()


def issue(keys, grant: int, model: int) -> bytes:
    """A grant of a model, as the gate would leave it."""
    name = grant.to_bytes(16)

    def seal(release: int) -> SealedFacts:
        outbox_file(keys, name).write_bytes(b"sealed")
        return SealedFacts(
            sealed_sha256=hashlib.sha256(name).digest(),
            size=6,
            bundle_sha256=hashlib.sha256(b"bundle" + name).digest(),
            weights_sha256=weights_of(model),
        )

    open_ledger(keys).issue(name, bytes(32), hashlib.sha256(b"model %d" % model).digest(), seal, now_s=NOW_S)
    return name


def listed(keys):
    return open_revocations(revocations_file(keys).read_bytes(), load_keys(keys).fingerprint)


def test_a_withdrawn_release_is_on_the_signed_list(keys):
    issue(keys, 1, model=1)
    issue(keys, 2, model=2)
    withdrawal = revoke_release(keys, 2, now_s=NOW_S)
    assert withdrawal.revocations == listed(keys)
    assert (listed(keys).version, listed(keys).day) == (1, 20_500)
    assert listed(keys).weights == {weights_of(2)}
    assert revocations_file(keys).stat().st_mode & 0o777 == 0o644


def test_every_open_grant_of_the_release_is_denied_and_no_other(keys):
    mine, streaming, closed, other = (issue(keys, number, model=1 if number < 4 else 2) for number in range(1, 5))
    ledger = open_ledger(keys)
    for grant in (streaming, closed):
        ledger.carry(grant, now_s=NOW_S)
    ledger.close(closed, b"receipt", now_s=NOW_S)
    denied = revoke_release(keys, 1, now_s=NOW_S).denied
    assert {record.grant for record in denied} == {mine, streaming}
    states = {record.grant: record.state for record in ledger.records()}
    assert [states[grant] for grant in (mine, streaming, closed, other)] == [
        GrantState.DENIED,
        GrantState.DENIED,
        GrantState.CLOSED,
        GrantState.ISSUED,
    ]
    assert not outbox_file(keys, mine).exists()
    assert outbox_file(keys, other).exists()
    ledger.verify()


def test_to_withdraw_again_changes_nothing_but_finishes_what_was_cut_short(keys):
    issue(keys, 1, model=1)
    revoke_release(keys, 1, now_s=NOW_S)
    before = revocations_file(keys).read_bytes()
    late = issue(keys, 2, model=1)
    withdrawal = revoke_release(keys, 1, now_s=NOW_S + 86_400)
    assert not withdrawal.is_new
    assert [record.grant for record in withdrawal.denied] == [late]
    assert revocations_file(keys).read_bytes() == before


def test_a_grant_that_is_issued_while_its_release_is_withdrawn_is_denied(keys):
    open_before, meanwhile = issue(keys, 1, model=1), (2).to_bytes(16)
    ledger, withdrawals = open_ledger(keys), []
    revoking = threading.Thread(target=lambda: withdrawals.append(revoke_release(keys, 1, now_s=NOW_S)))

    def seal(release: int) -> SealedFacts:
        revoking.start()
        while not ledger.find(open_before).state.has_ended:  # it does not wait for us to take the others back
            revoking.join(0.01)
        return SealedFacts(sealed_sha256=bytes(32), size=6, bundle_sha256=bytes(32), weights_sha256=weights_of(release))

    open_ledger(keys).issue(meanwhile, bytes(32), hashlib.sha256(b"model 1").digest(), seal, now_s=NOW_S)
    revoking.join(20)
    assert [record.grant for record in withdrawals[0].denied] == [open_before, meanwhile]
    assert {record.state for record in ledger.records()} == {GrantState.DENIED}
    ledger.verify()


def test_a_withdrawal_that_was_killed_after_its_list_lets_nothing_leave(keys):
    issue(keys, 1, model=1)
    issue(keys, 2, model=2)
    issuer, (first, second) = load_keys(keys).fingerprint, open_ledger(keys).records()
    revoke_release(keys, 1, now_s=NOW_S)
    refuse_withdrawn(keys, issuer, [second])
    with pytest.raises(RefusedError, match="revoke --release 1") as caught:
        refuse_withdrawn(keys, issuer, [second, first])
    assert (caught.value.code, caught.value.exit_code) == (Code.REVOKED, 11)


def test_with_the_present_release_key_every_open_grant_is_withdrawn(keys):
    grants = [issue(keys, 1, model=1), issue(keys, 2, model=2)]
    own = load_keys(keys)
    online = signing.fingerprint_of(signing.raw_public_key(own.online_key))
    assert revoke_key(keys, online, now_s=NOW_S).denied == ()
    assert [record.grant for record in revoke_key(keys, own.fingerprint, now_s=NOW_S).denied] == grants
    assert not outbox_file(keys, grants[0]).exists()
    with pytest.raises(RefusedError, match="keys rotate") as caught:
        refuse_withdrawn(keys, own.fingerprint, [])
    assert caught.value.code is Code.REVOKED
    late = issue(keys, 3, model=1)
    assert [record.grant for record in revoke_key(keys, own.fingerprint, now_s=NOW_S).denied] == [late]


def test_keys_and_releases_add_up_on_one_list_with_a_rising_number(keys):
    issue(keys, 1, model=1)
    revoke_release(keys, 1, now_s=NOW_S)
    revoke_key(keys, KEY, now_s=NOW_S)
    assert (listed(keys).version, listed(keys).weights, listed(keys).keys) == (2, {weights_of(1)}, {KEY})


def test_a_release_that_never_was_is_refused(keys):
    with pytest.raises(UsageError, match="ledger list"):
        revoke_release(keys, 1, now_s=NOW_S)
    assert not revocations_file(keys).exists()


def test_a_list_that_is_full_says_what_to_do(keys):
    for number in range(MAX_REVOKED):
        revoke_key(keys, bytes([number]) * 32, now_s=NOW_S)
    with pytest.raises(UsageError, match="rotate the keys"):
        revoke_key(keys, KEY, now_s=NOW_S)
    assert listed(keys).version == MAX_REVOKED


def test_a_list_that_others_have_written_is_not_added_to(keys, tmp_path):
    init_keys(tmp_path / "others")
    revoke_key(tmp_path / "others", KEY, now_s=NOW_S)
    foreign = revocations_file(tmp_path / "others").read_bytes()
    revocations_file(keys).write_bytes(foreign)
    with pytest.raises(UnauthenticError):
        revoke_key(keys, KEY, now_s=NOW_S)
    with pytest.raises(UnauthenticError):
        renew_revocations(keys, load_keys(keys), load_keys(keys), now_s=NOW_S)
    assert revocations_file(keys).read_bytes() == foreign


def test_a_list_that_cannot_be_read_is_a_storage_fault(keys):
    revocations_file(keys).parent.rmdir()
    revocations_file(keys).parent.write_bytes(b"")
    with pytest.raises(FileError):
        revoke_key(keys, KEY, now_s=NOW_S)


def test_encrypted_keys_need_their_passphrase(tmp_path):
    keys, passphrase = tmp_path / "locked", b"correct horse battery staple"
    init_keys(keys, passphrase=passphrase)
    with pytest.raises(KeyFileError):
        revoke_key(keys, KEY, now_s=NOW_S)
    assert revoke_key(keys, KEY, now_s=NOW_S, passphrase=passphrase).is_new


def test_new_keys_take_the_list_over(keys):
    revoke_key(keys, KEY, now_s=NOW_S)
    before = listed(keys)
    old = load_keys(keys)
    rotate_keys(keys, now=datetime.now(UTC))
    assert (listed(keys).version, listed(keys).revoked) == (before.version + 1, before.revoked)
    assert load_keys(keys).fingerprint != old.fingerprint
    kept = revocations_file(keys).read_bytes()
    renew_revocations(keys, old, load_keys(keys), now_s=NOW_S)
    assert revocations_file(keys).read_bytes() == kept
    revoke_key(keys, old.fingerprint, now_s=NOW_S)
    assert (listed(keys).version, listed(keys).keys) == (3, {KEY, old.fingerprint})


def test_no_list_is_made_by_new_keys(keys):
    rotate_keys(keys, now=datetime.now(UTC))
    assert not revocations_file(keys).exists()


# The command.


def test_the_command_withdraws_a_release(keys):
    grant = issue(keys, 1, model=1)
    result = cli.source("revoke", "--keys", keys, "--release", 1, "--format", "json")
    assert result.code == 0
    assert result.json() == {
        "version": 1,
        "new": True,
        "weights": [weights_of(1).hex()],
        "keys": [],
        "denied": [grant.hex()],
        "file": str(revocations_file(keys)),
    }
    assert grant.hex() in result.stderr
    again = cli.source("revoke", "--keys", keys, "--release", 1)
    assert "already on list 1" in again.stderr


def test_the_command_withdraws_a_key(keys):
    online = signing.fingerprint_of(signing.raw_public_key(load_keys(keys).online_key))
    result = cli.source("revoke", "--keys", keys, "--key", online.hex().upper(), "--format", "json")
    assert json.loads(result.stdout)["keys"] == [online.hex()]


@pytest.mark.parametrize(
    "words", [[], ["--release", 1, "--key", KEY.hex()], ["--key", "abc"], ["--release", 0]], ids=str
)
def test_the_command_wants_one_thing_that_can_be(keys, words):
    assert cli.source("revoke", "--keys", keys, *words).code == 2
    assert not revocations_file(keys).exists()


def test_a_denied_grant_is_not_served_any_more(keys):
    grant = issue(keys, 1, model=1)
    revoke_release(keys, 1, now_s=NOW_S)
    with pytest.raises(RefusedError):
        open_ledger(keys).open(grant, now_s=NOW_S)


def test_the_command_withdraws_no_key_that_is_not_this_sources_unless_that_is_meant(keys):
    refused = cli.source("revoke", "--keys", keys, "--key", KEY.hex())
    assert (refused.code, "keys show --all" in refused.refusal()) == (2, True)
    assert not revocations_file(keys).exists()
    assert cli.source("revoke", "--keys", keys, "--key", KEY.hex(), "--unknown").code == 0
    assert listed(keys).keys == {KEY}


def test_the_command_withdraws_the_present_release_key_only_if_that_is_meant(keys):
    grant, present = issue(keys, 1, model=1), load_keys(keys).fingerprint
    words = ("revoke", "--keys", keys, "--key", present.hex())
    for more in ((), ("--unknown",)):
        refused = cli.source(*words, *more)
        assert (refused.code, "--yes" in refused.refusal()) == (2, True)
    assert not revocations_file(keys).exists()
    assert cli.source(*words, "--yes", "--format", "json").json()["denied"] == [grant.hex()]


def test_keys_of_before_a_rotation_are_still_this_sources(keys):
    old = load_keys(keys)
    rotate_keys(keys, now=datetime.now(UTC))
    online = signing.fingerprint_of(signing.raw_public_key(old.online_key))
    for key in (old.fingerprint, online):
        assert cli.source("revoke", "--keys", keys, "--key", key.hex()).code == 0
    assert listed(keys).keys == {old.fingerprint, online}
