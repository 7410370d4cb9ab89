"""Remember each source (``KEYS/trust.state``), safe from roll-back.

Nobody can take the memory back in time.

Per source: the highest release that was accepted, the newest revocation list, the last checkpoint of the
source's ledger, and the key that it handed over to. A missing or damaged file is an error and never a fresh
start: only a person who has asked the source's operator can say where to go on. See
docs/decisions/0006-trust-state-and-sealing.md.
"""

import dataclasses
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protocol import canonical
from protocol.bundle.manifest import Manifest
from protocol.bundle.trust import CLOCK_TOLERANCE_DAYS, Anchor
from protocol.errors import Code, FileError, MalformedError, PeerError, ProtocolError, RefusedError, UnauthenticError
from protocol.files import cannot_write, make_private_folder, read_bounded, write_atomic
from protocol.locks import locked
from protocol.statements import revocations
from protocol.statements.offers import CheckpointFields
from protocol.statements.revocations import Revocations
from protocol.statements.succession import MAX_NUMBER, Succession

STATE_FILE = "trust.state"
LOCK_FILE = "trust.lock"
MAX_STATE_BYTES = 1 << 20
MAX_SOURCES = 64

MAX_LIST_STEP = 64
"""How many revocation lists a site may have missed: a higher number would lock all later ones out."""
MAX_FIRST_LIST = 256
"""The highest number of the first list that a site hears of; an honest source, whose every list withdraws something
more, does not come this far."""

NONE = bytes(32)
"""No digest at all; nobody knows anything whose SHA-256 it is."""

THEN_UPDATE = (
    "`ecan-target trust update` with its public/succession, if there is one, and its public/revocations, which have to "
    "be learned again"
)
"""What is left to do after a reset."""

_WHAT = "trust state"
_HEAD: canonical.Schema = {"v": canonical.OneOf((1, 2)), "lost": canonical.Int(0, 1), "check": canonical.Hex(32)}
_OLD_SOURCE: canonical.Schema = {
    "issuer": canonical.Hex(32),
    "release": canonical.Int(0, 0xFFFF),
    "weights": canonical.Hex(32),
    "version": canonical.Int(0, revocations.MAX_VERSION),
    "revoked_weights": revocations.DIGESTS,
    "revoked_keys": revocations.DIGESTS,
    "seq": canonical.Int(0, 10**15 - 1),
    "head": canonical.Hex(32),
    "successor": canonical.Hex(32),
    "number": canonical.Int(0, MAX_NUMBER),
}
_SOURCE: canonical.Schema = {**_OLD_SOURCE, "day": canonical.Int(0, 0xFFFF), "is_doubted": canonical.Int(0, 1)}
_SETS = ("revoked_weights", "revoked_keys")


@dataclass(frozen=True, kw_only=True)
class KnownSource:
    """Hold what is remembered of one source.

    `NONE` and 0 stand for what is not known.

    Attributes:
        issuer: fingerprint of its release key.
        release: the highest release that was accepted.
        weights: SHA-256 of that release's weights.
        version: number of the newest revocation list.
        revoked_weights: the weights on that list.
        revoked_keys: the keys on that list.
        seq: number of the last ledger entry that a checkpoint has named.
        head: digest of the ledger's chain at that entry.
        successor: fingerprint of the key that it handed over to.
        number: the hand-over by which this key became the source's.
        day: day of the newest revocation list, in days since 1970.
        is_doubted: whether the list was not the source's own, as a person or the heir says: what it named stays
            withdrawn until the next list takes its place.
    """

    issuer: bytes
    release: int = 0
    weights: bytes = NONE
    version: int = 0
    revoked_weights: frozenset[bytes] = frozenset()
    revoked_keys: frozenset[bytes] = frozenset()
    seq: int = 0
    head: bytes = NONE
    successor: bytes = NONE
    number: int = 0
    day: int = 0
    is_doubted: bool = False

    def goes_on_after(self, last_list: int) -> "KnownSource":
        """Return the same source with the list that is said to be its last.

        A later one was not its own.
        """
        return replace(self, version=last_list, day=0, is_doubted=True)

    def without_list(self) -> "KnownSource":
        """Return the same source as one that has withdrawn nothing."""
        none = frozenset[bytes]()
        return replace(self, version=0, revoked_weights=none, revoked_keys=none, day=0, is_doubted=False)


