"""Cut long recordings and calls into utterances.

Finds who speaks on which channel, and where.

What a site may not listen to is left out here, before any feature is computed: a channel whose role is discarded, and
a recording that mixes several parties in one channel.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ecan_core.audio.decode import MIN_DURATION_S, SILENCE_PEAK, Recording
from ecan_core.audio.listening import MAYBE, SURE, listen
from ecan_core.audio.not_speech import KINDS
from ecan_core.audio.speech import (
    BLEED_DB,
    FRAME_S,
    Heard,
    Levels,
    Stretch,
    heard_elsewhere,
    holds_speech,
    levels_of,
    most_of,
    others_in,
    utterances_in,
)
from ecan_core.audio.voice_network import load_network
from ecan_core.data.features import OnProgress, Refusal, lost
from ecan_core.errors import UnusableAudioError
from ecan_core.runtime.workers import cores, shared_out
from ecan_core.utterance import Utterance

LONG_S = 30.0
"""A recording that is longer is cut into utterances, unless the list says where they are."""
_NOBODY = "NO_SPEECH", "Nobody speaks here; check the microphone, or leave the recording out."


@dataclass(frozen=True, kw_only=True)
class Parties:
    """Describe who speaks on which channel of a site's recordings.

    Attributes:
        roles: Role of each channel, in order.
        discarded: Roles that nobody may listen to.
        mixed_because: Reason why a recording with one channel for all of them may be used, or, where there are no
            roles, why every channel may be listened to; None refuses it.
    """

    roles: tuple[str, ...]
    discarded: tuple[str, ...] = ()
    mixed_because: str | None = None


class Cut(NamedTuple):
    """Hold what became of a listing.

    Attributes:
        utterances: In the order of the listing, and in each recording in the order of time.
        refusals: Recordings, channels and utterances that are left out.
        num_discarded: Channels of a role that is discarded.
    """

    utterances: tuple[Utterance, ...]
    refusals: tuple[Refusal, ...]
    num_discarded: int


def cut_recordings(
    listed: Sequence[Utterance],
    parties: Parties | None = None,
    on_progress: OnProgress | None = None,
) -> Cut:
    """Find the utterances in what a site lists.

    Args:
        listed: Recordings, or utterances that are cut already.
        parties: Who speaks on which channel. Without roles, the loudest channel of a short recording counts, and each
            channel of a long one. None says nothing: then a recording of several channels is refused, unless the list
            names one of them.
        on_progress: Told the number of recordings done and their total.
    """
    utterances: list[Utterance] = []
    refusals: list[Refusal] = []
    num_discarded = 0
    for number, (utterance, look) in enumerate(zip(listed, _looks(listed, parties), strict=True), 1):
        utterances += (_placed(utterance, piece) for piece in look.pieces)
        refusals += (
            Refusal(utterance=_placed(utterance, piece), reason=reason, message=message)
            for piece, reason, message in look.refused
        )
        num_discarded += look.num_discarded
        if on_progress is not None:
            on_progress(number, len(listed))
    return Cut(tuple(utterances), tuple(refusals), num_discarded)


class _Piece(NamedTuple):
    """Describe a part of a recording; None leaves a fact as it was listed."""

    channel: int | None
    role: str | None
    start_s: float | None
    end_s: float | None


@dataclass
class _Look:
    """Hold what was found in one recording."""

    pieces: list[_Piece] = field(default_factory=list)
    refused: list[tuple[_Piece, str, str]] = field(default_factory=list)
    num_discarded: int = 0

    def refuse(self, piece: _Piece, reason: str, message: str) -> None:
        """Leave out a piece, for a reason."""
        self.refused.append((piece, reason, message))

    def take(self, piece: _Piece, reason: "_Reason | None") -> None:
        """Take a piece, unless there is a reason to leave it out."""
        if reason is None:
            self.pieces.append(piece)
        else:
            self.refuse(piece, *reason)

    def to_bytes(self) -> bytes:
        """Return it as bytes, for the way back from a worker."""
        return json.dumps([self.pieces, self.refused, self.num_discarded]).encode()

    @classmethod
    def of_refusal(cls, refusal: UnusableAudioError) -> "_Look":
        """Return what stands for a recording that cannot be read."""
        return cls(refused=[(_AS_LISTED, refusal.reason, str(refusal))])

    @classmethod
    def from_bytes(cls, data: bytes) -> "_Look":
        """Read what `to_bytes` wrote."""
        pieces, refused, num_discarded = json.loads(data)
        return cls(
            [_Piece(*piece) for piece in pieces],
            [(_Piece(*piece), reason, message) for piece, reason, message in refused],
            num_discarded,
        )


_AS_LISTED = _Piece(None, None, None, None)


def _looks(listed: Sequence[Utterance], parties: Parties | None) -> Iterator[_Look]:
    """Examine recordings in forked processes."""
    from ecan_core.runtime.seeding import one_thread  # with torch, which no other user of this file needs

    def look(order: bytes) -> bytes:
        utterance = listed[int(order)]
        one_thread()  # those of the process that was forked are not here
        try:
            with Recording(utterance.path) as recording:
                return _look(recording, utterance, parties).to_bytes()
        except UnusableAudioError as refusal:
            return _Look.of_refusal(refusal).to_bytes()

    if listed:
        load_network()  # once, and not in every worker
    orders = (str(index).encode() for index in range(len(listed)))
    results = shared_out(orders, look, min(cores(), len(listed) or 1))
    for utterance, result in zip(listed, results, strict=True):
        # What could not be looked into is never read as it was listed: nobody knows who speaks in it.
        yield _Look.of_refusal(lost(utterance.path)) if result is None else _Look.from_bytes(result)


def _look(recording: Recording, utterance: Utterance, parties: Parties | None) -> _Look:
    found = _Look()
    is_cut = utterance.start_s is not None or utterance.end_s is not None
    is_whole = is_cut or recording.num_frames / recording.sample_rate <= LONG_S
    channels = _channels(recording, utterance, parties, found, apart=not is_whole)
    if not channels:
        return found
    owners = _Owners(frozenset(channel for channel, _ in channels), _unheard(parties))
    levels = levels_of(recording, utterance.start_s, utterance.end_s)
    heard = listen(recording, levels, utterance.start_s, sure=MAYBE if is_whole else SURE)
    if is_whole:
        for channel, role in channels:
            reason = _nobody(channel, levels, heard)
            if reason is None and owners.unheard:
                reason = owners.foreign(channel, Stretch(0.0, len(levels) * FRAME_S), levels)
            found.take(_Piece(channel, role, None, None), reason)
        return found
    voices = [utterances_in(levels[:, channel], heard[:, channel]) for channel in range(recording.num_channels)]
    for channel, role in channels:
        _cut_channel(_Piece(channel or 0, role, None, None), levels, heard, voices, owners, found)
    found.pieces.sort(key=lambda piece: (piece.start_s, piece.channel))
    return found


def _nobody(channel: int | None, levels: Levels, heard: Heard) -> "_Reason | None":
    """Say why a recording that is taken whole holds no speech.

    None if it does.     What is silent or too short, or has no such channel, is refused for that when it is read.
    """
    chosen = slice(None) if channel is None else slice(channel, channel + 1)
    loudest = levels[:, chosen].max(initial=-np.inf)
    is_too_short = len(levels) * FRAME_S < MIN_DURATION_S
    if is_too_short or (channel is not None and channel < 0) or loudest < 20 * np.log10(SILENCE_PEAK):
        return None
    if any(holds_speech(one) for one in heard[:, chosen].T):
        return None
    return _no_speech(most_of(heard[:, chosen].ravel()))


def _no_speech(kind: int) -> "_Reason":
    """Say what a stretch is that is no speech; 0 is nothing."""
    if kind not in KINDS:
        return _NOBODY
    reason, what = KINDS[kind]
    return reason, f"This is {what} and no speech; nothing needs to be done."


def _unheard(parties: Parties | None) -> frozenset[int]:
    """Return the channels that nobody may listen to.

    There are none where somebody stated why mixing does no harm.
    """
    if parties is None or parties.mixed_because is not None:
        return frozenset()
    return frozenset(channel for channel, role in enumerate(parties.roles) if role in parties.discarded)


_Reason = tuple[str, str]
"""Why something is left out: one of `ecan_core.audio.decode.REASONS`, and a sentence with the remedy."""


class _Owners(NamedTuple):
    """Describe which channels may be listened to and which may not.

    Attributes:
        kept: Channels that are listened to.
        unheard: Channels of those whom nobody may listen to.
    """

    kept: frozenset[int | None]
    unheard: frozenset[int]

    def foreign(self, channel: int | None, stretch: Stretch, levels: Levels) -> _Reason | None:
        """Say why a stretch of a channel counts elsewhere, or for nobody.

        Args:
            channel: The channel; None is the loudest one.
            stretch: Where the voice is in the levels.
            levels: Of all channels, [F, channels].
        """
        if channel is None or not 0 <= channel < levels.shape[1]:
            return None
        heard = heard_elsewhere(stretch, channel, levels).items()
        reasons = (self._reason(channel, other, there.louder_db) for other, there in heard)
        return next((reason for reason in reasons if reason is not None), None)

    def echoes(self, channel: int, voices: Sequence[Sequence[Stretch]], levels: Levels) -> dict[Stretch, _Reason]:
        """Find where a channel carries the voices of other channels.

        Args:
            channel: The channel.
            voices: Where somebody speaks, by channel.
            levels: Of all channels, [F, channels].
        """
        found = {}
        for other, stretch in ((other, stretch) for other, several in enumerate(voices) for stretch in several):
            here = None if other == channel else heard_elsewhere(stretch, other, levels).get(channel)
            reason = None if here is None else self._reason(channel, other, -here.louder_db)
            if here is not None and reason is not None:
                start_s, end_s = (round(time_s + here.late_s, 2) for time_s in stretch)
                found[Stretch(max(start_s, 0.0), end_s)] = reason
        return found

    def _reason(self, channel: int, other: int, louder_db: float) -> _Reason | None:
        """Say why a voice that is also heard on another channel counts there.

        ``louder_db`` is how much louder it is there.
        """
        if louder_db < -BLEED_DB:
            return None
        if louder_db > BLEED_DB or (other in self.kept and other < channel):
            return "BLEED", "This voice is heard on another channel; it counts there."
        if other in self.unheard:
            return "MIXED", "This voice is as loud on a channel that nobody may listen to; record the parties apart."
        return None


def _channels(
    recording: Recording, utterance: Utterance, parties: Parties | None, found: _Look, *, apart: bool
) -> list[tuple[int | None, str | None]]:
    """List the channels that may be listened to, with their roles.

    A channel that is None is the loudest one.
    """
    name = utterance.path
    if parties is None and utterance.channel is None and recording.num_channels > 1:
        what = f"{name} has {recording.num_channels} channels, and nothing says who speaks on which"
        remedy = (
            "name their roles (channels) in the site's rules and give these with --config (`ecan-target init` writes "
            "them), or give a reason with --all-channels"
        )
        found.refuse(_AS_LISTED, "NO_ROLE", f"{what}; {remedy}.")
        return []
    if parties is None or not parties.roles:
        if utterance.channel is not None or not apart:
            return [(utterance.channel, None)]
        return [(channel, None) for channel in range(recording.num_channels)]
    if recording.num_channels == 1 < len(parties.roles):
        if parties.mixed_because is not None:
            return [(0, None)]
        found.refuse(
            _AS_LISTED, "MIXED", f"{name} mixes {len(parties.roles)} parties in one channel; record them apart."
        )
        return []
    if recording.num_channels > len(parties.roles):
        found.refuse(
            _AS_LISTED,
            "NO_ROLE",
            f"{name} has {recording.num_channels} channels and {len(parties.roles)} roles; name a role for each.",
        )
        return []
    wanted = range(recording.num_channels) if utterance.channel is None else [utterance.channel]
    roles = [(channel, parties.roles[channel]) for channel in wanted if 0 <= channel < recording.num_channels]
    kept = [(channel, role) for channel, role in roles if role not in parties.discarded]
    found.num_discarded = len(roles) - len(kept)
    return [*kept] if roles else [(utterance.channel, None)]


def _cut_channel(
    whole: _Piece, levels: Levels, heard: Heard, voices: Sequence[Sequence[Stretch]], owners: _Owners, found: _Look
) -> None:
    """Find the utterances of one channel.

    Args:
        whole: The channel with its role.
        levels: Of all channels, [F, channels].
        heard: What their frames hold, [F, channels].
        voices: Where somebody speaks, by channel.
        owners: Which channels may be listened to.
        found: Takes the utterances, and what is left out.
    """
    channel = whole.channel
    if channel is None or not 0 <= channel < levels.shape[1]:
        found.pieces.append(whole)  # it is refused with its reason when it is read
        return
    others = others_in(levels[:, channel], heard[:, channel], voices[channel])
    if not voices[channel] and not others:
        found.refuse(whole, *_NOBODY)
    echoes = owners.echoes(channel, voices, levels)
    for stretch, reason in [*echoes.items(), *((stretch, _no_speech(kind)) for stretch, kind in others)]:
        found.refuse(_between(whole, stretch), *reason)
    for stretch in utterances_in(levels[:, channel], heard[:, channel], without=[*echoes]):
        found.take(_between(whole, stretch), owners.foreign(channel, stretch, levels))


def _between(whole: _Piece, stretch: Stretch) -> _Piece:
    start_s, end_s = (round(time_s, 2) for time_s in stretch)
    return whole._replace(start_s=start_s, end_s=end_s)


def _placed(utterance: Utterance, piece: _Piece) -> Utterance:
    """Return the part of a listed recording as an utterance."""
    changes = {name: value for name, value in piece._asdict().items() if value is not None}
    if not changes:
        return utterance
    place = "".join(f"@{value}" for value in (piece.channel, piece.start_s) if value is not None)
    return replace(utterance, id=f"{utterance.id}{place}", **changes)
