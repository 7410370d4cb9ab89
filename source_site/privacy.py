"""What a private training promises: epsilon and delta, by the published accountant of Opacus (extra ``private``).

The promise is about what the network learns. It takes each site's normalization as given: an utterance's share in the
statistics of its speaker, which do not leave, is not counted; nor is the recognition rate that the manifest states.
"""

from collections.abc import Sequence
from typing import Literal

from ecan_core.errors import UsageFault
from ecan_core.private import PrivateSettings
from source_site.accountant import epsilon_of, noise_for
from source_site.store import Promise

MIN_SPEAKERS = 500
"""With fewer, noise that hides a speaker hides the emotions as well."""


def settings_for(epsilon: float, delta: float, *, unit: Literal["utterance", "speaker"]) -> PrivateSettings:
    """How to train for a promise: with the least noise that the accountant allows.

    Raises:
        UsageFault: the accountant is not installed, or no noise is enough.
    """
    steps = PrivateSettings(noise_multiplier=1.0).steps
    return PrivateSettings(noise_multiplier=noise_for(epsilon, delta, steps), unit=unit, steps=steps)


def promise(trainings: Sequence[PrivateSettings], delta: float) -> Promise:
    """What all trainings on one corpus promise together, such as those of its releases.

    Args:
        trainings: how each was trained, at least one.
        delta: probability that the promise does not hold.

    Raises:
        UsageFault: the accountant is not installed, or the trainings protect different units.
    """
    units = {one.unit for one in trainings}
    if len(units) > 1:
        raise UsageFault("Trainings that protect utterances and speakers have no common promise; count them apart.")
    epsilon = epsilon_of([(one.noise_multiplier, one.steps) for one in trainings], delta)
    return Promise(epsilon=epsilon, delta=delta, unit=units.pop())


def usual_delta(num_units: int) -> float:
    """A tenth of what would let one unit in the corpus be published whole."""
    return 1.0 / (10.0 * num_units)