@dataclass(frozen=True, kw_only=True)
class TrustState:
    """Hold all that is remembered; a change is a new state.

    Attributes:
        sources: what is known of each, in the order of their fingerprints.
        lost: whether an earlier memory was lost, so that a source that is not listed may still have been known.
    """

    sources: tuple[KnownSource, ...] = ()
    lost: bool = False

    def of(self, issuer: bytes) -> KnownSource:
        """Return what is known of a source.

        For one that is met for the first time, nothing is known.

        Raises:
            UnauthenticError: it may have been known, but this memory was lost.
        """
        for source in self.sources:
            if source.issuer == issuer:
                return source
        if self.lost:
            raise UnauthenticError(
                Code.STATE_LOST,
                f"What this site knew of {issuer.hex()} was lost; ask its operator for the number of its latest "
                f"release and run `ecan-target trust reset` for this source too, then {THEN_UPDATE}.",
            )
        return KnownSource(issuer=issuer)

    def knows(self, issuer: bytes) -> bool:
        """Return whether anything is remembered of a source."""
        return any(source.issuer == issuer for source in self.sources)

    def follow(self, issuer: bytes) -> bytes:
        """Return the fingerprint that stands for a trusted one today.

        It is its own, or that of its last successor.

        Raises:
            RefusedError: this key was withdrawn.
            UnauthenticError: see `of`.
        """
        last = self._last_of(issuer)
        if last in self.revoked(last):
            raise RefusedError(
                Code.REVOKED,
                f"The key {last.hex()} was withdrawn; ask the source's operator for the fingerprint of the new one.",
            )
        return last

    def is_same_source(self, one: bytes, other: bytes) -> bool:
        """Return whether two fingerprints are keys of one source.

        It has had them one after the other.
        """
        return self._last_of(one) == self._last_of(other)

    def revoked(self, issuer: bytes) -> frozenset[bytes]:
        """Return weights and keys that a source has withdrawn.

        Withdrawals under any key that it has had count.
        """
        last = self._last_of(issuer)
        line = (source for source in self.sources if self.is_same_source(source.issuer, last))
        return frozenset[bytes]().union(*(source.revoked_weights | source.revoked_keys for source in line))

    def anchor(self, issuer: bytes, *, today: int, audience: bytes | None, grants: frozenset[bytes] | None) -> Anchor:
        """Return what a new bundle of a source is measured by; see `Anchor`."""
        known = self.of(issuer)
        # A number without its weights was given by a person: this very release may still come.
        last_release = known.release if known.weights != NONE else max(known.release - 1, 0)
        return replace(
            self.anchor_of_accepted(issuer, today=today, audience=audience, grants=grants),
            last_release=last_release,
            last_weights=known.weights,
        )

    def anchor_of_accepted(
        self, issuer: bytes, *, today: int, audience: bytes | None, grants: frozenset[bytes] | None
    ) -> Anchor:
        """Return what an accepted bundle is measured by.

        Later releases do not count against it.
        """
        return Anchor(issuer=issuer, today=today, audience=audience, grants=grants, revoked=self.revoked(issuer))

    def accepted(self, stated: Manifest) -> "TrustState":
        """Remember the release of a verified bundle.

        Raises:
            RefusedError: another model was accepted under its number meanwhile.
        """
        known = self.of(stated.issuer)
        if stated.release < known.release:  # accepted in its own time
            return self._with(known)
        if stated.release == known.release and known.weights not in (NONE, stated.weights_sha256):
            raise RefusedError(
                Code.ROLLBACK,
                f"Another model was accepted as release {stated.release}; tell the source's operator.",
            )
        return self._with(replace(known, release=stated.release, weights=stated.weights_sha256))

    def learned(self, issuer: bytes, newest: Revocations | None) -> "TrustState":
        """Remember a source's revocation list, None if it says that it has none.

        Raises:
            RefusedError: the key has a successor or was withdrawn, or the list takes back what is known or leaps ahead.
        """
        known = self.of(issuer)
        self._refuse_silenced(known)
        _refuse_other_number(known, 0 if newest is None else newest.version)
        if newest is None:
            return self
        _refuse_other_content(known, newest)
        return self._settled(issuer)._with(
            replace(
                known,
                version=newest.version,
                revoked_weights=newest.weights,
                revoked_keys=newest.keys,
                day=newest.day if newest.version > known.version else max(known.day, newest.day),
                is_doubted=False,
            )
        )

    def day_of_list(self, issuer: bytes) -> int | None:
        """Return the day of a source's newest revocation list; None for no list.

        Only the list of the key that the source has today counts.
        """
        known = self.of(self._last_of(issuer))
        return known.day or None

    def _refuse_silenced(self, known: KnownSource) -> None:
        """Refuse the lists of a key that has a successor or was withdrawn."""
        if known.successor != NONE:  # whoever stole the old key could withdraw its heir
            raise RefusedError(
                Code.ROLLBACK,
                f"{known.issuer.hex()} has handed over to {known.successor.hex()}, and only the heir's lists count; "
                "ask the source for the newest one.",
            )
        if known.issuer in self.revoked(known.issuer):
            raise RefusedError(
                Code.REVOKED,
                f"The list is signed by {known.issuer.hex()}, which was withdrawn; ask the source's operator for the "
                "fingerprint of the new key.",
            )

    def _settled(self, issuer: bytes) -> "TrustState":
        """Return this memory without the doubted lists of a key's predecessors.

        The key's own list is here now and takes their place.
        """
        state = self
        for source in self.sources:
            if source.is_doubted and source.issuer != issuer and self._last_of(source.issuer) == issuer:
                state = state._with(source.without_list())
        return state

    def succeeded(self, succession: Succession) -> "TrustState":
        """Remember that a source handed over to a new key.

        What is known of the old key passes on to the new one.

        Raises:
            RefusedError: the old key was withdrawn, has another successor already, or the hand-over is an old one.
        """
        old, new = self.of(succession.old), succession.new
        if old.successor == new:
            return self
        if old.issuer in self.revoked(old.issuer) or new in self.revoked(old.issuer):
            raise RefusedError(
                Code.REVOKED,
                "One of the two keys was withdrawn, so nothing follows from this statement; ask the source's operator "
                "for the fingerprint that holds today.",
            )
        if old.successor != NONE:
            raise RefusedError(
                Code.ROLLBACK,
                f"{old.issuer.hex()} has handed over to {old.successor.hex()} already; if its operator knows nothing "
                "of a second successor, the old key was stolen.",
            )
        if succession.number <= old.number or self._last_of(new) == old.issuer:
            raise RefusedError(Code.ROLLBACK, "The statement is older than what is known here; ask for the newest one.")
        heir = next((source for source in self.sources if source.issuer == new), KnownSource(issuer=new))
        release = max((_released(old, succession.last_release), heir), key=lambda source: source.release)
        ledger = max((old, heir), key=lambda source: source.seq)
        old, heir = _handed_lists(old, heir, succession.last_list)
        heir = replace(
            heir,
            release=release.release,
            weights=release.weights,
            seq=ledger.seq,
            head=ledger.head,
            number=succession.number,
        )
        return self._with(replace(old, successor=new))._with(heir)

    def saw(self, issuer: bytes, checkpoint: CheckpointFields, *, since: KnownSource) -> "TrustState":
        """Remember a checkpoint of a source's ledger.

        Args:
            issuer: the source.
            checkpoint: what it shows.
            since: what was known when it was asked, for two answers may arrive in another order.

        Raises:
            PeerError: the ledger has lost entries, or its past is another one by now.
        """
        known = self.of(issuer)
        shrank = checkpoint.seq < since.seq
        rewritten = checkpoint.seq == known.seq and checkpoint.head != known.head
        severed = (checkpoint.seen, checkpoint.seen_head) != (since.seq, since.head)
        if shrank or rewritten or severed:
            raise PeerError(
                Code.LEDGER,
                f"ALARM: the source {issuer.hex()} is not to be relied on, its ledger shrank or was rewritten "
                f"(entry {max(known.seq, since.seq)} was seen and does not stand in the {checkpoint.seq} entries that "
                "are shown); call its operator.",
            )
        if (known.seq, known.head) != (since.seq, since.head):
            return self  # another run saw more meanwhile; whether this one follows on it shows with the next receipt
        return self._with(replace(known, seq=checkpoint.seq, head=checkpoint.head))

    def reset(self, issuer: bytes, release: int, newest_list: int | None = None) -> "TrustState":
        """Reset what is remembered of a source, on a person's word.

        What it has withdrawn stays withdrawn.

        Args:
            issuer: fingerprint of the source's release key.
            release: number of its latest release.
            newest_list: number of its newest revocation list, which takes the place of what is known; 0 if it has
                none, None to go on from the list that is known here.
        """
        known = self.of(issuer) if self.knows(issuer) else KnownSource(issuer=issuer)
        if newest_list is not None:
            known = known.goes_on_after(newest_list - 1) if newest_list else known.without_list()
        return self._with(replace(known, release=release, weights=NONE, seq=0, head=NONE))

    def _last_of(self, issuer: bytes) -> bytes:
        successors = {source.issuer: source.successor for source in self.sources}
        while successors.get(issuer, NONE) != NONE:  # ends: there is no circle
            issuer = successors[issuer]
        return issuer

    def _with(self, known: KnownSource) -> "TrustState":
        others = [source for source in self.sources if source.issuer != known.issuer]
        if len(others) == MAX_SOURCES:
            raise RefusedError(
                Code.POLICY, f"This site knows {MAX_SOURCES} sources already; use a keys folder of its own for more."
            )
        return replace(self, sources=tuple(sorted([*others, known], key=lambda source: source.issuer)))


