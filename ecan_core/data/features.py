"""Features of many utterances: every file read once, every refusal kept with its reason."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
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
from ecan_core.data.cache import Extracted, FeatureCache
from ecan_core.errors import AudioError, AudioRefused
from ecan_core.utterance import Utterance

Array = npt.NDArray[Any]
OnProgress = Callable[[int, int], None]
Outcome = Extracted | AudioRefused
_Compute = Callable[..., list[Outcome]]
_Submit = Callable[..., "Future[list[Outcome]]"]

_UTTERANCES_PER_WORKER = 200
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
        durations_s: The length of each in seconds.
        refusals: The others.
    """

    utterances: tuple[Utterance, ...]
    features: tuple[Array, ...]
    durations_s: tuple[float, ...]
    refusals: tuple[Refusal, ...]

    def __len__(self) -> int:
        """Number of usable utterances, N."""
        return len(self.utterances)

    @property
    def skipped(self) -> str:
        """How many utterances were refused and why, such as "3 (2 SILENT, 1 NOT_FOUND)"."""
        return f"{len(self.refusals)} ({_by_reason(self.refusals)})"

    @property
    def matrix(self) -> npt.NDArray[np.float32]:
        """Stacks utterance vectors, [N, S]; frame sequences have no such form."""
        return np.stack(self.features).astype(np.float32, copy=False)


def extract_features(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    cache: FeatureCache | None = None,
    on_progress: OnProgress | None = None,
    workers: int | None = None,
) -> FeatureTable:
    """Computes the features of every utterance, or takes them from the cache.

    Neighbors in the listing that share a file are served by one reading of it. What is hashed for the cache
    is what is decoded: the same bytes in memory.

    Args:
        utterances: Any number.
        front_end: What to compute.
        cache: Where earlier results are; None computes everything.
        on_progress: Told the number of utterances done and their total.
        workers: Processes that compute; 1 computes here, None decides by `num_workers`.

    Returns:
        Features and refusals in the order of the listing, whatever the number of workers.

    Raises:
        AudioError: No utterance can be used.
        StorageError: The cache cannot be written.
    """
    outcomes: list[Outcome] = []
    groups = [tuple(group) for _, group in groupby(utterances, key=lambda utterance: utterance.path)]
    for outcome in _outcomes(groups, front_end, cache, workers or num_workers(len(utterances))):
        outcomes.append(outcome)
        if on_progress is not None:
            on_progress(len(outcomes), len(utterances))
    return _table(utterances, outcomes)


def num_workers(num_utterances: int) -> int:
    """How many processes to compute with: all cores at hand, but not for work that is done sooner than they start."""
    return min(_num_cores(), 1 + num_utterances // _UTTERANCES_PER_WORKER)


def _num_cores() -> int:
    # A container or a batch system may grant fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def feature_key(file_hash: str, utterance: Utterance, front_end: FrontEnd) -> str:
    """Names the features of one utterance in the cache.

    Args:
        file_hash: SHA-256 of the file's bytes.
        utterance: Its segment and channel count, its name and path do not.
        front_end: Its fingerprint counts, so no other version's numbers are ever found.
    """
    place = (utterance.channel, utterance.start_s, utterance.end_s)
    return sha256(f"{file_hash} {place} {front_end.fingerprint}".encode()).hexdigest()


def compute_features(data: bytes, utterances: Sequence[Utterance], front_end: FrontEnd) -> list[Outcome]:
    """Decodes the content of one file and computes the features of utterances within it.

    Args:
        data: The whole file.
        utterances: Segments and channels of this file.
        front_end: What to compute.

    Returns:
        Features or the refusal of each utterance.
    """
    return [_compute_one(data, utterance, front_end) for utterance in utterances]


def _compute_one(data: bytes, utterance: Utterance, front_end: FrontEnd) -> Outcome:
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
    features = front_end.compute(resample(waveform, SAMPLE_RATE))
    if not np.isfinite(features).all():
        message = f"{utterance.path} has features that are not finite; export it again at a usual level."
        return AudioRefused("NON_FINITE", message)
    return Extracted(features, waveform.duration_s)


@dataclass(frozen=True, kw_only=True)
class _FileWork:
    """The utterances of one file: what was known at once, and what is being computed for the rest."""

    keys: list[str]
    known: list[Outcome | None]
    computed: "Future[list[Outcome]]"

    def outcomes(self, cache: FeatureCache | None) -> Iterator[Outcome]:
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
) -> Iterator[Outcome]:
    """Yields the features or the refusal of every utterance, in order."""
    if workers == 1:
        for group in groups:
            yield from _start(group, front_end, cache, _submit_here).outcomes(cache)
        return
    pending: deque[_FileWork] = deque()
    # Fresh processes: a fork would copy the state of torch's threads half-way.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        try:
            for group in groups:
                pending.append(_start(group, front_end, cache, executor.submit))
                if len(pending) > _FILES_AHEAD * workers:
                    yield from pending.popleft().outcomes(cache)
            while pending:
                yield from pending.popleft().outcomes(cache)
        except BrokenProcessPool as error:
            message = "A process that computes features was killed, perhaps for want of memory; run it again."
            raise AudioError(message) from error
        finally:
            executor.shutdown(cancel_futures=True)


def _start(group: tuple[Utterance, ...], front_end: FrontEnd, cache: FeatureCache | None, submit: _Submit) -> _FileWork:
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


def _submit_here(compute: _Compute, *arguments: Any) -> "Future[list[Outcome]]":
    return _done(compute(*arguments))


def _done(outcomes: list[Outcome]) -> "Future[list[Outcome]]":
    future: Future[list[Outcome]] = Future()
    future.set_result(outcomes)
    return future


def _table(utterances: Sequence[Utterance], outcomes: Sequence[Outcome]) -> FeatureTable:
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
        features=tuple(extracted.features for _, extracted in used),
        durations_s=tuple(extracted.duration_s for _, extracted in used),
        refusals=tuple(refusals),
    )


def _nothing_usable(refusals: Sequence[Refusal]) -> str:
    if not refusals:
        return "There is no utterance to read; name a folder or a listing that holds audio files."
    return (
        f"None of the {len(refusals)} utterances can be used ({_by_reason(refusals)}); the first: {refusals[0].message}"
    )


def _by_reason(refusals: Sequence[Refusal]) -> str:
    counts = Counter(refusal.reason for refusal in refusals)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
