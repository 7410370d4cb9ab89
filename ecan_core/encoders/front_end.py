"""Compute `stats-whisper-v1`: statistics beside what Whisper hears.

It hears by its first blocks.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecan_core.audio.frontend import FRONT_ENDS, FrontEnd, StatisticsFrontEnd, fingerprint_of
from ecan_core.audio.waveform import Waveform
from ecan_core.encoders import whisper
from ecan_core.encoders.weights import read_weights
from ecan_core.encoders.whisper import Whisper
from ecan_core.errors import ModelError
from ecan_core.runtime.threads import one_thread

NAME = "stats-whisper-v1"

_STATISTICS = StatisticsFrontEnd()


@dataclass(frozen=True, kw_only=True)
class WhisperFrontEnd:
    """Hold where the encoder lies and which one it must be.

    The weights are read once in each process.

    Attributes:
        path: The encoder's canonical file.
        encoder_sha256: Its hash, in hexadecimal.
    """

    path: Path
    encoder_sha256: str

    @property
    def name(self) -> str:
        """Return the name that a model carries; `identity` says which weights."""
        return NAME

    @property
    def dim(self) -> int:
        """Return the numbers per utterance, S + 2 E."""
        return len(self.feature_names)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Return the names of the statistics, then of each block's channels."""
        blocks = range(1, whisper.BLOCKS + 1)
        heard = (f"whisper.{block}.{channel:03d}" for block in blocks for channel in range(whisper.WIDTH))
        return (*_STATISTICS.feature_names, *heard)

    @property
    def identity(self) -> str:
        """Return in hexadecimal what must be equal at both sites.

        Neither the processor nor a library counts.
        """
        return sha256(f"{NAME} {self.encoder_sha256}".encode()).hexdigest()

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
            Statistics, then the means after each block, [S + 2 E].

        Raises:
            ModelError: The encoder's file is missing, damaged or another one.
        """
        encoder = load_whisper(self.path, self.encoder_sha256)
        with one_thread():
            heard = encoder.embed([waveform.samples])[0]
        return np.concatenate([_STATISTICS.compute(waveform), heard])


def front_end_named(name: str, path: Path = Path(), encoder_sha256: str = "") -> FrontEnd:
    """Return a front end by the name that a model carries.

    Args:
        name: Such as "stats-v1".
        path: The public encoder's file, for a front end that reads by one; what it is named after and how many numbers
            it gives is known without the file.
        encoder_sha256: Its hash, in hexadecimal.

    Raises:
        ModelError: This version does not know it.
    """
    if name == NAME:
        return WhisperFrontEnd(path=path, encoder_sha256=encoder_sha256)
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
