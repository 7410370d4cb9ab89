import pytest

from ecan_core.errors import UsageError
from target_site.model.load import ModelCard, choose_normalization


def card(arch, normalization):
    return ModelCard(arch=arch, normalization=normalization, classes=("anger", "fear"))


@pytest.mark.parametrize(
    ("source", "wanted", "speakers_known", "chosen"),
    [
        ("speaker", "voice", True, "voice"),
        ("speaker", None, True, "speaker"),
        ("speaker", None, False, "voice"),
        ("corpus", None, True, "voice"),
        ("corpus", "speaker", True, "speaker"),
        ("speaker", "corpus", True, "corpus"),
        ("none", None, True, "none"),
        ("none", "none", False, "none"),
    ],
)
def test_the_target_normalizes_as_it_wishes_where_the_model_allows_it(source, wanted, speakers_known, chosen):
    assert choose_normalization(card("mlp-stats-v1", source), wanted, speakers_known=speakers_known) == chosen


def test_a_model_that_reads_frames_falls_back_to_the_corpus():
    assert choose_normalization(card("tdnn-frames-v1", "speaker"), None, speakers_known=False) == "corpus"


@pytest.mark.parametrize("source", ["speaker", "corpus"])
def test_voices_are_refused_where_the_model_reads_frames(source):
    with pytest.raises(UsageError, match=r"reads frames.*use --normalize corpus"):
        choose_normalization(card("tdnn-frames-v1", source), "voice", speakers_known=True)


@pytest.mark.parametrize(("source", "wanted"), [("none", "speaker"), ("none", "corpus"), ("speaker", "none")])
def test_a_normalization_that_the_model_cannot_have_is_refused(source, wanted):
    with pytest.raises(UsageError, match="--normalize"):
        choose_normalization(card("mlp-stats-v1", source), wanted, speakers_known=True)
