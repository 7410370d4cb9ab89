"""The ledger against a plain model of it: any steps in any order, over crashes and with a clock that jumps.

HYPOTHESIS_PROFILE=fuzz runs it longer. The second half kills real processes at random moments.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protocol.errors import Code, RefusedError
from protocol.ledger.grants import CLOCK_SLACK_S, MAX_FETCHES, WINDOW_S, GrantState, SealedFacts
from protocol.ledger.replay import Head
from protocol.ledger.store import Ledger

SIZE = 10
QUOTA = 30
GRANTS = [bytes([index]) * 16 for index in range(4)]
SITES = [b"s" * 32, b"t" * 32]
MODELS = [b"m" * 32, b"n" * 32]
NOW = 20_500 * 86_400
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no power is cut here, so a disk would only wait

ORDER = ["ISSUED", "RESERVED", "STREAMING", "EXPIRED", "CLOSED"]
"""DENIED stands aside: it comes from the first three, and nothing comes from it."""

grants = st.sampled_from(GRANTS)
books = st.integers(0, 1)


@dataclass(kw_only=True)
class Expected:
    """What the model says of one grant."""

    audience: bytes
    release: int
    sealed_sha256: bytes
    state: str = "ISSUED"
    expires_s: int | None = None
    fetches: int = 0
    sent_bytes: int = 0
    receipt: bytes | None = None

    def serve(self, now_s: int) -> Code | None:
        """Why nothing may leave now."""
        if self.state in ("CLOSED", "DENIED", "EXPIRED"):
            return Code.STATE
        if self.expires_s is None:
            return None
        if now_s >= self.expires_s or now_s < self.expires_s - WINDOW_S - CLOCK_SLACK_S:
            self.state = "EXPIRED"
            return Code.STATE
        return None


def moves_right(old: str, new: str) -> bool:
    if "DENIED" in (old, new):
        return old == new or (new == "DENIED" and old in ORDER[:3])
    return ORDER.index(old) <= ORDER.index(new)


class LedgerMachine(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.path = self.folder / "ledger.sqlite"
        Ledger.create(self.path)
        self.books = [Ledger(self.path), Ledger(self.path)]
        self.now_s = NOW
        self.expected: dict[bytes, Expected] = {}
        self.releases: dict[bytes, int] = {}
        self.head = Head(seq=0, digest=self.books[0].head().digest)
        self.states: dict[bytes, str] = {}
        self.num_sealed = 0

    def teardown(self):
        del self.books
        shutil.rmtree(self.folder)

    def call(self, why: Code | None, call, *arguments):
        """Do it, and see that it is refused for the reason that the model gives, or not at all."""
        if why is None:
            return call(*arguments, now_s=self.now_s)
        with pytest.raises(RefusedError) as caught:
            call(*arguments, now_s=self.now_s)
        assert caught.value.code is why
        return None

    @rule(book=books, grant=grants, model=st.sampled_from(MODELS), audience=st.sampled_from(SITES), fails=st.booleans())
    def issue(self, book, grant, model, audience, fails):
        def seal(release):
            self.num_sealed += 1
            if fails:
                raise RefusedError(Code.EGRESS, "no")
            return SealedFacts(
                sealed_sha256=self.num_sealed.to_bytes(32), size=SIZE, bundle_sha256=b"b" * 32, weights_sha256=b"w" * 32
            )

        known = grant in self.expected
        record = self.call(
            Code.EGRESS if fails and not known else None, self.books[book].issue, grant, audience, model, seal
        )
        if record is not None and not known:
            release = self.releases.setdefault(model, len(self.releases) + 1)
            self.expected[grant] = Expected(
                audience=audience, release=release, sealed_sha256=self.num_sealed.to_bytes(32)
            )

    @rule(book=books, grant=grants)
    def open(self, book, grant):
        row = self.expected.get(grant)
        why = row.serve(self.now_s) if row else Code.GRANT
        self.call(why, self.books[book].open, grant)
        if row and why is None and row.expires_s is None:
            row.expires_s = self.now_s + WINDOW_S
            row.state = "RESERVED" if row.state == "ISSUED" else row.state

    @rule(book=books, grant=grants, times=st.sampled_from([1, 1, 1, 1, 40]))
    def begin_fetch(self, book, grant, times):
        row = self.expected.get(grant)
        for _ in range(times):
            why = row.serve(self.now_s) if row else Code.GRANT
            if row and why is None:
                if row.expires_s is None:
                    why = Code.PROTOCOL
                elif row.fetches == MAX_FETCHES:
                    row.state, why = "EXPIRED", Code.QUOTA
                else:
                    row.state, row.fetches = "STREAMING", row.fetches + 1
            self.call(why, self.books[book].begin_fetch, grant)

    @rule(book=books, grant=grants, num_bytes=st.integers(1, QUOTA + 1))
    def lease(self, book, grant, num_bytes):
        row = self.expected.get(grant)
        why = row.serve(self.now_s) if row else Code.GRANT
        if row and why is None:
            if row.fetches == 0:
                why = Code.STATE
            elif row.sent_bytes + num_bytes > QUOTA:
                row.state, why = "EXPIRED", Code.QUOTA
            else:
                row.sent_bytes += num_bytes
        self.call(why, self.books[book].lease, grant, num_bytes)

    @rule(book=books, grant=grants)
    def carry(self, book, grant):
        row = self.expected.get(grant)
        why = row.serve(self.now_s) if row else Code.GRANT
        self.call(why, self.books[book].carry, grant)
        if row and why is None:
            row.state = "STREAMING"

    @rule(book=books, grant=grants, receipt=st.binary(min_size=1, max_size=3))
    def close(self, book, grant, receipt):
        row = self.expected.get(grant)
        why = {
            None: Code.GRANT,
            "ISSUED": Code.PROTOCOL,
            "RESERVED": Code.PROTOCOL,
            "DENIED": Code.STATE,
        }.get(row and row.state)
        self.call(why, self.books[book].close, grant, receipt)
        if row and row.state in ("STREAMING", "EXPIRED"):
            row.state, row.receipt = "CLOSED", receipt

    @rule(book=books, grant=grants)
    def deny(self, book, grant):
        row = self.expected.get(grant)
        why = {None: Code.GRANT, "CLOSED": Code.STATE}.get(row and row.state)
        self.call(why, self.books[book].deny, grant)
        if row and row.state in ORDER[:3]:
            row.state = "DENIED"

    @rule(jump_s=st.sampled_from([1, -1, 60, 3600, -3599, -7200, WINDOW_S - 1, WINDOW_S, 365 * 86_400, -365 * 86_400]))
    def clock_jumps(self, jump_s):
        self.now_s = max(0, self.now_s + jump_s)

    @rule(book=books)
    def crash(self, book):
        """The object goes as it is; the next one finds what is on the disk."""
        self.books[book] = Ledger(self.path)

    @rule(book=books, grant=grants)
    def fail_in_the_middle(self, book, grant):
        def change():
            with self.books[book]._transaction() as db:
                db.execute("INSERT INTO releases VALUES (99, ?)", (2 * grant,))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            change()

    @rule(book=books)
    def create_again(self, book):
        self.books[book] = Ledger.create(self.path)

    @invariant()
    def the_ledger_is_as_the_model_says(self):
        if not hasattr(self, "expected"):
            return
        for book in self.books:
            records = {record.grant: record for record in book.records()}
            assert records.keys() == self.expected.keys()
            for grant, row in self.expected.items():
                assert {name: getattr(records[grant], name) for name in vars(row)} == vars(row)
                assert book.find(grant) == records[grant]

    @invariant()
    def no_more_leaves_than_may_and_states_only_move_right(self):
        for grant, row in getattr(self, "expected", {}).items():
            assert row.sent_bytes <= QUOTA
            assert row.fetches <= MAX_FETCHES
            assert moves_right(self.states.get(grant, "ISSUED"), row.state)
            self.states[grant] = row.state

    @invariant()
    def the_chain_holds_and_only_grows(self):
        if not hasattr(self, "expected"):
            return
        head = self.books[0].verify()
        assert head == self.books[1].head()
        assert head.seq >= self.head.seq
        assert self.books[1].contains(self.head.seq, self.head.digest)
        self.head = head


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(  # an example is a whole life of a ledger
    settings.default,
    max_examples=settings.default.max_examples // 3,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


# Real processes, killed.

WORKER = """
import os, random, sys, time
from pathlib import Path
from protocol.errors import RefusedError
from protocol.ledger.grants import SealedFacts
from protocol.ledger.store import Ledger
path, seed = Path(sys.argv[1]), int(sys.argv[2])
generator = random.Random(seed)
ledger = Ledger(path)
out = os.open(path.with_name("said"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def say(*words):
    os.write(out, (" ".join(map(str, words)) + "\\n").encode())
print("ready", flush=True)
while True:
    grant = generator.randrange(60).to_bytes(16)
    now_s = 20_500 * 86_400 + generator.randrange(3600)
    sealed = generator.randbytes(32)
    facts = SealedFacts(sealed_sha256=sealed, size=100_000, bundle_sha256=b"b" * 32, weights_sha256=b"w" * 32)
    model = bytes([generator.randrange(5)]) * 32
    step = generator.choices(["issue", "open", "fetch", "lease", "carry", "close", "deny"], [9, 9, 9, 40, 1, 1, 1])[0]
    try:
        if step == "issue":
            record = ledger.issue(grant, b"s" * 32, model, lambda release: facts, now_s=now_s)
            say("issued", grant.hex(), record.sealed_sha256.hex())
        elif step == "open":
            record = ledger.open(grant, now_s=now_s)
            say("offered", grant.hex(), record.sealed_sha256.hex())
        elif step == "fetch":
            ledger.begin_fetch(grant, now_s=now_s)
        elif step == "lease":
            num_bytes = generator.randrange(1, 2000)
            ledger.lease(grant, num_bytes, now_s=now_s)
            say("sent", grant.hex(), num_bytes)
        elif step == "carry":
            ledger.carry(grant, now_s=now_s)
        elif step == "close":
            ledger.close(grant, b"receipt", now_s=now_s)
            say("closed", grant.hex(), "-")
        else:
            ledger.deny(grant, now_s=now_s)
            say("denied", grant.hex(), "-")
    except RefusedError:
        pass
"""


@dataclass(kw_only=True)
class Heard:
    """What the processes said after each change had been on the disk."""

    digests: dict[str, set[str]]
    sent: dict[str, int]
    ended: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> "Heard":
        heard = cls(digests={}, sent={}, ended={})
        for line in path.read_text().splitlines():
            word, grant, value = line.split()
            if word in ("issued", "offered"):
                heard.digests.setdefault(grant, set()).add(value)
            elif word == "sent":
                heard.sent[grant] = heard.sent.get(grant, 0) + int(value)
            else:
                heard.ended[grant] = 1
        return heard


def check_after_kill(path: Path, last: Head) -> Head:
    ledger = Ledger(path)
    head = ledger.verify()
    assert ledger.contains(last.seq, last.digest)
    heard = Heard.read(path.with_name("said"))
    records = {record.grant.hex(): record for record in ledger.records()}
    for grant, digests in heard.digests.items():
        assert digests == {records[grant].sealed_sha256.hex()}
    for grant, sent in heard.sent.items():
        assert sent <= records[grant].sent_bytes <= 3 * records[grant].size
    for grant in heard.ended:
        assert records[grant].state in (GrantState.CLOSED, GrantState.DENIED)
    return head


def kill_often(tmp_path: Path, num_kills: int) -> Head:
    path = tmp_path / "ledger.sqlite"
    head = Ledger.create(path).head()
    generator = random.Random(5)
    for kill in range(num_kills):
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(path), str(2 * kill + index)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for index in range(2)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        time.sleep(generator.uniform(0.0, 0.15))
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        for worker in workers:
            assert worker.communicate()[1] == b""
            assert worker.returncode == -signal.SIGKILL
        head = check_after_kill(path, head)
    return head


def test_two_processes_that_are_killed_leave_a_ledger_that_holds(tmp_path):
    assert kill_often(tmp_path, 2).seq > 0


@pytest.mark.slow
def test_forty_kills_of_two_processes_at_once_leave_a_ledger_that_holds(tmp_path):
    assert kill_often(tmp_path, int(os.environ.get("ECAN_LEDGER_KILLS", "40"))).seq > 60
