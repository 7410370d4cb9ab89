import hashlib
import json
import multiprocessing
from dataclasses import replace

import pytest

from protocol import canonical
from protocol.bundle.manifest import Manifest
from protocol.errors import Code, FileError, PeerError, RefusedError, UnauthenticError
from protocol.statements.offers import NO_HEAD, CheckpointFields
from protocol.statements.revocations import Revocations
from protocol.statements.succession import Succession
from target_site.trust.state import (
    MAX_SOURCES,
    NONE,
    STATE_FILE,
    KnownSource,
    TrustState,
    create_trust_state,
    load_trust_state,
    reset_trust,
    update_trust_state,
)
from tests.protocol.samples import ISSUER, TODAY, manifest_of

OTHER, THIRD = b"o" * 32, b"t" * 32
WEIGHTS, OTHER_WEIGHTS = b"w" * 32, b"x" * 32
EMPTY = TrustState()


def stated(release: int, weights: bytes = WEIGHTS, issuer: bytes = ISSUER) -> Manifest:
    return replace(manifest_of(b"weights"), release=release, weights_sha256=weights, issuer=issuer)


def listed(version: int, weights: set[bytes] = frozenset(), keys: set[bytes] = frozenset()) -> Revocations:
    return Revocations(version=version, day=TODAY, weights=frozenset(weights), keys=frozenset(keys))


def handed_over(old: bytes = ISSUER, new: bytes = OTHER, number: int = 1) -> Succession:
    return Succession(old=old, new=new, number=number)


def checkpoint(seq: int, head: bytes, since: KnownSource, seen_head: bytes | None = None) -> CheckpointFields:
    """What a source shows to a site that knows this much; it holds the same line as ever if not another is named."""
    shown = since.head if seen_head is None else seen_head
    return CheckpointFields(grant=bytes(16), seq=seq, head=head, seen=since.seq, seen_head=shown, day=TODAY)


def saw(state: TrustState, seq: int, head: bytes = b"h" * 32, seen_head: bytes | None = None) -> TrustState:
    since = state.of(ISSUER)
    return state.saw(ISSUER, checkpoint(seq, head, since, seen_head), since=since)


def anchor(state: TrustState, issuer: bytes = ISSUER):
    return state.anchor(issuer, today=TODAY, audience=None, grants=None)


@pytest.fixture
def keys(tmp_path):
    create_trust_state(tmp_path / "keys")
    return tmp_path / "keys"


# Releases.


def test_a_source_that_is_met_for_the_first_time_is_held_to_nothing():
    assert EMPTY.of(ISSUER) == KnownSource(issuer=ISSUER)
    assert (anchor(EMPTY).last_release, anchor(EMPTY).revoked) == (0, frozenset())


def test_the_highest_release_is_what_the_next_bundle_is_measured_by():
    state = EMPTY.accepted(stated(3)).accepted(stated(5, OTHER_WEIGHTS)).accepted(stated(4))
    assert (anchor(state).last_release, anchor(state).last_weights) == (5, OTHER_WEIGHTS)
    assert anchor(state, OTHER).last_release == 0


def test_what_was_accepted_before_is_not_measured_by_later_releases():
    state = EMPTY.accepted(stated(5)).learned(ISSUER, listed(1, weights={WEIGHTS}))
    again = state.anchor_of_accepted(ISSUER, today=TODAY, audience=None, grants=None)
    assert (again.last_release, again.revoked) == (0, {WEIGHTS})


def test_two_models_with_one_number_are_not_both_accepted():
    state = EMPTY.accepted(stated(5))
    assert state.accepted(stated(5)) == state
    with pytest.raises(RefusedError) as caught:
        state.accepted(stated(5, OTHER_WEIGHTS))
    assert caught.value.code is Code.ROLLBACK


# Revocations.


def test_the_newest_list_counts():
    state = EMPTY.learned(ISSUER, listed(1, weights={WEIGHTS})).learned(ISSUER, listed(3, {WEIGHTS}, {THIRD}))
    assert anchor(state).revoked == {WEIGHTS, THIRD}
    assert state.learned(ISSUER, listed(3, {WEIGHTS}, {THIRD})) == state