def _refuse_other_number(known: KnownSource, version: int) -> None:
    """Refuse an older list, and one whose number leaps far ahead.

    After such a leap no later list could come.
    """
    if version < known.version:
        raise RefusedError(
            Code.ROLLBACK,
            f"The source shows revocation list {version or 'none'}, but list {known.version} is known here; "
            "tell its operator that an old copy is in use.",
        )
    if version > (known.version + MAX_LIST_STEP if known.version else MAX_FIRST_LIST):
        raise RefusedError(
            Code.FAST_FORWARD,
            f"The source shows revocation list {version} and list {known.version or 'none'} is known here; ask its "
            "operator for the number of the newest, and if that is right, run `ecan-target trust reset` with --list.",
        )


def _refuse_other_content(known: KnownSource, newest: Revocations) -> None:
    """Refuse a second list of one number, and one that takes something back."""
    is_same = not known.is_doubted and newest.revoked == known.revoked_weights | known.revoked_keys
    if newest.version == known.version and not is_same:
        raise RefusedError(
            Code.ROLLBACK,
            f"There are two revocation lists with the number {newest.version}; tell the source's operator.",
        )
    is_longer = newest.weights >= known.revoked_weights and newest.keys >= known.revoked_keys
    if not (known.is_doubted or is_longer):
        raise RefusedError(
            Code.ROLLBACK,
            f"Revocation list {newest.version} leaves out what list {known.version} named, and lists are not "
            "shortened; tell the source's operator.",
        )


