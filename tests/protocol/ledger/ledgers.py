"""A ledger to test with: what is issued in it, and a way to change its file from outside."""

import contextlib
import sqlite3

import pytest

from protocol.errors import Code, FileError, RefusedError
from protocol.ledger.grants import SealedFacts

GRANT, OTHER = b"g" * 16, b"h" * 16
SITE, OTHER_SITE = b"s" * 32, b"t" * 32
MODEL, OTHER_MODEL = b"m" * 32, b"n" * 32
NOW = 20_500 * 86_400 + 7
SIZE = 1000
FACTS = SealedFacts(sealed_sha256=b"d" * 32, size=SIZE, bundle_sha256=b"b" * 32, weights_sha256=b"w" * 32)


def issue(ledger, grant=GRANT, *, audience=SITE, model=MODEL, seal=lambda release: FACTS, now_s=NOW):
    return ledger.issue(grant, audience, model, seal, now_s=now_s)


def stream(ledger, grant=GRANT):
    issue(ledger, grant)
    ledger.open(grant, now_s=NOW)
    return ledger.begin_fetch(grant, now_s=NOW)


def refused(code, call, *arguments, **named):
    with pytest.raises(RefusedError) as caught:
        call(*arguments, **named)
    assert caught.value.code is code
    return str(caught.value)


@contextlib.contextmanager
def from_outside(path):
    """The file in the hands of another program."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        yield db


def found_by(ledger):
    with pytest.raises(FileError) as caught:
        ledger.verify()
    assert caught.value.code is Code.LEDGER
    assert "restore" in str(caught.value)
    return str(caught.value)
