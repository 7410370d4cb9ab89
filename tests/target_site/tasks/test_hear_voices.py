from dataclasses import replace

import soundfile

from ecan_core.command_line.console import Narrator
from ecan_core.encoders import voices
from ecan_core.utterance import Utterance
from protocol.encoders.registry import CAMPPLUS
from protocol.encoders.store import place_of
from target_site.tasks import recordings
from tests.ecan_core.audio.sounds import syllables
from tests.ecan_core.encoders.small import random_campplus, write_weights


def test_voices_are_heard_and_nothing_is_written(tmp_path, monkeypatch, capfd):
    encoders, speech = tmp_path / "encoders", tmp_path / "speech"
    encoders.mkdir()
    speech.mkdir()
    digest = write_weights(encoders / "part", dict(random_campplus().weights))
    encoder = replace(CAMPPLUS, sha256=digest)
    (encoders / "part").rename(place_of(encoders, encoder))
    monkeypatch.setattr(recordings, "CAMPPLUS", encoder)
    voices.load_campplus.cache_clear()
    soundfile.write(speech / "a.wav", syllables(), 16_000)
    before = sorted(tmp_path.rglob("*"))
    utterances = [Utterance(id=name, path=speech / name) for name in ("a.wav", "gone.wav")]
    assert recordings.hear_voices(utterances, encoders, Narrator(quiet=False)) == ["voice 0", None]
    assert sorted(tmp_path.rglob("*")) == before
    assert capfd.readouterr().err.splitlines()[-1] == "1 voices heard by campplus-zh-en"
