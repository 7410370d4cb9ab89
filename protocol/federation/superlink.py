"""Run Flower's SuperLink with its Fleet API alone on the network.

One run of it is driven from this very process.

Flower serves three APIs on one port: Fleet for the sites' nodes, Control for whoever starts runs, and Runtime for the
processes of a run. It authenticates Fleet alone. Here the SuperLink's app stands behind a filter that knows the calls
that a node makes by name and answers everything else with 404, the run is started and carried on inside this process,
and no app is stored: there is nothing that anybody could ask to be run.
"""

import logging
import threading
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from flwr.app import Message
from flwr.common.constant import (
    HEARTBEAT_DEFAULT_INTERVAL,
    ISOLATION_MODE_PROCESS,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    SUPERLINK_NODE_ID,
    TRANSPORT_TYPE_GRPC_RERE,
    SubStatus,
)
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.grid import HttpGrid
from flwr.superlink.main import create_app
from flwr.superlink.servicer.runtime import runtime_handlers

from protocol.announce import Announce
from protocol.errors import Code, PeerError
from protocol.federation.coordinator_keys import CERTIFICATE_FILE, SERVER_KEY_FILE
from protocol.federation.node_keys import load_public
from protocol.federation.quiet import require_quiet
from protocol.federation.stopping import ending_in_order

NODE_CALLS = frozenset(
    f"/v1/fleet/{call}"
    for call in (
        *("activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages"),
        *("push-object", "pull-object", "confirm-message-received"),
    )
)
"""All that a site's node ever calls; everything else that Flower serves stays inside."""
MAX_CALL_BYTES = 8 << 20
"""The longest call: Flower cuts arrays into objects that are shorter."""
MAX_CALLS_AT_ONCE = 256
_POLL_S, _START_S, _HEARTBEAT_S = 0.2, 30.0, 10.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@contextmanager
def coordinating(
    keys: Path, address: str, nodes: Sequence[Path], home: Path, *, announce: Announce
) -> Iterator["LinkGrid"]:
    """Serve the named nodes for a command, as `superlink`, and say so.

    Args:
        keys: folder that `make_coordinator_keys` made.
        address: ``HOST:PORT`` to listen on.
        nodes: files with the public keys of the nodes that are let in.
        home: folder for Flower's log, which is there.
        announce: tells a person.

    Raises:
        KeyFileError: a node key is none, or cannot be read.
        PeerError: nothing can listen there.
    """
    with superlink(keys, address, [load_public(node) for node in nodes], home / "superlink.log") as grid:
        announce(f"waiting for {len(nodes)} sites at {address}")
        yield grid


@contextmanager
def superlink(keys: Path, address: str, nodes: Sequence[EllipticCurvePublicKey], log: Path) -> Iterator["LinkGrid"]:
    """Serve the nodes of a federation as long as the block lasts.

    Args:
        keys: folder that `make_coordinator_keys` made.
        address: ``HOST:PORT`` to listen on.
        nodes: public keys of the nodes that are let in; there is no other way in.
        log: file for Flower's log.

    Raises:
        PeerError: nothing can listen there.
    """
    require_quiet()
    _log_to(log)
    app = _superlink_app()
    state: LinkState = app.state.linkstate_factory.state()
    for node in nodes:
        state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key_to_bytes(node), HEARTBEAT_DEFAULT_INTERVAL)
    with ending_in_order(), _served(nodes_alone(app, nodes), keys, address), _run(state) as task:
        yield LinkGrid(state, task)


def nodes_alone(app: AsgiApp, nodes: Sequence[EllipticCurvePublicKey]) -> AsgiApp:
    """Let the calls of known nodes through to an ASGI app, and no others.

    Flower checks the signature of a call, but reads the whole of it first; whoever shows no known key is not read.
    """
    known = {b64encode(public_key_to_bytes(node)) for node in nodes}

    async def filtered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        if scope["method"] != "POST" or scope["path"] not in NODE_CALLS:
            return await _refuse(send, 404)
        if _header(scope, FLEET_HTTP_PUBLIC_KEY_HEADER) not in known:
            return await _refuse(send, 401)
        if not 0 <= _length(scope) <= MAX_CALL_BYTES:
            return await _refuse(send, 413)
        return await app(scope, receive, send)

    return filtered


