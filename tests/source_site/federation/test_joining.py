"""What a source site's contained process must not be able to reach."""

from pathlib import Path

import pytest

from ecan_core.errors import UsageError
from protocol.errors import ContainmentError
from source_site.federation.joining import task_of
from source_site.federation.member import speech_of
from source_site.federation.orders import CountOrder, Site


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A list of one recording of two, and a node key and a release key beside it."""
    for name in ("calls", "keys", "node"):
        (tmp_path / name).mkdir()
    for name in ("calls/a.wav", "calls/b.wav", "keys/signing.key", "node/site"):
        (tmp_path / name).write_bytes(b"some")
    (tmp_path / "labels.csv").write_text("file,label,speaker\ncalls/a.wav,anger,p1\n")
    return tmp_path


def order(corpus: Path, *, recipe: str = "csv", path: str = "labels.csv", cache: str = "cache") -> CountOrder:
    speech = speech_of(recipe, corpus / path)
    return CountOrder(site=Site(recipe=recipe, path=corpus / path, cache=corpus / cache / "features", speech=speech))


def test_the_listed_files_are_read_and_the_keys_beside_them_are_not(corpus):
    asked = order(corpus)
    assert asked.readable == (corpus / "labels.csv", corpus / "calls" / "a.wav")
    assert set(task_of(asked, own=[corpus / "node" / "site"]).private) == {
        corpus / "node" / "site",
        corpus / "keys" / "signing.key",
    }


def test_an_unknown_label_is_refused_before_a_coordinator_is_called_unless_it_was_relabeled(corpus):
    (corpus / "labels.csv").write_text("file,label\ncalls/a.wav,gereizt\n")
    with pytest.raises(UsageError, match="--relabel gereizt=anger"):
        speech_of("csv", corpus / "labels.csv")
    assert len(speech_of("csv", corpus / "labels.csv", {"gereizt": "anger"})) == 2


@pytest.mark.parametrize("layout", [{"cache": "keys"}, {"cache": "node"}, {"recipe": "folders", "path": "."}])
def test_a_layout_with_keys_within_reach_is_refused(corpus, layout):
    with pytest.raises(ContainmentError, match="keep keys and rules in a folder of their own"):
        task_of(order(corpus, **layout), own=[corpus / "node" / "site"])
