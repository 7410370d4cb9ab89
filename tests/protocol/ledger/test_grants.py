import hashlib
from dataclasses import replace

import pytest

from protocol.errors import Code, MalformedError
from protocol.ledger.grants import (
    CannotFollowError,
    GrantEvent,
    GrantState,
    advance,
    ended_grant,
    read_line,
    write_line,
)
from tests.protocol.ledger.ledgers import FACTS, GRANT, MODEL, NOW, SITE

DAY = {"grant": GRANT, "day": NOW // 86_400}
ISSUED = {"event": GrantEvent.ISSUED, **DAY, "audience": SITE, "model": MODEL, "release": 1, **vars(FACTS)}
RECEIPT_SHA256 = hashlib.sha256(b"receipt").digest()
ENTRIES = {
    GrantEvent.ISSUED: ISSUED,
    GrantEvent.OPENED: {"event": GrantEvent.OPENED, **DAY, "expires_s": NOW},
    GrantEvent.STARTED: {"event": GrantEvent.STARTED, **DAY},
    GrantEvent.EXPIRED: {"event": GrantEvent.EXPIRED, **DAY},
    GrantEvent.DENIED: {"event": GrantEvent.DENIED, **DAY},
    GrantEvent.CLOSED: {"event": GrantEvent.CLOSED, **DAY, "receipt_sha256": RECEIPT_SHA256},
}
LEADS_TO = {
    (None, "ISSUED"): "ISSUED",
    ("ISSUED", "OPENED"): "RESERVED",
    ("ISSUED", "STARTED"): "STREAMING",
    ("ISSUED", "DENIED"): "DENIED",
    ("RESERVED", "STARTED"): "STREAMING",
    ("RESERVED", "EXPIRED"): "EXPIRED",
    ("RESERVED", "DENIED"): "DENIED",
    ("STREAMING", "OPENED"): "STREAMING",
    ("STREAMING", "EXPIRED"): "EXPIRED",
    ("STREAMING", "DENIED"): "DENIED",
    ("STREAMING", "CLOSED"): "CLOSED",
    ("EXPIRED", "CLOSED"): "CLOSED",
}


def record_in(state):
    return None if state is None else replace(advance(None, ISSUED), state=GrantState(state))


@pytest.mark.parametrize("event", GrantEvent)
@pytest.mark.parametrize("state", [None, *GrantState])
def test_in_every_state_an_event_leads_where_the_table_says_or_nowhere(state, event):
    if (state, event) in LEADS_TO:
        assert advance(record_in(state), ENTRIES[event]).state == LEADS_TO[state, event]
    else:
        with pytest.raises(CannotFollowError):
            advance(record_in(state), ENTRIES[event])


def test_a_line_leaves_its_facts_in_the_record():
    issued = advance(None, ISSUED)
    assert (issued.grant, issued.audience, issued.release) == (GRANT, SITE, 1)
    assert {name: getattr(issued, name) for name in vars(FACTS)} == vars(FACTS)
    assert advance(issued, ENTRIES[GrantEvent.OPENED]).expires_s == NOW
    assert advance(record_in("STREAMING"), ENTRIES[GrantEvent.CLOSED]).receipt == RECEIPT_SHA256


def test_a_window_that_was_opened_is_not_opened_again():
    opened = advance(record_in("STREAMING"), ENTRIES[GrantEvent.OPENED])
    with pytest.raises(CannotFollowError):
        advance(opened, ENTRIES[GrantEvent.OPENED])


@pytest.mark.parametrize("event", GrantEvent)
def test_a_line_is_read_back_as_it_was_written(event):
    assert read_line(write_line(ENTRIES[event])) == ENTRIES[event]


@pytest.mark.parametrize("event", GrantEvent)
def test_a_line_with_the_facts_of_another_event_is_refused(event):
    other = GrantEvent.OPENED if event is not GrantEvent.OPENED else GrantEvent.CLOSED
    line = write_line(ENTRIES[event]).replace(f'"event":"{event}"'.encode(), f'"event":"{other}"'.encode())
    with pytest.raises(MalformedError):
        read_line(line)


@pytest.mark.parametrize("ended", [state for state in GrantState if state.has_ended])
def test_each_end_has_a_sentence_with_the_remedy(ended):
    assert ended_grant(ended).code is Code.STATE
    assert "new request" in str(ended_grant(ended))
