"""Read the recordings of a task and say which were left out."""

from collections.abc import Sequence
from dataclasses import replace

from ecan_core.audio.frontend import FrontEnd
from ecan_core.command_line.console import Narrator
from ecan_core.data.cache import FeatureCache
from ecan_core.data.calls import Parties, cut_recordings
from ecan_core.data.features import FeatureTable, extract_features, nothing_usable
from ecan_core.errors import AudioError
from ecan_core.utterance import Utterance


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


def say_ignored(columns: tuple[str, ...], narrator: Narrator) -> None:
    """Tell which columns of a list were not read.

    A label column is never read.
    """
    if columns:
        narrator.say(f"the list's column(s) {', '.join(columns)} were not read: nothing here looks at labels")
