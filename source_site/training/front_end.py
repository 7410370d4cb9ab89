"""Choose what a network reads of the speech, by the encoders at hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ecan_core.audio.frontend import FrontEnd
from ecan_core.encoders.front_end import front_end_named
from ecan_core.encoders.selfsupervised.form import WIDTHS
from ecan_core.errors import UsageError
from ecan_core.model.architectures import Architecture
from protocol.encoders.registry import WHISPER, encoder_of
from protocol.encoders.store import AddedHere, added, default_folder, require_encoder, state_of

PROGRAM = "ecan-source"
NETWORKS = {"stats-v1": "mlp", "stats-whisper-v1": "mlp-whisper"}
"""Short names of the networks by the front end that they read."""
NETWORKS_BY_WIDTH = {width: f"mlp-ssl-{width}" for width in WIDTHS}
"""Short names of the networks by the width of the added encoder that they are read by."""
LOSS = (
    f"{WHISPER.id} is not here, so the model reads stats-v1, which recognizes some 2 to 9 points of UAR less; for "
    f"stats-whisper-v1 run `{PROGRAM} encoder fetch {WHISPER.id}` and train again"
)
"""What a person is told whose model could be better."""


class Reading(NamedTuple):
    """Say what is to be trained, and on what.

    Attributes:
        network: the network's short name.
        lost: a sentence for a person about what a missing encoder costs; empty where nothing is lost.
        added_encoder: SHA-256 of the added encoder that it is read by, in hexadecimal; empty where it needs none.
    """

    network: str
    lost: str = ""
    added_encoder: str = ""


def choose_network(kind: str, front_end: str, encoders: Path | None) -> Reading:
    """Choose a network and say what a missing encoder costs.

    Args:
        kind: ``mlp`` or ``tdnn``.
        front_end: its name, or that of an added encoder; ``auto`` takes the best that the known encoders allow.
        encoders: folder of public encoders; None takes the user's.

    Raises:
        UsageError: the network does not read that front end, or there is none of that name.
        RefusedError: the encoder's file is another one.
    """
    folder = encoders or default_folder()
    if kind == "tdnn":
        if front_end != "auto":
            raise UsageError("--encoder tdnn reads frames-v1 and nothing else; leave --front-end out.")
        return Reading(kind)
    if front_end in NETWORKS:
        return Reading(NETWORKS[front_end])
    if front_end != "auto":
        return _read_by_added(front_end, added(folder))
    if state_of(folder, WHISPER) == "not here":
        return Reading(NETWORKS["stats-v1"], LOSS)
    return Reading(NETWORKS["stats-whisper-v1"])


def _read_by_added(name: str, here: Sequence[AddedHere]) -> Reading:
    """Return what reads by the added encoder of a name or hash."""
    for encoder in here:
        if name in (encoder.name, encoder.sha256) and encoder.width in NETWORKS_BY_WIDTH:
            return Reading(NETWORKS_BY_WIDTH[encoder.width], added_encoder=encoder.sha256)
    names = ", ".join([*NETWORKS, *(encoder.name for encoder in here if encoder.width in NETWORKS_BY_WIDTH)])
    raise UsageError(
        f"No front end or added encoder is called {name!r}; take one of {names}, or run `{PROGRAM} encoder add FOLDER`."
    )


def front_end_of(arch: Architecture, encoders: Path | None, added_encoder: str = "") -> FrontEnd:
    """Return the front end of a network, ready to compute.

    Args:
        arch: which network.
        encoders: folder of public encoders; None takes the user's.
        added_encoder: SHA-256 of the added encoder that it is read by, in hexadecimal; empty where it needs none.

    Raises:
        RefusedError: the encoder that it reads by is missing, or the file is another one.
    """
    encoder = encoder_of(arch.name, added_encoder)
    if encoder is None:
        return front_end_named(arch.front_end)
    place = require_encoder(encoders or default_folder(), encoder, PROGRAM)
    return front_end_named(arch.front_end, place, encoder.sha256)
