import pytest

from protocol.bundle.stated_audit import AuditFields
from protocol.inspection.leakage import OWN_WORD, in_words
from tests.protocol.samples import AUDITED

AUDIT = AuditFields(**AUDITED)


def said(stated: AuditFields) -> str:
    return " ".join(in_words(stated))


def test_that_nothing_is_stated_is_said() -> None:
    first, last = in_words(AuditFields())
    assert first == (
        "The source states no audit, at tier 0 (speech that anybody may have): nobody has measured what the model "
        "remembers of its speakers."
    )
    assert last == OWN_WORD


def test_every_figure_and_the_promise_are_said_in_percents() -> None:
    text = said(AUDIT)
    assert text.startswith("The source states that an audit clears tier 2 (clinical and call-centre speech). The audit")
    for figure in ("64 networks", "curve of 55 % at most", "finds 2 % of", "the area is 55 %", "an area of 60 %"):
        assert figure in text
    assert "epsilon 8 at delta 1e-4 at most, for each utterance" in text
    assert "not measured" not in text


@pytest.mark.parametrize("name", ["lira_auc", "lira_tpr1", "file_auc", "spk_auc"])
def test_what_was_not_measured_is_said_to_be_that(name: str) -> None:
    assert said(AuditFields(**AUDITED | {name: 0})).count("not measured") == 1


def test_an_override_stands_out() -> None:
    assert "FAILED tier 2" in said(AuditFields(**AUDITED | {"audit": "overridden"}))
    assert "at tier 0" in said(AuditFields(**AUDITED | {"tier": 0, "audit": "measured"}))
    assert "no differential privacy" in said(AuditFields(**AUDITED | {"epsilon": 0, "delta": 0, "unit": "none"}))