def test_a_source_that_never_withdrew_anything_may_say_so():
    assert EMPTY.learned(ISSUER, None) == EMPTY


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(None, id="no list"),
        pytest.param(listed(2, {WEIGHTS}), id="an older list"),
        pytest.param(listed(3, {OTHER_WEIGHTS}), id="another list of the same number"),
        pytest.param(listed(4, {OTHER_WEIGHTS}, {THIRD}), id="a newer list without the weights"),
        pytest.param(listed(4, {WEIGHTS, OTHER_WEIGHTS}), id="a newer list without the key"),
    ],
)
def test_a_known_list_is_not_taken_back(shown):
    state = EMPTY.learned(ISSUER, listed(3, {WEIGHTS}, {THIRD}))
    with pytest.raises(RefusedError) as caught:
        state.learned(ISSUER, shown)
    assert caught.value.code is Code.ROLLBACK


def test_a_newer_list_that_leaves_something_out_is_refused_by_name():
    with pytest.raises(RefusedError, match="lists are not shortened"):
        EMPTY.learned(ISSUER, listed(1, {WEIGHTS})).learned(ISSUER, listed(2))


@pytest.mark.parametrize("shown", [None, listed(1, keys={ISSUER}), listed(2, {WEIGHTS}, {ISSUER})])
def test_a_withdrawn_key_withdraws_nothing_more(shown):
    state = EMPTY.learned(ISSUER, listed(1, keys={ISSUER}))
    with pytest.raises(RefusedError) as caught:
        state.learned(ISSUER, shown)
    assert caught.value.code is Code.REVOKED


def test_a_key_that_another_one_of_its_line_has_withdrawn_withdraws_nothing():
    state = EMPTY.learned(ISSUER, listed(1, keys={THIRD})).succeeded(handed_over(OTHER, THIRD, 2))
    state = state.succeeded(handed_over())
    with pytest.raises(RefusedError) as caught:
        state.learned(THIRD, listed(2, {WEIGHTS}))
    assert caught.value.code is Code.REVOKED


def test_one_source_withdraws_nothing_of_another():
    assert anchor(EMPTY.learned(OTHER, listed(1, {WEIGHTS}))).revoked == frozenset()


def test_a_key_that_was_withdrawn_is_not_followed():
    with pytest.raises(RefusedError) as caught:
        EMPTY.learned(ISSUER, listed(1, keys={ISSUER})).follow(ISSUER)
    assert caught.value.code is Code.REVOKED


# Successors.


def test_a_successor_takes_over_the_trust_and_all_that_was_known():
    state = saw(EMPTY.accepted(stated(5)).learned(ISSUER, listed(2, {OTHER_WEIGHTS})), 9).succeeded(handed_over())
    assert state.follow(ISSUER) == state.follow(OTHER) == OTHER
    heir = state.of(OTHER)
    assert (heir.release, heir.weights, heir.version, heir.seq, heir.number) == (5, WEIGHTS, 2, 9, 1)
    with pytest.raises(RefusedError):
        state.learned(OTHER, None)


def test_a_successor_may_have_a_successor():
    state = EMPTY.succeeded(handed_over()).succeeded(handed_over(OTHER, THIRD, 2))
    assert state.follow(ISSUER) == THIRD


def test_a_successor_that_was_known_by_itself_keeps_what_is_higher():
    state = EMPTY.accepted(stated(5)).accepted(stated(8, OTHER_WEIGHTS, OTHER)).succeeded(handed_over())
    assert (state.of(OTHER).release, state.of(OTHER).weights) == (8, OTHER_WEIGHTS)


def test_what_a_successor_withdraws_is_withdrawn_for_bundles_of_the_old_key_too():
    state = EMPTY.succeeded(handed_over()).learned(OTHER, listed(1, {WEIGHTS}, {ISSUER}))
    assert anchor(state).revoked == {WEIGHTS, ISSUER}
    assert state.follow(ISSUER) == OTHER


@pytest.mark.parametrize("shown", [None, listed(1, keys={OTHER}), listed(9, {WEIGHTS})])
def test_a_key_that_has_handed_over_withdraws_nothing_more(shown):
    state = EMPTY.succeeded(handed_over()).succeeded(handed_over(OTHER, THIRD, 2))
    for older in (ISSUER, OTHER):
        with pytest.raises(RefusedError, match="only the heir's lists count") as caught:
            state.learned(older, shown)
        assert caught.value.code is Code.ROLLBACK
    assert state.follow(ISSUER) == THIRD


def test_the_same_hand_over_again_changes_nothing():
    state = EMPTY.succeeded(handed_over())
    assert state.succeeded(handed_over()) == state


