"""Name the three facts that fix every tensor of a bundle."""

from typing import NamedTuple


class ModelForm(NamedTuple):
    """Identify the form of a model: the facts that fix its tensors.

    Attributes:
        arch: id of the architecture.
        num_classes: C.
        normalization: ``none``, ``corpus`` or ``speaker``.
    """

    arch: str
    num_classes: int
    normalization: str
