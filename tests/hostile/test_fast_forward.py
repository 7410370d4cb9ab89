"""Whoever held a release key for a moment signs what lies far ahead; the rightful source must be heard again.

Rows F01 to F20, all through `ecan-target trust`: a thief's lists and releases, the hand-over that says how far the old
key has really come, and a person's word. Another source, whose memory must not change, is known to every site here.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.identity import signing
from protocol.identity.identities import Role
from protocol.statements.revocations import Revocations, sign_revocations
from protocol.statements.succession import (
    CONSENT_TYPE,
    OLD_CONSENT_TYPE,
    OLD_PAYLOAD_TYPE,
    PAYLOAD_TYPE,
    sign_succession,
)
from source_site.keys.folder import load_keys, revocations_file, succession_file
from target_site.trust.state import NONE, KnownSource, TrustState, load_trust_state, update_trust_state
from tests.hostile import command_line, desks
from tests.hostile.bundles import TODAY, compact
from tests.hostile.command_line import check_refused
from tests.hostile.desks import Desk
from tests.support.sites import new_identity, new_site

OLD, HEIR, THIRD, OTHER = (new_identity(Role.SOURCE) for _ in range(4))
WITHDRAWN, GOOD = b"w" * 32, b"g" * 32
LAST = 2
"""Number of the last list that the source has really signed with its old key; it names `WITHDRAWN`."""
TOP = 65535
LIST = Revocations(version=LAST, day=TODAY, weights=frozenset({WITHDRAWN}), keys=frozenset())
NEIGHBOR = KnownSource(issuer=OTHER.fingerprint, release=9, weights=GOOD, version=7, seq=4, head=GOOD, day=TODAY)


def listing(signer, version: int, *weights: bytes, keys: frozenset[bytes] = frozenset()) -> bytes:
    named = frozenset(weights or {WITHDRAWN})
    return sign_revocations(replace(LIST, version=version, weights=named, keys=keys), signer.signing_key)


def handing_over(old, new, number: int = 1, last_list: int = LAST, last_release: int = 5) -> bytes:
    numbers = {"last_list": last_list, "last_release": last_release}
    return sign_succession(old.signing_key, new.signing_key, number, **numbers)


def handing_over_as_before(old, new) -> bytes:
    """A statement of version 1."""
    agreed = compact({"number": 1, "old": old.fingerprint.hex()})
    fields = {
        "v": 1,
        "number": 1,
        "public_key": signing.raw_public_key(new.signing_key).hex(),
        "consent": signing.bare_signature(OLD_CONSENT_TYPE, agreed, new.signing_key).hex(),
    }
    return signing.sign(OLD_PAYLOAD_TYPE, compact(fields), old.signing_key)


class Site(Desk):
    """A site that knows the source and its neighbor."""

    def told(self, statement: bytes, *options: object) -> command_line.Ending:
        self.lay("statement", statement)
        return self.run("trust", "update", "--keys", "keys", "--statement", "statement", *options)

    def learns(self, *statements: bytes) -> None:
        for statement in statements:
            ending = self.told(statement)
            assert ending.code == 0, ending.stderr

    def refuses(self, statement: bytes, word: str, code: int = 11) -> None:
        before = desks.snapshot(self.keys)
        check_refused(self.told(statement), code, word)
        assert desks.snapshot(self.keys) == before

    def resets(self, source, *options: object) -> None:
        words = ("--trust", source.fingerprint.hex(), "--release", 5, *options)
        assert self.run("trust", "reset", "--keys", "keys", *words).code == 0

    @property
    def memory(self) -> TrustState:
        return load_trust_state(self.keys)

    @property
    def withdrawn(self) -> frozenset[bytes]:
        return self.memory.revoked(OLD.fingerprint)


@pytest.fixture
def site(tmp_path):
    """A site that knows list 2 and release 5; at the end, its neighbor's memory is as it was."""
    site = Site(tmp_path)
    new_site().write(site.keys)
    known = KnownSource(issuer=OLD.fingerprint, release=5, weights=GOOD)
    site.remember(lambda state: TrustState(sources=tuple(sorted((known, NEIGHBOR), key=lambda one: one.issuer))))
    site.learns(listing(OLD, LAST))
    yield site
    assert site.memory.of(OTHER.fingerprint) == NEIGHBOR


