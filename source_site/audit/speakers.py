"""Attack speakers: find out whether they were in the training.

The attacker asks with recordings that were not.
"""

from collections.abc import Sequence

import numpy as np

from source_site.audit.bounds import separation
from source_site.audit.membership import lira_scores
from source_site.audit.report import PROCEDURE, Attack
from source_site.audit.shadows import with_counterparts

NAME = "speaker level"
MIN_SPEAKERS = 20
"""With fewer, an interval says nothing."""
ENROLMENT = 4
"""One utterance in this many of each speaker is kept out of every training: what the attacker has of a person."""


def enrolled(speakers: Sequence[str | None]) -> np.ndarray:
    """Mark the attacker's utterances, bool ``[N]``.

    Every fourth of each known speaker.
    """
    seen: dict[str | None, int] = {}
    chosen = np.zeros(len(speakers), dtype=bool)
    for row, speaker in enumerate(speakers):
        seen[speaker] = seen.get(speaker, 0) + 1
        chosen[row] = speaker is not None and seen[speaker] % ENROLMENT == 0
    return chosen


def halves_of_speakers(speakers: Sequence[str | None], num_models: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw which model knows which speaker.

    Returns:
        Whether a model knows an utterance's speaker, and whether it is trained on the utterance, both bool ``[K, N]``.
        An utterance without a speaker is in no training.
    """
    names = sorted({speaker for speaker in speakers if speaker is not None})
    random = np.random.default_rng(seed)
    half = np.arange(len(names)) < (len(names) + 1) // 2
    halves = with_counterparts(np.array([random.permutation(half) for _ in range(num_models // 2)]))
    place = {name: index for index, name in enumerate(names)}
    known = np.array([place.get(speaker, -1) if speaker is not None else -1 for speaker in speakers])
    knows = halves[:, known] & (known >= 0)
    return knows, knows & ~enrolled(speakers)


def attack_speakers(
    logits: np.ndarray, labels: np.ndarray, knows: np.ndarray, speakers: Sequence[str | None]
) -> Attack:
    """Attack speakers by LiRA on their enrollment, averaged.

    Args:
        logits: answers of models that were trained on halves of the speakers ``[K, N, C]``.
        labels: class indices ``[N]``.
        knows: whether a model knows an utterance's speaker ``[K, N]``.
        speakers: who speaks.
    """
    scores = lira_scores(logits, labels, knows)
    of_speaker = np.array([speaker or "" for speaker in speakers])
    chosen = enrolled(speakers)
    names = sorted(set(of_speaker[chosen]))
    rows = [np.flatnonzero(chosen & (of_speaker == name)) for name in names]
    by_speaker = np.stack([scores[:, one].mean(axis=1) for one in rows], axis=1)
    members = np.stack([knows[:, one[0]] for one in rows], axis=1)
    found = separation(by_speaker, members)
    if len(names) >= MIN_SPEAKERS:
        return Attack(name=NAME, target=PROCEDURE, measured=found)
    auc = f"AUC {found.auc.value:.2f}, {found.auc.low:.2f} to {found.auc.high:.2f}, on these"
    return Attack(
        name=NAME,
        target=PROCEDURE,
        measured=None,
        note=f"{len(names)} speakers, fewer than {MIN_SPEAKERS}; {auc}",
    )


def no_speakers() -> Attack:
    """Return the attack's entry where nobody knows who speaks."""
    return Attack(name=NAME, target=PROCEDURE, measured=None, note="fewer than two speakers are known")
