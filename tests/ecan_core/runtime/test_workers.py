"""Work that is shared out to forked processes."""

import gc
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from ecan_core.runtime.workers import Companion, cores, put_aside, shared_out, taken


def double(content: bytes) -> bytes:
    return content * 2


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("num_pieces", [0, 1, 3, 100])
def test_results_come_in_the_order_of_the_pieces(num_workers, num_pieces):
    def later(content: bytes) -> bytes:
        time.sleep(0.002 * (int(content) % 3))
        return double(content)

    pieces = [str(number).encode() for number in range(num_pieces)]
    assert list(shared_out(pieces, later, num_workers)) == [double(piece) for piece in pieces]


def test_the_work_is_done_elsewhere_and_by_as_many_as_asked_for():
    pieces = [b""] * 40
    found = {int(said) for said in shared_out(pieces, lambda _: _slowly(str(os.getpid()).encode()), 3)}
    assert len(found) == 3
    assert os.getpid() not in found


def _slowly(said: bytes) -> bytes:
    time.sleep(0.01)
    return said


def test_large_pieces_and_results_pass_whole():
    piece = os.urandom(3 << 20)
    assert list(shared_out([piece] * 3, double, 2)) == [double(piece)] * 3


def test_a_worker_that_is_killed_costs_its_piece_alone():
    def deadly(content: bytes) -> bytes:
        if content == b"7":
            os.kill(os.getpid(), signal.SIGKILL)
        return content

    pieces = [str(number).encode() for number in range(20)]
    results = list(shared_out(pieces, deadly, 2))
    assert results == [None if piece == b"7" else piece for piece in pieces]


def test_every_worker_may_be_killed_and_the_work_goes_on():
    def deadly(content: bytes) -> bytes:
        os._exit(3)

    assert list(shared_out([b"a", b"b", b"c"], deadly, 2)) == [None, None, None]


def test_a_limit_of_computing_time_costs_the_piece_alone():
    def endless(content: bytes) -> bytes:
        if content == b"1":
            resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
            while True:
                pass
        return content

    assert list(shared_out([b"0", b"1", b"2"], endless, 1)) == [b"0", None, b"2"]


def test_pieces_are_not_taken_far_ahead_of_what_is_asked_for():
    taken = []

    def pieces():
        for number in range(1000):
            taken.append(number)
            yield b""

    results = shared_out(pieces(), double, 2)
    next(results)
    assert len(taken) <= 10
    results.close()


def test_nobody_is_left_behind_and_nothing_stays_open():
    def open_files() -> set[str]:
        gc.collect()
        here = Path("/proc/self/fd")
        listed = [each.name for each in here.iterdir()]
        return {
            name for name in listed if (here / name).exists() or (here / name).is_symlink()
        }  # not the listing's own

    before = open_files()
    results = shared_out([b"x"] * 10, lambda _: str(os.getpid()).encode(), 3)
    worker = int(next(results))
    results.close()
    assert open_files() == before
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_what_was_in_memory_is_at_hand():
    secret = {"value": b"found"}
    assert list(shared_out([b""], lambda _: secret["value"], 1)) == [b"found"]


def test_no_more_cores_are_counted_than_are_granted():
    granted = os.sched_getaffinity(0)
    assert cores() == len(granted)


def test_a_companion_keeps_what_it_has_between_questions():
    heard = []

    def remember(content: bytes) -> bytes:
        heard.append(content)
        return b"".join(heard)

    companion = Companion(remember)
    assert [companion.ask(b"a", 9), companion.ask(b"b", 9)] == [b"a", b"ab"]
    companion.close()
    assert not heard
    assert companion.ask(b"c", 9) is None


def test_a_companion_that_dies_has_no_answer_and_one_of_two_can_be_closed():
    dead = Companion(lambda _: os._exit(3))
    assert [dead.ask(b"a", 9), dead.ask(b"b", 9)] == [None, None]
    dead.close()
    first, beside = (Companion(lambda _: str(os.getpid()).encode()) for _ in range(2))
    left = [int(companion.ask(b"", 9) or 0) for companion in (first, beside)]
    first.close()  # the other one must not hold its pipe
    assert beside.ask(b"", 9) == str(left[1]).encode()
    beside.close()
    for process in left:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_companion_that_says_more_than_was_asked_for_is_given_up():
    loud = Companion(lambda content: content * 10)
    assert loud.ask(b"a", 9) is None
    assert loud.ask(b"", 9) is None


def test_a_worker_speaks_by_its_own_pipes_alone():
    mine = {os.fstat(place).st_ino for place in (0, 1)}
    (said,) = shared_out([b""], lambda _: f"{os.fstat(0).st_ino} {os.fstat(1).st_ino}".encode(), 1)
    assert mine.isdisjoint(map(int, said.split()))


def test_what_was_put_aside_goes_with_a_worker_and_comes_back():
    companion = Companion(double)
    put_aside(companion)
    assert list(shared_out([b"a", b"b"], lambda piece: taken_and_back(piece), 1)) == [b"aa", b"bb"]
    assert taken() is companion
    companion.close()


def taken_and_back(piece: bytes) -> bytes:
    companion = taken()
    try:
        return companion.ask(piece, 9)
    finally:
        put_aside(companion)


def test_what_a_killed_worker_had_is_not_given_to_another():
    companion = Companion(double)
    put_aside(companion)
    assert list(shared_out([b"a"], lambda _: os._exit(3), 1)) == [None]
    assert taken() is None
    assert companion.ask(b"a", 9) is None


def test_who_is_gone_is_not_put_aside():
    companion = Companion(double)
    companion.close()
    put_aside(companion)
    assert taken() is None
