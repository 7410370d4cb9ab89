"""The fuzz targets in the quick run: few inputs, but the same promise. HYPOTHESIS_PROFILE=fuzz tries many more."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import one, targets
from tests.fuzz.targets import TARGETS


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid input after one to three small changes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_valid_inputs_are_accepted(name: str) -> None:
    for seed in TARGETS[name].seeds():
        assert targets.run(name, seed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_input_is_refused_in_order_or_written_again_as_it_was_read(name: str) -> None:
    @given(damaged(TARGETS[name].seeds()))
    def check(data: bytes) -> None:
        targets.run(name, data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_refused_in_order(name: str) -> None:
    @given(st.binary(max_size=200))
    def check(data: bytes) -> None:
        targets.run(name, data)

    check()


def test_a_finding_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(data: bytes) -> None:
        raise IndexError

    monkeypatch.setitem(TARGETS, "faulty", targets.Target(check=fault, seeds=lambda: [b"seed"]))
    monkeypatch.setattr(sys, "argv", ["one", "faulty", "1"])
    with pytest.raises(IndexError):
        one._by_chance("faulty", 1)


def test_one_target_runs_without_atheris_too() -> None:
    code = "import tests.fuzz.one as one; one._by_chance('manifest', 0.3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "runs in" in done.stderr