@pytest.mark.parametrize(
    ("state", "statement", "code"),
    [
        pytest.param(EMPTY.succeeded(handed_over()), handed_over(new=THIRD, number=2), Code.ROLLBACK, id="second heir"),
        pytest.param(
            EMPTY.succeeded(handed_over(number=4)), handed_over(OTHER, THIRD, 4), Code.ROLLBACK, id="old number"
        ),
        pytest.param(EMPTY.succeeded(handed_over()), handed_over(OTHER, ISSUER, 2), Code.ROLLBACK, id="in a circle"),
        pytest.param(
            EMPTY.learned(ISSUER, listed(1, keys={ISSUER})), handed_over(), Code.REVOKED, id="by a withdrawn key"
        ),
        pytest.param(
            EMPTY.learned(ISSUER, listed(1, keys={OTHER})), handed_over(), Code.REVOKED, id="to a withdrawn key"
        ),
    ],
)
def test_a_hand_over_that_cannot_be_is_refused(state, statement, code):
    with pytest.raises(RefusedError) as caught:
        state.succeeded(statement)
    assert caught.value.code is code


# The source's ledger.


def test_a_ledger_that_grows_is_remembered():
    state = saw(saw(EMPTY, 3), 7, b"i" * 32)
    assert (state.of(ISSUER).seq, state.of(ISSUER).head) == (7, b"i" * 32)
    assert saw(state, 7, b"i" * 32) == state


@pytest.mark.parametrize(
    ("seq", "head", "seen_head"),
    [
        pytest.param(6, b"h" * 32, None, id="shrank"),
        pytest.param(6, b"h" * 32, NO_HEAD, id="shrank and says so"),
        pytest.param(7, b"j" * 32, None, id="rewritten"),
        pytest.param(8, b"j" * 32, b"x" * 32, id="rewritten with one line more"),
        pytest.param(10**6, b"j" * 32, b"x" * 32, id="rewritten with many lines more"),
        pytest.param(8, b"j" * 32, NO_HEAD, id="longer but without the line"),
        pytest.param(7, b"h" * 32, b"x" * 32, id="the same head over another line"),
    ],
)
def test_a_ledger_that_lost_its_past_is_an_alarm(seq, head, seen_head):
    with pytest.raises(PeerError, match="its ledger shrank or was rewritten") as caught:
        saw(saw(EMPTY, 7), seq, head, seen_head)
    assert caught.value.code is Code.LEDGER
    assert caught.value.exit_code == 4


def test_answers_that_arrive_in_another_order_are_no_alarm():
    asked = saw(EMPTY, 3)
    later = saw(asked, 8, b"i" * 32)
    since = asked.of(ISSUER)
    assert later.saw(ISSUER, checkpoint(7, b"j" * 32, since), since=since) == later


def test_what_may_not_follow_on_what_is_known_is_not_remembered():
    asked = saw(EMPTY, 3)
    later = saw(asked, 8, b"i" * 32)
    since = asked.of(ISSUER)
    assert later.saw(ISSUER, checkpoint(9, b"x" * 32, since), since=since) == later  # it may leave line 8 out


def test_an_answer_about_another_line_proves_nothing():
    state = saw(EMPTY, 7)
    stated = checkpoint(8, b"i" * 32, EMPTY.of(ISSUER))
    with pytest.raises(PeerError):
        state.saw(ISSUER, stated, since=state.of(ISSUER))


# On the disk.


def full_state():
    state = EMPTY.accepted(stated(5)).learned(ISSUER, listed(2, {OTHER_WEIGHTS, WEIGHTS}, {THIRD}))
    return saw(state, 9).succeeded(handed_over())


def test_the_memory_is_read_as_it_was_written(keys):
    assert load_trust_state(keys) == EMPTY
    assert update_trust_state(keys, lambda _: full_state()) == full_state()
    assert load_trust_state(keys) == full_state()
    assert (keys / STATE_FILE).stat().st_mode & 0o777 == 0o600


def test_the_largest_memory_fits(keys):
    digests = {bytes([number]) * 32 for number in range(64)}
    state = EMPTY
    for number in range(MAX_SOURCES):
        state = state.learned(bytes([number]) * 32, listed(1, digests, digests))
    update_trust_state(keys, lambda _: state)
    assert load_trust_state(keys) == state
    with pytest.raises(RefusedError, match="already"):
        state.learned(b"z" * 32, listed(1))


