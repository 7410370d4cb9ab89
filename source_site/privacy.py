"""What a private training promises: epsilon and delta, by the published accountant of Opacus (extra ``private``).

The promise is about what the network learns. It takes each site's normalization as given: an utterance's share in the
statistics of its speaker, which do not leave, is not counted; nor is the recognition rate that the manifest states.
"""

from collections.abc import Sequence
from typing import Any, Literal

from ecan_core.errors import UsageFault
from ecan_core.private import PrivateSettings
from source_site.store import Promise

MIN_SPEAKERS = 500
"""With fewer, noise that hides a speaker hides the emotions as well."""


def settings_for(epsilon: float, delta: float, *, unit: Literal["utterance", "speaker"]) -> PrivateSettings:
    """How to train for a promise: with the least noise that the accountant allows.

    Raises:
        UsageFault: the accountant is not installed, or no noise is enough.
    """
    steps = PrivateSettings(noise_multiplier=1.0).steps
    _accountant()
    from opacus.accountants.utils import get_noise_multiplier

    try:
        noise = get_noise_multiplier(
            target_epsilon=epsilon, target_delta=delta, sample_rate=1.0, steps=steps, accountant="rdp"
        )
    except ValueError as error:
        raise UsageFault(f"No noise is enough for an epsilon of {epsilon:g}; allow a larger one.") from error
    return PrivateSettings(noise_multiplier=round(noise + 0.005, 2), unit=unit, steps=steps)


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
    accountant = _accountant()
    for one in trainings:
        for _ in range(one.steps):
            accountant.step(noise_multiplier=one.noise_multiplier, sample_rate=1.0)
    return Promise(epsilon=round(float(accountant.get_epsilon(delta)) + 0.0005, 3), delta=delta, unit=units.pop())


def usual_delta(num_units: int) -> float:
    """A tenth of what would let one unit in the corpus be published whole."""
    return 1.0 / (10.0 * num_units)


def _accountant() -> Any:
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise UsageFault("Private training needs an accountant; run `pip install 'ecan-ser[private]'`.") from error
    return RDPAccountant()
