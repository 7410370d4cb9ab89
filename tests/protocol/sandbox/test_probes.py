"""The probes fail before the walls stand, pass behind them, and find every gap in them."""

import os

import pytest

from protocol.errors import ContainmentError
from protocol.sandbox import probes
from protocol.sandbox.landlock import landlock_abi
from protocol.sandbox.network import Network
from protocol.sandbox.probes import probe_denied
from tests.protocol.sandbox.behind_walls import deny, result

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


def test_the_probes_themselves_fail_before_the_walls_stand(place):
    for paths in ([place / "outside" / "secret"], [place / "outside"]):
        with pytest.raises(ContainmentError, match="within reach") as caught:
            probe_denied(paths, network=Network.SERVE)
        assert caught.value.exit_code == 15
    assert sorted(path.name for path in (place / "outside").iterdir()) == ["cut", "secret", "socket"]
    for network in (Network.SERVE, Network.NONE, Network.call(443)):
        with pytest.raises(ContainmentError, match="socket"):
            probe_denied([], network=network)


def test_every_call_that_is_probed_would_be_answered_otherwise_without_walls(place):
    code = """
print(json.dumps([[name, outcome(lambda: raw(number, *arguments))]
                  for name, number, arguments in probes._forbidden_calls(Network.NONE)]))
"""
    answers = result(code, place)
    assert len(answers) >= 14
    assert {answer for _, answer in answers}.isdisjoint({"EPERM", "ok"})


@pytest.mark.parametrize("index", range(len(list(probes._forbidden_calls(Network.NONE)))))
def test_one_call_that_is_not_refused_is_a_gap(place, index):
    code = f"""
what, number, arguments = list(probes._forbidden_calls(Network.NONE))[{index}]
confine(network=Network.NONE, **folders)
probe_denied([], network=Network.NONE)
true = kernel.syscall
def let_through(called, *given):
    if called == number:
        ctypes.set_errno(errno.EINVAL)
        return -1
    return true(called, *given)
sandbox.syscall = landlock.syscall = probes.syscall = let_through
try:
    probe_denied([], network=Network.NONE)
except sandbox.ContainmentError as fault:
    print(json.dumps(what in str(fault)))
"""
    assert result(code, place) is True


def test_a_file_that_can_be_opened_for_neither_is_within_reach(place, monkeypatch):
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *more: real(path, flags, *more) if flags & 3 == 3 else deny())
    with pytest.raises(ContainmentError, match="within reach"):
        probe_denied([place / "outside" / "secret"], network=Network.SERVE)


def test_the_probes_pass_behind_the_walls_and_find_a_gap_in_them(place):
    code = """
confine(network=Network.NONE, **folders)
probe_denied([outside, outside / "secret", outside / "missing", Path("/"), Path.home()], network=Network.NONE)
gaps = []
for gap in (readable, readable / "file", writable, removable):
    try:
        probe_denied([outside, gap], network=Network.NONE)
    except sandbox.ContainmentError as fault:
        gaps.append(str(gap) in str(fault))
print(json.dumps(gaps))
"""
    assert result(code, place) == [True] * 4
