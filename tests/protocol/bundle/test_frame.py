import io
import struct
import zipfile

import pytest
from safetensors.numpy import save

from protocol.bundle import frame
from protocol.errors import MalformedError
from tests.protocol.samples import encoded_model, says_what_to_do, sealed

FRAME = frame.assemble(b"envelope", b"weights")


def head(**changes: int) -> bytes:
    """The frame with some numbers of its head changed."""
    numbers = {"major": frame.MAJOR, "flags": 0, "envelope": 8, "weights": 7} | changes
    return frame.MAGIC + struct.pack("<HHIQ", *numbers.values()) + FRAME[24:]


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"")
    return buffer.getvalue()


def test_a_frame_comes_apart_as_it_was_put_together() -> None:
    parts = frame.split(FRAME)
    assert (parts.envelope, bytes(parts.weights)) == (b"envelope", b"weights")
    assert parts.weights.readonly
    assert head() == FRAME
    assert FRAME[:24].hex(" ") == "45 43 41 4e 0d 0a 1a 0a 02 00 00 00 08 00 00 00 07 00 00 00 00 00 00 00"


@pytest.mark.parametrize("envelope", [1, 16 * 1024])
@pytest.mark.parametrize("packed", [1, frame.MAX_WEIGHTS_BYTES])
def test_the_shortest_and_the_longest_parts_are_taken(envelope: int, packed: int) -> None:
    parts = frame.split(frame.assemble(b"e" * envelope, b"w" * packed))
    assert (len(parts.envelope), len(parts.weights)) == (envelope, packed)


def test_a_byte_more_than_the_longest_weights_is_refused() -> None:
    with pytest.raises(MalformedError) as caught:
        frame.split(frame.assemble(b"e", b"w" * (frame.MAX_WEIGHTS_BYTES + 1)))
    assert caught.value.code == "LENGTH"


def test_no_bundle_is_longer_than_is_said() -> None:
    assert len(sealed()) < frame.MAX_BUNDLE_BYTES < 300_000


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "TRUNCATED", id="empty"),
        pytest.param(FRAME[:7], "TRUNCATED", id="half-the-magic"),
        pytest.param(FRAME[:23], "TRUNCATED", id="half-the-head"),
        pytest.param(FRAME[:24], "TRUNCATED", id="head-only"),
        pytest.param(FRAME[:-1], "TRUNCATED", id="one-byte-short"),
        pytest.param(FRAME + b"\0", "TRAILING", id="one-byte-long"),
        pytest.param(FRAME + FRAME, "TRAILING", id="two-bundles"),
        pytest.param(head(major=0), "VERSION", id="version-0"),
        pytest.param(head(major=1), "VERSION", id="version-1"),
        pytest.param(head(major=4), "VERSION", id="version-4"),
        pytest.param(head(major=65535), "VERSION", id="version-65535"),
        pytest.param(head(flags=1), "FLAGS", id="a-flag"),
        pytest.param(head(flags=0x8000), "FLAGS", id="the-last-flag"),
        pytest.param(head(envelope=0), "LENGTH", id="no-envelope"),
        pytest.param(head(envelope=16 * 1024 + 1), "LENGTH", id="envelope-too-long"),
        pytest.param(head(envelope=2**32 - 1), "LENGTH", id="envelope-4-GiB"),
        pytest.param(head(weights=0), "LENGTH", id="no-weights"),
        pytest.param(head(weights=6), "TRAILING", id="weights-one-short"),
        pytest.param(head(weights=8), "TRUNCATED", id="weights-one-long"),
        pytest.param(head(weights=2**63), "LENGTH", id="weights-8-EiB"),
    ],
)
def test_a_frame_that_does_not_add_up_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        frame.split(data)
    assert caught.value.code == code
    assert says_what_to_do(caught)


@pytest.mark.parametrize(("major", "remedy"), [(1, "ask for a new bundle"), (4, "update ecan-ser")])
def test_who_has_the_older_format_is_told_to_get_a_newer_one(major: int, remedy: str) -> None:
    with pytest.raises(MalformedError, match=remedy):
        frame.split(head(major=major))


@pytest.mark.parametrize(
    ("data", "likely"),
    [
        pytest.param(zip_file(), "zip", id="zip"),
        pytest.param(b"\x80\x04K\x01.", "pickle", id="pickle"),
        pytest.param(save(encoded_model()), "safetensors", id="safetensors"),
        pytest.param(b"\x7fELF\x02\x01\x01\0", "program", id="elf"),
        pytest.param(b"RIFF\0\0\0\0WAVE", "sound", id="wav"),
        pytest.param(b'{"payload":""}', "request", id="request"),
        pytest.param(b"hello world", "something else", id="text"),
        pytest.param(b"ECSL\r\n\x1a\n" + bytes(30), "recipient", id="sealed"),
        pytest.param(FRAME.replace(b"\r\n", b"\n"), "text mode", id="crlf-to-lf"),
        pytest.param(FRAME.replace(b"\n", b"\r\n"), "text mode", id="lf-to-crlf"),
    ],
)
def test_another_kind_of_file_is_refused_by_its_likely_name(data: bytes, likely: str) -> None:
    with pytest.raises(MalformedError, match=likely) as caught:
        frame.split(data)
    assert caught.value.code == "MAGIC"
