"""A coordinator that obeys nobody: Flower's stock SuperLink without a filter, and sites that are real commands.

The coordinator is a process of its own that sends whatever a test names, in Flower's own records and by Flower's own
handlers; none of the project's code makes its messages. The sites are the commands `ecan-source federate join` and
`ecan-target together join` over TLS on loopback.
"""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.engine import descendants

PATIENCE_S = 90.0
CONFIG, ARRAYS, METRICS = "config", "arrays", "metrics"
"""Names of records, and the kinds of them."""


@dataclass(frozen=True)
class Raw:
    """Hold an array as a hostile sender writes it: bytes, and what it says that they are."""

    data: bytes
    dtype: str = "float32"
    shape: tuple[int, ...] = (1,)
    stype: str = "numpy.ndarray"


@dataclass(frozen=True)
class Told:
    """Hold what came back: an error's code and word, or the values of all records."""

    code: int = 0
    word: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    records: tuple[str, ...] = ()


Records = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Name of each record, with its kind and its content."""


def sent(fields: Mapping[str, Any] | None = None, arrays: Mapping[str, Any] | None = None) -> Records:
    """Return the records of an ordinary question."""
    records: dict[str, tuple[str, Mapping[str, Any]]] = {}
    if fields:
        records[CONFIG] = (CONFIG, fields)
    if arrays:
        records[ARRAYS] = (ARRAYS, arrays)
    return records


class Coordinator:
    """Speak to the hostile process.

    Args:
        connection: the pipe to it.
        port: where its SuperLink listens.
        ca: the certificate that it is known by.
    """

    def __init__(self, connection: Connection, port: int, ca: Path) -> None:
        self._connection, self.port, self.ca = connection, port, ca

    def call(self, name: str, *arguments: Any) -> Any:
        """Have the hostile process do something, and return what came of it."""
        self._connection.send((name, arguments))
        fault, result = self._connection.recv()
        assert not fault, fault
        return result

    def begin(self, fab: bytes = b"") -> int:
        """Begin a run, with an app in it where one is given."""
        return int(self.call("begin", fab))

    def ask(self, run: int, node: int, kind: str, records: Records, *, patience_s: float = PATIENCE_S) -> Told | None:
        """Ask a node something; None where no answer came."""
        told: Told | None = self.call("ask", run, node, kind, records, patience_s)
        return told

    def ask_all(
        self, questions: Sequence[tuple[int, int, str, Records]], *, patience_s: float = PATIENCE_S
    ) -> list[Told | None]:
        """Send many questions at once; nodes answer them one after another."""
        answers: list[Told | None] = self.call("ask_all", questions, patience_s)
        return answers


@contextmanager
def hostile_coordinator(folder: Path, keys: Path, nodes: list[bytes]) -> Iterator[Coordinator]:
    """Run the hostile coordinator; ``nodes`` are the public keys, in DER, that its SuperLink lets in, from number 0."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(
        target=_coordinate, args=(there, port, keys, folder, nodes), daemon=True
    )
    process.start()
    there.close()
    try:
        assert here.recv() == "there"
        yield Coordinator(here, port, keys / "ca.crt")
    finally:
        process.terminate()
        process.join()
        here.close()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _coordinate(connection: Connection, port: int, keys: Path, folder: Path, nodes: list[bytes]) -> None:
    os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_HOME": str(folder)}
    hostile = _Hostile(port, keys, nodes)
    connection.send("there")
    with suppress(EOFError):
        while True:
            name, arguments = connection.recv()
            try:
                result = ("", getattr(hostile, name)(*arguments))
            except Exception as error:  # the test shows it
                result = (f"{type(error).__name__}: {error}", None)
            connection.send(result)


