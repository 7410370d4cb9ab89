"""Name the twelve emotions that the whole project knows."""

import unicodedata
from collections.abc import Iterable, Mapping
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

WORDS: Mapping[str, Mapping[str, str]] = {
    "English": {
        "anger": "angry",
        "boredom": "bored",
        "disgust": "disgusted",
        "excitement": "excited",
        "fear": "fearful",
        "frustration": "frustrated",
        "happiness": "happy, joy",
        "sadness": "sad",
        "surprise": "surprised",
    },
    "German": {
        "anger": "Wut, wütend, wuetend, Ärger, Aerger, verärgert, Zorn, zornig",
        "boredom": "Langeweile, gelangweilt",
        "calm": "Ruhe, ruhig, Gelassenheit, gelassen",
        "contempt": "Verachtung, verächtlich",
        "disgust": "Ekel, angeekelt",
        "excitement": "Aufregung, aufgeregt, Begeisterung, begeistert",
        "fear": "Angst, ängstlich, aengstlich, Furcht",
        "frustration": "Frust, frustriert",
        "happiness": "Freude, fröhlich, froehlich, freudig, Glück, glücklich, gluecklich",
        "neutral": "neutral",
        "sadness": "Trauer, traurig, Traurigkeit",
        "surprise": "Überraschung, Ueberraschung, überrascht, ueberrascht",
    },
    "French": {
        "anger": "colère, en colère, fâché, fâchée",
        "boredom": "ennui, ennuyé, ennuyée",
        "calm": "calme",
        "contempt": "mépris, méprisant, méprisante",
        "disgust": "dégoût, dégoûté, dégoûtée",
        "excitement": "excitation, excité, excitée",
        "fear": "peur, apeuré, apeurée, effrayé, effrayée",
        "frustration": "frustration, frustré, frustrée",
        "happiness": "joie, joyeux, joyeuse, bonheur, heureux, heureuse",
        "neutral": "neutre",
        "sadness": "tristesse, triste",
        "surprise": "surprise, surpris, étonnement, étonné, étonnée",
    },
    "Spanish": {
        "anger": "ira, enojo, enojado, enojada, enfado, enfadado, enfadada, rabia",
        "boredom": "aburrimiento, aburrido, aburrida",
        "calm": "calma, tranquilo, tranquila, tranquilidad",
        "contempt": "desprecio, despectivo, despectiva",
        "disgust": "asco, asqueado, asqueada",
        "excitement": "excitación, emocionado, emocionada, entusiasmo",
        "fear": "miedo, temor, asustado, asustada",
        "frustration": "frustración, frustrado, frustrada",
        "happiness": "felicidad, feliz, alegría, alegre",
        "neutral": "neutro, neutra, neutral",
        "sadness": "tristeza, triste",
        "surprise": "sorpresa, sorprendido, sorprendida",
    },
    "Italian": {
        "anger": "rabbia, arrabbiato, arrabbiata, ira, collera",
        "boredom": "noia, annoiato, annoiata",
        "calm": "calma, calmo, calma, tranquillo, tranquilla",
        "contempt": "disprezzo, sprezzante",
        "disgust": "disgusto, disgustato, disgustata",
        "excitement": "eccitazione, eccitato, eccitata, entusiasmo",
        "fear": "paura, impaurito, impaurita, spaventato, spaventata",
        "frustration": "frustrazione, frustrato, frustrata",
        "happiness": "gioia, felicità, felice, allegria, allegro, allegra",
        "neutral": "neutro, neutra, neutrale, neutralità",
        "sadness": "tristezza, triste",
        "surprise": "sorpresa, sorpreso",
    },
    "Polish": {
        "anger": "złość, zły, zła, złe, gniew, wściekłość, wściekły, wściekła",
        "boredom": "nuda, znudzenie, znudzony, znudzona",
        "calm": "spokój, spokojny, spokojna",
        "contempt": "pogarda, pogardliwy, pogardliwa",
        "disgust": "wstręt, obrzydzenie, odraza",
        "excitement": "podekscytowanie, podekscytowany, podekscytowana, ekscytacja",
        "fear": "strach, lęk, przestraszony, przestraszona",
        "frustration": "frustracja, sfrustrowany, sfrustrowana",
        "happiness": "radość, radosny, radosna, szczęście, szczęśliwy, szczęśliwa",
        "neutral": "neutralny, neutralna, neutralne, neutralność",
        "sadness": "smutek, smutny, smutna",
        "surprise": "zaskoczenie, zaskoczony, zaskoczona, zdziwienie, zdziwiony, zdziwiona",
    },
    "Chinese": {
        "anger": "愤怒, 憤怒, 生气, 生氣",
        "boredom": "无聊, 無聊, 厌倦, 厭倦",
        "calm": "平静, 平靜, 冷静, 冷靜",
        "contempt": "轻蔑, 輕蔑, 蔑视, 蔑視, 鄙视, 鄙視",
        "disgust": "厌恶, 厭惡",
        "excitement": "兴奋, 興奮, 激动, 激動",
        "fear": "恐惧, 恐懼, 害怕",
        "frustration": "挫败, 挫敗, 受挫",
        "happiness": "快乐, 快樂, 高兴, 高興, 开心, 開心, 喜悦, 喜悅",
        "neutral": "中性, 中立",
        "sadness": "悲伤, 悲傷, 难过, 難過, 伤心, 傷心",
        "surprise": "惊讶, 驚訝, 吃惊, 吃驚",
    },
}
"""Words of a language for the emotions. One that could mean two emotions is left out, so that a person is asked."""


def folded(word: str) -> str:
    """Return a word without case, accents and space around it."""
    letters = unicodedata.normalize("NFKD", word).casefold().replace("ł", "l")
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())


_SPELLINGS = {name: name for name in EMOTIONS} | {
    folded(word): name for table in WORDS.values() for name, words in table.items() for word in words.split(",")
}


def emotion(word: str, relabel: Mapping[str, str] | None = None) -> str | None:
    """Return the emotion that a corpus means by `word`, or None.

    For "Happy" and "glücklich" it returns "happiness".

    Args:
        word: In any of the languages known here, in any case, with accents or without.
        relabel: What words count as instead, from `parse_relabel`: the very word, or all words of its emotion.
    """
    relabel = relabel or {}
    if folded(word) in relabel:
        return relabel[folded(word)]
    meant = _SPELLINGS.get(folded(word))
    return None if meant is None else relabel.get(meant, meant)


def nearest(word: str) -> str | None:
    """Return the emotion whose word is spelled nearly so, or None."""
    near = get_close_matches(folded(word), _SPELLINGS, n=1, cutoff=0.8)
    return _SPELLINGS[near[0]] if near else None


def parse_relabel(pairs: Iterable[str]) -> dict[str, str]:
    """Return what words count as, from pairs such as `calm=neutral`.

    Returns:
        Folded word -> word of `EMOTIONS`.

    Raises:
        UsageError: A pair is none, its right side is no emotion, or a word is to count as two.
    """
    relabel: dict[str, str] = {}
    for pair in pairs:
        word, _, name = pair.partition("=")
        meant = emotion(name)
        if not folded(word) or not folded(name):
            raise UsageError(f"--relabel {pair!r} is not WORD=EMOTION; write one such as calm=neutral.")
        if meant is None:
            raise UsageError(f"--relabel {pair!r} leads to no emotion: {_unknown_class(name)}")
        if relabel.setdefault(folded(word), meant) != meant:
            raise UsageError(f"--relabel counts {word!r} as two emotions; name each word once.")
    return relabel


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
