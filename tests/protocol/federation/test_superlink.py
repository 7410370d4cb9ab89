"""The filter before Flower's SuperLink, and what of Flower is built upon."""

import asyncio
import inspect
from base64 import b64encode
from importlib.metadata import version

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.routing import iter_route_contexts
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.grid import HttpGrid
from flwr.superlink.servicer.runtime import runtime_handlers
from flwr.supernode.fleet_http_connection import http_request_response

from protocol.federation import superlink
from protocol.federation.superlink import MAX_CALL_BYTES, NODE_CALLS, nodes_alone

NODE = ec.generate_private_key(ec.SECP384R1()).public_key()
HEADER = FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode()
KEY = b64encode(public_key_to_bytes(NODE))
PULL = "/v1/fleet/pull-messages"


def status(path: str = PULL, method: str = "POST", headers: list[tuple[bytes, bytes]] | None = None, **scope) -> int:
    """Return what the filter answers, or 0 where it lets a call through."""
    told: list[dict] = []

    async def behind(*_: object) -> None:
        told.append({"status": 0})

    async def send(event) -> None:
        told.append(event)

    async def receive():
        raise AssertionError("nothing of a refused call is read")

    whole = {"type": "http", "method": method, "path": path, "headers": known() if headers is None else headers}
    asyncio.run(nodes_alone(behind, [NODE])(whole | scope, receive, send))
    return told[0].get("status", told[0].get("code"))


def known(length: bytes = b"5") -> list[tuple[bytes, bytes]]:
    return [(HEADER, KEY), (b"content-length", length)]


def test_flower_is_of_the_version_that_all_this_was_tested_with():
    assert version("flwr").split(".")[:2] == ["1", "42"]


def test_what_is_built_upon_is_there():
    assert inspect.isfunction(inspect.unwrap(http_request_response))
    assert isinstance(vars(HttpGrid)["_runtime_client"], property)
    assert "self._runtime_client." in inspect.getsource(HttpGrid)
    for handler in superlink._HANDLERS.values():
        assert next(iter(inspect.signature(getattr(runtime_handlers, handler)).parameters)) == "request"
    words = inspect.getsource(HttpGrid)
    assert {name for name in superlink._HANDLERS if f".{name}" in words} == set(superlink._HANDLERS)


def test_of_all_routes_of_flower_eight_are_let_through_and_no_new_one_is():
    routes = list(iter_route_contexts(superlink._superlink_app().routes))
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    through = {(route.path, method) for route in routes for method in methods if not status(route.path, method)}
    assert len({route.path for route in routes}) > 70
    assert through == {(call, "POST") for call in NODE_CALLS}
    assert len(NODE_CALLS) == 8


@pytest.mark.parametrize("path", [PULL + "/", "/" + PULL, PULL.upper(), "/v1/fleet/get-fab", "/v1/fleet/register-node"])
def test_other_paths_are_not_there(path):
    assert status(path) == 404


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], 401),
        ([(b"content-length", b"5")], 401),
        ([(HEADER, KEY[:-4]), (b"content-length", b"5")], 401),
        ([(HEADER, KEY), (HEADER, KEY), (b"content-length", b"5")], 401),
        ([(HEADER, KEY)], 413),
        (known(b"-1"), 413),
        (known(b"1e3"), 413),
        (known(str(MAX_CALL_BYTES + 1).encode()), 413),
        (known(b"9" * 40), 413),
        ([*known(), (b"content-length", b"5")], 413),
        (known(), 0),
        (known(str(MAX_CALL_BYTES).encode()), 0),
    ],
)
def test_a_call_is_read_only_if_its_sender_is_known_and_its_length_is_stated(headers, code):
    assert status(headers=headers) == code


def test_a_websocket_is_closed():
    assert status(type="websocket") == 1008
