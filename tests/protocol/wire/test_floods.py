"""Floods of frames by a site that may connect: an honest call of another site beside them stays quick."""

import contextlib
import statistics
import threading
import time

import pytest

from protocol.identity.identities import Role
from protocol.statements.request import open_request
from protocol.wire.service import OPEN, pins
from tests.support.calls import calling
from tests.support.loopback import needs_loopback
from tests.support.raw_http2 import (
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    PING,
    RESET,
    call_headers,
    frame,
    header,
    raw_connection,
)
from tests.support.simulated_source import SimulatedSource
from tests.support.sites import new_identity, new_site

pytestmark = needs_loopback

SOURCE, HONEST, FLOODING = new_identity(Role.SOURCE), new_site(), new_site()
MOST_FRAMES = 10_000
LONGEST_S = 3.0


def resets(number):
    stream = 2 * number + 1
    opened = frame(HEADERS, END_HEADERS, stream, call_headers(OPEN.encode()))
    return opened + frame(RESET, 0, stream, b"\x00\x00\x00\x08")


def pings(number):
    return frame(PING, 0, 0, number.to_bytes(8, "big"))


def continuations(number):
    if number == 0:
        return frame(HEADERS, 0, 1, call_headers(OPEN.encode()))
    return frame(CONTINUATION, 0, 1, header(b"note", b"x" * 100) * 50)


@pytest.mark.parametrize("flood", [resets, pings, continuations])
def test_an_honest_call_beside_a_flood_of_frames_is_answered_within_a_second(tmp_path, flood):
    source = SimulatedSource(SOURCE, HONEST.request, b"bundle")
    requests = [open_request(site.request) for site in (HONEST, FLOODING)]
    certificates = b"".join(request.certificate for request in requests)
    sent = []

    def pour(connection):
        end = time.monotonic() + LONGEST_S
        with contextlib.suppress(OSError):  # the source may end the connection
            while len(sent) < MOST_FRAMES and time.monotonic() < end:
                connection.sendall(flood(len(sent)))
                sent.append(1)

    with (
        source.listening(pins(requests), certificates) as address,
        raw_connection(address, FLOODING.identity, tmp_path) as connection,
    ):
        connection.settimeout(LONGEST_S)
        pouring = threading.Thread(target=pour, args=(connection,))
        pouring.start()
        took_s = []
        for _ in range(100):
            began = time.monotonic()
            with calling(address, HONEST, SOURCE) as calls:
                assert calls.open().size == 6
            took_s.append(time.monotonic() - began)
            if not pouring.is_alive():
                break
        pouring.join()
    assert statistics.median(took_s) < 1
    assert len(sent) > 2
