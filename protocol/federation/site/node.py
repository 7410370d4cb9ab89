"""Speak to Flower for a site, and do nothing else, in a process.

It takes a question from the coordinator, hands it over its standard output to the process that keeps the site's rules
(`link`), and sends back what that answers. It runs no app: what a coordinator sends as one is not
even fetched. Before it connects it walls itself in: it can read the code that it runs and no other file, and can call
one port and listen to nobody. It tries the walls on the very files that it must not see.
"""

import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from protocol.federation.messages import REFUSED, Answer, question_frame, read_answer
from protocol.federation.quiet import keep_quiet, require_quiet
from protocol.sandbox import confine, probes
from protocol.sandbox import network as network_module

MAX_MEMORY_BYTES = 4 << 30
POLL_S = 0.5
LET_IN = b"let in\n"
"""What is said once the coordinator knows this node."""
_TASK = 1


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """Hold what the starting process says before anything else.

    Attributes:
        parent: its process number; this process ends with it.
        address: ``HOST:PORT`` of the coordinator, as its certificate names it.
        resolved: the IP addresses that the host's name stands for.
        ca: the certificate that it is known by, PEM.
        key: the node's private key, PKCS8 PEM; it is in no file that this process can read.
        home: where Flower would keep files; nothing is written there.
        unseen: files and folders that must be out of reach.
        required: whether a wall that the kernel lacks is a fault.
    """

    parent: int
    address: str
    resolved: Sequence[str]
    ca: str
    key: str
    home: str
    unseen: Sequence[str]
    required: bool


def main() -> NoReturn:
    """Be a site's node until the coordinator or the starting process ends."""
    questions, answers = os.fdopen(1, "wb", buffering=0, closefd=False), sys.stdin.buffer
    sys.stdout = sys.stderr  # whatever is printed goes to the log
    told = Instructions(**json.loads(answers.read(int.from_bytes(answers.read(4), "little"))))
    keep_quiet(Path(told.home))
    confine.die_with_parent(told.parent)
    connect = _connection()  # imports everything while all files are within reach
    walls = _confine(told)
    questions.write(json.dumps({"walls": walls, "tried": len(told.unseen)}).encode() + b"\n")
    _resolve_to(told.address, told.resolved)
    key = serialization.load_pem_private_key(told.key.encode(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    with connect(told.address, False, told.ca.encode(), (key, key.public_key())) as connection:
        questions.write(LET_IN)
        _attend(connection, questions, answers)
    sys.exit(0)


def _connection() -> Callable[..., Any]:
    from flwr.supernode.fleet_http_connection import http_request_response

    from protocol.federation import records  # noqa: F401

    require_quiet()
    return http_request_response


def _confine(told: Instructions) -> bool:
    """Build the walls; returns whether all of them stand."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    network = network_module.Network.call(int(told.address.rpartition(":")[2]))
    walls = confine.confine(readable=confine.code_paths(), network=network, required=told.required)
    if walls.holds:
        probes.probe_denied(map(Path, told.unseen), network=network)
    return walls.holds


def _resolve_to(address: str, resolved: Sequence[str]) -> None:
    """Answer the one question about names that is left.

    This process reads no file of names and asks no server.
    """
    host, original = address.rpartition(":")[0].strip("[]"), socket.getaddrinfo

    def known(name: Any, port: Any, *rest: Any, **words: Any) -> Any:
        text = name.decode() if isinstance(name, bytes) else str(name)
        places = resolved if text == host else [text]
        numeric = words | {"flags": socket.AI_NUMERICHOST}
        return [one for place in places for one in original(place, port, *rest[:3], **numeric)]

    socket.getaddrinfo = known  # type: ignore[assignment]


def _attend(connection: Any, questions: BinaryIO, answers: BinaryIO) -> None:
    """Hand on questions and answers, one at a time.

    It ends when the starting process has no more to say.
    """
    from flwr.supercore.run import RunNotRunningException

    node, receive, send, _, _, pull, push, confirm = connection
    while True:
        try:
            if (come := receive()) is None:
                time.sleep(POLL_S)
                continue
            frame = _frame_of(come, node, pull, confirm)
            answer = _answered(frame, questions, answers) if frame else Answer(error=REFUSED)
            if answer is None:
                return
            _push(come[0], answer, send, push)
        except RunNotRunningException:
            continue
        except ValueError as fault:  # such as a message of a type that Flower does not know
            print(f"a message was not read: {fault}", file=sys.stderr, flush=True)
            time.sleep(POLL_S)


def _frame_of(come: Any, node: int, pull: Any, confirm: Any) -> bytes:
    """Fetch a message as a frame; return no byte of what is no question."""
    from flwr.supercore.run import RunNotRunningException
    from flwr.supercore.task_identity import TaskIdentity

    from protocol.federation.records import question_of

    about, tree = come
    run = about.metadata.run_id
    about.metadata.__dict__["_message_id"] = tree.object_id
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run, node, _TASK
    try:
        return question_frame(question_of(_pulled(tree, run, pull, confirm)))
    except RunNotRunningException:
        raise
    except Exception as fault:  # whatever the reader of foreign bytes stumbled over
        print(f"run {run}: a question was refused: {type(fault).__name__}: {fault}", file=sys.stderr, flush=True)
        return b""


def _pulled(tree: Any, run: int, pull: Any, confirm: Any) -> Any:
    from flwr.app import Message
    from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree

    return pull_and_inflate_object_from_tree(
        tree, lambda name: pull(run, name), lambda name: confirm(run, name), return_type=Message
    )


def _answered(frame: bytes, questions: BinaryIO, answers: BinaryIO) -> Answer | None:
    """Ask the process that keeps the site's rules; None where it has gone."""
    _write_all(questions, frame)
    return read_answer(answers)


def _push(message: Any, answer: Answer, send: Any, push: Any) -> None:
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_tree,
        no_object_id_recompute,
    )
    from flwr.supercore.inflatable.inflatable_utils import push_object_contents_from_iterable

    from protocol.federation.records import reply_of

    reply, run = reply_of(answer, message), message.metadata.run_id
    reply.metadata.__dict__["_message_id"] = reply.object_id
    with no_object_id_recompute():
        objects = get_all_nested_objects(reply)
        names, session = send(reply, get_object_tree(reply), 0.0)
        contents = ((name, objects[name].deflate()) for name in names)
        push_object_contents_from_iterable(contents, lambda name, data: push(run, session, name, data))


def _write_all(stream: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]