def refuse_future(newest: Revocations | None, today: int) -> None:
    """Refuse a list whose day has not come, which would never seem old.

    Raises:
        RefusedError: its day lies further ahead than clocks differ.
    """
    if newest is not None and newest.day > today + CLOCK_TOLERANCE_DAYS:
        raise RefusedError(
            Code.NOT_YET,
            f"The revocation list is from day {newest.day} and today is day {today}; check both clocks.",
        )


def _released(old: KnownSource, last_release: int | None) -> KnownSource:
    """Return the old key without the releases that the source did not make."""
    if last_release is None or old.release <= last_release:
        return old
    return replace(old, release=last_release, weights=NONE)


def _handed_lists(old: KnownSource, heir: KnownSource, last_list: int | None) -> tuple[KnownSource, KnownSource]:
    """Return both keys of a hand-over with the lists that count.

    An heir begins its lists after the old key's last one, whatever a thief of the old key has signed beyond. What
    such a list named stays withdrawn until the heir's own list is here; after a statement of version 1, which does
    not tell the last list, the heir inherits it.
    """
    if last_list is None:
        names = ("version", "revoked_weights", "revoked_keys", "day", "is_doubted")
        later = max((old, heir), key=lambda source: source.version)
        return old, replace(heir, **{name: getattr(later, name) for name in names})
    if old.version > last_list:
        is_settled = last_list == 0 or heir.version > last_list
        old = old.without_list() if is_settled else old.goes_on_after(last_list)
    if heir.version == 0 and last_list:
        return old, heir.goes_on_after(last_list)  # not even an empty list of that number is the heir's
    return old, heir if heir.version > last_list else replace(heir, version=last_list)


def create_trust_state(keys_dir: Path) -> None:
    """Write an empty memory for new keys, before their signing key.

    So whoever has keys has a memory.

    A whole one that is there already stays as it is.

    Raises:
        FileError: it cannot be written.
    """
    make_private_folder(keys_dir)
    with locked(_opened_lock(keys_dir)):
        try:
            load_trust_state(keys_dir)
        except UnauthenticError:
            _save(keys_dir, TrustState())


def load_trust_state(keys_dir: Path) -> TrustState:
    """Read what this site remembers.

    Raises:
        UnauthenticError: it is missing, damaged, or others could have written it; only a person can go on.
    """
    path = keys_dir / STATE_FILE
    try:
        data = read_bounded(path, MAX_STATE_BYTES)
        exposed = stat.S_IMODE(path.stat().st_mode) & 0o077
        state = _parse(data)
    except (ProtocolError, OSError) as error:
        missing = isinstance(error, FileError) and error.code is Code.NOT_FOUND
        raise _lost(keys_dir, "is missing" if missing else "is damaged") from error
    if exposed:
        raise _lost(keys_dir, "can be changed or read by other users")
    return state


