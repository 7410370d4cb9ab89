"""What of a prediction depends on the other recordings of a run, and what must not."""

from pathlib import Path

import numpy as np
import pytest

from ecan_core.adaptation.site import Preparation
from ecan_core.data.features import FeatureTable
from ecan_core.normalization.normalize import Moments, Normalizer
from ecan_core.utterance import Utterance
from target_site.model.adapted import load_adapted
from target_site.tasks.predict import _scores_by_recording, looks_at_others
from tests.support.models import DIM, save_untrained

MOMENTS = Moments(center=np.zeros(DIM, np.float32), scale=np.ones(DIM, np.float32))


def listed(*speakers: str | None) -> list[Utterance]:
    return [Utterance(id=f"{row}", path=Path(f"{row}.wav"), speaker=name) for row, name in enumerate(speakers)]


def prepared(mode: str, **more) -> Preparation:
    known = {"ann": MOMENTS} if mode == "speaker" else {}
    return Preparation(normalizer=Normalizer(mode=mode, corpus=MOMENTS, speakers=known), **more)


@pytest.mark.parametrize(
    ("mode", "speakers", "expected"),
    [
        ("none", ["bob"], False),
        ("corpus", ["bob"], False),
        ("speaker", ["ann", None], False),
        ("speaker", ["ann", "bob"], True),
        ("voice", ["bob"], False),
    ],
)
def test_people_whom_the_model_does_not_know_make_recordings_depend_on_each_other(mode, speakers, expected):
    assert looks_at_others(prepared(mode), listed(*speakers)) is expected


def test_voices_that_a_speaker_encoder_hears_make_them_depend_on_each_other(tmp_path):
    model = load_adapted(save_untrained(tmp_path / "model"))
    assert looks_at_others(prepared("voice", guessing=model.networks()), listed(None))


def test_scores_are_the_same_to_the_bit_whatever_else_a_run_hears(tmp_path):
    model, draw = load_adapted(save_untrained(tmp_path / "model")), np.random.default_rng(0)
    utterances = [Utterance(id=f"{row}", path=Path(f"{row // 7}.wav"), start_s=float(row)) for row in range(700)]
    features = [draw.normal(size=DIM).astype(np.float32) for _ in utterances]

    def table(rows: range) -> FeatureTable:
        return FeatureTable(
            utterances=tuple(utterances[row] for row in rows),
            features=tuple(features[row] for row in rows),
            durations_s=(1.0,) * len(rows),
            refusals=(),
        )

    whole = _scores_by_recording(model, table(range(700)))
    parts = [_scores_by_recording(model, table(range(first, first + 70))) for first in range(0, 700, 70)]
    assert whole.tobytes() == np.concatenate(parts).tobytes()
