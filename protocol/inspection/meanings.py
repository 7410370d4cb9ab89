"""Put the fields of a manifest into words.

A manifest holds codes, such as the 10 of `n_utt`, which stands for 1024 to 2047 utterances.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

from protocol.bundle.stated_audit import FIGURES, MEASURED, NONE, OVERRIDDEN, PASSED, UNPROTECTED
from protocol.identity.fingerprints import in_fours
from protocol.inspection.leakage import TIERS

EPOCH = date(1970, 1, 1)
_DIGESTS = ("issuer", "audience", "grant", "weights_sha256", "encoder")
_AUDITS = {
    NONE: "no audit",
    MEASURED: "measured, and nothing was asked of it",
    PASSED: "passed",
    OVERRIDDEN: "FAILED, overridden by an officer",
}


def meaning(field: str, value: str | int) -> str:
    """Return what a field of a manifest says, in words.

    Args:
        field: its name.
        value: as the manifest holds it.
    """
    return _WORDS.get(field, str)(value)


def is_digest(value: str | int, words: str) -> bool:
    """Return whether a field's words are its own digits in groups."""
    return words != str(value) and words == in_fours(str(value))


def _count(power: int, of: str) -> str:
    """Return the whole numbers that share a power of two."""
    if power == 0:
        return f"1 {of}"
    return f"{2**power} to {2 ** (power + 1) - 1} {of}s"


def _speakers(power: int) -> str:
    return _count(power, "speaker") if power else "1 speaker, or an unknown number"


def _length(power: int) -> str:
    if power < 0:
        return f"{60 * 2.0**power:.3g} to {60 * 2.0 ** (power + 1):.3g} minutes"
    return f"{2**power} to {2 ** (power + 1)} hours"


def _figure(half_percents: int) -> str:
    return f"{half_percents / 2:g} % at most" if half_percents else "not measured"


_WORDS: Mapping[str, Callable[[Any], str]] = {
    "labels": lambda mask: f"{mask.bit_count()} classes",  # which ones is said apart
    "day": lambda day: (EPOCH + timedelta(days=day)).isoformat(),
    "valid_days": lambda days: f"{days} days",
    "weights_len": lambda length: f"{length} bytes",
    "n_utt": lambda power: _count(power, "utterance"),
    "n_spk": _speakers,
    "hours": _length,
    "uar_src": lambda halves: f"{halves / 2:g} %" if halves else "not estimated",
    "uar_q_loss": lambda halves: f"{halves / 2:g} % at most" if halves else "nothing",
    "tier": lambda tier: f"{tier}, {TIERS[tier]}" if tier else "0, which asks for nothing",
    "audit": lambda verdict: _AUDITS[verdict],
    "networks": lambda power: _count(power, "network") if power else "no network",
    "epsilon": lambda tenths: f"{tenths / 10:g}" if tenths else "no promise",
    "delta": lambda power: f"1e-{power}" if power else "no promise",
    "unit": lambda unit: "nobody" if unit == UNPROTECTED else f"each {unit}",
    **dict.fromkeys(FIGURES, _figure),
    **dict.fromkeys(_DIGESTS, in_fours),
}
"""What is said of a field's value; the others are words already."""
