"""Read the recordings of a task and say which were left out."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ecan_core.audio.frontend import FrontEnd
from ecan_core.audio.not_speech import KINDS
from ecan_core.command_line.console import Narrator
from ecan_core.data.cache import FeatureCache
from ecan_core.data.calls import Parties, cut_recordings
from ecan_core.data.features import FeatureTable, Refusal, extract_features, nothing_usable
from ecan_core.data.forgotten import Forgotten, Parted, leave_out
from ecan_core.data.unlabeled import list_utterances
from ecan_core.encoders.voices import VoiceFrontEnd, group_voices
from ecan_core.errors import NothingUsableError
from ecan_core.utterance import Utterance
from protocol.encoders.registry import CAMPPLUS
from protocol.encoders.store import place_of

NOT_LOST = frozenset({"NO_SPEECH", "SILENT", "TOO_SHORT", "BLEED", "COPY", *(reason for reason, _ in KINDS.values())})
"""Reasons for which something is left out that is no loss."""


def list_recordings(audio: Path, left_out: Forgotten, narrator: Narrator) -> Parted:
    """List what may be heard, and say what may not.

    Args:
        audio: folder, file, pattern or list.
        left_out: who was forgotten.
        narrator: tells how many utterances were left out.

    Raises:
        UsageError: there is nothing at ``audio``, or a line of the list has no clear meaning.
        NoRecordingError: it holds no recording.
        AudioError: it holds none that was not forgotten.
    """
    listing = list_utterances(audio)
    say_ignored(listing.ignored_columns, narrator)
    return keep_remembered(listing.utterances, left_out, narrator)


def keep_remembered(listed: Sequence[Utterance], left_out: Forgotten, narrator: Narrator) -> Parted:
    """Leave out whom and what was forgotten, and tell how much that was.

    Raises:
        AudioError: nothing else is listed.
    """
    parted = leave_out(listed, left_out)
    say_forgotten(parted.num_left_out, narrator)
    return parted


def say_forgotten(num_left_out: int, narrator: Narrator) -> None:
    """Tell how much of what is listed was forgotten.

    A folder lists whole recordings, a list what it names.
    """
    if num_left_out:
        narrator.say(f"left out {num_left_out} of what is listed: these people and recordings were forgotten")


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
        NothingUsableError: nothing can be used.
    """
    with narrator.progress("recordings") as tick:
        cut = cut_recordings(listed, parties, on_progress=tick)
    if cut.num_discarded:
        narrator.say(f"discarded {cut.num_discarded} channels whose role nobody may listen to")
    if not cut.utterances and (cut.refusals or cut.num_discarded):
        message = nothing_usable(cut.refusals, num_discarded=cut.num_discarded)
        raise NothingUsableError(message, cut.refusals)
    with narrator.progress("features") as tick:
        table = extract_features(cut.utterances, front_end, cache, on_progress=tick, refused=cut.refusals)
    if table.copies:
        narrator.say(f"{len(table.copies)} utterances are copies of others, to the byte")
    if table.clipped:
        narrator.say(f"recorded too loud (clipped), so that their scores are worth less: {len(table.clipped)}")
    return table


def say_left_out(refusals: Sequence[Refusal], narrator: Narrator) -> None:
    """Tell what was left out: one line per reason, with an example.

    The example's sentence says what can be done.
    """
    for reason, count in Counter(refusal.reason for refusal in refusals).most_common():
        first = next(refusal for refusal in refusals if refusal.reason == reason)
        place = "" if first.utterance.start_s is None else f" at {first.utterance.start_s:.1f} s"
        named = "" if str(first.utterance.path) in first.message else f"{first.utterance.path}{place}: "
        narrator.say(f"left out {count} ({reason}), such as {named}{first.message}")


def count_lost(listed: Sequence[Utterance], table: FeatureTable) -> dict[str, int]:
    """Count the recordings that were listed and those that were lost.

    Nothing was heard of a lost one that should have been. What holds no speech or another party's voice, or is listed
    twice, is not lost.
    """
    faults = (refusal for refusal in table.refusals if refusal.reason not in NOT_LOST)
    lost = {refusal.utterance.path for refusal in faults} - {utterance.path for utterance in table.utterances}
    return {"recordings": len({utterance.path for utterance in listed}), "lost": len(lost)}


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
    found = group_voices(embedded.matrix, seed=0)
    names = dict(zip(embedded.utterances, found, strict=True))
    narrator.say(f"{len(set(found))} voices heard by {CAMPPLUS.id}")
    return [names.get(utterance) for utterance in utterances]


def say_ignored(columns: tuple[str, ...], narrator: Narrator) -> None:
    """Tell which columns of a list were not read.

    A label column is never read.
    """
    if columns:
        narrator.say(f"the list's column(s) {', '.join(columns)} were not read: nothing here looks at labels")
