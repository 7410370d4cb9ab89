"""Estimate from the sound who speaks, where nobody wrote it down.

An utterance's statistics mostly describe the voice and the recording; the emotion comes third. So this is done in four
steps. A first adaptation, normalized by the corpus, guesses the emotions. What they explain is subtracted. The rest
falls into groups: the voices. Each voice is then normalized by its own moments, which are also taken without the
emotion, so that a voice that is mostly angry does not lose its anger. docs/method.md has the measurements.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from ecan_core.errors import UsageError
from ecan_core.normalization.normalize import CLAMP, Moments, Normalizer

VOICE_STATISTICS = (
    *("pitch.q*", "pitch.mean", "pitch.hz.mean", "formant.*", "hnr.*"),
    *("cepstrum.mean.*", "band.mean.*", "tilt.*.mean", "correlation.*"),
)
"""Where a voice sits: the levels of pitch, formants, spectrum and noise; nothing of movement or rhythm."""
UTTERANCES_PER_VOICE = 200
"""A voice needs so many utterances on average that its mix of emotions evens out."""
MAX_VOICES = 64
MIN_GUESSES = 100
"""With fewer utterances than this a first round's guesses teach nothing about speakers and voices."""
MOST_GROUPED = 4096
"""So many utterances, drawn at random from a larger corpus, are enough to find the voices by."""
VOICE_EVIDENCE = 8.0
"""Number of utterances at which a voice's own moments and the corpus weigh the same."""
LEAST_VARIANCE = 0.05
"""Smallest variance of a voice, as a share of the corpus's."""

_RESTARTS, _ITERATIONS, _ALTERNATIONS = 4, 30, 5


@dataclass(frozen=True, kw_only=True)
class Voices:
    """Hold the voices of one site.

    Attributes:
        columns: which statistics tell voices apart, bool ``[S]``.
        offsets: what each class adds to the normalized statistics ``[C, S]``.
        centers: where the voices sit, emotion taken out ``[V, columns]``.
    """

    columns: np.ndarray
    offsets: np.ndarray
    centers: np.ndarray

    def names(self, normalized: np.ndarray, scores: np.ndarray) -> list[str]:
        """Name the voice that each utterance lies nearest to.

        Args:
            normalized: statistics normalized by the corpus ``[N, S]``.
            scores: the emotions as the first adaptation guesses them ``[N, C]``.
        """
        from scipy.cluster.vq import vq

        places = _without_emotion(normalized, scores, self.offsets)[:, self.columns]
        nearest, _ = vq(places, self.centers, check_finite=False)
        return [_name(index) for index in nearest]

    def all_names(self) -> list[str]:
        """Name every voice, in the order of `centers`."""
        return [_name(index) for index in range(len(self.centers))]


def _name(index: int) -> str:
    return f"voice {index}"


def possible_mode(mode: str, num_utterances: int) -> str:
    """Return the normalization that a site of this size can have.

    Where ``mode`` was wanted; too few utterances tell no voices apart.
    """
    return "corpus" if mode == "voice" and num_utterances < MIN_GUESSES else mode


def normalization_for(
    of_source: str, feature_names: Sequence[str], wanted: str | None = None, *, speakers_known: bool
) -> str:
    """Choose how a target normalizes.

    A source that carries its own center and scale (``none``) allows nothing else. Otherwise the operator's wish
    counts; without one, known speakers if the source knew its own, else estimated voices where the model reads
    utterance statistics, and the corpus where it reads frames. A source that was trained by corpus gets voices also
    where speakers are known: it does not know speaker-normalized input as well.

    Args:
        of_source: how the source normalized.
        feature_names: what the model reads.
        wanted: what the operator wishes; None for no wish.
        speakers_known: whether anybody wrote down who speaks.

    Raises:
        UsageError: the model cannot be normalized as wished.
    """
    if of_source == "none":
        if wanted not in (None, "none"):
            raise UsageError(
                f"this model was trained with --normalize none and cannot be adapted with --normalize {wanted}: "
                "leave the option out, or ask the source for a model that was trained with it"
            )
        return "none"
    if wanted == "none":
        raise UsageError(f"this model expects normalized input: use --normalize {of_source}")
    if wanted == "voice":
        voice_columns(feature_names)  # refuses a model that reads frames
    if wanted is not None:
        return wanted
    if of_source == "speaker" and speakers_known:
        return "speaker"
    return "voice" if tells_voices_apart(feature_names) else "corpus"


def tells_voices_apart(feature_names: Sequence[str]) -> bool:
    """Return whether some of these features describe a voice.

    Frames do not describe utterances.
    """
    return bool(_voice_mask(feature_names).any())


