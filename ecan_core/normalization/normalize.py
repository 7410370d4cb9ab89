"""Normalize front-end outputs by corpus, speaker, voice or nothing.

Voices are speakers that a site estimates.

Each site normalizes by its own statistics, so no statistics cross. A speaker's statistics are shrunk towards those of
the corpus where there is little evidence: few utterances say little about a voice, and utterances in one mood say
nothing about it, because the mood would be normalized away.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ecan_core.errors import UsageError

CLAMP = 4.0
"""Normalized values are clamped to this many deviations."""
SPEAKER_EVIDENCE = 4.0
"""Number of utterances at which a speaker's own statistics and the corpus weigh the same."""
ENOUGH_TO_VARY = 6
"""Utterances of a speaker from which their moods can be counted; one with fewer is trusted as the others are."""
SPEAKER_VARIETY = (0.2, 0.4)
"""How many emotions are heard from a speaker (`variety`): at the first its statistics are not trusted at all, at the
second fully."""
SITE_VARIETY = (0.26, 0.33)
"""The same for the mean over a site's utterances: speakers who are split by mood look alike everywhere in a site."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Hold center and scale per column ``[S]``."""

    center: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """Hold the fitted statistics of one site.

    Attributes:
        mode: ``none``, ``corpus``, ``speaker`` or ``voice`` (`ecan_core.normalization.voices`).
        corpus: statistics over all utterances.
        speakers: statistics per speaker or voice, already shrunk; empty in the other modes.
        trust: share of a new speaker's statistics that counts: as far as the site's speakers show several moods.
    """

    mode: str
    corpus: Moments
    speakers: Mapping[str, Moments] = field(default_factory=dict)
    trust: float = 1.0

    def knowing(self, features: Sequence[np.ndarray], speakers: Sequence[str | None]) -> "Normalizer":
        """Add new speakers; known ones keep their statistics."""
        if self.mode != "speaker":
            return self
        unknown = _by_speaker(features, speakers, skip=self.speakers.keys())
        fitted = {name: _shrunk(rows, self.corpus, share=self.trust) for name, rows in unknown.items()}
        return replace(self, speakers=dict(self.speakers) | fitted)

    def by_corpus(self) -> "Normalizer":
        """Return the same site's normalizer without its speakers."""
        return Normalizer(mode="corpus", corpus=self.corpus)

    def apply(self, features: Sequence[np.ndarray], speakers: Sequence[str | None]) -> list[np.ndarray]:
        """Normalize and clamp utterances, each ``[S]`` or ``[F, M]``.

        Returns float32 arrays.

        An utterance without a speaker is normalized by the corpus.
        """
        if self.mode == "none":
            return [np.asarray(values, dtype=np.float32) for values in features]
        normalized = []
        for values, speaker in zip(features, speakers, strict=True):
            moments = self.speakers.get(speaker, self.corpus) if speaker is not None else self.corpus
            scaled = (np.asarray(values, dtype=np.float32) - moments.center) / moments.scale
            normalized.append(scaled.clip(-CLAMP, CLAMP).astype(np.float32))
        return normalized


def fit_normalizer(mode: str, features: Sequence[np.ndarray], speakers: Sequence[str | None]) -> Normalizer:
    """Fit a normalizer to a site's utterances.

    Args:
        mode: ``none``, ``corpus`` or ``speaker``; voices are found by an adaptation (`ecan_core.adaptation.site`).
        features: one array per utterance, ``[S]`` statistics or ``[F, M]`` frames.
        speakers: who speaks, None where unknown.

    Raises:
        UsageError: speaker normalization without a single known speaker.
    """
    require_speakers(mode, speakers)
    normalizer = Normalizer(mode=mode, corpus=moments_of(features))
    return normalizer.knowing(features, speakers)


def normalize_by_speakers(
    corpus: Normalizer, features: Sequence[np.ndarray], speakers: Sequence[str | None], scores: np.ndarray
) -> Normalizer:
    """Fit a normalizer by speaker, for speakers heard in several moods.

    Other speakers are trusted less or not at all.

    Args:
        corpus: the site's normalizer by the corpus.
        features: one array per utterance.
        speakers: who speaks, None where unknown.
        scores: guessed emotions ``[N, C]``.
    """
    guesses = _by_speaker(list(np.eye(scores.shape[1])[scores.argmax(axis=1)]), speakers, skip=())
    heard = {name: variety(np.stack(rows)) for name, rows in guesses.items() if len(rows) >= ENOUGH_TO_VARY}
    counts = [len(guesses[name]) for name in heard]
    trust = _ramp(np.average(list(heard.values()), weights=counts), SITE_VARIETY) if heard else 1.0
    fitted = {
        name: _shrunk(rows, corpus.corpus, share=trust * _ramp(heard.get(name, 1.0), SPEAKER_VARIETY))
        for name, rows in _by_speaker(features, speakers, skip=()).items()
    }
    return replace(corpus, mode="speaker", speakers=fitted, trust=trust)


def variety(guesses: np.ndarray) -> float:
    """Measure how many classes are guessed, from 0 to 1.

    0 for one alone, 1 for as many as there could be, evenly.

    The effective number of classes, ``exp(entropy)``, less one, as a share of the largest number that C classes and n
    guesses allow. A single guess has none.

    Args:
        guesses: one-hot rows ``[n, C]``.
    """
    possible = min(guesses.shape)
    if possible < 2:
        return 0.0
    shares = guesses.mean(axis=0)
    shares = shares[shares > 0]
    return float((np.exp(-(shares * np.log(shares)).sum()) - 1.0) / (possible - 1))


def _ramp(value: float | np.floating, ends: tuple[float, float]) -> float:
    """Return 0 below the first end, 1 above the second, linear between."""
    low, high = ends
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def require_speakers(mode: str, speakers: Sequence[str | None]) -> None:
    """Refuse speaker normalization without a single known speaker.

    Raises:
        UsageError: nobody is known.
    """
    if mode == "speaker" and not any(speakers):
        raise UsageError(
            "speaker normalization needs to know who speaks: add a speaker column to the CSV or use --normalize corpus"
        )


def moments_of(features: Sequence[np.ndarray]) -> Moments:
    """Return center and scale per column over all utterances.

    A constant column is left as it is.
    """
    rows = _rows(features)
    scale = rows.std(axis=0)
    return Moments(
        center=rows.mean(axis=0).astype(np.float32),
        scale=np.where(scale > 1e-6, scale, 1.0).astype(np.float32),
    )


def _shrunk(utterances: list[np.ndarray], corpus: Moments, share: float = 1.0) -> Moments:
    """Pool a share of a speaker's moments with those of the corpus.

    The corpus counts as ``SPEAKER_EVIDENCE`` utterances.
    """
    rows = _rows(utterances)
    trust = share * len(utterances) / (len(utterances) + SPEAKER_EVIDENCE)
    center = trust * rows.mean(axis=0) + (1.0 - trust) * corpus.center
    variance = trust * rows.var(axis=0) + (1.0 - trust) * corpus.scale.astype(np.float64) ** 2
    return Moments(center=center.astype(np.float32), scale=np.sqrt(variance).astype(np.float32))


def _by_speaker(
    features: Sequence[np.ndarray], speakers: Sequence[str | None], *, skip: Collection[str]
) -> dict[str, list[np.ndarray]]:
    groups: dict[str, list[np.ndarray]] = {}
    for values, speaker in zip(features, speakers, strict=True):
        if speaker is not None and speaker not in skip:
            groups.setdefault(speaker, []).append(values)
    return groups


def _rows(features: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.atleast_2d(values) for values in features]).astype(np.float64)