@pytest.fixture
def robbed(site) -> Site:
    """The same site after a thief has led it to the last list there is, which withdraws a good model too."""
    site.remember(_robbed)
    return site


def _robbed(state: TrustState) -> TrustState:
    lost = replace(state.of(OLD.fingerprint), version=TOP, revoked_weights=frozenset({WITHDRAWN, GOOD}))
    others = tuple(source for source in state.sources if source.issuer != OLD.fingerprint)
    return TrustState(sources=tuple(sorted((*others, lost), key=lambda one: one.issuer)))


@pytest.mark.parametrize(
    "version",
    [pytest.param(TOP, id="F01-the-last-number"), pytest.param(LAST + 65, id="F02-one-more-than-may-be-missed")],
)
def test_row_a_list_that_leaps_ahead(site, version):
    site.refuses(listing(OLD, version), "FAST_FORWARD")
    site.learns(listing(OLD, LAST + 1, WITHDRAWN, GOOD))


def test_row_f03_as_many_lists_as_may_be_missed(site):
    site.learns(listing(OLD, LAST + 64))
    assert site.memory.of(OLD.fingerprint).version == LAST + 64


@pytest.mark.parametrize(
    ("version", "code"), [pytest.param(257, 11, id="F04-too-high"), pytest.param(256, 0, id="F05-the-highest")]
)
def test_row_a_first_list(site, version, code):
    ending = site.told(listing(THIRD, version), "--trust", THIRD.fingerprint.hex())
    assert (ending.code, ending.word) == (code, "FAST_FORWARD" if code else ""), ending.stderr


def test_row_f06_the_heir_is_heard_after_a_theft(robbed):
    robbed.learns(handing_over(OLD, HEIR), listing(HEIR, LAST + 1), listing(HEIR, LAST + 2, WITHDRAWN, NONE))
    assert robbed.memory.of(HEIR.fingerprint).version == LAST + 2
    assert robbed.memory.follow(OLD.fingerprint) == HEIR.fingerprint


@pytest.mark.parametrize(
    ("version", "word"),
    [
        pytest.param(1, "ROLLBACK", id="F07-older-than-the-stated-one"),
        pytest.param(LAST, "ROLLBACK", id="F08-the-stated-one"),
        pytest.param(LAST + 65, "FAST_FORWARD", id="F09-far-ahead-of-the-stated-one"),
        pytest.param(TOP, "FAST_FORWARD", id="F10-as-far-as-the-thief"),
    ],
)
def test_row_a_list_of_the_heir_that_does_not_go_on(robbed, version, word):
    robbed.learns(handing_over(OLD, HEIR))
    robbed.refuses(listing(HEIR, version), word)
    robbed.learns(listing(HEIR, LAST + 1))


def test_row_f11_the_thief_is_not_heard_after_the_hand_over(robbed):
    robbed.learns(handing_over(OLD, HEIR))
    robbed.refuses(listing(OLD, TOP, WITHDRAWN, GOOD), "ROLLBACK")


def test_row_f12_what_the_thief_named_stays_withdrawn_until_the_heirs_list_is_here(robbed):
    robbed.learns(handing_over(OLD, HEIR))
    assert robbed.withdrawn == {WITHDRAWN, GOOD}
    robbed.learns(listing(HEIR, LAST + 1))
    assert robbed.withdrawn == {WITHDRAWN}


def test_row_f13_a_source_that_never_withdrew_anything_needs_no_list(robbed):
    robbed.learns(handing_over(OLD, HEIR, last_list=0))
    assert robbed.withdrawn == frozenset()
    robbed.learns(listing(HEIR, 1))


def test_row_f14_a_release_far_ahead_does_not_outlive_the_hand_over(site):
    ahead = replace(site.memory.of(OLD.fingerprint), release=TOP, weights=WITHDRAWN)
    site.remember(lambda state: state._with(ahead))
    site.learns(handing_over(OLD, HEIR))
    anchor = site.memory.anchor(HEIR.fingerprint, today=TODAY, audience=None, grants=None)
    assert (anchor.last_release, anchor.last_weights) == (4, NONE)


def test_row_f15_two_hand_overs_in_one_go(robbed):
    robbed.learns(handing_over(OLD, HEIR), handing_over(HEIR, THIRD, 2, LAST + 1), listing(THIRD, LAST + 2))
    assert robbed.withdrawn == {WITHDRAWN}


