"""Read what the newest predictions of a folder say of themselves."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecan_core.errors import ModelError
from protocol.errors import Code, FileError
from protocol.files import read_bounded

SUMMARY = "summary.json"
_MAX_BYTES = 1 << 30


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
    """Return the newest predictions of a folder that `predict` wrote.

    Returns:
        None where it has written none, or they have expired.

    Raises:
        ModelError: their summary is damaged.
        FileError: it cannot be read.
    """
    path = folder / SUMMARY
    try:
        summary = json.loads(read_bounded(path, _MAX_BYTES))
        return _latest(summary, path.stat().st_mtime)
    except FileError as fault:
        if fault.code is not Code.NOT_FOUND:
            raise
        return None
    except (KeyError, TypeError, ValueError) as fault:
        raise ModelError(f"{path} is damaged, or another version wrote it: predict again") from fault


def _latest(summary: dict[str, Any], ended_at_s: float) -> Latest:
    return Latest(
        ended_at_s=ended_at_s,
        recordings=int(summary["recordings"]),
        refused=int(summary["lost"]),
        lost=int(summary["lost"]),
        utterances=int(summary["utterances"]),
        abstained=int(summary["abstained"]),
        forgotten=int(summary["forgotten"]),
        level=int(summary["containment"]["level"]),
    )
