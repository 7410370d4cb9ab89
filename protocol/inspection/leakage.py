"""Put what a source states about leakage into plain words.

The words are for whoever decides about a model.
"""

from collections.abc import Iterator

from protocol.bundle.stated_audit import MEASURED, NONE, PASSED, UNPROTECTED, AuditFields

TIERS = {0: "speech that anybody may have", 1: "consented research", 2: "clinical and call-centre speech"}
"""Whom each tier is for."""
OWN_WORD = "All of this is the source's own word: it is signed, and nobody here can measure it again."

_FIGURES = {
    "lira_auc": (
        "An attacker who has trained networks alike (LiRA) tells members of the training from others with an area "
        "under the curve of {} at most, where 50 % is chance.",
        "How well members of the training can be told from others was not measured.",
    ),
    "lira_tpr1": (
        "That attacker finds {} of the members at most, with 1 % false alarms.",
        "How many members can be found with 1 % false alarms was not measured.",
    ),
    "file_auc": (
        "On this very model the area is {} at most.",
        "On this very model it was not measured.",
    ),
    "spk_auc": (
        "Whether a person was in the training is told with an area of {} at most.",
        "Whether a person was in the training was not measured.",
    ),
}
"""By field: what is said of a figure, and of none."""


def in_words(stated: AuditFields) -> tuple[str, ...]:
    """Return what is stated, sentence by sentence.

    The figures are the upper ends of 95 % intervals.
    """
    return (*_sentences(stated), OWN_WORD)


def _sentences(stated: AuditFields) -> Iterator[str]:
    tier = f"tier {stated.tier} ({TIERS[stated.tier]})"
    if stated.audit == NONE:
        yield f"The source states no audit, at {tier}: nobody has measured what the model remembers of its speakers."
        return
    if stated.audit == MEASURED:
        yield f"The source states what an audit has found, at {tier}, where nothing is asked of it."
    elif stated.audit == PASSED:
        yield f"The source states that an audit clears {tier}."
    else:
        yield f"The source states that an audit FAILED {tier} and that a second officer has overridden it."
    yield f"The audit trained {2**stated.networks} networks or more."
    for name, (found, lost) in _FIGURES.items():
        most = getattr(stated, name)
        yield found.format(f"{most / 2:g} %") if most else lost
    if stated.unit == UNPROTECTED:
        yield "The training promises no differential privacy."
    else:
        promise = f"epsilon {stated.epsilon / 10:g} at delta 1e-{stated.delta}"
        yield f"The training promises differential privacy: {promise} at most, for each {stated.unit}."
