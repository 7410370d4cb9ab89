"""Compute what a private training promises: epsilon and delta.

The accountant is the published one of Opacus (extra ``private``).

The promise is about what the network learns. Two things are not counted: an utterance's share in the statistics of its
speaker, which normalize the inputs and do not leave, and the recognition rate that the manifest states.
"""

from collections.abc import Sequence
from typing import Literal

from ecan_core.errors import UsageError
from ecan_core.training.private import PrivateSettings
from source_site.training.accountant import epsilon_of, noise_for
from source_site.training.run_folder import Promise

MIN_SPEAKERS = 500
"""With fewer, noise that hides a speaker hides the emotions as well."""


def settings_for(epsilon: float, delta: float, *, unit: Literal["utterance", "speaker"]) -> PrivateSettings:
    """Return settings that keep a promise with the least noise.

    The least that the accountant allows.

    Raises:
        UsageError: the accountant is not installed, or no noise is enough.
    """
    steps = PrivateSettings(noise_multiplier=1.0).steps
    return PrivateSettings(noise_multiplier=noise_for(epsilon, delta, steps), unit=unit, steps=steps)


def promise(trainings: Sequence[PrivateSettings], delta: float) -> Promise:
    """Return what all trainings on one corpus promise together.

    A corpus may have several releases, for example.

    Args:
        trainings: how each was trained, at least one.
        delta: probability that the promise does not hold.

    Raises:
        UsageError: the accountant is not installed, or the trainings protect different units.
    """
    units = {one.unit for one in trainings}
    if len(units) > 1:
        raise UsageError("Trainings that protect utterances and speakers have no common promise; count them apart.")
    epsilon = epsilon_of([(one.noise_multiplier, one.steps) for one in trainings], delta)
    return Promise(epsilon=epsilon, delta=delta, unit=units.pop())


def usual_delta(num_units: int) -> float:
    """Return a tenth of the delta that lets one unit be published whole."""
    return 1.0 / (10.0 * num_units)
