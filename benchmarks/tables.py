"""From JSON lines to the tables of the documents: means, intervals, Markdown."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
NAMES = {
    "none": "no adaptation",
    "product": "**the product**",
    "ecan": "ECAN",
    "adabn": "AdaBN",
    "t3a": "T3A",
    "lame": "LAME",
    "tent": "TENT",
    "shot-im": "SHOT-IM",
    "shot": "SHOT",
    "nrc": "NRC",
    "aad": "AaD",
    "ucon": "UCon",
    "cahtn": "CaHTN",
    "cowa": "CoWA",
}
"""Methods as the documents write them."""


def read_lines(path: Path) -> list[Row]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def distinct(lines: Sequence[Row], key: str) -> list[Any]:
    """The values of a key in the order in which they first occur."""
    return list(dict.fromkeys(line[key] for line in lines))


def pick(lines: Sequence[Row], **wanted: object) -> list[Row]:
    """The lines whose fields are as wanted."""
    return [line for line in lines if wanted.items() <= line.items()]


def mean(lines: Sequence[Row], key: str) -> float:
    """Mean of a share over lines, in percent."""
    return 100 * statistics.fmean(line[key] for line in lines)


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean and half of Student's interval; the half is NaN for fewer than three values, which say nothing."""
    from scipy.stats import t

    if len(values) < 3:
        return statistics.fmean(values), math.nan
    half = t.ppf((1 + level) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(half)


def over_seeds(lines: Sequence[Row], key: str) -> tuple[float, float]:
    """`interval` over the seeds' means, in percent: how much the seed matters, not how much another corpus would."""
    return interval([mean(pick(lines, seed=seed), key) for seed in distinct(lines, "seed")])


def written(center: float, half: float, *, best: bool = False) -> str:
    """A mean and its interval, bold where it is the best."""
    text = f"**{center:.1f}**" if best else f"{center:.1f}"
    return text if math.isnan(half) else f"{text} ± {half:.1f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """A table whose first ``words`` columns are words and whose others are figures."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def provenance(lines: Sequence[Row]) -> str:
    """Where the figures of a table come from."""
    first = lines[0]
    seeds = len(distinct(lines, "seed"))
    return f"{seeds} seed{'s' * (seeds > 1)}, commit {first['commit']}, {first['day']}, {first['machine']}."
