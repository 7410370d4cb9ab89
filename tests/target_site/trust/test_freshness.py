"""A site that is not told of newer withdrawals stops, if its rules say so (`oldest_revocations_days`)."""

from dataclasses import replace

import pytest

from protocol.errors import Code, RefusedError, UnauthenticError
from protocol.identity.identities import Role
from protocol.statements.revocations import Revocations, sign_revocations
from target_site.accountability.audit_log import today
from target_site.trust.freshness import refuse_stale
from target_site.trust.state import TrustState, create_trust_state, update_trust_state
from tests.support import cli
from tests.support.sites import new_identity, new_site

SOURCE, HEIR = new_identity(Role.SOURCE), new_identity(Role.SOURCE)
DAY = 20_000
LIST = Revocations(version=1, day=DAY, weights=frozenset(), keys=frozenset())


@pytest.fixture
def keys(tmp_path):
    """A site that knows list 1 of day `DAY`."""
    create_trust_state(tmp_path / "keys")
    update_trust_state(tmp_path / "keys", lambda state: state.learned(SOURCE.fingerprint, LIST))
    return tmp_path / "keys"


def check(keys, days, *, later, issuer=SOURCE.fingerprint):
    refuse_stale(keys, issuer, oldest_days=days, today=DAY + later)


def test_a_list_of_the_last_days_is_enough(keys):
    check(keys, 30, later=30)
    check(keys, 30, later=-1)  # another clock


def test_an_older_list_is_refused_with_its_age(keys):
    with pytest.raises(RefusedError, match="is 31 days old, and 30 are allowed") as caught:
        check(keys, 30, later=31)
    assert (caught.value.code, caught.value.exit_code) == (Code.EXPIRED, 11)


def test_any_age_is_allowed_where_no_limit_is_set(keys):
    check(keys, None, later=40_000)
    check(None, None, later=0)


def test_a_source_that_has_shown_no_list_is_refused(keys):
    with pytest.raises(RefusedError, match="has seen no revocation list"):
        check(keys, 30, later=0, issuer=HEIR.fingerprint)


def test_a_limit_without_keys_is_refused():
    with pytest.raises(RefusedError, match="give --keys"):
        check(None, 30, later=0)


def test_the_same_list_with_a_later_day_is_heard_and_an_earlier_day_does_not_take_it_back(keys):
    for days_on in (40, 20):
        renewed = replace(LIST, day=DAY + days_on)
        update_trust_state(keys, lambda state, newest=renewed: state.learned(SOURCE.fingerprint, newest))
    check(keys, 30, later=70)


def test_the_list_of_the_heir_counts_for_what_the_old_key_signed():
    from protocol.statements.succession import Succession

    handed = Succession(old=SOURCE.fingerprint, new=HEIR.fingerprint, number=1, last_list=1, last_release=0)
    state = TrustState().learned(SOURCE.fingerprint, LIST).succeeded(handed)
    assert state.day_of_list(SOURCE.fingerprint) is None
    state = state.learned(HEIR.fingerprint, replace(LIST, version=2, day=DAY + 9))
    assert state.day_of_list(SOURCE.fingerprint) == DAY + 9


def test_a_lost_memory_is_no_fresh_list(keys):
    (keys / "trust.state").unlink()
    with pytest.raises(UnauthenticError):
        check(keys, 30, later=0)


# The commands.


@pytest.fixture
def site(tmp_path):
    """This site's keys, its rules, and a list of 40 days ago."""
    keys = new_site().write(tmp_path / "site-keys")
    aged = replace(LIST, day=today() - 40)
    update_trust_state(keys, lambda state: state.learned(SOURCE.fingerprint, aged))
    return keys, cli.site_rules(tmp_path / "site.yaml", rules="oldest_revocations_days: 30\n")


def test_the_age_is_shown_by_doctor_and_by_trust_show(site):
    keys, _ = site
    assert (
        f"revocation lists: {SOURCE.fingerprint.hex()[:16]}... 40 days old"
        in cli.target("doctor", "--keys", keys).stdout
    )
    (entry,) = cli.target("trust", "show", "--keys", keys, "--format", "json").json()
    assert entry["revocation_day"] in cli.target("trust", "show", "--keys", keys).stdout


def test_doctor_calls_a_list_too_old_that_the_rules_call_too_old(site):
    keys, config = site
    result = cli.target("doctor", "--keys", keys, "--config", config)
    assert "fault revocation lists: The newest revocation list" in result.stdout
    assert "ecan-source revoke --keys KEYS --renew" in result.stdout


def test_a_future_list_is_refused_by_hand(tmp_path, site):
    keys, _ = site
    ahead = sign_revocations(replace(LIST, version=2, day=today() + 3), SOURCE.signing_key)
    (tmp_path / "statement").write_bytes(ahead)
    refused = cli.target("trust", "update", "--keys", keys, "--statement", tmp_path / "statement")
    assert (refused.code, "[NOT_YET]" in refused.refusal()) == (11, True)
