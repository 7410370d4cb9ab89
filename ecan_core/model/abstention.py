"""Decide how sure a model must be of a class to say it.

With few classes a score of a half says little, with many it says much. So without a rule of the site the least
confidence lies a third of the way from chance to certainty: 0.5 for four classes, 0.44 for six, 0.67 for two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ecan_core.errors import SettingsError
from ecan_core.settings.checks import fraction

ABOVE_CHANCE = 1 / 3
"""How far the least confidence lies from chance on the way to certainty, where a site sets none."""


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """Hold below which confidence a model abstains.

    Attributes:
        least_confidence: for every class; None decides by the number of classes.
        least_confidence_of: for single classes, by name.
    """

    least_confidence: float | None = None
    least_confidence_of: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.least_confidence is not None:
            fraction(self, "least_confidence")
        for name, least in self.least_confidence_of.items():
            if not 0 <= least < 1:
                raise SettingsError(f"least_confidence_of.{name} is {least}, but must be at least 0 and below 1")

    def by_class(self, classes: Sequence[str]) -> np.ndarray:
        """Return the least confidence in each of the C classes ``[C]``.

        Raises:
            SettingsError: a class is named that is none of them.
        """
        for name in self.least_confidence_of:
            if name not in classes:
                raise SettingsError(
                    f"least_confidence_of names {name!r}, which this model does not tell; "
                    f"name some of {', '.join(classes)}, or leave it out."
                )
        usual = usual_least(len(classes)) if self.least_confidence is None else self.least_confidence
        return np.array([self.least_confidence_of.get(name, usual) for name in classes])


def usual_least(num_classes: int) -> float:
    """Return the least confidence where a site sets none."""
    chance = 1 / num_classes
    return chance + ABOVE_CHANCE * (1 - chance)


def is_uncertain(scores: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Mark where a model abstains, bool ``[N]``.

    Args:
        scores: of each utterance ``[N, C]``.
        least: least confidence in each class ``[C]``.
    """
    return np.asarray(scores.max(axis=1) < least[scores.argmax(axis=1)])


def shown(least: np.ndarray) -> str:
    """Say the least confidence in words: one number or a range."""
    low, high = f"{least.min():.2g}", f"{least.max():.2g}"
    return low if low == high else f"{low} to {high}"
