"""Ask Opacus (extra ``private``) what noise promises.

No other module does. This one knows neither speech nor networks.
"""

from collections.abc import Iterable
from typing import Any

from ecan_core.errors import UsageError


def epsilon_of(trainings: Iterable[tuple[float, int]], delta: float) -> float:
    """Return what trainings on the same units promise together.

    Rounded up to thousandths.

    Source: Renyi differential privacy (Mironov, 2017), as Opacus computes it.
    Differs: nothing; each step is on the whole corpus, so nothing is gained by drawing.

    Args:
        trainings: noise multiplier and number of steps of each.
        delta: probability that the promise does not hold.

    Raises:
        UsageError: the accountant is not installed.
    """
    accountant = _accountant()
    for noise_multiplier, steps in trainings:
        for _ in range(steps):
            accountant.step(noise_multiplier=noise_multiplier, sample_rate=1.0)
    return round(float(accountant.get_epsilon(delta)) + 0.0005, 3)


def noise_for(epsilon: float, delta: float, steps: int) -> float:
    """Return the least noise by which some steps keep a promise.

    It is a multiplier, in hundredths.

    Raises:
        UsageError: the accountant is not installed, or no noise is enough.
    """
    _accountant()
    from opacus.accountants.utils import get_noise_multiplier

    try:
        noise: float = get_noise_multiplier(
            target_epsilon=epsilon, target_delta=delta, sample_rate=1.0, steps=steps, accountant="rdp"
        )
    except ValueError as error:
        raise UsageError(f"No noise is enough for an epsilon of {epsilon:g}; allow a larger one.") from error
    return round(noise + 0.005, 2)


def _accountant() -> Any:
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise UsageError("Private training needs an accountant; run `pip install 'ecan-ser[private]'`.") from error
    return RDPAccountant()
