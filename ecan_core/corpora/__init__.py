"""Read labeled corpora in the layouts that their authors distribute."""

from collections import Counter
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from ecan_core.corpora.recipes import LAYOUTS
from ecan_core.data.folders import AUDIO_SUFFIXES, OTHER_SUFFIXES, find_files, printable
from ecan_core.data.labeled import Corpus, LabeledUtterance
from ecan_core.data.tables import TABLE_SUFFIXES, read_table
from ecan_core.errors import AudioError, UsageError
from ecan_core.labels import emotion
from ecan_core.utterance import Utterance

RECIPES = (*LAYOUTS, "csv")
"""Names of the recipes; "csv" reads a list with the columns `file` or `path`, `label` and maybe `speaker`."""


def read_corpus(recipe: str, path: Path) -> Corpus:
    """List the labeled utterances of a corpus without opening the recordings.

    Args:
        recipe: One of `RECIPES`.
        path: The corpus folder; for "csv" the list, or a folder that holds `labels.csv`.

    Returns:
        The corpus. What did not fit is counted in its `left_out`.

    Raises:
        UsageError: The recipe or the path does not exist, or a list has no clear meaning.
        AudioError: Nothing under the path fits the recipe.
    """
    if recipe not in RECIPES:
        near = get_close_matches(recipe, RECIPES, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else f"the recipes are {', '.join(RECIPES)}."
        raise UsageError(f"There is no corpus recipe '{recipe}'; {remedy}")
    if not path.exists():
        raise UsageError(f"There is nothing at {path}; check the path of the {recipe} corpus.")
    return _read_list(path) if recipe == "csv" else _read_folder(recipe, path)


def _read_folder(recipe: str, root: Path) -> Corpus:
    found: dict[str, LabeledUtterance] = {}
    left_out: Counter[str] = Counter()
    for file in find_files(root, AUDIO_SUFFIXES):
        name = LAYOUTS[recipe].parse(file.relative_to(root))
        if name is None:
            left_out["file name does not fit the layout"] += 1
        elif name.key in found:
            left_out["second copy of a recording"] += 1
        else:
            identifier = printable(file.relative_to(root))
            utterance = Utterance(id=identifier, path=file, speaker=f"{recipe}_{name.speaker}")
            found[name.key] = LabeledUtterance(utterance=utterance, label=name.label)
    if not found:
        raise AudioError(_nothing_fits(recipe, root))
    return Corpus(name=recipe, utterances=tuple(found.values()), left_out=dict(left_out))


def _nothing_fits(recipe: str, root: Path) -> str:
    if any(LAYOUTS[recipe].parse(file.relative_to(root)) for file in find_files(root, OTHER_SUFFIXES)):
        return f"{root} holds the {recipe} corpus as video; extract the sound of each file to a .wav."
    expected = LAYOUTS[recipe].layout
    return f"No recording in {root} is named as in the {recipe} corpus; it should hold files such as {expected}."


def _read_list(path: Path) -> Corpus:
    file = path / "labels.csv" if path.is_dir() else path
    if file.suffix.lower() not in TABLE_SUFFIXES:
        raise UsageError(f"{path} is not a list; name a .csv with the columns file,label,speaker.")
    name = file.resolve().parent.name if file.stem == "labels" else file.stem
    found: list[LabeledUtterance] = []
    left_out: Counter[str] = Counter()
    for row in read_table(file, extra=["label"]).rows:
        if "label" not in row.extra:
            raise UsageError(f"{row.where} has no label; fill in the column `label` of every line.")
        label = emotion(row.extra["label"])
        if label is None:
            left_out[f"label '{row.extra['label']}' is not an emotion"] += 1
        else:
            found.append(LabeledUtterance(utterance=_with_own_speaker(row.utterance, name), label=label))
    if not found:
        raise AudioError(f"{file} lists no utterance with a known label; use words such as anger or neutral.")
    return Corpus(name=name, utterances=tuple(found), left_out=dict(left_out))


def _with_own_speaker(utterance: Utterance, corpus: str) -> Utterance:
    """Keep apart the first speakers of two lists."""
    if utterance.speaker is None or utterance.speaker.startswith(f"{corpus}_"):
        return utterance
    return replace(utterance, speaker=f"{corpus}_{utterance.speaker}")
