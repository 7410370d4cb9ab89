import re
from pathlib import Path

import grpc
import pytest

from protocol.errors import Code, PeerError, TimedOutError
from protocol.wire.status import PUBLIC_FAULTS, explained_faults, public_fault

ROOT = Path(__file__).resolve().parents[3]


class Failure(grpc.RpcError):
    """What a call raises when it ends with this status and these details."""

    def __init__(self, status, details):
        self._status, self._details = status, details

    def code(self):
        return self._status

    def details(self):
        return self._details


@pytest.mark.parametrize(
    "module",
    [
        "protocol/ledger/grants.py",
        "protocol/ledger/store.py",
        "protocol/wire/codec.py",
        "protocol/wire/metadata.py",
        "protocol/wire/service.py",
        "source_site/release/server.py",
    ],
)
def test_every_code_that_is_raised_while_serving_is_in_the_table(module):
    if not (ROOT / module).exists():
        pytest.skip("this is a target site")
    raised = set(re.findall(r"\bCode\.([A-Z_]+)", (ROOT / module).read_text()))
    assert raised
    assert raised <= {code.name for code in PUBLIC_FAULTS}


@pytest.mark.parametrize("code", sorted(set(Code) - PUBLIC_FAULTS.keys()))
def test_a_fault_that_is_not_in_the_table_crosses_as_an_internal_one(code):
    assert public_fault(code) == PUBLIC_FAULTS[Code.INTERNAL]


@pytest.mark.parametrize("code", sorted(PUBLIC_FAULTS))
def test_a_public_fault_comes_back_as_what_it_was(code):
    fault = public_fault(code)
    with pytest.raises(fault.error) as caught, explained_faults("the source"):
        raise Failure(fault.status, fault.sentence)
    assert str(caught.value) == fault.sentence
    assert public_fault(caught.value.code) == fault


@pytest.mark.parametrize("fault", PUBLIC_FAULTS.values())
def test_a_public_fault_is_one_sentence_with_a_remedy_and_room_for_nothing(fault):
    assert re.fullmatch(r"[A-Z][^.{}%]+; [^.{}%]+\.", fault.sentence)
    assert len(fault.sentence) < 200


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (grpc.StatusCode.UNAVAILABLE, PeerError, Code.CONNECTION),
        (grpc.StatusCode.DEADLINE_EXCEEDED, TimedOutError, Code.DEADLINE),
        (grpc.StatusCode.UNIMPLEMENTED, PeerError, Code.PROTOCOL),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, PeerError, Code.PROTOCOL),
    ],
)
def test_a_text_that_is_not_in_the_table_is_never_shown(status, error, code):
    with pytest.raises(error) as caught, explained_faults("192.0.2.7:7443"):
        raise Failure(status, "speaker_17 \x1b[31m said")
    assert caught.value.code is code
    assert "speaker" not in str(caught.value)
    assert "192.0.2.7:7443" in str(caught.value)


def test_a_source_without_a_free_thread_is_busy():
    with pytest.raises(PeerError) as caught, explained_faults("the source"):
        raise Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
    assert caught.value.code is Code.BUSY
