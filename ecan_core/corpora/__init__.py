"""Read labeled corpora in the layouts that their authors distribute."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from ecan_core.corpora.recipes import LAYOUTS
from ecan_core.data.folders import AUDIO_SUFFIXES, OTHER_SUFFIXES, find_files, printable
from ecan_core.data.labeled import Corpus, LabeledUtterance
from ecan_core.data.tables import TABLE_SUFFIXES, read_table
from ecan_core.errors import AudioError, UsageError
from ecan_core.labels import emotion, folded, nearest
from ecan_core.utterance import Utterance

RECIPES = (*LAYOUTS, "csv")
"""Names of the recipes; "csv" reads a list with the columns `file` or `path`, `label` and maybe `speaker`."""
_MOST_NAMED, _LONGEST_NAMED = 8, 40  # unknown labels that a refusal names, and letters of each


def read_corpus(recipe: str, path: Path, relabel: Mapping[str, str] | None = None) -> Corpus:
    """List the labeled utterances of a corpus without opening the recordings.

    Args:
        recipe: One of `RECIPES`.
        path: The corpus folder; for "csv" the list, or a folder that holds `labels.csv`.
        relabel: What words count as (`ecan_core.labels.parse_relabel`); None takes each as it is.

    Returns:
        The corpus. What did not fit is counted in its `left_out`.

    Raises:
        UsageError: The recipe or the path does not exist, or a list has no clear meaning or unknown labels.
        AudioError: Nothing under the path fits the recipe.
    """
    if recipe not in RECIPES:
        near = get_close_matches(recipe, RECIPES, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else f"the recipes are {', '.join(RECIPES)}."
        raise UsageError(f"There is no corpus recipe '{recipe}'; {remedy}")
    if not path.exists():
        raise UsageError(f"There is nothing at {path}; check the path of the {recipe} corpus.")
    return _read_list(path, relabel or {}) if recipe == "csv" else _read_folder(recipe, path, relabel or {})


def _read_folder(recipe: str, root: Path, relabel: Mapping[str, str]) -> Corpus:
    found: dict[str, LabeledUtterance] = {}
    left_out: Counter[str] = Counter()
    words: set[str] = set()
    for file in find_files(root, AUDIO_SUFFIXES):
        name = LAYOUTS[recipe].parse(file.relative_to(root))
        if name is None:
            left_out["file name does not fit the layout"] += 1
        elif name.key in found:
            left_out["second copy of a recording"] += 1
        else:
            words.add(name.label)
            identifier = printable(file.relative_to(root))
            utterance = Utterance(id=identifier, path=file, speaker=f"{recipe}_{name.speaker}")
            found[name.key] = LabeledUtterance(utterance=utterance, label=relabel.get(name.label, name.label))
    if not found:
        raise AudioError(_nothing_fits(recipe, root))
    return Corpus(name=recipe, utterances=tuple(found.values()), left_out=dict(left_out), words=frozenset(words))


def _nothing_fits(recipe: str, root: Path) -> str:
    if any(LAYOUTS[recipe].parse(file.relative_to(root)) for file in find_files(root, OTHER_SUFFIXES)):
        return f"{root} holds the {recipe} corpus as video; extract the sound of each file to a .wav."
    expected = LAYOUTS[recipe].layout
    return f"No recording in {root} is named as in the {recipe} corpus; it should hold files such as {expected}."


def _read_list(path: Path, relabel: Mapping[str, str]) -> Corpus:
    file = path / "labels.csv" if path.is_dir() else path
    if file.suffix.lower() not in TABLE_SUFFIXES:
        raise UsageError(f"{path} is not a list; name a .csv with the columns file,label,speaker.")
    name = file.resolve().parent.name if file.stem == "labels" else file.stem
    found: list[LabeledUtterance] = []
    unknown: dict[str, list[str]] = {}
    words: set[str] = set()
    for row in read_table(file, extra=["label"]).rows:
        if "label" not in row.extra:
            raise UsageError(f"{row.where} has no label; fill in the column `label` of every line.")
        word = row.extra["label"]
        words |= {folded(word), emotion(word) or ""}
        if label := emotion(word, relabel):
            found.append(LabeledUtterance(utterance=_with_own_speaker(row.utterance, name), label=label))
        else:
            unknown.setdefault(word, []).append(row.where)
    if unknown:
        raise UsageError(_unknown_labels(unknown))
    if not found:
        raise AudioError(f"{file} lists no utterance; give each a line with a label such as anger or neutral.")
    return Corpus(name=name, utterances=tuple(found), words=frozenset(words))


def _unknown_labels(unknown: Mapping[str, Sequence[str]]) -> str:
    """Name labels that are no known emotion, and say what to do."""
    told = [f"'{_short(word)}' {_times(len(lines))}" for word, lines in list(unknown.items())[:_MOST_NAMED]]
    if len(unknown) > _MOST_NAMED:
        told.append(f"and {len(unknown) - _MOST_NAMED} more")
    first, lines = next(iter(unknown.items()))
    remedy = shlex.quote(f"{_short(first)}={nearest(_short(first)) or 'anger'}")
    return (
        f"{lines[0]}: a label is no emotion that is known here ({', '.join(told)}); say what a word counts as, "
        f"such as --relabel {remedy}, or leave out the row."
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _short(word: str) -> str:
    return word if len(word) <= _LONGEST_NAMED else f"{word[:_LONGEST_NAMED]}..."


def _with_own_speaker(utterance: Utterance, corpus: str) -> Utterance:
    """Keep apart the first speakers of two lists."""
    if utterance.speaker is None or utterance.speaker.startswith(f"{corpus}_"):
        return utterance
    return replace(utterance, speaker=f"{corpus}_{utterance.speaker}")