class LinkGrid(HttpGrid):
    """Carry a run's messages to the nodes and back.

    Flower's own handlers do so, in this process.

    Args:
        state: the SuperLink's state.
        task: the run's one task.
    """

    def __init__(self, state: LinkState, task: Any) -> None:
        super().__init__(token="none is asked for inside this process")
        self._calls = _Handlers(state, task)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = task.run_id, SUPERLINK_NODE_ID, task.task_id
        self.set_run(state.get_run_info(run_ids=[task.run_id])[0])

    @property
    def _runtime_client(self) -> Any:
        return self._calls

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and wait for their replies, up to ``timeout`` seconds."""
        waiting = {name for name in self.push_messages(list(messages)) if name}
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        replies: list[Message] = []
        while waiting and time.monotonic() < deadline:
            come = list(self.pull_messages(waiting))
            waiting -= {reply.metadata.reply_to_message_id for reply in come}
            replies += come
            if waiting:
                time.sleep(_POLL_S)
        return replies


class _Handlers:
    """Answer the calls that `HttpGrid` makes over HTTP, without HTTP.

    Args:
        state: the SuperLink's state.
        task: the run's one task.
    """

    def __init__(self, state: LinkState, task: Any) -> None:
        self._state, self._task = state, task

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        handler = getattr(runtime_handlers, _HANDLERS[name])
        return lambda request: handler(request, self._state, self._task)


_HANDLERS = {
    "GetNodes": "get_nodes",
    "PushMessages": "push_messages",
    "PullMessages": "pull_messages",
    "PushObject": "push_object",
    "PullObject": "pull_object",
    "ConfirmMessageReceived": "confirm_message_received",
}


def _superlink_app() -> Any:
    """Build Flower's own SuperLink app.

    The process that it would start for runs is not started.
    """
    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host="",
        port=0,
        insecure=False,
        certificates=None,
        superexec_auth_secret=None,
        authn_plugin=NoOpControlAuthnPlugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=FLWR_IN_MEMORY_DB_NAME,
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )
    return create_app(config, SuperLinkLifespan)


@contextmanager
def _served(app: AsgiApp, keys: Path, address: str) -> Iterator[None]:
    """Serve an app over TLS in a thread."""
    host, _, port = address.rpartition(":")
    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=int(port),
        ssl_certfile=keys / CERTIFICATE_FILE,
        ssl_keyfile=keys / SERVER_KEY_FILE,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CALLS_AT_ONCE,
        ws="none",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=_serve, args=(server,), name="superlink", daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    if not server.started:
        raise PeerError(Code.ADDRESS, f"Nothing can listen at {address}; name an address of this machine.")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(_START_S)


def _serve(server: uvicorn.Server) -> None:
    try:
        server.run()
    except SystemExit:  # how uvicorn says that it cannot listen
        logging.getLogger("flwr").error("the server ended")


@contextmanager
def _run(state: LinkState) -> Iterator[Any]:
    """Begin a run without an app, and keep it alive during the block."""
    run = state.create_run(None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP)
    task_id = state.get_run_info(run_ids=[run])[0].primary_task_id
    assert task_id is not None
    state.claim_task(task_id)
    state.activate_task(task_id)
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(_HEARTBEAT_S):
            state.acknowledge_task_heartbeat(task_id)

    beating = threading.Thread(target=beat, name="heartbeat of the run", daemon=True)
    beating.start()
    try:
        yield state.get_tasks(task_ids=[task_id])[0]
    finally:
        is_over.set()
        beating.join()
        state.finish_task(task_id, SubStatus.COMPLETED, "")


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def _length(scope: Scope) -> int:
    """Return the length that a call states; -1 where it states none."""
    stated = _header(scope, "content-length")
    return int(stated) if stated.isdigit() and len(stated) < 12 else -1


def _header(scope: Scope, name: str) -> bytes:
    """Return the value of a header that is there once; empty otherwise."""
    values = [value for found, value in scope["headers"] if found == name.lower().encode()]
    return bytes(values[0]) if len(values) == 1 else b""


def _log_to(path: Path) -> None:
    """Send what Flower says to a file, and nowhere else."""
    handler = logging.FileHandler(path)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("flwr", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [handler], False
