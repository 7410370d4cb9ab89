"""Tell what a sound is that is no speech.

A tone of the line, keys, a fax, hum, music or noise.

A spectrum of an eighth of a second tells them apart by where its power lies: in one or two lines, in the overtones of
the mains, in many lines, or everywhere.
"""

import numpy as np
import numpy.typing as npt

from ecan_core.audio.voice_network import RATE

VOICE, LINE, KEYS, FAX, TONE, HUM, NOISE, MUSIC = range(1, 9)
"""What a frame may hold; 0 is nothing."""
KINDS = {
    LINE: ("LINE_TONE", "a ringing, busy or dial tone"),
    KEYS: ("KEYS", "the keys of a telephone"),
    FAX: ("FAX", "a fax or a modem"),
    TONE: ("TONE", "a steady tone"),
    HUM: ("HUM", "the hum of the mains"),
    NOISE: ("NOISE", "noise"),
    MUSIC: ("MUSIC", "music, or another sound of many pitches"),
}
"""The reason for which each is left out, and its name."""

Power = npt.NDArray[np.floating]
_WINDOW = 2048  # samples, 128 ms
_BIN_HZ = RATE / _WINDOW
_TAPER = np.hanning(_WINDOW).astype(np.float32)
_AROUND = 3  # bins on either side of a line that belong to it
_IN_LINES, _IN_HUM = 0.8, 0.8  # shares of the power
_ROWS, _COLUMNS = np.array([697, 770, 852, 941]), np.array([1209, 1336, 1477, 1633])  # Hz, ITU-T Q.23
_FAX = np.array([1100, 2100])  # Hz, ITU-T T.30
_LINE = (330, 500)  # Hz, ITU-T E.180
_FLAT = 0.2  # spectral flatness of a telephone's band
_BAND = slice(round(300 / _BIN_HZ), round(3400 / _BIN_HZ))
_MODEM = slice(round(1500 / _BIN_HZ), round(2000 / _BIN_HZ))  # ITU-T V.21


def kinds_at(samples: npt.NDArray[np.float32], places: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
    """Tell what a sound without speech is, place by place.

    Args:
        samples: Sound at 16 kHz, [T].
        places: Samples in the middle of what is looked at, [P].

    Returns:
        One of `KINDS` for every place, [P].
    """
    from scipy.fft import rfft  # of single precision

    padded = np.pad(samples.astype(np.float32, copy=False), _WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[np.minimum(places, len(samples))]
    power = np.square(np.abs(rfft(windows * _TAPER))) + np.float32(1e-20)
    total = power.sum(axis=1)
    kinds = np.where(_flatness(power) > _FLAT, NOISE, MUSIC)
    kinds[power[:, _MODEM].sum(axis=1) > _IN_LINES * total] = FAX
    first, second, share = _two_lines(power)
    for row in np.flatnonzero(share > _IN_LINES * total):
        kinds[row] = _line(first[row], second[row])
    kinds[_hum(power) > _IN_HUM * total] = HUM
    return kinds.astype(np.int8)


def _flatness(power: Power) -> Power:
    """Return the geometric over the arithmetic mean of the band, [P]."""
    band = power[:, _BAND]
    flatness: Power = np.exp(np.log(band).mean(axis=1)) / band.mean(axis=1)
    return flatness


def _two_lines(power: Power) -> tuple[Power, Power, Power]:
    """Return the frequencies of the two strongest lines, and their power, [P].

    The second equals the first where it is much weaker.
    """
    left, found = power.copy(), []
    around = np.arange(-_AROUND, _AROUND + 1)
    for _ in range(2):
        peak = left.argmax(axis=1)
        near = np.clip(peak, _AROUND, power.shape[1] - 1 - _AROUND)[:, None] + around
        found.append((peak * _BIN_HZ, np.take_along_axis(left, near, axis=1).sum(axis=1)))
        np.put_along_axis(left, near, 0, axis=1)
    (first, share), (second, rest) = found
    return first, np.where(rest > 0.1 * share, second, first), share + rest


def _line(first: float, second: float) -> int:
    """Tell what one or two lines are; ``first`` equals ``second`` for one."""
    low, high = sorted((first, second))
    if _near(low, _ROWS, 0.02) and _near(high, _COLUMNS, 0.02):
        return KEYS
    if _LINE[0] < low and high < _LINE[1]:
        return LINE
    return FAX if _near(first, _FAX, 0.02) else TONE


def _near(frequency: float, known: npt.NDArray[np.integer], share: float) -> bool:
    return bool(np.any(np.abs(frequency - known) < share * known))


def _hum(power: Power) -> Power:
    """Return the power in the first overtones of the mains, [P].

    It is 0 unless one of the lowest three is the strongest.
    """
    found = []
    for mains in (50, 60):
        places = np.round(mains * np.arange(1, 7) / _BIN_HZ).astype(int)
        parts = power[:, places - 1] + power[:, places] + power[:, places + 1]
        found.append(np.where(parts.argmax(axis=1) < 3, parts.sum(axis=1), 0))
    strongest: Power = np.maximum(*found)
    return strongest