def voice_columns(feature_names: Sequence[str]) -> np.ndarray:
    """Mark the features that tell voices apart, bool ``[S]``.

    Raises:
        UsageError: none does.
    """
    if not tells_voices_apart(feature_names):
        raise UsageError(
            "this model reads frames, in which voices are not told apart: use --normalize corpus or --normalize speaker"
        )
    return _voice_mask(feature_names)


def _voice_mask(feature_names: Sequence[str]) -> np.ndarray:
    return np.array([any(fnmatchcase(name, pattern) for pattern in VOICE_STATISTICS) for name in feature_names])


def find_voices(normalized: np.ndarray, scores: np.ndarray, columns: np.ndarray, *, seed: int) -> Voices:
    """Group utterances by voice, with the emotion taken out.

    It runs k-means on what the emotions leave of the voice statistics.

    Args:
        normalized: statistics normalized by the corpus ``[N, S]``.
        scores: guessed emotions ``[N, C]``.
        columns: which statistics tell voices apart ``[S]``.
        seed: seed of the starting points.
    """
    from scipy.cluster.vq import kmeans2

    offsets = class_offsets(normalized, scores)
    places = _without_emotion(normalized, scores, offsets)[:, columns]
    rng = np.random.default_rng(seed)
    if len(places) > MOST_GROUPED:
        places = places[rng.permutation(len(places))[:MOST_GROUPED]]
    wanted = int(np.clip(round(len(normalized) / UTTERANCES_PER_VOICE), 2, MAX_VOICES))
    num_voices = min(wanted, len(np.unique(places.round(6), axis=0)))
    attempts = []
    for _ in range(_RESTARTS):
        with warnings.catch_warnings(action="ignore"):  # a center that lost its utterances stays where it was
            centers, labels = kmeans2(places, num_voices, iter=_ITERATIONS, minit="++", missing="warn", rng=rng)
        attempts.append((((places - centers[labels]) ** 2).sum(), centers))
    _, centers = min(attempts, key=lambda attempt: attempt[0])
    return Voices(columns=columns, offsets=offsets, centers=centers)


def class_offsets(normalized: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return what each class adds to the mean over classes ``[C, S]``.

    Classes are soft labels ``[N, C]``.
    """
    means = (scores.T @ normalized) / scores.sum(axis=0)[:, None].clip(1e-6)
    offsets: np.ndarray = means - means.mean(axis=0)
    return offsets


def normalize_by_voices(
    corpus: Normalizer, normalized: np.ndarray, names: Sequence[str | None], scores: np.ndarray
) -> Normalizer:
    """Fit a normalizer that treats voices as speakers.

    Their moments are taken without the emotion.

    Args:
        corpus: the site's normalizer by the corpus.
        normalized: statistics normalized by it ``[N, S]``.
        names: the voice of each utterance.
        scores: guessed emotions ``[N, C]``.
    """
    clamped = normalized.clip(-CLAMP, CLAMP)
    voice_of = np.array(names)
    members = {name: voice_of == name for name in sorted({name for name in names if name})}
    neutral = _without_emotion(clamped, scores, _offsets_within(members, clamped, scores))
    expressive = (clamped.var(axis=0) - neutral.var(axis=0)).clip(0.0)  # the variance that the emotions make
    moments = {}
    for name, rows in members.items():
        trust = rows.sum() / (rows.sum() + VOICE_EVIDENCE)
        center = trust * neutral[rows].mean(axis=0)
        variance = (trust * (neutral[rows].var(axis=0) + expressive) + (1.0 - trust)).clip(LEAST_VARIANCE)
        moments[name] = Moments(
            center=(corpus.corpus.center + corpus.corpus.scale * center).astype(np.float32),
            scale=(corpus.corpus.scale * np.sqrt(variance)).astype(np.float32),
        )
    return Normalizer(mode="voice", corpus=corpus.corpus, speakers=moments)


def _offsets_within(members: Mapping[str, np.ndarray], normalized: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Fit class offsets ``[C, S]`` and voices together.

    Fitting both keeps an angry voice from being taken for anger.

    Fits voice plus class by alternating least squares.
    """
    offsets = class_offsets(normalized, scores)
    for _ in range(_ALTERNATIONS):
        neutral = _without_emotion(normalized, scores, offsets)
        voiceless = normalized.copy()
        for rows in members.values():
            voiceless[rows] -= neutral[rows].mean(axis=0)
        offsets = class_offsets(voiceless, scores)
    return offsets


def _without_emotion(normalized: np.ndarray, scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.asarray(normalized.clip(-CLAMP, CLAMP) - scores @ offsets)
