import pytest

from ecan_core.errors import UsageFault
from target_site.load import choose_normalization


@pytest.mark.parametrize(
    ("source", "wanted", "speakers_known", "chosen"),
    [
        ("speaker", None, True, "speaker"),
        ("speaker", None, False, "corpus"),
        ("corpus", None, True, "corpus"),
        ("corpus", "speaker", True, "speaker"),
        ("speaker", "corpus", True, "corpus"),
        ("none", None, True, "none"),
        ("none", "none", False, "none"),
    ],
)
def test_the_target_normalizes_as_it_wishes_where_the_model_allows_it(source, wanted, speakers_known, chosen):
    assert choose_normalization(source, wanted, speakers_known=speakers_known) == chosen


@pytest.mark.parametrize(("source", "wanted"), [("none", "speaker"), ("none", "corpus"), ("speaker", "none")])
def test_a_normalization_that_the_model_cannot_have_is_refused(source, wanted):
    with pytest.raises(UsageFault, match="--normalize"):
        choose_normalization(source, wanted, speakers_known=True)