class _Hostile:
    """Be the coordinator, with Flower's own parts."""

    def __init__(self, port: int, keys: Path, nodes: list[bytes]) -> None:
        import uvicorn
        from flwr.app import metadata
        from flwr.supercore.inflatable import inflatable_utils
        from flwr.superlink.main import create_app

        metadata.validate_message_type = lambda _: (
            True
        )  # Flower's own sender would stop at a type that it does not know
        assert inflatable_utils.pull_objects.__kwdefaults__
        inflatable_utils.pull_objects.__kwdefaults__["initial_backoff"] = 0.02  # of waiting for the parts of an answer
        app = create_app()
        self._state = app.state.linkstate_factory.state()
        self._nodes = [self._state.create_node("hostile", "hostile", node, 30.0) for node in nodes]
        self._tasks: dict[int, Any] = {}
        self._calls: list[str] = []
        self._is_open = threading.Event()
        self._is_open.set()
        self._damage = ""
        config = uvicorn.Config(
            self._watched(app),
            host="127.0.0.1",
            port=port,
            ssl_certfile=keys / "server.crt",
            ssl_keyfile=keys / "server.key",
            log_level="critical",
        )
        server = uvicorn.Server(config)
        threading.Thread(target=server.run, daemon=True).start()
        while not server.started:
            time.sleep(0.02)

    def _watched(self, app: Any) -> Any:
        """Note every call, and keep answers from coming in while they are held back."""
        import asyncio

        async def watching(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self._calls.append(scope["path"])
            while scope.get("path") == "/v1/fleet/push-messages" and not self._is_open.is_set():
                await asyncio.sleep(0.05)
            await app(scope, receive, send)

        return watching

    def calls(self) -> list[str]:
        return list(self._calls)

    def hold_back(self, is_held: bool) -> None:
        self._is_open.clear() if is_held else self._is_open.set()

    def node_ids(self) -> list[int]:
        return self._nodes

    def is_there(self, node: int) -> bool:
        return node in self._state.get_nodes(self.begin(b""))

    def forget(self, node: int) -> None:
        self._state.deactivate_node(node)

    def begin(self, fab: bytes) -> int:
        from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
        from flwr.supercore.fab import Fab

        about: tuple[str | None, ...] = (None, None, None)
        if fab:
            about = ("stranger/evil", "1.0.0", self._state.store_fab(Fab("", fab, {})))
        run = self._state.create_run(*about, {}, NOOP_FEDERATION_ID, None, "hostile", TaskType.SERVER_APP)
        task = self._state.get_run_info(run_ids=[run])[0].primary_task_id
        self._state.claim_task(task)
        self._state.activate_task(task)
        self._tasks[run] = self._state.get_tasks(task_ids=[task])[0]
        threading.Thread(target=self._beat, args=(task,), daemon=True).start()
        return int(run)

    def _beat(self, task: int) -> None:
        while True:
            time.sleep(10)
            self._state.acknowledge_task_heartbeat(task)

    def damage(self, how: str) -> None:
        """Damage the objects of all messages that are pushed from now on; nothing ends it."""
        self._damage = how

    def ask(self, run: int, node: int, kind: str, records: Records, patience_s: float) -> Told | None:
        (told,) = self.ask_all([(run, node, kind, records)], patience_s)
        return told

    def ask_all(self, questions: Sequence[tuple[int, int, str, Records]], patience_s: float) -> list[Told | None]:
        waiting: dict[int, tuple[Any, str]] = {}
        for number, (run, node, kind, records) in enumerate(questions):
            grid = self._grid(run)
            (name,) = grid.push_messages([self._message(run, node, kind, records)])
            waiting[number] = grid, name
        if self._damage:
            for entry in self._state.object_store.store.values():
                entry.content = _damaged(entry.content, self._damage)
        told: list[Told | None] = [None] * len(questions)
        deadline = time.monotonic() + patience_s
        while waiting and time.monotonic() < deadline:
            for number, (grid, name) in list(waiting.items()):
                if come := list(grid.pull_messages([name])):
                    told[number] = _told(come[0])
                    del waiting[number]
            time.sleep(0.02)
        return told

    def _grid(self, run: int) -> Any:
        from flwr.superlink.grid import HttpGrid

        calls = _calls_of(self._state, self._tasks[run])

        class Grid(HttpGrid):
            _runtime_client = property(lambda _: calls)

        grid = Grid(token="none")
        grid.set_run(self._state.get_run_info(run_ids=[run])[0])
        return grid

    def _message(self, run: int, node: int, kind: str, records: Records) -> Any:
        from flwr.app import Message, RecordDict
        from flwr.common.constant import SUPERLINK_NODE_ID
        from flwr.supercore.task_identity import TaskIdentity

        TaskIdentity.run_id, TaskIdentity.node_id = run, SUPERLINK_NODE_ID
        TaskIdentity.task_id = self._tasks[run].task_id
        content = RecordDict({name: _record(*record) for name, record in records.items()})
        return Message(content, node, kind)


def _damaged(content: bytes, how: str) -> bytes:
    return {"cut": content[:-7], "empty": b"\0", "noise": b"\xff" * len(content), "other": b"Pickle 0 3\0abc"}[how]


def _calls_of(state: Any, task: Any) -> Any:
    """Answer Flower's grid by Flower's handlers."""
    from flwr.superlink.servicer.runtime import runtime_handlers

    class Calls:
        def __getattr__(self, name: str) -> Any:
            words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
            handler = getattr(runtime_handlers, words.removeprefix("_"))
            return lambda request: handler(request, state, task)

    return Calls()


def _record(kind: str, values: Mapping[str, Any]) -> Any:
    from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord

    if kind == CONFIG:
        return ConfigRecord(dict(values))
    if kind == METRICS:
        return MetricRecord(dict(values))
    arrays = {
        name: Array(value.dtype, value.shape, value.stype, value.data) if isinstance(value, Raw) else Array(value)
        for name, value in values.items()
    }
    return ArrayRecord(arrays)


def _told(reply: Any) -> Told:
    if reply.has_error():
        return Told(code=reply.error.code, word=reply.error.reason)
    fields = {name: value for record in reply.content.config_records.values() for name, value in record.items()}
    arrays = {
        name: np.array(array.numpy())
        for record in reply.content.array_records.values()
        for name, array in record.items()
    }
    return Told(fields=fields, arrays=arrays, records=tuple(reply.content))


@dataclass
class Place:
    """Hold a site's command, its files and how its coordinator calls its node.

    Attributes:
        command: words of the command line.
        log: what the command says.
        home: folder of its work.
        book: what it has answered.
        coordinator: the hostile one.
        number: of its node, in the coordinator's list.
        environment: variables that it needs besides.
    """

    command: list[str]
    log: Path
    home: Path
    book: Path
    coordinator: Coordinator
    number: int
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, *more: object) -> None:
        """Start the command; `wait_until_there` waits for its node."""
        quiet = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *map(str, more)], stdout=log, stderr=log, env={**quiet, **self.environment}
            )

    @property
    def node(self) -> int:
        """Return Flower's number of the node."""
        return int(self.coordinator.call("node_ids")[self.number])

    def wait_until_there(self) -> None:
        """Wait until the coordinator can reach the node."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.coordinator.call("is_there", self.node):
            assert self.process is not None
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill the command and all that it started, as a power cut would."""
        assert self.process is not None
        for child in descendants([self.process]):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.coordinator.call("forget", self.node)

    def pids(self) -> set[int]:
        """Return the command's process and all below it."""
        assert self.process is not None
        return {self.process.pid} | descendants([self.process])

    def said(self) -> str:
        """Return the log of the site, that of the process which speaks to Flower included."""
        node_log = self.home / "node.log"
        own = self.log.read_text(errors="replace")
        return own + (node_log.read_text(errors="replace") if node_log.exists() else "")

    def answers(self) -> int:
        """Count the answers that stand in the book."""
        return self.book.read_text().count('"kind":"answer"')

    def ask(self, run: int, kind: str, records: Records) -> Told:
        """Ask the site something that it answers, by an error or otherwise."""
        told = self.coordinator.ask(run, self.node, kind, records)
        assert told is not None, self.said()[-3000:]
        return told


