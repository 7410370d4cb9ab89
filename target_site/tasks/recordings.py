"""Read the recordings of a task and say which were left out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ecan_core.audio.frontend import FrontEnd
from ecan_core.command_line.console import Narrator
from ecan_core.data.cache import FeatureCache
from ecan_core.data.calls import Parties, cut_recordings
from ecan_core.data.features import FeatureTable, extract_features, nothing_usable
from ecan_core.encoders.voices import VoiceFrontEnd, group_voices
from ecan_core.errors import AudioError
from ecan_core.utterance import Utterance
from protocol.encoders.registry import CAMPPLUS
from protocol.encoders.store import place_of


def read_utterances(
    listed: Sequence[Utterance],
    front_end: FrontEnd,
    cache: FeatureCache,
    *,
    parties: Parties | None,
    narrator: Narrator,
) -> FeatureTable:
    """Cut what is listed into utterances and compute their features.

    What is left out is among the refusals.

    Raises:
        AudioError: nothing can be used.
    """
    with narrator.progress("recordings") as tick:
        cut = cut_recordings(listed, parties, on_progress=tick)
    if cut.num_discarded:
        narrator.say(f"discarded {cut.num_discarded} channels whose role nobody may listen to")
    if not cut.utterances and (cut.refusals or cut.num_discarded):
        raise AudioError(nothing_usable(cut.refusals, num_discarded=cut.num_discarded))
    with narrator.progress("features") as tick:
        table = extract_features(cut.utterances, front_end, cache, on_progress=tick)
    if table.copies:
        narrator.say(f"{len(table.copies)} utterances are copies of others, to the byte")
    if table.clipped:
        narrator.say(f"recorded too loud (clipped), so that their scores are worth less: {len(table.clipped)}")
    return replace(table, refusals=(*cut.refusals, *table.refusals))


def hear_voices(utterances: Sequence[Utterance], encoders: Path, narrator: Narrator) -> list[str | None]:
    """Tell the voices of utterances apart by the speaker encoder.

    Its embeddings are biometric data: no cache sees them, and they are gone when this returns.

    Args:
        utterances: the usable ones, N.
        encoders: folder of public encoders.
        narrator: tells how far the work has come.

    Returns:
        A name for each voice among these utterances, row by row; None for one that cannot be read any longer.
    """
    front_end = VoiceFrontEnd(path=place_of(encoders, CAMPPLUS), encoder_sha256=CAMPPLUS.sha256)
    with narrator.progress("voices") as tick:
        embedded = extract_features(utterances, front_end, on_progress=tick)
    found = group_voices(embedded.matrix, seed=0).found
    names = dict(zip(embedded.utterances, found, strict=True))
    narrator.say(f"{len(set(found))} voices heard by {CAMPPLUS.id}")
    return [names.get(utterance) for utterance in utterances]


def say_ignored(columns: tuple[str, ...], narrator: Narrator) -> None:
    """Tell which columns of a list were not read.

    A label column is never read.
    """
    if columns:
        narrator.say(f"the list's column(s) {', '.join(columns)} were not read: nothing here looks at labels")
