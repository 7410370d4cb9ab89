"""Name everything that can go wrong in the emotion code, as one tree.

EcanError                  exit code 1
├── UsageError                     2   the command asks for something that does not exist
├── SettingsError                  3   a setting is unknown or out of range
├── ModelError                    12   the weights do not fit the network
├── AudioError                    13   no usable audio
│   ├── UnusableAudioError        13   one utterance cannot be used, with the reason
│   ├── NothingUsableError        13   everything was refused, with the reasons
│   ├── NoRecordingError          17   there is no recording at all
│   └── LostError                 18   more recordings were lost than the site allows
├── RevertedError                 14   the adapted model was no better than the received one
└── StorageError                  16   the disk is full or read-only

Each message is one sentence with the remedy. The library raises; only the command line prints and exits.
"""

from collections.abc import Sequence
from typing import Any


class EcanError(Exception):
    """Report any failure that the emotion code can explain."""

    exit_code = 1


class UsageError(EcanError):
    """Report a wrong call: it names something that does not exist.

    An unknown class is an example.
    """

    exit_code = 2


class SettingsError(EcanError):
    """Report a setting that is unknown, mistyped or out of range."""

    exit_code = 3


class ModelError(EcanError):
    """Report that weights and network do not fit each other."""

    exit_code = 12


class AudioError(EcanError):
    """Report that no audio can be used."""

    exit_code = 13


class UnusableAudioError(AudioError):
    """Report that one utterance cannot be used.

    Attributes:
        reason: Why, as one word of `ecan_core.audio.decode.REASONS`; reports count refusals by it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["UnusableAudioError"], tuple[str, str]]:
        """Let a refusal travel back from a worker process whole."""
        return type(self), (self.reason, str(self))


class NothingUsableError(AudioError):
    """Report that there are recordings and every one was refused.

    Attributes:
        refusals: What was refused, as `ecan_core.data.features.Refusal`.
    """

    def __init__(self, message: str, refusals: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.refusals = tuple(refusals)


class NoRecordingError(AudioError):
    """Report that there is no recording at all.

    The folder is empty, or what it stands for is not mounted.
    """

    exit_code = 17


class LostError(AudioError):
    """Report that more recordings were lost than a site allows."""

    exit_code = 18


class RevertedError(EcanError):
    """Report that the adapted model was no better than the received one.

    The received one is therefore kept.
    """

    exit_code = 14


class StorageError(EcanError):
    """Report that a file cannot be written.

    The disk is full, read-only or out of reach.
    """

    exit_code = 16
