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
_WINDOW = 2048  # samples, 128 ms
_BIN_HZ = RATE / _WINDOW
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
    padded = np.pad(samples, _WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[np.minimum(places, len(samples))]
    tapered = windows * np.hanning(_WINDOW).astype(np.float32)
    return np.array([_kind(power) for power in np.square(np.abs(np.fft.rfft(tapered)))], np.int8)


def _kind(power: npt.NDArray[np.floating]) -> int:
    total = power.sum() + 1e-20
    (first, share), (second, rest) = _two_lines(power)
    if _hum(power) > _IN_HUM * total:
        return HUM
    if share + rest > _IN_LINES * total:
        return _line(first, second if rest > 0.1 * share else first)
    if power[_MODEM].sum() > _IN_LINES * total:
        return FAX
    band = power[_BAND] + 1e-20
    flatness = np.exp(np.log(band).mean()) / band.mean()
    return NOISE if flatness > _FLAT else MUSIC


def _two_lines(power: npt.NDArray[np.floating]) -> list[tuple[float, float]]:
    """Return the frequencies of the two strongest lines, and their power."""
    left, lines = power.copy(), []
    for _ in range(2):
        peak = int(left.argmax())
        near = slice(max(peak - _AROUND, 0), peak + _AROUND + 1)
        lines.append((peak * _BIN_HZ, float(left[near].sum())))
        left[near] = 0
    return lines


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


def _hum(power: npt.NDArray[np.floating]) -> float:
    """Return the power in the first overtones of the mains.

    It is 0 unless one of the lowest three is the strongest.
    """
    found = []
    for mains in (50, 60):
        places = [round(mains * k / _BIN_HZ) for k in range(1, 7)]
        parts = [float(power[place - 1 : place + 2].sum()) for place in places]
        found.append(sum(parts) if max(parts) in parts[:3] else 0.0)
    return max(found)
