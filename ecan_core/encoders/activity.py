"""Tell in which frames somebody speaks, by their energy alone."""

import numpy as np
import numpy.typing as npt

ACTIVE_DB = 35.0
"""How far below the loudest frame somebody still speaks."""


def active_frames(sound: npt.NDArray[np.float32], size: int, count: int) -> npt.NDArray[np.bool_]:
    """Mark the frames within 35 dB of the loudest.

    Args:
        sound: One utterance, [T].
        size: Samples from one frame to the next.
        count: How many frames there are, F.

    Returns:
        Whether somebody speaks, bool [F].
    """
    padded = np.zeros(count * size, dtype=np.float32)
    padded[: min(len(sound), len(padded))] = sound[: len(padded)]
    energy = np.square(padded).reshape(count, size).mean(axis=1)
    active: npt.NDArray[np.bool_] = energy >= energy.max() * 10 ** (-ACTIVE_DB / 10)
    return active
