"""Prepare a task: the recordings, the bundle and what both must satisfy."""

from typing import NamedTuple

from ecan_core.adaptation.given import GivenLabels
from ecan_core.command_line.console import Narrator
from ecan_core.data.cache import FeatureCache
from ecan_core.data.features import FeatureTable
from ecan_core.data.forgotten import Forgotten
from ecan_core.errors import AudioError
from ecan_core.model.network import Network
from ecan_core.model.weights import Arrays
from ecan_core.normalization.normalize import require_speakers
from ecan_core.normalization.voices import MIN_GUESSES, possible_mode
from protocol.bundle.trust import VerifiedBundle
from protocol.encoders.registry import CAMPPLUS
from protocol.encoders.store import place_of
from protocol.errors import Code, UnauthenticError
from target_site.containment.orders import AdaptOrder
from target_site.model.load import ModelCard, choose_normalization, model_card
from target_site.results.handed_labels import given_to
from target_site.tasks.recordings import count_lost, hear_voices, list_recordings, read_utterances, say_left_out
from target_site.trust.acceptance import open_accepted

MIN_UTTERANCES = 8
"""Fewer utterances than this are no corpus: neighbors and class shares mean nothing."""


class Task(NamedTuple):
    """Hold the received model and what it is to be adapted to.

    Attributes:
        bundle: digest of the bundle.
        card: how to rebuild the network.
        weights: as they were received.
        table: the target corpus as front-end outputs.
        inputs: digest of that table.
        mode: what its features are to be normalized by.
        counts: how many recordings were listed and how many were lost, and how many utterances were forgotten.
        left_out: who was forgotten, with marks of the recordings that were listed nevertheless.
        heard: the voice of each utterance as the speaker encoder hears it; None where it is not here or not asked.
        given: classes of some utterances, where the operator handed labels over.
    """

    bundle: bytes
    card: ModelCard
    weights: Arrays
    table: FeatureTable
    inputs: bytes
    mode: str
    counts: dict[str, int]
    left_out: Forgotten
    heard: list[str | None] | None = None
    given: GivenLabels | None = None

    def build(self) -> Network:
        """Build a fresh copy of the received network."""
        return self.card.build(self.weights)

    @property
    def speakers(self) -> list[str | None]:
        """Return who speaks, row by row; None where unknown.

        They are the voices where these were heard.
        """
        if self.heard is not None:
            return self.heard
        return [utterance.speaker for utterance in self.table.utterances]


def open_unchanged(order: AdaptOrder) -> VerifiedBundle:
    """Open the order's bundle and verify it once more.

    Raises:
        UnauthenticError: it has changed since it was checked.
    """
    bundle = open_accepted(order.bundle, keys_dir=None)
    if bundle.digest.hex() != order.sha256:
        raise UnauthenticError(Code.DIGEST, f"{order.bundle} has changed since it was checked; run the command again.")
    return bundle


def hears_voices(order: AdaptOrder) -> bool:
    """Return whether a speaker encoder is here for an adaptation."""
    return order.method != "none" and place_of(order.encoders, CAMPPLUS).is_file()


def prepare(bundle: VerifiedBundle, order: AdaptOrder, narrator: Narrator) -> Task:
    """List the utterances, choose the normalization, then read the audio."""
    card, weights = model_card(bundle), bundle.tensors()
    listed, num_left_out, left_out = list_recordings(order.audio, order.left_out, narrator)
    speakers = [utterance.speaker for utterance in listed]
    wanted = choose_normalization(card, order.normalization, speakers_known=any(speakers))
    require_speakers(wanted, speakers)
    front_end = card.front_end(order.encoders)
    with FeatureCache(order.cache) as cache:
        table = read_utterances(listed, front_end, cache, parties=order.parties, narrator=narrator)
    table = table.without_copies()
    say_left_out(table.refusals, narrator)
    num_utterances = len(table.utterances)
    if order.method != "none" and num_utterances < MIN_UTTERANCES:
        raise AudioError(
            f"only {num_utterances} usable utterances: adaptation needs at least {MIN_UTTERANCES}, "
            "use --method none to predict without it"
        )
    mode = possible_mode(wanted, num_utterances)
    if mode != wanted:
        narrator.say(f"fewer than {MIN_GUESSES} utterances tell no voices apart: normalizing by {mode}")
    narrator.say(f"{num_utterances} utterances, method {order.method}")
    is_heard = mode == "voice" and hears_voices(order)
    return Task(
        bundle=bundle.digest,
        card=card,
        weights=weights,
        table=table,
        inputs=table.digest(),
        mode=mode,
        counts=count_lost(listed, table) | {"forgotten": num_left_out},
        left_out=left_out,
        heard=hear_voices(table.utterances, order.encoders, narrator) if is_heard else None,
        given=given_to(table.utterances, order.labels, card.classes),
    )
