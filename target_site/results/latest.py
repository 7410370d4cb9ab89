"""Read what the newest predictions of a folder say of themselves."""

import json
from dataclasses import dataclass
from pathlib import Path

from ecan_core.errors import ModelError
from protocol.files import read_bounded
from target_site.results.days import latest_day
from target_site.results.index import INDEX
from target_site.results.rows import FAULTS, MAX_BYTES
from target_site.results.segments import SUMMARY


@dataclass(frozen=True, kw_only=True)
class Latest:
    """Describe the newest predictions in numbers.

    Attributes:
        ended_at_s: when they were written, in seconds since 1970.
        recordings: how many were listed.
        refused: of how many of them nothing was used.
        lost: how many of those were lost for a fault.
        utterances: how many were heard.
        abstained: from how many of them the model abstains.
        forgotten: how many were left out because their speaker was forgotten.
        level: level of containment of the process that read the recordings.
        drift: distance of the class shares from those of the weeks before; None where nobody compared.
        advice: what to do about a drift; empty for nothing.
    """

    ended_at_s: float
    recordings: int
    refused: int
    lost: int
    utterances: int
    abstained: int
    forgotten: int
    level: int
    drift: float | None = None
    advice: str = ""

    @property
    def refused_share(self) -> float:
        """Return the share of recordings of which nothing was used."""
        return self.refused / self.recordings if self.recordings else 0.0

    @property
    def lost_share(self) -> float:
        """Return the share of recordings that were lost for a fault."""
        return self.lost / self.recordings if self.recordings else 0.0

    @property
    def abstained_share(self) -> float:
        """Return the share of utterances that the model abstains from."""
        return self.abstained / self.utterances if self.utterances else 0.0


def latest(folder: Path) -> Latest | None:
    """Return the newest day of a folder that `predict` writes into.

    Returns:
        None where it has written none, or they have expired.

    Raises:
        StorageError: the index cannot be read.
        ModelError: the summary of the day is damaged.
        FileError: it cannot be read.
    """
    day = latest_day(folder) if (folder / INDEX).is_file() else None
    if day is None:
        return None
    try:
        summary = json.loads(read_bounded(day.folder / SUMMARY, MAX_BYTES))
        forgotten, level = int(summary["forgotten"]), int(summary["containment"]["level"])
    except FAULTS as fault:
        raise ModelError(f"{day.folder / SUMMARY} is damaged, or another version wrote it: predict again") from fault
    return Latest(
        ended_at_s=day.ended_at,
        recordings=day.recordings,
        refused=day.refused,
        lost=day.lost,
        utterances=day.utterances,
        abstained=day.abstained,
        forgotten=forgotten,
        level=level,
        drift=None if day.drift is None else day.drift.distance,
        advice=day.advice,
    )
