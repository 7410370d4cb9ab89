"""Compute the front ends that read by an encoder beside statistics.

`stats-whisper-v1` hears by Whisper's first blocks, `stats-ssl-768-v1` and `stats-ssl-1024-v1` by the lower layers of an
encoder of that width that the site has added.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecan_core.audio.frontend import FRONT_ENDS, FrontEnd, StatisticsFrontEnd, fingerprint_of
from ecan_core.audio.waveform import Waveform
from ecan_core.encoders import whisper
from ecan_core.encoders.selfsupervised.folder import read_encoder
from ecan_core.encoders.selfsupervised.form import WIDTHS
from ecan_core.encoders.selfsupervised.network import SelfSupervised
from ecan_core.encoders.weights import read_weights
from ecan_core.encoders.whisper import Whisper
from ecan_core.errors import ModelError
from ecan_core.runtime.threads import one_thread

NAME = "stats-whisper-v1"
SSL_NAMES = {f"stats-ssl-{width}-v1": width for width in WIDTHS}
"""Width of the encoder, E, by the front end's name."""

_STATISTICS = StatisticsFrontEnd()


@dataclass(frozen=True, kw_only=True)
class EncoderFrontEnd(ABC):
    """Hold where an encoder lies and which one it must be.

    The weights are read once in each process.

    Attributes:
        path: The encoder's canonical file.
        encoder_sha256: Its hash, in hexadecimal.
    """

    path: Path
    encoder_sha256: str

    @property
    @abstractmethod
    def name(self) -> str:
        """Return the name that a model carries; `identity` says which weights."""

    @property
    @abstractmethod
    def heard_names(self) -> tuple[str, ...]:
        """Return the names of the numbers that the encoder gives."""

    @abstractmethod
    def hear(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Compute what the encoder hears in one utterance at 16 kHz."""

    @property
    def dim(self) -> int:
        """Return the numbers per utterance: statistics, then the encoder's."""
        return len(self.feature_names)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Return the names of the statistics, then of the encoder's numbers."""
        return (*_STATISTICS.feature_names, *self.heard_names)

    @property
    def identity(self) -> str:
        """Return in hexadecimal what must be equal at both sites.

        Neither the processor nor a library counts.
        """
        return sha256(f"{self.name} {self.encoder_sha256}".encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """Return what changes whenever the same sound gives other numbers.

        Encoder, code, libraries and processor all show.
        """
        return sha256(f"{self.identity} {fingerprint_of(self)}".encode()).hexdigest()

    def compute(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        """Compute the numbers of one utterance.

        Args:
            waveform: Sound at 16 kHz.

        Returns:
            Statistics, then what the encoder hears, [dim].

        Raises:
            ModelError: The encoder's file is missing, damaged or another one.
        """
        with one_thread():
            heard = self.hear(waveform.samples)
        return np.concatenate([_STATISTICS.compute(waveform), heard])


class WhisperFrontEnd(EncoderFrontEnd):
    """Hear by Whisper's first blocks."""

    @property
    def name(self) -> str:
        """Return the name that a model carries; `identity` says which weights."""
        return NAME

    @property
    def heard_names(self) -> tuple[str, ...]:
        """Return the names of each block's channels."""
        blocks = range(1, whisper.BLOCKS + 1)
        return tuple(f"whisper.{block}.{channel:03d}" for block in blocks for channel in range(whisper.WIDTH))

    def hear(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Compute the means after each block, [2 E]."""
        heard: npt.NDArray[np.float32] = load_whisper(self.path, self.encoder_sha256).embed([samples])[0]
        return heard


@dataclass(frozen=True, kw_only=True)
class SelfSupervisedFrontEnd(EncoderFrontEnd):
    """Hear by an encoder that the site has added.

    Attributes:
        width: The encoder's, E.
    """

    width: int

    @property
    def name(self) -> str:
        """Return the name that a model carries; `identity` says which weights."""
        return next(name for name, width in SSL_NAMES.items() if width == self.width)

    @property
    def heard_names(self) -> tuple[str, ...]:
        """Return the names of the channels."""
        return tuple(f"ssl.{channel:04d}" for channel in range(self.width))

    def hear(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Compute the mean of two layers, [E]."""
        encoder = load_selfsupervised(self.path, self.encoder_sha256)
        if encoder.form.hidden_size != self.width:
            raise ModelError(
                f"The encoder is {encoder.form.hidden_size} wide and the model reads one of width {self.width}; "
                "name the encoder that the model was trained with."
            )
        return encoder.embed(samples)


def front_end_named(name: str, path: Path = Path(), encoder_sha256: str = "") -> FrontEnd:
    """Return a front end by the name that a model carries.

    Args:
        name: Such as "stats-v1".
        path: The encoder's file, for a front end that reads by one; what it is named after and how many numbers it
            gives is known without the file.
        encoder_sha256: Its hash, in hexadecimal.

    Raises:
        ModelError: This version does not know it.
    """
    if name == NAME:
        return WhisperFrontEnd(path=path, encoder_sha256=encoder_sha256)
    if name in SSL_NAMES:
        return SelfSupervisedFrontEnd(path=path, encoder_sha256=encoder_sha256, width=SSL_NAMES[name])
    if name not in FRONT_ENDS:
        raise ModelError(f"this version does not know the front end {name!r}; install a newer ecan-ser")
    return FRONT_ENDS[name]


@lru_cache(maxsize=1)
def load_whisper(path: Path, encoder_sha256: str) -> Whisper:
    """Read the encoder once in a process.

    It computes in the numbers that this processor is fast in.

    Raises:
        ModelError: The file is missing, damaged or another one.
    """
    weights = read_weights(path, encoder_sha256, whisper.tensor_shapes())
    return Whisper(weights, is_rounded=whisper.rounds_fast())


@lru_cache(maxsize=1)
def load_selfsupervised(path: Path, encoder_sha256: str) -> SelfSupervised:
    """Read the encoder once in a process.

    It computes in the numbers that this processor is fast in.

    Raises:
        ModelError: The file is missing, damaged or another one.
    """
    return replace(read_encoder(path, encoder_sha256), is_rounded=whisper.rounds_fast())
