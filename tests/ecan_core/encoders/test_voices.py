import numpy as np
import pytest

import ecan_core.encoders.voices as voices_module
from ecan_core.encoders import campplus
from ecan_core.encoders.voices import SAME_VOICE, embed_voices, group_voices
from tests.ecan_core.audio.sounds import noise
from tests.ecan_core.encoders.small import random_campplus

VOICES, EACH = 7, 30


def points(seed=0, voices=VOICES, each=EACH, spread=0.6):
    """Points around directions that are far apart, and whose they are."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(campplus.DIM, voices)))[0].T
    around = directions[:, None] + spread * rng.normal(size=(voices, each, campplus.DIM)) / campplus.DIM**0.5
    flat = around.reshape(-1, campplus.DIM)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True), np.repeat(np.arange(voices), each)


def test_there_are_as_many_voices_as_are_heard():
    embeddings, truth = points()
    heard = group_voices(embeddings, seed=0)
    assert len(set(heard)) == VOICES
    assert len(set(zip(heard, truth.tolist(), strict=True))) == VOICES


def test_the_cut_is_where_two_groups_are_one_voice():
    for angle, expected in ((SAME_VOICE - 0.01, 1), (SAME_VOICE + 0.01, 2)):
        cosine = 1 - angle
        pair = np.array([[1, 0], [cosine, (1 - cosine**2) ** 0.5]])
        assert len(set(group_voices(pair, seed=0))) == expected


def test_a_large_corpus_is_grouped_by_a_sample(monkeypatch):
    embeddings, truth = points()
    whole = group_voices(embeddings, seed=0)
    monkeypatch.setattr(voices_module, "MOST_GROUPED", 100)
    sampled = group_voices(embeddings, seed=1)
    assert len(set(sampled)) == len(set(whole))
    assert len(set(zip(sampled, truth.tolist(), strict=True))) == VOICES


@pytest.mark.parametrize("count", [0, 1])
def test_next_to_nothing_has_voices_too(count):
    assert group_voices(points()[0][:count], seed=0) == ("voice 0",) * count


def test_every_sound_has_an_embedding():
    assert embed_voices(random_campplus(), [noise(0.5), noise(0.5, seed=1)]).shape == (2, campplus.DIM)
    assert embed_voices(random_campplus(), []).shape == (0, campplus.DIM)
