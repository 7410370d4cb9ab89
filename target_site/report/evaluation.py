"""Put the figures of `evaluate` into words."""

from collections.abc import Mapping
from typing import Any


def format_text(evaluation: dict[str, Any]) -> str:
    """Format the figures as lines for a person."""
    low, high = evaluation["uar_interval"]
    lines = [
        f"utterances  {evaluation['n']}",
        f"UAR before  {100 * evaluation['before']['uar']:.1f} %",
        f"UAR after   {100 * evaluation['uar']:.1f} %  (95 % interval {100 * low:.1f} to {100 * high:.1f})",
        f"WAR after   {100 * evaluation['war']:.1f} %",
    ]
    lines += [f"  {name:<12}{_percent(value)}" for name, value in evaluation["recall"].items()]
    lines.append("errors among the most confident")
    lines += [f"  {_percent(float(share)):<12}{_percent(risk)}" for share, risk in evaluation["risk"].items()]
    lines += ["", with_abstention(evaluation)]
    return "\n".join(lines)


def with_abstention(evaluation: Mapping[str, Any]) -> str:
    """Tell what abstaining does and what confidence is worth.

    Few utterances make confidence look worse than it is, so what chance alone would do is told beside it.
    """
    least, coverage, risk = (evaluation["abstention"][key] for key in ("least_confidence", "coverage", "risk"))
    low, high = (f"{100 * end:.0f}" for end in evaluation["calibration_interval"])
    points, by_chance = (f"{100 * evaluation[key]:.0f}" for key in ("calibration_error", "calibration_error_by_chance"))
    return (
        f"With a confidence of {least} or more it answers {_percent(coverage)} of them and is wrong on "
        f"{_percent(risk)} of those. Its confidence is off by {points} points on average "
        f"(95 % interval {low} to {high}; with so many utterances chance alone makes it {by_chance})."
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
