"""Compute the features of many utterances, reading each file once.

Every refusal is kept with its reason.
"""

import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecan_core.audio.decode import Identity, Recording, hashed, resample
from ecan_core.audio.frontend import FrontEnd
from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.data.cache import Extracted, FeatureCache
from ecan_core.errors import NothingUsableError, UnusableAudioError
from ecan_core.runtime.workers import cores, shared_out
from ecan_core.utterance import Utterance

Array = npt.NDArray[Any]
OnProgress = Callable[[int, int], None]
Outcome = Extracted | UnusableAudioError

_UTTERANCES_PER_WORKER = 40
_UTTERANCES_PER_ORDER = 20


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Describe an utterance that could not be used.

    Attributes:
        utterance: The one.
        reason: One of `ecan_core.audio.decode.REASONS`.
        message: One sentence with the remedy.
    """

    utterance: Utterance
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTable:
    """Hold utterances and their features, row by row.

    Attributes:
        utterances: The usable ones in the order they were listed, N.
        features: The features of each, N arrays [S] or [F, M].
        durations_s: The length of each in seconds.
        refusals: The others.
        copies: Rows whose sound is that of an earlier row, to the byte.
        clipped: Rows that were recorded too loud: their features, and so their scores, are worth less.
    """

    utterances: tuple[Utterance, ...]
    features: tuple[Array, ...]
    durations_s: tuple[float, ...]
    refusals: tuple[Refusal, ...]
    copies: tuple[int, ...] = ()
    clipped: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return the number of usable utterances, N."""
        return len(self.utterances)

    def without_copies(self) -> "FeatureTable":
        """Return the table with every sound once.

        The copies are among its refusals.
        """
        left_out, clipped = frozenset(self.copies), frozenset(self.clipped)
        kept = [row for row in range(len(self)) if row not in left_out]
        message = "The same recording is listed more than once; it counts once."
        return FeatureTable(
            utterances=tuple(self.utterances[row] for row in kept),
            features=tuple(self.features[row] for row in kept),
            durations_s=tuple(self.durations_s[row] for row in kept),
            clipped=tuple(place for place, row in enumerate(kept) if row in clipped),
            refusals=(
                *self.refusals,
                *(Refusal(utterance=self.utterances[row], reason="COPY", message=message) for row in self.copies),
            ),
        )

    def digest(self) -> bytes:
        """Return the SHA-256 of who speaks and of all features, in order.

        The names of the files do not count.
        """
        binding = sha256()
        for utterance, array in zip(self.utterances, self.features, strict=True):
            binding.update(json.dumps([utterance.speaker, array.dtype.str, array.shape]).encode())
            binding.update(np.ascontiguousarray(array).tobytes())
        return binding.digest()

    @property
    def skipped(self) -> str:
        """Tell how many utterances were refused and why.

        The form is "3 (2 SILENT, 1 NOT_FOUND)".
        """
        return f"{len(self.refusals)} ({_by_reason(self.refusals)})"

    @property
    def matrix(self) -> npt.NDArray[np.float32]:
        """Return utterance vectors as a matrix, [N, S].

        Frame sequences have no such form.
        """
        return np.stack(self.features).astype(np.float32, copy=False)


def extract_features(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    cache: FeatureCache | None = None,
    on_progress: OnProgress | None = None,
    workers: int | None = None,
    refused: Sequence[Refusal] = (),
) -> FeatureTable:
    """Compute the features of every utterance, or take them from the cache.

    Neighbors in the listing that share a file are served together. A file is hashed first, for the cache, and what is
    decoded later must be the same file and unchanged.

    Args:
        utterances: Any number.
        front_end: What to compute.
        cache: Where earlier results are; None computes everything.
        on_progress: Told the number of utterances done and their total.
        workers: Processes that compute; 0 computes here, None decides by `num_workers`.
        refused: What was left out before; it is among the table's refusals.

    Returns:
        Features and refusals in the order of the listing, whatever the number of workers.

    Raises:
        NothingUsableError: No utterance can be used.
        StorageError: The cache cannot be written.
    """
    outcomes: list[tuple[str, Outcome]] = []
    groups = [tuple(group) for _, group in groupby(utterances, key=lambda utterance: utterance.path)]
    if workers is None:
        workers = num_workers(len(utterances))
    for outcome in _outcomes(groups, front_end, cache, workers):
        outcomes.append(outcome)
        if on_progress is not None:
            on_progress(len(outcomes), len(utterances))
    return _table(utterances, outcomes, refused)


