"""Link a site to a federation, and answer what it brings.

A process of its own speaks to Flower.

The process here keeps the site's rules. It has no connection of its own; it answers one question at a time, and what
it says of a question that it does not answer is one fixed word. Why stands in the site's own log.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from protocol.containment.launcher import isolated
from protocol.errors import Code, ContainmentError, PeerError, ProtocolError
from protocol.federation.masking import Roster
from protocol.federation.messages import FAILED, REFUSED, Answer, Question, answer_frame, read_question
from protocol.federation.node_keys import load_node_key, load_public, make_node_key, pem_of
from protocol.federation.quiet import quiet_environment
from protocol.federation.site.answers import Answers
from protocol.federation.site.book import Book
from protocol.federation.site.node import LET_IN, Instructions
from protocol.federation.stopping import ending_in_order
from protocol.files import make_private_folder, read_bounded

MAX_CA_BYTES = 1 << 16
RESTART_S = 3.0
NODE = "protocol.federation.site.node"

Answering = Callable[[Question], Answer]
Subject = Mapping[str, str | int]


@dataclass(frozen=True, kw_only=True)
class Link:
    """Hold how a site reaches its coordinator, and what it keeps.

    Attributes:
        address: ``HOST:PORT`` of the coordinator.
        ca: file with the certificate that it is known by.
        key: file with the node's private key.
        peers: files with the public keys of the other sites' nodes.
        home: folder for the node's log and work.
        patience_s: how long a node that is not let in tries.
        accepted: why somebody accepts that processes are not contained; None if nobody does.
    """

    address: str
    ca: Path
    key: Path
    peers: tuple[Path, ...] = ()
    home: Path
    patience_s: float
    accepted: str | None = None

    @property
    def book(self) -> Path:
        """Return the file of what this node has answered."""
        return self.key.with_suffix(".book")


def prepare(options: Mapping[str, Any], subject: Subject, announce: Callable[[str], None]) -> Link | None:
    """Make a node's key and its book on first use.

    The book is made again where a person says why.

    Args:
        options: those of `ecan_core.command_line.node_options`.
        subject: what the book is about.
        announce: tells a person.

    Returns:
        The link; None where a key was made, which the coordinator and the other sites have to be given first.

    Raises:
        KeyFileError: a passphrase cannot be used.
        FileError: the key or the book cannot be written.
    """
    chosen = dict(options)
    new_book = chosen.pop("new_book")
    link = Link(**chosen)
    if new_book:
        Book.create(link.book, subject, new_book, int(time.time()))
        announce(f"{link.book} begins anew: {new_book}")
    if link.key.exists():
        return link
    if not link.book.exists():
        Book.create(link.book, subject, "first use", int(time.time()))
    public = make_node_key(link.key)
    announce(
        f"give {public} to the coordinator and to every other site, over a channel where nobody can swap it; run this "
        "command again when the node is let in"
    )
    return None


def answers_of(link: Link, subject: Subject) -> Answers:
    """Open the book of this node's answers and pin all sites' node keys.

    Raises:
        UnauthenticError: the book is lost or damaged; a person must say how to go on.
        RefusedError: it is about another corpus or model, or there are too few sites, or one is named twice.
        KeyFileError: a node key is none, or cannot be read.
    """
    key = load_node_key(link.key)
    peers = [load_public(peer) for peer in link.peers]
    roster = Roster(key.public_key(), peers) if peers else None
    return Answers(Book.open(link.book, subject), link.home, roster, key)


def attend(link: Link, answer: Answering, unseen: Sequence[Path], announce: Callable[[str], None]) -> None:
    """Answer the coordinator's questions until ended from outside.

    A coordinator takes a node that died for alive for up to a minute and lets it in no second time so long, so one
    that ends by itself is started again.

    Args:
        link: how to reach the coordinator.
        answer: what this site answers.
        unseen: files and folders that the process which speaks to Flower must not be able to see: speech and keys.
        announce: tells a person.

    Raises:
        PeerError: the node was not let in.
        ContainmentError: the node cannot be walled in, or its walls do not hold.
    """
    make_private_folder(link.home)
    with ending_in_order():
        _keep_attending(link, answer, unseen, announce)


def _keep_attending(link: Link, answer: Answering, unseen: Sequence[Path], announce: Callable[[str], None]) -> None:
    turned_away = time.monotonic()
    while True:
        with _node(link, unseen) as (process, questions, answers):
            _say_walls(questions.readline(), link, announce)
            was_let_in = questions.readline() == LET_IN
            _answer_all(questions, answers, answer, announce)
            code = process.wait()
        if was_let_in:  # so the coordinator ended, or began anew
            turned_away = time.monotonic()
        elif time.monotonic() - turned_away > link.patience_s:
            raise PeerError(
                Code.CONNECTION,
                f"The node ended with code {code} (see {link.home / 'node.log'}); check the address, ca.crt, and that "
                "the coordinator let the node's public key in.",
            )
        time.sleep(RESTART_S)


def _answer_all(questions: BinaryIO, answers: BinaryIO, answer: Answering, announce: Callable[[str], None]) -> None:
    """Answer what a node brings until it ends."""
    with suppress(BrokenPipeError):  # the node ended while this site was at work: the coordinator asks again
        while (question := read_question(questions)) is not None:
            answers.write(answer_frame(answered(question, answer, announce)))
            answers.flush()


def answered(question: Question, answer: Answering, announce: Callable[[str], None]) -> Answer:
    """Answer a question, or say one fixed word.

    The reason goes to the site's own log.
    """
    asked = f"run {question.run}: {question.kind}"
    try:
        told = answer(question)
    except ProtocolError as fault:
        announce(f"{asked}: {REFUSED} [{fault.code.value}]: {fault}")
        return Answer(error=REFUSED)
    except Exception as error:  # whatever it was, its words may name files or speakers
        announce(f"{asked}: {FAILED}: {type(error).__name__}: {error}")
        return Answer(error=FAILED)
    announce(f"{asked}: answered")
    return told


@contextmanager
def _node(link: Link, unseen: Sequence[Path]) -> Iterator[tuple["subprocess.Popen[bytes]", BinaryIO, BinaryIO]]:
    """Start the process that speaks to Flower; it ends with the block."""
    told = Instructions(
        parent=os.getpid(),
        address=link.address,
        resolved=_resolved(link.address),
        ca=read_bounded(link.ca, MAX_CA_BYTES).decode("ascii", errors="replace"),
        key=pem_of(load_node_key(link.key)),
        home=str(link.home.resolve()),
        unseen=[str(path.resolve()) for path in unseen],
        required=link.accepted is None,
    )
    with (link.home / "node.log").open("ab") as log:
        process = subprocess.Popen(
            isolated(NODE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={"PATH": os.environ.get("PATH", ""), **quiet_environment(link.home.resolve())},
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        instructions = json.dumps(asdict(told)).encode()
        process.stdin.write(len(instructions).to_bytes(4, "little") + instructions)
        process.stdin.flush()
        yield process, cast(BinaryIO, process.stdout), cast(BinaryIO, process.stdin)
    finally:
        process.kill()
        process.wait()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()


def _say_walls(line: bytes, link: Link, announce: Callable[[str], None]) -> None:
    """Tell a person how the process that speaks to Flower is walled in.

    Raises:
        ContainmentError: it ended before it said so.
    """
    try:
        told = json.loads(line)
    except ValueError:
        raise ContainmentError(
            Code.CONTAINMENT,
            f"The process that speaks to Flower could not be walled in (see {link.home / 'node.log'}); use a newer "
            'kernel, or accept the risk with --accept-uncontained "REASON".',
        ) from None
    if told["walls"]:
        announce(f"the process that speaks to Flower sees none of {told['tried']} places with speech and keys")
    else:
        announce(f"UNCONTAINED: the process that speaks to Flower can read this user's files ({link.accepted})")


def _resolved(address: str) -> list[str]:
    """Look the coordinator's name up once, here: the node can ask nobody.

    Raises:
        PeerError: the address is none, or its name is not known.
    """
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise PeerError(Code.ADDRESS, f"{address} cannot be looked up; name the coordinator as HOST:PORT.") from error
    return sorted({str(place[4][0]) for place in found})
