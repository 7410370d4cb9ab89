"""Refuse a command whose optional packages are not installed."""

from importlib.util import find_spec

from ecan_core.errors import UsageError

EXTRAS = {"federation": ("flwr",), "onnx": ("onnx", "onnxscript", "onnxruntime")}
"""By extra of the distribution: what its commands import."""


def require_extra(extra: str) -> None:
    """Refuse to go on without the packages of an extra.

    Args:
        extra: One of `EXTRAS`.

    Raises:
        UsageError: Some are not installed.
    """
    if missing := [name for name in EXTRAS[extra] if find_spec(name) is None]:
        raise UsageError(f"{', '.join(missing)} cannot be imported; run `pip install 'ecan-ser[{extra}]'`.")
