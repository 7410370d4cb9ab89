"""What a manifest's codes stand for."""

import pytest

from protocol.bundle.manifest import SCHEMA
from protocol.inspection.meanings import meaning
from tests.protocol.samples import FIELDS


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("n_utt", 10, "1024 to 2047 utterances"),
        ("n_utt", 0, "1 utterance"),
        ("n_spk", 3, "8 to 15 speakers"),
        ("n_spk", 0, "1 speaker, or an unknown number"),
        ("hours", 2, "4 to 8 hours"),
        ("hours", -2, "15 to 30 minutes"),
        ("uar_src", 151, "75.5 %"),
        ("uar_src", 0, "not estimated"),
        ("uar_q_loss", 1, "0.5 % at most"),
        ("labels", 0b1011, "3 classes"),
        ("day", 20_500, "2026-02-16"),
        ("valid_days", 90, "90 days"),
        ("tier", 0, "0, which asks for nothing"),
        ("tier", 1, "1, consented research"),
        ("audit", "overridden", "FAILED, overridden by an officer"),
        ("networks", 0, "no network"),
        ("networks", 5, "32 to 63 networks"),
        ("lira_auc", 121, "60.5 % at most"),
        ("spk_auc", 0, "not measured"),
        ("epsilon", 80, "8"),
        ("delta", 5, "1e-5"),
        ("unit", "none", "nobody"),
        ("unit", "speaker", "each speaker"),
        ("arch", "mlp-stats-v1", "mlp-stats-v1"),
        ("grant", "00112233", "0011 2233"),
    ],
)
def test_a_code_is_told_as_what_it_stands_for(field, value, words):
    assert meaning(field, value) == words


@pytest.mark.parametrize("field", [name for name in SCHEMA if hasattr(FIELDS, name)])
def test_every_field_has_words(field):
    value = getattr(FIELDS, field)
    assert meaning(field, value.hex() if isinstance(value, bytes) else value)
