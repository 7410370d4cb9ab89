"""Features of many utterances: every file read once, every refusal kept with its reason."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from multiprocessing import get_context
from typing import Any

import numpy as np
import numpy.typing as npt

from ecan_core.audio.decode import decode_bytes, read_bytes, resample
from ecan_core.audio.frontend import FrontEnd
from ecan_core.audio.logmel import SAMPLE_RATE
from ecan_core.data.cache import FeatureCache
from ecan_core.errors import AudioError, AudioRefused
from ecan_core.utterance import Utterance

Array = npt.NDArray[Any]
OnProgress = Callable[[int, int], None]
_Compute = Callable[..., list[Array | AudioRefused]]
_Submit = Callable[..., "Future[list[Array | AudioRefused]]"]

_FILES_AHEAD = 4  # files held in memory per worker


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An utterance that could not be used.

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
    """Utterances and their features, row by row.

    Attributes:
        utterances: The usable ones in the order they were listed, N.
        features: The features of each, N arrays [S] or [F, M].
        refusals: The others.
    """

    utterances: tuple[Utterance, ...]
    features: tuple[Array, ...]
    refusals: tuple[Refusal, ...]

    def __len__(self) -> int:
        """Number of usable utterances, N."""
        return len(self.utterances)

    @property
    def matrix(self) -> npt.NDArray[np.float32]:
        """Stacks utterance vectors, [N, S]; frame sequences have no such form."""
        return np.stack(self.features).astype(np.float32, copy=False)


def extract_features(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    cache: FeatureCache | None = None,
    on_progress: OnProgress | None = None,
    workers: int = 1,
) -> FeatureTable:
    """Computes the features of every utterance, or takes them from the cache.

    Neighbors in the listing that share a file are served by one reading of it. What is hashed for the cache is
    what is decoded: the same bytes in memory.

    Args:
        utterances: Any number.
        front_end: What to compute.
        cache: Where earlier results are; None computes everything.
        on_progress: Told the number of utterances done and their total.
        workers: Processes that compute; 1 computes here.

    Returns:
        Features and refusals in the order of the listing, whatever the number of workers.

    Raises:
        AudioError: No utterance can be used.
        StorageError: The cache cannot be written.
    """
    outcomes: list[Array | AudioRefused] = []
    groups = [tuple(group) for _, group in groupby(utterances, key=lambda utterance: utterance.path)]
    for outcome in _outcomes(groups, front_end, cache, workers):
        outcomes.append(outcome)
        if on_progress is not None:
            on_progress(len(outcomes), len(utterances))
    return _table(utterances, outcomes)


def feature_key(file_hash: str, utterance: Utterance, front_end: FrontEnd) -> str:
    """Names the features of one utterance in the cache.

    Args:
        file_hash: SHA-256 of the file's bytes.
        utterance: Its segment and channel count, its name and path do not.
        front_end: Its fingerprint counts, so no other version's numbers are ever found.
    """
    place = (utterance.channel, utterance.start_s, utterance.end_s)
    return sha256(f"{file_hash} {place} {front_end.fingerprint}".encode()).hexdigest()


def compute_features(
    data: bytes, utterances: Sequence[Utterance], front_end: FrontEnd
) -> list[Array | AudioRefused]:
    """Decodes the content of one file and computes the features of utterances within it.

    Args:
        data: The whole file.
        utterances: Segments and channels of this file.
        front_end: What to compute.

    Returns:
        Features or the refusal of each utterance.
    """
    return [_compute_one(data, utterance, front_end) for utterance in utterances]


def _compute_one(data: bytes, utterance: Utterance, front_end: FrontEnd) -> Array | AudioRefused:
    try:
        waveform = decode_bytes(
            data,
            str(utterance.path),
            channel=utterance.channel,
            start_s=utterance.start_s,
            end_s=utterance.end_s,
        )
    except AudioRefused as refusal:
        return refusal
    return front_end.compute(resample(waveform, SAMPLE_RATE))


@dataclass(frozen=True, kw_only=True)
class _FileWork:
    """The utterances of one file: what was known at once, and what is being computed for the rest."""

    keys: list[str]
    known: list[Array | AudioRefused | None]
    computed: "Future[list[Array | AudioRefused]]"

    def outcomes(self, cache: FeatureCache | None) -> Iterator[Array | AudioRefused]:
        """Waits for what is missing, stores it, and yields every utterance's outcome in order."""
        computed = iter(self.computed.result())
        for key, known in zip(self.keys, self.known, strict=True):
            outcome = next(computed) if known is None else known
            if known is None and cache is not None and not isinstance(outcome, AudioRefused):
                cache.store(key, outcome)
            yield outcome


def _outcomes(
    groups: Sequence[tuple[Utterance, ...]],
    front_end: FrontEnd,
    cache: FeatureCache | None,
    workers: int,
) -> Iterator[Array | AudioRefused]:
    """Yields the features or the refusal of every utterance, in order."""
    if workers == 1:
        for group in groups:
            yield from _start(group, front_end, cache, _submit_here).outcomes(cache)
        return
    pending: deque[_FileWork] = deque()
    # Fresh processes: a fork would copy the state of torch's threads half-way.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        for group in groups:
            pending.append(_start(group, front_end, cache, executor.submit))
            if len(pending) > _FILES_AHEAD * workers:
                yield from pending.popleft().outcomes(cache)
        while pending:
            yield from pending.popleft().outcomes(cache)


def _start(
    group: tuple[Utterance, ...], front_end: FrontEnd, cache: FeatureCache | None, submit: _Submit
) -> _FileWork:
    """Reads one file, looks its utterances up and starts computing those that are not known."""
    try:
        data = read_bytes(group[0].path)
    except AudioRefused as refusal:
        return _FileWork(keys=[""] * len(group), known=[refusal] * len(group), computed=_done([]))
    file_hash = sha256(data).hexdigest()
    keys = [feature_key(file_hash, utterance, front_end) for utterance in group]
    known = [None if cache is None else cache.load(key) for key in keys]
    missing = [utterance for utterance, features in zip(group, known, strict=True) if features is None]
    computed = submit(compute_features, data, missing, front_end) if missing else _done([])
    return _FileWork(keys=keys, known=list(known), computed=computed)


def _submit_here(compute: _Compute, *arguments: Any) -> "Future[list[Array | AudioRefused]]":
    return _done(compute(*arguments))


def _done(outcomes: list[Array | AudioRefused]) -> "Future[list[Array | AudioRefused]]":
    future: Future[list[Array | AudioRefused]] = Future()
    future.set_result(outcomes)
    return future


def _table(utterances: Sequence[Utterance], outcomes: Sequence[Array | AudioRefused]) -> FeatureTable:
    pairs = list(zip(utterances, outcomes, strict=True))
    used = [(utterance, outcome) for utterance, outcome in pairs if not isinstance(outcome, AudioRefused)]
    refusals = [
        Refusal(utterance=utterance, reason=outcome.reason, message=str(outcome))
        for utterance, outcome in pairs
        if isinstance(outcome, AudioRefused)
    ]
    if not used:
        raise AudioError(_nothing_usable(refusals))
    return FeatureTable(
        utterances=tuple(utterance for utterance, _ in used),
        features=tuple(features for _, features in used),
        refusals=tuple(refusals),
    )


def _nothing_usable(refusals: Sequence[Refusal]) -> str:
    if not refusals:
        return "There is no utterance to read; name a folder or a listing that holds audio files."
    counts = Counter(refusal.reason for refusal in refusals)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    return f"None of the {len(refusals)} utterances can be used ({reasons}); the first: {refusals[0].message}"
