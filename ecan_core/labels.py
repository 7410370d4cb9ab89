"""Name the twelve emotions that the whole project knows."""

from collections.abc import Iterable
from difflib import get_close_matches

from ecan_core.errors import UsageError

EMOTIONS = (
    "anger",
    "boredom",
    "calm",
    "contempt",
    "disgust",
    "excitement",
    "fear",
    "frustration",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
)

_SPELLINGS = {
    "angry": "anger",
    "bored": "boredom",
    "disgusted": "disgust",
    "excited": "excitement",
    "fearful": "fear",
    "frustrated": "frustration",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}


def emotion(word: str) -> str | None:
    """Return the emotion that a corpus means by `word`, or None.

    For "Happy" it returns "happiness".
    """
    word = word.strip().lower()
    return word if word in EMOTIONS else _SPELLINGS.get(word)


def check_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return a class set in its one order.

    Args:
        names: At least two different words of `EMOTIONS`, in any order.

    Returns:
        The same words in the order of `EMOTIONS`: the order of the logits `[B, C]`.

    Raises:
        UsageError: A name is unknown or given twice, or there are fewer than two.
    """
    classes: set[str] = set()
    for name in names:
        if name not in EMOTIONS:
            raise UsageError(_unknown_class(name))
        if name in classes:
            raise UsageError(f"The class '{name}' is given twice; name each class once.")
        classes.add(name)
    if len(classes) < 2:
        raise UsageError(f"A classifier needs two classes or more and {len(classes)} is given; name another.")
    return tuple(name for name in EMOTIONS if name in classes)


def _unknown_class(name: str) -> str:
    meant = emotion(name) or next(iter(get_close_matches(name.lower(), EMOTIONS, n=1)), None)
    remedy = f"did you mean '{meant}'?" if meant else f"the classes are {', '.join(EMOTIONS)}."
    return f"'{name}' is not a known class; {remedy}"
