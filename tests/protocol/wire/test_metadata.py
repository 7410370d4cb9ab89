import pytest

from protocol.errors import Code, PeerError
from protocol.wire.metadata import FROM_THE_LIBRARY, refuse_metadata


@pytest.mark.parametrize("metadata", [None, (), [("user-agent", "grpc-python/1.85.1")]])
def test_what_the_library_writes_passes(metadata):
    refuse_metadata(metadata, allowed=FROM_THE_LIBRARY)


@pytest.mark.parametrize(
    "metadata",
    [
        [("note", "")],
        [("user-agent", "grpc-python/1.85.1"), ("note-bin", b"secret")],
        [("user-agent", "one"), ("user-agent", "two")],
        [("User-Agent", "x")],
    ],
)
def test_anything_else_is_refused(metadata):
    with pytest.raises(PeerError) as caught:
        refuse_metadata(metadata, allowed=FROM_THE_LIBRARY)
    assert caught.value.code is Code.METADATA


def test_an_answer_has_none_at_all():
    with pytest.raises(PeerError):
        refuse_metadata([("user-agent", "grpc-python/1.85.1")])
