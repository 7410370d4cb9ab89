"""A model for calls: who may be heard is remembered, one utterance is enough to be predicted."""

import json

import numpy as np
import pytest
import soundfile

from tests.ecan_core.audio.sounds import RATE, syllables
from tests.support import cli
from tests.support.days import day_in

pytestmark = pytest.mark.journey

RULES = "purpose: service\nsubjects: caller\nchannels: [agent, caller]\napproval: not-needed\n"


def call(path, *starts: tuple[float, float]) -> None:
    """A call of 40 s in which agent and caller speak for 3 s from these times on."""
    channels = 1e-4 * np.random.default_rng(0).normal(size=(40 * RATE, 2))
    for turn, (agent_s, caller_s) in enumerate(starts):
        for channel, start_s in enumerate((agent_s, caller_s)):
            first = int(start_s * RATE)
            channels[first : first + 3 * RATE, channel] += syllables(100 + 3 * turn + channel, seconds=3.0)
    soundfile.write(path, channels, RATE, subtype="PCM_16")


def adapt(crossing, audio, out, *words):
    return cli.target(*("adapt", "--bundle", crossing.bundle, "--audio", audio, "--out", out), *words)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_utterances_are_predicted_without_an_adaptation(crossing, tmp_path, count):
    (tmp_path / "calls").mkdir()
    for number in range(count):
        soundfile.write(tmp_path / "calls" / f"{number}.wav", syllables(90 + 7 * number, seconds=3.0), RATE)
    refused = adapt(crossing, tmp_path / "calls", tmp_path / "out")
    assert refused.code == 13
    assert "--method none" in refused.refusal()
    result = adapt(crossing, tmp_path / "calls", tmp_path / "out", "--method", "none")
    assert result.code == 0, result.stderr
    facts = json.loads((tmp_path / "out" / "adapted.json").read_text())
    assert facts["temperature"] > 1
    assert len((tmp_path / "out" / "segments.jsonl").read_text().splitlines()) == count


def test_the_agent_is_never_heard_again_once_the_rules_were_named(crossing, tmp_path):
    (tmp_path / "calls").mkdir()
    for number in range(3):
        call(tmp_path / "calls" / f"{number}.wav", (2, 8), (14, 20), (26, 32))
    (tmp_path / "site.yaml").write_text(RULES)
    unnamed = adapt(crossing, tmp_path / "calls", tmp_path / "out", "--method", "none")
    assert unnamed.code == 13
    assert "nothing says who speaks on which" in unnamed.refusal()
    named = adapt(
        crossing, tmp_path / "calls", tmp_path / "out", "--method", "none", "--config", tmp_path / "site.yaml"
    )
    assert named.code == 0, named.stderr
    predict = ("predict", "--model", tmp_path / "out", "--audio", tmp_path / "calls", "--out", tmp_path / "predicted")
    result = cli.target(*predict)
    assert result.code == 0, result.stderr
    rows = [json.loads(line) for line in (day_in(tmp_path / "predicted") / "segments.jsonl").read_text().splitlines()]
    assert {row["role"] for row in rows} == {"caller"}
    (tmp_path / "site.yaml").write_text(RULES.replace("[agent, caller]", "[caller, agent]"))
    contradicted = cli.target(*predict, "--config", tmp_path / "site.yaml")
    assert contradicted.code == 11
    assert "channels = agent, caller, and the rules say caller, agent" in contradicted.refusal()


def test_a_reason_lets_every_channel_be_heard_and_is_remembered(crossing, tmp_path):
    call(tmp_path / "talk.wav", (2, 8), (14, 20), (26, 32))
    out = tmp_path / "out"
    result = adapt(crossing, tmp_path / "talk.wav", out, "--method", "none", "--all-channels", "two volunteers")
    assert result.code == 0, result.stderr
    assert json.loads((out / "adapted.json").read_text())["provenance"]["asked"]["parties"]["mixed_because"]
    again = cli.target("predict", "--model", out, "--audio", tmp_path / "talk.wav", "--out", tmp_path / "predicted")
    assert again.code == 0, again.stderr
    assert "predicted 6 utterances" in again.stderr