def test_row_f16_numbers_that_only_the_old_key_states(robbed):
    """The thief takes the true statement, and says that the old key's lists went on to 65534."""
    fields = json.loads(signing.parse_envelope(handing_over(OLD, HEIR)).payload) | {"last_list": TOP - 1}
    robbed.refuses(signing.sign(PAYLOAD_TYPE, compact(fields), OLD.signing_key), "SIG_INVALID", 10)
    alone = signing.bare_signature(CONSENT_TYPE, b"{}", OLD.signing_key).hex()
    robbed.refuses(signing.sign(PAYLOAD_TYPE, compact(fields | {"consent": alone}), OLD.signing_key), "SIG_INVALID", 10)


def test_row_f17_an_old_statement_that_does_not_say_how_far_is_mended_by_a_person(robbed):
    robbed.learns(handing_over_as_before(OLD, HEIR))
    robbed.refuses(listing(HEIR, LAST + 1), "ROLLBACK")
    robbed.resets(HEIR, "--list", LAST + 1)
    robbed.refuses(listing(HEIR, LAST), "ROLLBACK")
    robbed.learns(listing(HEIR, LAST + 1))


@pytest.mark.parametrize(
    ("number", "shown", "held"),
    [
        pytest.param(LAST, LAST, {WITHDRAWN, GOOD}, id="F18-the-number-of-the-newest-list"),
        pytest.param(0, 1, set(), id="F19-no-list-at-all"),
    ],
)
def test_row_a_person_says_where_the_lists_go_on(robbed, number, shown, held):
    robbed.resets(OLD)
    robbed.refuses(listing(OLD, LAST), "ROLLBACK")
    robbed.resets(OLD, "--list", number)
    assert robbed.withdrawn == held
    robbed.learns(listing(OLD, shown))
    assert robbed.withdrawn == {WITHDRAWN}


def test_row_f20_a_thief_who_withdraws_the_old_key_leaves_the_telephone(site):
    """No list can say which of two is the thief, so nothing follows from the statement; a person's word does."""
    site.learns(listing(OLD, LAST + 1, WITHDRAWN, keys=frozenset({OLD.fingerprint})))
    site.refuses(handing_over(OLD, HEIR), "REVOKED")
    ending = site.told(listing(HEIR, LAST + 1), "--trust", HEIR.fingerprint.hex())
    assert ending.code == 0, ending.stderr
    assert site.memory.follow(HEIR.fingerprint) == HEIR.fingerprint


# From end to end, with a real source.


def test_a_lock_out_is_replayed_and_the_heir_is_heard(tmp_path):
    ecan_source = _source_in(tmp_path)
    ecan_source("keys", "init", "--out", "source")
    source = tmp_path / "source"
    for key in ("aa", "bb"):
        ecan_source("revoke", "--keys", "source", "--key", key * 32, "--unknown")
    site, stolen = Site(tmp_path / "site"), load_keys(source)
    new_site().write(site.keys)
    update_trust_state(site.keys, lambda state: state.reset(stolen.fingerprint, 3)._with(NEIGHBOR))
    site.learns(revocations_file(source).read_bytes())
    keys = frozenset(bytes.fromhex(key * 32) for key in ("aa", "bb"))
    site.refuses(listing(stolen, TOP, GOOD, keys=keys), "FAST_FORWARD")
    site.learns(*(listing(stolen, 2 + 64 * step, GOOD, keys=keys) for step in (1, 2)))
    site.refuses(revocations_file(source).read_bytes(), "ROLLBACK")  # locked out

    ecan_source("keys", "rotate", "--keys", "source")
    ecan_source("revoke", "--keys", "source", "--key", "cc" * 32, "--unknown")
    site.learns(succession_file(source).read_bytes(), revocations_file(source).read_bytes())
    heir = load_keys(source).fingerprint
    assert site.memory.follow(stolen.fingerprint) == heir
    assert site.memory.of(heir).version == 4
    assert site.memory.revoked(heir) == keys | {b"\xcc" * 32}
    assert site.memory.of(OTHER.fingerprint) == NEIGHBOR


def _source_in(folder: Path) -> Callable[..., None]:
    def run(*words: object) -> None:
        ending = command_line.run("ecan-source", *words, folder=folder)
        assert ending.code == 0, ending.stderr

    (folder / "site").mkdir()
    return run
