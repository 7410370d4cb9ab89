"""Define the unit of speech, deliberately without a label."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """Describe a stretch of recorded speech by one person.

    There is no field for a label: code that adapts a model handles utterances and so cannot see one.

    Attributes:
        id: Name of the utterance, unique within its listing.
        path: Audio file; several utterances may share one.
        speaker: Name of the voice, or None where it is unknown.
        channel: Channel of the file, counted from 0; None takes the loudest one.
        role: What the speaker is at this site, such as `customer`; None where that is unknown.
        start_s: Start within the file in seconds; None starts at the beginning.
        end_s: End within the file in seconds; None goes to the end.
    """

    id: str
    path: Path
    speaker: str | None = None
    channel: int | None = None
    role: str | None = None
    start_s: float | None = None
    end_s: float | None = None

    @property
    def channel_name(self) -> str | None:
        """Return the channel in words, such as ``customer (channel 1)``.

        None where it is unknown.
        """
        if self.channel is None:
            return self.role
        return f"channel {self.channel}" if self.role is None else f"{self.role} (channel {self.channel})"