def num_workers(num_utterances: int) -> int:
    """Return how many processes to compute with.

    All cores at hand, but fewer for work that is done sooner than they start. One at least, even so: a hostile file
    kills that one and not this process.

    One at least, even so: it is that one which a hostile file kills.
    """
    return min(cores(), 1 + num_utterances // _UTTERANCES_PER_WORKER)


def feature_key(file_hash: str, utterance: Utterance, front_end: FrontEnd) -> str:
    """Return the name of an utterance's features in the cache.

    Args:
        file_hash: SHA-256 of the file's bytes.
        utterance: Its segment and channel count, its name and path do not.
        front_end: Its fingerprint counts, so no other version's numbers are ever found.
    """
    place = (utterance.channel, utterance.start_s, utterance.end_s)
    return sha256(f"{file_hash} {place} {front_end.fingerprint}".encode()).hexdigest()


def _outcomes(
    groups: Sequence[tuple[Utterance, ...]],
    front_end: FrontEnd,
    cache: FeatureCache | None,
    workers: int,
) -> Iterator[tuple[str, Outcome]]:
    """Yield the key of every utterance with its features or refusal, in order."""
    works: deque[_FileWork] = deque()

    def orders() -> Iterator[bytes]:
        for number, group in enumerate(groups):
            work = _start(group, front_end, cache)
            works.append(work)
            for rows in tuple(work.orders):
                yield json.dumps([number, rows, work.identity]).encode()

    def compute(order: bytes) -> bytes:
        number, rows, identity = json.loads(order)
        return _to_bytes(_compute(groups[number], rows, Identity(*identity), front_end))

    if workers:
        front_end.fingerprint  # noqa: B018 - what it is made from is loaded once, and not by every worker
        results = shared_out(orders(), compute, workers)
    else:
        results = map(compute, orders())
    for result in results:
        work = works[0]
        while not work.orders:
            yield from works.popleft().outcomes(cache)
            work = works[0]
        work.take(result)
        if not work.orders:
            yield from works.popleft().outcomes(cache)
    while works:
        yield from works.popleft().outcomes(cache)


@dataclass(kw_only=True)
class _FileWork:
    """Hold the utterances of one file while they are computed.

    Attributes:
        group: All of them.
        identity: The file as it was when it was hashed.
        keys: What was heard where, as its name in the cache; empty where that is unknown.
        known: Their outcomes; None where it is not known yet.
        new: Rows that are not in the cache.
        orders: Rows that are still to be computed, a few at a time, in the order in which they come back.
    """

    group: tuple[Utterance, ...]
    identity: Identity | None
    keys: list[str]
    known: list[Outcome | None]
    new: frozenset[int]
    orders: deque[list[int]]

    def take(self, result: bytes | None) -> None:
        """Take the result of the first pending order."""
        rows = self.orders.popleft()
        if result is None:
            outcomes: list[Outcome] = [lost(self.group[0].path)] * len(rows)
        else:
            outcomes = _from_bytes(result)
        for row, outcome in zip(rows, outcomes, strict=True):
            self.known[row] = outcome

    def outcomes(self, cache: FeatureCache | None) -> Iterator[tuple[str, Outcome]]:
        """Store what is new; yield every utterance's key and outcome in order."""
        for row, (key, outcome) in enumerate(zip(self.keys, self.known, strict=True)):
            assert outcome is not None
            if row in self.new and cache is not None and not isinstance(outcome, UnusableAudioError):
                cache.store(key, outcome)
            yield key, outcome


def lost(path: Path) -> UnusableAudioError:
    """Return the refusal of a recording whose reader was killed."""
    return UnusableAudioError(
        "LOST", f"{path} killed the process that read it, for want of memory or time; leave it out."
    )


def _start(group: tuple[Utterance, ...], front_end: FrontEnd, cache: FeatureCache | None) -> _FileWork:
    """Hash one file and look up its utterances in the cache."""
    try:
        identity, file_hash = hashed(group[0].path)
    except UnusableAudioError as refusal:
        size = len(group)
        return _FileWork(
            group=group, identity=None, keys=[""] * size, known=[refusal] * size, new=frozenset(), orders=deque()
        )
    keys = [feature_key(file_hash, utterance, front_end) for utterance in group]
    known: list[Outcome | None] = [None if cache is None else cache.load(key) for key in keys]
    missing = [row for row, outcome in enumerate(known) if outcome is None]
    orders = (missing[first : first + _UTTERANCES_PER_ORDER] for first in range(0, len(missing), _UTTERANCES_PER_ORDER))
    return _FileWork(
        group=group, identity=identity, keys=keys, known=known, new=frozenset(missing), orders=deque(orders)
    )


def _compute(
    group: tuple[Utterance, ...], rows: Sequence[int], identity: Identity, front_end: FrontEnd
) -> list[Outcome]:
    """Decode utterances of one file and computes their features, in a worker."""
    path = group[0].path
    changed = UnusableAudioError(
        "CHANGED", f"{path} was changed while it was read; let the recording end, then run again."
    )
    try:
        with Recording(path) as recording:
            if recording.identity != identity:
                return [changed] * len(rows)
            outcomes = [_compute_one(recording, group[row], front_end) for row in rows]
            return outcomes if recording.identity == identity else [changed] * len(rows)
    except UnusableAudioError as refusal:
        return [refusal] * len(rows)


def _compute_one(recording: Recording, utterance: Utterance, front_end: FrontEnd) -> Outcome:
    try:
        waveform = recording.segment(
            channel=utterance.channel,
            start_s=utterance.start_s,
            end_s=utterance.end_s,
        )
    except UnusableAudioError as refusal:
        return refusal
    features = front_end.compute(resample(waveform, SAMPLE_RATE))
    if not np.isfinite(features).all():
        message = f"{utterance.path} has features that are not finite; export it again at a usual level."
        return UnusableAudioError("NON_FINITE", message)
    return Extracted(features, waveform.duration_s, waveform.is_clipped)


def _to_bytes(outcomes: Sequence[Outcome]) -> bytes:
    """Write what a worker returns: a line that lists it, then the numbers."""
    said: list[list[Any]] = []
    content = []
    for outcome in outcomes:
        if isinstance(outcome, UnusableAudioError):
            said.append([outcome.reason, str(outcome)])
        else:
            features = np.ascontiguousarray(outcome.features)
            said.append([features.dtype.str, features.shape, outcome.duration_s, outcome.is_clipped])
            content.append(features.tobytes())
    return json.dumps(said).encode() + b"\n" + b"".join(content)


def _from_bytes(result: bytes) -> list[Outcome]:
    """Read what `_to_bytes` wrote."""
    said, _, content = result.partition(b"\n")
    outcomes: list[Outcome] = []
    place = 0
    for reason_or_dtype, *rest in json.loads(said):
        if len(rest) == 1:
            outcomes.append(UnusableAudioError(reason_or_dtype, *rest))
            continue
        shape, *heard = rest
        features = np.frombuffer(content, reason_or_dtype, math.prod(shape), place).reshape(shape)
        place += features.nbytes
        outcomes.append(Extracted(features, *heard))
    return outcomes


def _table(
    utterances: Sequence[Utterance], outcomes: Sequence[tuple[str, Outcome]], refused: Sequence[Refusal]
) -> FeatureTable:
    used: list[tuple[Utterance, Extracted]] = []
    refusals, copies = [*refused], []
    heard: set[str] = set()
    for utterance, (key, outcome) in zip(utterances, outcomes, strict=True):
        if isinstance(outcome, UnusableAudioError):
            refusals.append(Refusal(utterance=utterance, reason=outcome.reason, message=str(outcome)))
            continue
        if key in heard:
            copies.append(len(used))
        heard.add(key)
        used.append((utterance, outcome))
    if not used:
        raise NothingUsableError(nothing_usable(refusals), refusals)
    return FeatureTable(
        utterances=tuple(utterance for utterance, _ in used),
        features=tuple(extracted.features for _, extracted in used),
        durations_s=tuple(extracted.duration_s for _, extracted in used),
        refusals=tuple(refusals),
        copies=tuple(copies),
        clipped=tuple(row for row, (_, extracted) in enumerate(used) if extracted.is_clipped),
    )


def nothing_usable(refusals: Sequence[Refusal], num_discarded: int = 0) -> str:
    """Explain that no utterance is left, and why."""
    if not refusals and num_discarded:
        return f"All {num_discarded} channels belong to roles that are discarded; check the roles in the settings."
    if not refusals:
        return "There is no utterance to read; name a folder or a listing that holds audio files."
    return (
        f"None of the {len(refusals)} utterances can be used ({_by_reason(refusals)}); the first: {refusals[0].message}"
    )


def _by_reason(refusals: Sequence[Refusal]) -> str:
    counts = Counter(refusal.reason for refusal in refusals)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
