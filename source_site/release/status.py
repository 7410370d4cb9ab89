"""Find how a source site stands: its ledger, grants, keys and disk.

Nothing is changed, and no private key is opened.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from ecan_core.command_line.measures import Attention, Found, Status, looked, measure
from ecan_core.errors import EcanError
from protocol.bundle.frame import MAX_BUNDLE_BYTES
from protocol.bundle.trust import read_stated
from protocol.encoders.registry import ENCODERS, AddedEncoder, Encoder
from protocol.encoders.store import added_hashes, default_folder, state_of
from protocol.errors import ProtocolError
from protocol.files import read_bounded
from protocol.identity.key_files import load_public
from protocol.ledger.grants import SECONDS_PER_DAY, GrantRecord, GrantState
from protocol.statements.revocations import MAX_REVOCATIONS_BYTES, Revocations, open_revocations
from source_site.keys.folder import open_ledger, outbox_file, refuse_half_rotated, released_file, revocations_file

PROGRAM = "ecan-source"
FEW_FREE_BYTES = 2 << 30
KEYS_END_DAYS = 30
"""From so many days before the certificate ends, somebody has to rotate the keys."""
OLD_LIST_DAYS = 45
"""From this age on a list needs to be renewed: the examples of a target's rules allow 60 days."""
BUNDLE_END_DAYS = 7
REASONS = ("LEDGER", "OUTBOX", "BUNDLE", "LIST", "WITHDRAWN", "KEYS", "ENCODER", "DISK")
"""What may need attention, one word each; docs/operations.md says what they mean."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Hold where a source's files lie.

    Attributes:
        keys: the source's keys.
        encoders: folder of public encoders; None takes the user's.
        now: the time, in UTC.
    """

    keys: Path
    encoders: Path | None = None
    now: datetime

    @cached_property
    def records(self) -> tuple[GrantRecord, ...]:
        """Return all grants in the order in which they were issued."""
        return open_ledger(self.keys).records()

    @property
    def open_grants(self) -> list[GrantRecord]:
        """Return the grants for which something may still leave."""
        return [record for record in self.records if not record.state.has_ended]

    @cached_property
    def revocations(self) -> Revocations | None:
        """Return the newest revocation list; None where there is none."""
        path = revocations_file(self.keys)
        if not path.exists():
            return None
        return open_revocations(read_bounded(path, MAX_REVOCATIONS_BYTES), load_public(self.keys).fingerprint)

    @property
    def today(self) -> int:
        """Return the present day, in days since 1970."""
        return int(self.now.timestamp()) // SECONDS_PER_DAY


def status_of(source: Source) -> Status:
    """Look at a source site."""
    looks = (
        ("LEDGER", _ledger),
        ("OUTBOX", _grants),
        ("BUNDLE", _bundles),
        ("LIST", _list),
        ("KEYS", _keys),
        ("ENCODER", _encoders),
        ("DISK", _disk),
    )
    found = looked(looks, source, (EcanError, ProtocolError))
    return Status(program=PROGRAM, at=source.now, reasons=REASONS, found=found)


def _ledger(source: Source) -> Iterator[Found]:
    """Tell how far the ledger goes; `ledger verify` computes it again."""
    ledger = open_ledger(source.keys)
    head = ledger.head()
    yield measure("ledger_lines", "lines of the ledger", head.seq)
    yield measure("ledger_head_info", "last line of the ledger, its hash", 1, sha256=head.digest.hex())
    for event, day in ledger.last_days().items():
        name, about = "last_event_timestamp_seconds", "day of an event's last line in the ledger"
        yield measure(name, about, day * SECONDS_PER_DAY, event=event.value.lower())


def _grants(source: Source) -> Iterator[Found]:
    counts = Counter(record.state for record in source.records)
    for state in GrantState:
        yield measure("grants", "grants by their state", counts[state], state=state.value.lower())
    windows = [record.expires_s for record in source.open_grants if record.expires_s is not None]
    if windows:
        left = min(windows) - round(source.now.timestamp())
        yield measure("grant_end_seconds", "time until the first window of a grant ends", left)
    for record in source.open_grants:
        if not outbox_file(source.keys, record.grant).is_file():
            said = f"The sealed file of the open grant {record.grant.hex()} is gone; restore it, or `deny` the grant."
            yield Attention(reason="OUTBOX", said=said)


def _bundles(source: Source) -> Iterator[Found]:
    """Tell how long the bundles of open grants can be received."""
    first = {record.release: record for record in reversed(source.open_grants)}
    for release, record in sorted(first.items()):
        stated = read_stated(read_bounded(released_file(source.keys, record.grant), MAX_BUNDLE_BYTES))
        left = stated.day + stated.valid_days - source.today
        yield measure("bundle_end_days", "time until a bundle can no longer be received", left, release=str(release))
        if left < BUNDLE_END_DAYS:
            said = f"The bundle of release {release} can be received for {left} days; ask its sites for new requests."
            yield Attention(reason="BUNDLE", said=said)


def _list(source: Source) -> Iterator[Found]:
    """Tell how old the revocation list is, and what is withdrawn and open."""
    newest = source.revocations
    age = None if newest is None else max(source.today - newest.day, 0)
    if newest is not None and age is not None:
        count = len(newest.weights) + len(newest.keys)
        yield measure("revocations_age_days", "age of the revocation list", age)
        yield measure("withdrawn", "models and keys that are withdrawn", count)
        for record in source.open_grants:
            if record.weights_sha256 in newest.revoked:
                said = f"A grant of release {record.release} is open, which is withdrawn; run `revoke --release` again."
                yield Attention(reason="WITHDRAWN", said=said)
    has_delivered = any(record.state is GrantState.CLOSED for record in source.records)
    if has_delivered and (age is None or age > OLD_LIST_DAYS):
        old = "There is no revocation list" if age is None else f"The revocation list is {age} days old"
        said = f"{old}, and sites may stop for that; run `ecan-source revoke --keys KEYS --renew` once a month."
        yield Attention(reason="LIST", said=said)


def _keys(source: Source) -> Iterator[Found]:
    left = (load_public(source.keys).certificate.not_valid_after_utc - source.now).days
    yield measure("keys_end_days", "time until this site's certificate ends", left)
    if left < KEYS_END_DAYS:
        said = f"This site's certificate ends in {left} days; run `ecan-source keys rotate`."
        yield Attention(reason="KEYS", said=said)
    refuse_half_rotated(source.keys)


def _encoders(source: Source) -> Iterator[Found]:
    folder = source.encoders or default_folder()
    encoders: list[Encoder] = [*ENCODERS.values(), *(AddedEncoder(sha256=name) for name in added_hashes(folder))]
    for encoder in encoders:
        state = state_of(folder, encoder)
        yield measure("encoder_present", "whether a public encoder is here", state == "here", encoder=encoder.id)
        if state == "damaged":
            said = f"The encoder {encoder.id} is damaged in {folder}; run `{PROGRAM} encoder {encoder.remedy}`."
            yield Attention(reason="ENCODER", said=said)


def _disk(source: Source) -> Iterator[Found]:
    free = shutil.disk_usage(source.keys).free
    yield measure("disk_free_bytes", "free space on the disk", free, of="keys")
    if free < FEW_FREE_BYTES:
        said = f"Only {free >> 20} MiB are free at {source.keys}; make room for {FEW_FREE_BYTES >> 20} MiB."
        yield Attention(reason="DISK", said=said)
