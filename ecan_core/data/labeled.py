"""Hold speech with its true labels, for the source and for evaluation."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ecan_core.labels import EMOTIONS
from ecan_core.utterance import Utterance


@dataclass(frozen=True, kw_only=True)
class LabeledUtterance:
    """Hold an utterance and its emotion, a word of `EMOTIONS`.

    It is the emotion that the utterance was spoken with.
    """

    utterance: Utterance
    label: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Hold labeled utterances that were recorded as one collection.

    Attributes:
        name: Name of the recipe, or of the folder or list the corpus was read from.
        utterances: In a fixed order that does not depend on the file system.
        left_out: What was found but not read, as reason and count.
        words: The labels as the corpus writes them (`ecan_core.labels.folded`), and the emotions that they mean.
    """

    name: str
    utterances: tuple[LabeledUtterance, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    words: frozenset[str] = frozenset()

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the emotions that occur, in the order of `EMOTIONS`."""
        present = {labeled.label for labeled in self.utterances}
        return tuple(label for label in EMOTIONS if label in present)

    def without_labels(self) -> tuple[Utterance, ...]:
        """Return the bare utterances, without a way back."""
        return tuple(labeled.utterance for labeled in self.utterances)

    def restrict(self, classes: Iterable[str]) -> tuple["Corpus", dict[str, int]]:
        """Return the corpus of these classes alone, and what was left out.

        What was left out is counted by label.
        """
        wanted = frozenset(classes)
        kept = tuple(labeled for labeled in self.utterances if labeled.label in wanted)
        others = Counter(labeled.label for labeled in self.utterances if labeled.label not in wanted)
        corpus = replace(self, utterances=kept)
        return corpus, {label: others[label] for label in EMOTIONS if label in others}


def unused(relabel: Mapping[str, str], corpora: Iterable[Corpus]) -> str | None:
    """Name words of a relabeling that no label is, in a sentence, or None."""
    words = frozenset[str]().union(*(corpus.words for corpus in corpora))
    absent = [f"{word!r}" for word in relabel if word not in words]
    return f"--relabel changed nothing for {', '.join(absent)}: no row or file has such a label" if absent else None
