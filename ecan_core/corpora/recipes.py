"""Describe how each corpus writes speaker and emotion into its paths.

A recipe is one line of knowledge: a pattern for the end of a file's path, and what its emotion codes mean.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ecan_core.data.folders import printable
from ecan_core.labels import emotion


@dataclass(frozen=True, kw_only=True)
class Name:
    """Hold what a path says about its recording.

    Attributes:
        key: Equal for two copies of one recording, wherever they lie and in whatever format.
        speaker: Name of the voice within its corpus.
        label: Its emotion, a word of `EMOTIONS`.
    """

    key: str
    speaker: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Describe the layout of one corpus.

    Attributes:
        layout: The layout as its users know it, for messages.
        patterns: Regular expressions for the end of a path without its suffix, in any case, with the groups
            `speaker` and `code`; `CODE` stands for the codes.
        codes: Emotion code in lower case -> word of `EMOTIONS`.
    """

    layout: str
    patterns: tuple[str, ...]
    codes: Mapping[str, str]

    @cached_property
    def _expressions(self) -> tuple[re.Pattern[str], ...]:
        codes = "|".join(sorted(self.codes, key=len, reverse=True))
        return tuple(
            re.compile(rf"(?:^|/)(?:{pattern.replace('CODE', f'(?P<code>{codes})')})$", re.IGNORECASE)
            for pattern in self.patterns
        )

    def parse(self, path: Path) -> Name | None:
        """Read a path relative to the corpus folder.

        None where it does not fit the layout.
        """
        text = printable(path.with_suffix(""))
        match = next(filter(None, (expression.search(text) for expression in self._expressions)), None)
        if match is None:
            return None
        key = match[0].strip("/").replace("/", "_").lower()
        return Name(key=key, speaker=match["speaker"], label=self.codes[match["code"].lower()])


def _codes(pairs: str) -> dict[str, str]:
    pieces = pairs.replace(",", "").split()
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def _words(words: str) -> dict[str, str]:
    return {word: label for word in words.split() if (label := emotion(word))}


LAYOUTS: dict[str, Recipe] = {
    "casia": Recipe(
        layout="<speaker>/<emotion>/<number>.wav with the emotions angry fear happy neutral sad surprise",
        patterns=(r"(?P<speaker>[^/]+)/CODE/[^/]+",),
        codes=_words("angry fear happy neutral sad surprise"),
    ),
    "cremad": Recipe(
        layout="AudioWAV/1001_DFA_ANG_XX.wav",
        patterns=(r"(?P<speaker>\d{4})_[A-Z]{3}_CODE_[A-Z]+",),
        codes=_codes("ang anger, dis disgust, fea fear, hap happiness, neu neutral, sad sadness"),
    ),
    "emodb": Recipe(
        layout="wav/03a01Fa.wav",
        patterns=(r"(?P<speaker>\d\d)[ab]\d\dCODE[a-z]",),
        codes=_codes("w anger, l boredom, e disgust, a fear, f happiness, t sadness, n neutral"),
    ),
    "emovo": Recipe(
        layout="f1/dis-f1-b1.wav",
        patterns=(r"CODE-(?P<speaker>[fm]\d)-[a-z]+\d*",),
        codes=_codes("rab anger, dis disgust, pau fear, gio happiness, neu neutral, tri sadness, sor surprise"),
    ),
    "enterface": Recipe(
        layout="subject 1/anger/sentence 1/*.wav, or s1_an_1.wav in one folder",
        patterns=(
            r"subject[ _-]?(?P<speaker>\d+)/CODE/(?:sentence[ _-]?\d+/)?[^/]+",
            r"s_?(?P<speaker>\d+)_CODE_\d+",
        ),
        codes=_words("anger disgust fear happiness sadness surprise")
        | _codes("an anger, di disgust, fe fear, ha happiness, sa sadness, su surprise"),
    ),
    "nemo": Recipe(
        layout="samples/EB0_anger_1.wav",
        patterns=(r"(?P<speaker>[A-Z]{2}\d)_CODE_\d+",),
        codes=_words("anger fear happiness neutral sadness surprise surprised"),
    ),
    "ravdess": Recipe(
        layout="Actor_01/03-01-05-01-01-01-01.wav (speech, sound only)",
        patterns=(r"03-01-CODE-\d\d-\d\d-\d\d-(?P<speaker>\d\d)",),
        codes=_codes("01 neutral, 02 calm, 03 happiness, 04 sadness, 05 anger, 06 fear, 07 disgust, 08 surprise"),
    ),
    "savee": Recipe(
        layout="DC/a01.wav, or DC_a01.wav in one folder",
        patterns=(r"(?P<speaker>DC|JE|JK|KL)[/_]CODE\d\d",),
        codes=_codes("a anger, d disgust, f fear, h happiness, n neutral, sa sadness, su surprise"),
    ),
    "tess": Recipe(
        layout="OAF_back_angry.wav",
        # One file of the distribution is called OA_bite_neutral.wav.
        patterns=(r"(?P<speaker>OA|YA)F?_[a-z]+_CODE",),
        codes=_words("angry disgust fear happy neutral sad") | _codes("ps surprise"),
    ),
    "turev": Recipe(
        layout="Angry/1157_kz_acayip.wav",
        patterns=(r"CODE/(?P<speaker>[^/_]+)_[^/]+",),
        codes=_words("angry calm happy sad"),
    ),
    "urdu": Recipe(
        layout="Angry/SM1_F1_A01.wav",
        patterns=(r"CODE/(?P<speaker>S[FM]\d+)_[^/]+",),
        codes=_words("angry happy neutral sad"),
    ),
}
