"""What a number of call centres needs, from the figures that were measured (docs/capacity.md).

Nothing is measured here: `benchmarks/results` has the figures, and `Demand` what is assumed. ``--doc`` rewrites the
page's tables; the options ask about another demand.
"""

import argparse
import math
from dataclasses import dataclass, fields
from typing import NamedTuple

from benchmarks.record import RESULTS, ROOT, latest, write_section
from benchmarks.tables import markdown, pick, read_lines

PAGE = ROOT / "docs" / "capacity.md"
SPEECH = "nemo"
"""Whose figures of the front end count: the dearest corpus, because its utterances are the shortest."""
WHISPER, SPEAKERS = "whisper-tiny.en", "campplus-zh-en"
S_PER_HOUR = 3600
G711_BYTES_PER_S = 8000
"""One channel of a telephone, A-law or mu-law."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is assumed.

    Attributes:
        centres: how many call centres there are.
        calls: calls a day, of all of them.
        minutes: how long a call is.
        night_h: hours in which a day's calls are heard.
        load: share of a core that is planned with; the rest is for peaks, and for machines that fail.
    """

    centres: int = 300
    calls: int = 1_000_000
    minutes: float = 5.0
    night_h: float = 6.0
    load: float = 0.5

    @property
    def hours(self) -> float:
        """Hours of calls a day."""
        return self.calls * self.minutes / 60


class Cost(NamedTuple):
    """CPU seconds per hour of a call, and what is heard with."""

    name: str
    cpu_s: float


def costs() -> list[Cost]:
    """The cost of an hour by what is heard with; every second of the hour counts as speech."""
    front = pick(read_lines(RESULTS / "frontend.jsonl"), speech=SPEECH)[-1]
    activity = max(row["cpu_s_per_hour"] for row in read_lines(RESULTS / "speech_activity.jsonl"))
    plain = activity + S_PER_HOUR / front["times_real_time"]
    whisper = plain + front["encoder_s_per_hour"][WHISPER]
    return [
        Cost("`stats-v1`", plain),
        Cost("`stats-whisper-v1`", whisper),
        Cost("`stats-whisper-v1`, and voices heard", whisper + front["encoder_s_per_hour"][SPEAKERS]),
    ]


def cores(demand: Demand, cpu_s: float, share: float = 1.0) -> int:
    """Cores that hear a share of a day's calls in a night."""
    return math.ceil(share * demand.hours * cpu_s / (demand.night_h * S_PER_HOUR * demand.load))


def tables(demand: Demand) -> str:
    """The page's tables."""
    return "\n\n".join((_night(demand), _rest(demand)))


def _night(demand: Demand) -> str:
    whole = latest("large", case="one hour of a call")
    rows = [
        [
            cost.name,
            f"{cost.cpu_s:.1f}",
            f"{demand.hours * cost.cpu_s / S_PER_HOUR:,.0f}",
            str(cores(demand, cost.cpu_s, 1 / demand.centres)),
            f"{cores(demand, cost.cpu_s):,}",
        ]
        for cost in costs()
    ]
    head = [
        "heard with",
        "CPU s per hour of a call",
        "CPU hours a day, all",
        "cores, one centre",
        "cores, all in one place",
    ]
    told = (
        f"{demand.centres:,} centres, {demand.calls:,} calls a day of {demand.minutes:g} minutes: {demand.hours:,.0f} "
        f"hours of calls a day, {demand.hours / demand.centres:,.0f} for one centre. They are heard in "
        f"{demand.night_h:g} hours at {100 * demand.load:g} % load, one channel of each call, as if there were no "
        "pause in it. (A whole `predict` of one hour, its start and its pauses included, took "
        f"{whole['cpu_s']:.1f} CPU s.)"
    )
    return f"{told}\n\n{markdown(head, rows, words=1)}"


def _rest(demand: Demand) -> str:
    predict, adapt = latest("large", case="ten hours of a call"), latest("large", case="10,000 utterances")
    many, product = latest("many_targets"), latest("adaptation", work="product by voice")
    kept = demand.hours / demand.centres * S_PER_HOUR * G711_BYTES_PER_S / 1e9
    rows = [
        ["memory of one part of `predict`", f"{predict['peak_mib']:,} MiB"],
        [
            "adapt a release, 1,000 utterances",
            f"{product['wall_s']:.0f} s after its features, {product['peak_mib']:,} MiB",
        ],
        ["adapt a release, 10,000 utterances", f"{adapt['wall_s'] / 60:.1f} min, {adapt['peak_mib']:,} MiB"],
        [
            "hand a release to all centres",
            f"{many['wall_s'] * demand.centres / many['targets']:.0f} s, one source process",
        ],
        ["memory of that source", f"{many['peak_source_mib']:.0f} MiB"],
        ["recordings of one centre, G.711", f"{kept:.1f} GB a day and channel, kept by the site and not by us"],
    ]
    first = read_lines(RESULTS / "frontend.jsonl")[-1]
    where = f"Measured on {first['machine']}; latest figures of {first['day']}."
    return f"{markdown(['what', 'needs'], rows, words=2)}\n\n{where}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for field in fields(Demand):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default)
    parser.add_argument(
        "--doc", action="store_true", help="rewrite the tables of docs/capacity.md, for what is assumed there"
    )
    options = vars(parser.parse_args())
    if options.pop("doc"):
        write_section(PAGE, "capacity", tables(Demand()))
    else:
        print(tables(Demand(**options)))


if __name__ == "__main__":
    main()