def test_new_keys_keep_a_memory_that_is_there_and_replace_one_that_cannot_be_read(keys):
    update_trust_state(keys, lambda _: full_state())
    create_trust_state(keys)
    assert load_trust_state(keys) == full_state()
    (keys / STATE_FILE).write_bytes(b"")
    create_trust_state(keys)
    assert load_trust_state(keys) == EMPTY


def damaged(keys, how):
    path = keys / STATE_FILE
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "a link":
        path.rename(keys / "elsewhere")
        path.symlink_to(keys / "elsewhere")
    elif how == "exposed":
        path.chmod(0o640)
    else:
        value = json.loads(data)
        value["sources"][0]["release"] -= 1
        lowered = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        path.write_bytes({"empty": b"", "truncated": data[:-20], "garbage": b"\0\xff" * 99, "edited": lowered}[how])


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "garbage", "edited", "exposed", "a link"])
def test_a_lost_memory_asks_for_a_person(keys, how):
    update_trust_state(keys, lambda _: full_state())
    damaged(keys, how)
    for use in (load_trust_state, lambda folder: update_trust_state(folder, lambda state: state)):
        with pytest.raises(
            UnauthenticError, match=r"ecan-target trust reset .* then `ecan-target trust update`"
        ) as caught:
            use(keys)
        assert caught.value.code is Code.STATE_LOST
        assert caught.value.exit_code == 10
    assert reset_trust(keys, ISSUER, 5) == load_trust_state(keys)


def test_every_flipped_bit_is_a_lost_memory(keys):
    update_trust_state(keys, lambda _: full_state())
    path = keys / STATE_FILE
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 5):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(UnauthenticError):
            load_trust_state(keys)


def test_after_a_loss_each_source_has_to_be_named_by_a_person(keys):
    (keys / STATE_FILE).unlink()
    state = reset_trust(keys, ISSUER, 5)
    with pytest.raises(
        UnauthenticError, match="for this source too, then `ecan-target trust update` with its public/"
    ) as caught:
        state.of(OTHER)
    assert caught.value.code is Code.STATE_LOST
    assert reset_trust(keys, OTHER, 0).of(OTHER).release == 0


def test_the_release_that_a_person_named_may_still_come_and_no_older_one(keys):
    state = reset_trust(keys, ISSUER, 5)
    assert anchor(state).last_release == 4
    assert anchor(state.accepted(stated(5))).last_release == 5
    assert anchor(reset_trust(keys, ISSUER, 0)).last_release == 0


def test_a_reset_forgets_releases_and_ledger_but_no_withdrawal(keys):
    update_trust_state(keys, lambda _: full_state())
    known = reset_trust(keys, OTHER, 1).of(OTHER)
    assert (known.release, known.weights, known.seq, known.head) == (1, NONE, 0, NONE)
    assert known.revoked_weights == {OTHER_WEIGHTS, WEIGHTS}


def test_a_memory_that_cannot_be_written_is_a_storage_fault(keys, tmp_path):
    with pytest.raises(FileError):
        update_trust_state(tmp_path / "missing", lambda state: state)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError):
        create_trust_state(tmp_path / "file" / "keys")


def _accept(keys, issuer):
    update_trust_state(keys, lambda state: state.accepted(stated(3, issuer=issuer)))


def test_changes_at_once_are_all_kept(keys):
    context = multiprocessing.get_context("forkserver")
    issuers = [bytes([number]) * 32 for number in range(1, 9)]
    processes = [context.Process(target=_accept, args=(keys, issuer)) for issuer in issuers]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [source.issuer for source in load_trust_state(keys).sources] == issuers


def test_a_memory_of_an_earlier_build_is_read_and_written_anew(keys):
    update_trust_state(keys, lambda state: state.accepted(stated(3)).learned(ISSUER, listed(1, {WEIGHTS})))
    record = json.loads((keys / STATE_FILE).read_bytes())
    for source in record["sources"]:
        del source["day"], source["is_doubted"]
    summed = canonical.encode({"lost": 0, "sources": record["sources"]})
    record |= {"v": 1, "check": hashlib.sha256(summed).hexdigest()}
    (keys / STATE_FILE).write_bytes(canonical.encode(record))
    known = load_trust_state(keys).of(ISSUER)
    assert (known.release, known.version, known.revoked_weights, known.day) == (3, 1, {WEIGHTS}, 0)
    update_trust_state(keys, lambda state: state.learned(ISSUER, listed(1, {WEIGHTS})))
    assert load_trust_state(keys).day_of_list(ISSUER) == TODAY
