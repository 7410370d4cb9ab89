"""What an order lets its process reach."""

from pathlib import Path

import pytest

from ecan_core.data.forgotten import NOBODY
from ecan_core.errors import UsageError
from ecan_core.model.abstention import Abstention
from protocol.errors import ContainmentError
from target_site.containment.orders import PredictOrder, is_private, refuse_among_recordings, task_of
from target_site.model.encoders import encoder_files
from target_site.model.folder import CACHE_FILE
from target_site.results.shards import WHOLE


@pytest.fixture
def site(tmp_path) -> Path:
    """A list of two recordings of three, keys beside them, a model."""
    for name in ("calls", "keys", "model", "rules"):
        (tmp_path / name).mkdir()
    for name in ("calls/a.wav", "calls/b.wav", "calls/c.wav", "keys/signing.key", "rules/ours.yaml"):
        (tmp_path / name).write_bytes(b"some")
    (tmp_path / "list.csv").write_text("file\ncalls/a.wav\ncalls/b.wav\ncalls/gone.wav\ncalls\n")
    return tmp_path


def order(site: Path, audio: str, *, out: str = "out") -> PredictOrder:
    return PredictOrder(
        model=site / "model",
        audio=site / audio,
        encoders=site / "encoders",
        parties=None,
        out=site / out,
        index=site / "out",
        shard=WHOLE,
        day=20_000,
        cache=site / "model" / CACHE_FILE,
        abstention=Abstention(least_confidence=0.5),
        left_out=NOBODY,
    )


@pytest.mark.parametrize(
    ("audio", "readable", "listable"),
    [
        ("calls", ["model", "calls"], []),
        ("list.csv", ["model", "list.csv", "calls/a.wav", "calls/b.wav"], []),
        ("calls/c.wav", ["model", "calls/c.wav"], []),
        ("calls/[ac].wav", ["model", "calls/a.wav", "calls/c.wav"], ["calls"]),
    ],
)
def test_the_very_files_of_a_list_or_a_pattern_are_within_reach(site, audio, readable, listable):
    asked = order(site, audio)
    encoders = {*encoder_files(site / "encoders", ""), site / "out" / "index.sqlite"}
    assert [path for path in asked.readable if path not in encoders] == [site / name for name in readable]
    assert encoders <= set(asked.readable)
    assert list(asked.listable) == [site / name for name in listable]


def test_the_folder_of_the_cache_is_its_own_and_the_model_cannot_be_changed(site):
    assert order(site, "calls").writable == (site / "out", site / "model" / "cache")


def test_keys_and_rules_are_to_be_out_of_reach_whatever_they_are_called(site):
    task = task_of(order(site, "list.csv"), (site / "keys", site / "rules" / "ours.yaml", None))
    assert set(task.private) == {site / "keys" / "signing.key", site / "rules" / "ours.yaml"}
    assert set(task_of(order(site, "list.csv"), ()).private) == {site / "keys" / "signing.key"}


@pytest.mark.parametrize(
    ("audio", "out"), [(".", "out"), ("list.csv", "keys"), ("rules", "out"), ("list.csv", "rules")]
)
def test_a_layout_that_puts_them_within_reach_is_refused(site, audio, out):
    (site / "rules" / "a.wav").touch()
    with pytest.raises(ContainmentError) as caught:
        task_of(order(site, audio, out=out), (site / "keys", site / "rules" / "ours.yaml"))
    assert caught.value.exit_code == 15


@pytest.mark.parametrize(
    ("name", "private"),
    [
        ("signing.key", True),
        ("trust.state", True),
        ("model.ecan.approval", True),
        ("a.wav", False),
        ("audit.key", False),
    ],
)
def test_what_is_private_is_known_by_its_name(name, private):
    assert is_private(name) is private


@pytest.mark.parametrize("cache", ["calls/features.cache", "features.cache", "keys/features.cache"])
def test_a_cache_needs_a_folder_of_its_own(site, cache):
    with pytest.raises(UsageError, match="--cache"):
        refuse_among_recordings(site / "out", site / cache, site / "list.csv")


@pytest.mark.parametrize("cache", ["new/features.cache", "out/features.cache", "used/features.cache"])
def test_a_cache_has_one_where_it_is_alone_or_within_the_outputs(site, cache):
    (site / "used").mkdir()
    for name in ("features.cache", "features.cache-wal"):
        (site / "used" / name).touch()
    (site / "out").mkdir()
    (site / "out" / "segments.csv").touch()
    refuse_among_recordings(site / "out", site / cache, site / "list.csv")
    assert not (site / "new").exists()
