"""Bound how many bits the weights of a bundle could carry.

The bound follows from the grid of numbers alone, so it holds whoever trained the weights. It counts the encodings
that the verifier accepts: rows by the ranges of their integers and the rule for exponents, then layers by the one
order of their units. The rule for repeated units is left out, so the result is still an upper bound.
"""

import math
from dataclasses import dataclass

from protocol.bundle.architecture import input_scalings, layers, tensor_specs
from protocol.bundle.form import ModelForm
from protocol.bundle.weights import MAX_BIAS, MAX_EXPONENT, MAX_WEIGHT, MIN_EXPONENT

SPEECH_BITS_PER_SECOND = 6000
"""A telephone codec's rate, against which the capacity is told."""

_HALF_WEIGHT, _HALF_BIAS = MAX_WEIGHT // 2, MAX_BIAS // 2
"""A row within both could have a smaller exponent."""
_LARGER_EXPONENTS = MAX_EXPONENT - MIN_EXPONENT
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Hold an upper bound on what weights can carry, and its derivation.

    Attributes:
        written: length of the tensors, in bits.
        by_values: bits that the ranges of the integers and the rule for exponents take away.
        by_order: bits that the order of the units takes away, by layer: log2(n!) for n units.
        bits: what is left, in bits.
    """

    written: int
    by_values: float
    by_order: dict[str, float]
    bits: float

    @property
    def num_bytes(self) -> int:
        """Return what is left in bytes, rounded up."""
        return math.ceil(self.bits / 8)


def capacity(form: ModelForm) -> Capacity:
    """Compute what the weights of a form could carry, in bits."""
    written = 8 * sum(spec.num_bytes for spec in tensor_specs(form))
    by_values = 0.0
    for name, length in input_scalings(form).items():
        by_values += length * math.log2(_num_elements(positive=name == "input.scale"))
    by_order = {}
    for layer in layers(form.arch, form.num_classes):
        num_rows = _num_rows(math.prod(layer.shape[1:]), empty=layer.ordered)
        by_values += layer.units * math.log2(num_rows)
        if layer.ordered:
            # n units in order can be written in C(num_rows + n - 1, n) ways: num_rows^n / n!, but for repeated units.
            repeats = sum(math.log1p(place / num_rows) for place in range(layer.units)) / math.log(2)
            by_order[layer.name] = math.log2(math.factorial(layer.units)) - repeats
    return Capacity(
        written=written,
        by_values=written - by_values,
        by_order=by_order,
        bits=by_values - sum(by_order.values()),
    )


def share_of_speech(bits: float, hours: float) -> float:
    """Return the share of a corpus that so many bits could hold.

    The corpus is counted as speech at 6 kbit/s; a share of 1 is all of it.

    Args:
        bits: the capacity, in bits.
        hours: length of the corpus, in hours.
    """
    return bits / (hours * _SECONDS_PER_HOUR * SPEECH_BITS_PER_SECOND)


def largest_share(bits: float, hours_bucket: int) -> float:
    """Return the largest share of a corpus that so many bits could hold.

    The corpus is counted as speech at 6 kbit/s; a share of 1 is all of it.

    Args:
        bits: the capacity, in bits.
        hours_bucket: log2 of the corpus's hours, rounded down, so that it has at least 2^hours_bucket of them.
    """
    return share_of_speech(bits, 2.0**hours_bucket)


def _num_rows(num_weights: int, *, empty: bool) -> int:
    """Count the possible rows with a bias.

    ``empty`` allows rows whose weights are all zero.
    """
    num_zero = 0 if empty else 1
    with_smallest_exponent = (pow(2 * MAX_WEIGHT + 1, num_weights) - num_zero) * (2 * MAX_BIAS + 1)
    could_be_smaller = (pow(2 * _HALF_WEIGHT + 1, num_weights) - num_zero) * (2 * _HALF_BIAS + 1)
    return int(with_smallest_exponent + _LARGER_EXPONENTS * (with_smallest_exponent - could_be_smaller))


def _num_elements(*, positive: bool) -> int:
    """Count the possible values of an element of an input vector."""
    signs = 1 if positive else 2
    with_smallest_exponent = signs * MAX_WEIGHT + (not positive)
    return with_smallest_exponent + _LARGER_EXPONENTS * signs * (MAX_WEIGHT - _HALF_WEIGHT)