def node_process(place: Place) -> int:
    """Return the number of the process that speaks to Flower."""
    for pid in place.pids():
        if b"protocol.federation.site.node" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("no process of the site speaks to Flower")


def listening(pids: set[int]) -> list[str]:
    """Return the sockets of some processes that wait for connections."""
    inodes = set()
    for pid in pids:
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    inodes.add(str(descriptor.readlink()).removeprefix("socket:[").rstrip("]"))
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in inodes and (words[3] == "0A" or table.startswith("udp")):
                found.append(line)
    return found


INFECTED = "INFECTED "


def join_infected() -> None:
    """Be `ecan-source`, whose process that speaks to Flower was taken over after its walls stand."""
    from protocol.federation.site import link
    from source_site.cli import main

    start = (
        "import sys; root = sys.argv.pop(); root in sys.path or sys.path.insert(0, root); "
        "from tests.hostile.federations import be_infected; be_infected()"
    )
    root = str(Path(__file__).resolve().parents[2])
    link.isolated = lambda _: [sys.executable, "-I", "-c", start, root]  # type: ignore[assignment]
    main()


def be_infected() -> None:
    """Be the node; try all doors as its first deed behind the walls, and say in its log which opened."""
    from protocol.federation.site import node

    confine = node._confine

    def and_then_try(told: node.Instructions) -> bool:
        walls = confine(told)
        print(INFECTED + json.dumps(_tried(told)), file=sys.stderr, flush=True)
        return walls

    node._confine = and_then_try
    node.main()


def _tried(told: Any) -> dict[str, str]:
    """Try what an intruder would; returns what each door answered, empty where it opened."""
    parent = told.parent
    doors = {f"read {place}": lambda place=place: _any_file(Path(place)) for place in told.unseen}
    doors |= {
        f"read /proc/{parent}/{name}": lambda name=name: Path(f"/proc/{parent}/{name}").read_bytes()
        for name in ("environ", "mem", "cmdline", "maps")
    }
    doors |= {
        "list /": lambda: list(Path("/").iterdir()),
        "read /etc/passwd": lambda: Path("/etc/passwd").read_bytes(),
        "write home": lambda: (Path(told.home) / "apps").mkdir(),
        "write tmp": lambda: Path("/tmp/loot").write_bytes(b"x"),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "call another port": lambda: socket.create_connection(("127.0.0.1", 9), timeout=2),
        "send datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
        "local socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "run a program": lambda: subprocess.run(["/bin/true"], check=True),
        "kill the parent": lambda: os.kill(parent, signal.SIGSTOP),
    }
    return {name: _answer_of(door) for name, door in doors.items()}


def _answer_of(door: Any) -> str:
    try:
        door()
    except Exception as error:
        return type(error).__name__
    return ""


def _any_file(place: Path) -> bytes:
    return place.read_bytes() if not place.is_dir() else b"".join(one.name.encode() for one in place.iterdir())


if __name__ == "__main__":
    join_infected()
