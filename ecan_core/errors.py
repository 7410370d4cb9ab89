"""Everything that can go wrong in the emotion code, as one small tree.

EcanError                  exit code 1
├── UsageFault                       2   the command asks for something that does not exist
├── SettingsError                    3   a setting is unknown or out of range
├── ModelError                      12   the weights do not fit the network
├── AudioError                      13   no usable audio
│   └── AudioRefused                13   one utterance cannot be used, with the reason
├── AdaptationReverted              14   the adapted model was no better than the received one
└── StorageError                    16   the disk is full or read-only

Each message is one sentence with the remedy. The library raises; only the command line prints and exits.
"""


class EcanError(Exception):
    """Any failure that the emotion code can explain."""

    exit_code = 1


class UsageFault(EcanError):
    """The caller asked for something that does not exist, such as an unknown class."""

    exit_code = 2


class SettingsError(EcanError):
    """A setting is unknown, has the wrong type or lies out of range."""

    exit_code = 3


class ModelError(EcanError):
    """Weights and network do not fit each other."""

    exit_code = 12


class AudioError(EcanError):
    """There is no audio that can be used."""

    exit_code = 13


class AudioRefused(AudioError):
    """One utterance cannot be used.

    Attributes:
        reason: Why, as one word of `ecan_core.audio.decode.REASONS`; reports count refusals by it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["AudioRefused"], tuple[str, str]]:
        """Lets a refusal travel back from a worker process whole."""
        return type(self), (self.reason, str(self))


class AdaptationReverted(EcanError):
    """The adapted model was no better than the received one, which is therefore kept."""

    exit_code = 14


class StorageError(EcanError):
    """A file cannot be written: the disk is full, read-only or out of reach."""

    exit_code = 16