def update_trust_state(keys_dir: Path, change: Callable[[TrustState], TrustState]) -> TrustState:
    """Change what is remembered, one process at a time.

    Two processes at once do it one after the other.

    Returns:
        The state after the change, which is on the disk.

    Raises:
        UnauthenticError: see `load_trust_state`.
        FileError: it cannot be written.
    """
    with locked(_opened_lock(keys_dir)):
        before = load_trust_state(keys_dir)
        after = change(before)
        if after != before:
            _save(keys_dir, after)
        return after


def reset_trust(keys_dir: Path, issuer: bytes, release: int, newest_list: int | None = None) -> TrustState:
    """Reset one source, as a person says.

    Makes a memory that can be read again.

    Args:
        keys_dir: the target's keys.
        issuer: fingerprint of the source's release key.
        release: number of its latest release, from its operator; an older one will be refused.
        newest_list: number of its newest revocation list, or None; see `TrustState.reset`.
    """
    with locked(_opened_lock(keys_dir)):
        try:
            before = load_trust_state(keys_dir)
        except UnauthenticError:
            before = TrustState(lost=True)
        after = before.reset(issuer, release, newest_list)
        _save(keys_dir, after)
        return after


def _save(keys_dir: Path, state: TrustState) -> None:
    sources = [_dump(source) for source in state.sources]
    head = {"v": 2, "lost": int(state.lost), "check": _check(state.lost, sources).hex()}
    write_atomic(keys_dir / STATE_FILE, canonical.encode({**head, "sources": sources}))


def _parse(data: bytes) -> TrustState:
    value = canonical.parse_object(data, what=_WHAT, max_bytes=MAX_STATE_BYTES, max_brackets=MAX_SOURCES + 2)
    sources = value.pop("sources", None)
    head = canonical.load_fields(value, _HEAD, what=_WHAT)
    if not isinstance(sources, list) or head["check"] != _check(bool(head["lost"]), sources):
        raise MalformedError(Code.DIGEST, "The trust state does not add up; reset it.")
    schema = _SOURCE if head["v"] == 2 else _OLD_SOURCE
    state = TrustState(sources=tuple(_load(source, schema) for source in sources), lost=bool(head["lost"]))
    _check_order(state)
    return state


def _check_order(state: TrustState) -> None:
    """Check that every source is there once, without circles.

    Two entries of a source, or a circle of successors, could hide what is known.
    """
    issuers = [source.issuer for source in state.sources]
    if issuers != sorted(set(issuers)):
        raise MalformedError(Code.NOT_CANONICAL, "The trust state names a source twice; reset it.")
    successors = {source.issuer: source.successor for source in state.sources if source.successor != NONE}
    for issuer in issuers:
        for _ in issuers:
            issuer = successors.get(issuer, NONE)
        if issuer in successors:
            raise MalformedError(Code.NOT_CANONICAL, "The trust state has a circle of successors; reset it.")


def _check(lost: bool, sources: list[Any]) -> bytes:
    """Return a checksum that finds damage.

    A forger could compute it as well, so the permissions of the file guard it.
    """
    return hashlib.sha256(canonical.encode({"lost": int(lost), "sources": sources})).digest()


def _dump(source: KnownSource) -> dict[str, object]:
    values = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
    values |= {name: revocations.join_digests(values[name]) for name in _SETS}
    values["is_doubted"] = int(source.is_doubted)
    return {name: kind.dump(values[name]) for name, kind in _SOURCE.items()}


def _load(value: object, schema: canonical.Schema) -> KnownSource:
    fields = canonical.load_fields(value, schema, what=_WHAT)
    fields["is_doubted"] = bool(fields.get("is_doubted"))
    return KnownSource(**fields | {name: revocations.split_digests(fields[name], name) for name in _SETS})


def _lost(keys_dir: Path, why: str) -> UnauthenticError:
    return UnauthenticError(
        Code.STATE_LOST,
        f"{keys_dir / STATE_FILE} {why}, so this site no longer knows what it has seen; ask the source's operator for "
        f"the number of its latest release, run `ecan-target trust reset --keys {keys_dir} --trust FINGERPRINT "
        f"--release N`, then {THEN_UPDATE}.",
    )


def _opened_lock(keys_dir: Path) -> int:
    """Open the file whose lock is for whoever changes the memory."""
    path = keys_dir / LOCK_FILE
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cannot_write(path, error) from error
