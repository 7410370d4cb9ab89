"""Choose what a network reads of the speech, by the encoders at hand."""

from pathlib import Path

from ecan_core.audio.frontend import FrontEnd
from ecan_core.encoders.front_end import front_end_named
from ecan_core.errors import UsageError
from ecan_core.model.architectures import Architecture
from protocol.encoders.registry import PUBLIC_ENCODERS, WHISPER
from protocol.encoders.store import default_folder, require_encoder, state_of

PROGRAM = "ecan-source"
NETWORKS = {"stats-v1": "mlp", "stats-whisper-v1": "mlp-whisper"}
"""Short names of the networks by the front end that they read."""
LOSS = (
    f"{WHISPER.id} is not here, so the model reads stats-v1, which recognizes some 2 to 9 points of UAR less; for "
    f"stats-whisper-v1 run `{PROGRAM} encoder fetch {WHISPER.id}` and train again"
)
"""What a person is told whose model could be better."""


def choose_network(kind: str, front_end: str, encoders: Path | None) -> tuple[str, str]:
    """Choose a network and say what a missing encoder costs.

    Args:
        kind: ``mlp`` or ``tdnn``.
        front_end: ``auto`` takes the best that the encoders at hand allow.
        encoders: folder of public encoders; None takes the user's.

    Returns:
        The network's short name, and a sentence for a person, empty where nothing is lost.

    Raises:
        UsageError: the network does not read that front end.
        RefusedError: the encoder's file is another one.
    """
    if kind == "tdnn":
        if front_end != "auto":
            raise UsageError("--encoder tdnn reads frames-v1 and nothing else; leave --front-end out.")
        return kind, ""
    if front_end != "auto":
        return NETWORKS[front_end], ""
    if state_of(encoders or default_folder(), WHISPER) == "not here":
        return NETWORKS["stats-v1"], LOSS
    return NETWORKS["stats-whisper-v1"], ""


def front_end_of(arch: Architecture, encoders: Path | None) -> FrontEnd:
    """Return the front end of a network, ready to compute.

    Args:
        arch: which network.
        encoders: folder of public encoders; None takes the user's.

    Raises:
        RefusedError: the public encoder that it reads by is missing, or the file is another one.
    """
    encoder = PUBLIC_ENCODERS.get(arch.name)
    if encoder is None:
        return front_end_named(arch.front_end)
    place = require_encoder(encoders or default_folder(), encoder, PROGRAM)
    return front_end_named(arch.front_end, place, encoder.sha256)
