"""What a process with a network may still do behind its walls, and what it may not."""

import functools
import ssl
import threading
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from protocol.federation.coordinator_keys import make_coordinator_keys
from protocol.sandbox import network as network_module
from protocol.sandbox.landlock import landlock_abi
from tests.protocol.sandbox.behind_walls import child, result

pytestmark = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


def test_a_listener_may_listen_and_answer_but_neither_call_out_nor_use_other_sockets(place):
    code = """
def listen():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pass
def call_out():
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
elsewhere = socket.create_server(("127.0.0.1", 0))
os.dup2(elsewhere.fileno(), 0)  # stays open
port = elsewhere.getsockname()[1]
def call_out_by_sending():
    with socket.socket() as caller:
        caller.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))
attempts = [listen, call_out, call_out_by_sending, *(lambda kind=kind: made(*kind) for kind in (
    (socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM),
    (socket.AF_NETLINK, socket.SOCK_RAW)))]
before = [outcome(attempt) for attempt in attempts]
confine(network=Network.SERVE, **folders)
probe_denied([outside], network=Network.SERVE)
print(json.dumps([before, [outcome(attempt) for attempt in attempts]]))
"""
    before, after = result(code, place)
    assert before == ["ok"] * 7
    assert after == ["ok", "EPERM", "EPERM", "ok", "EPERM", "EPERM", "EPERM"]


CALLER = """
def call(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
def call_by_sending(port):
    with socket.socket() as caller:
        caller.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))
def call_by_opening_fast(port):
    with socket.socket() as caller:
        caller.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
        caller.connect(("127.0.0.1", port))
def call_by_mptcp(port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as caller:
        caller.connect(("127.0.0.1", port))
def listen():
    with socket.create_server(("127.0.0.1", 0)):
        pass
def listen_anywhere():
    with socket.socket() as listener:
        listener.listen()
"""


def test_a_caller_reaches_its_one_port_and_neither_listens_nor_uses_other_sockets(place, ports):
    code = f"""{CALLER}
attempts = {{
    "call": lambda: call({ports[0]}),
    "call in a thread": in_a_thread(lambda: call({ports[0]})),
    "read inside": lambda: read(readable / "file"),
    "call elsewhere": lambda: call({ports[1]}),
    "call elsewhere in a child": in_a_child(lambda: call({ports[1]})),
    "call elsewhere by opening fast": lambda: call_by_opening_fast({ports[1]}),
    "call by sending": lambda: call_by_sending({ports[0]}),
    "listen": listen,
    "listen anywhere": listen_anywhere,
    "bind": lambda: socket.socket().bind(("127.0.0.1", 0)),
    "UDP": lambda: made(socket.AF_INET, socket.SOCK_DGRAM),
    "UNIX": lambda: made(socket.AF_UNIX, socket.SOCK_STREAM),
    "pair": lambda: [one.close() for one in socket.socketpair()],
    "netlink": lambda: made(socket.AF_NETLINK, socket.SOCK_RAW),
    "read outside": lambda: read(outside / "secret"),
    "run": lambda: subprocess.run(["/bin/true"]),
}}
before = [outcome(attempt) for attempt in attempts.values()]
confine(network=Network.call({ports[0]}), **folders)
probe_denied([outside], network=Network.call({ports[0]}))
print(json.dumps([before, {{name: outcome(attempt) for name, attempt in attempts.items()}}]))
"""
    before, after = result(code, place)
    assert set(before) == {"ok"}
    elsewhere = "EACCES" if landlock_abi() >= network_module.PORTS_SINCE else "ok"
    assert [after.pop(name) for name in ("call", "call in a thread", "read inside")] == ["ok"] * 3
    assert {after.pop(name) for name in [*after] if name.startswith("call elsewhere")} == {elsewhere}
    assert after.pop("read outside") == "EACCES"
    assert set(after.values()) == {"EPERM"}


def test_a_stream_that_is_not_tcp_is_refused_to_whoever_has_a_network(place, ports):
    code = f"""{CALLER}
before = outcome(lambda: call_by_mptcp({ports[1]}))
confine(network=Network.call({ports[0]}), **folders)
print(json.dumps([before, outcome(lambda: call_by_mptcp({ports[1]}))]))
"""
    before, after = result(code, place)
    if before != "ok":
        pytest.skip("this kernel has no MPTCP")
    assert after == "EPERM"


def test_a_kernel_that_knows_no_ports_lets_a_caller_call_any_but_nothing_else(place, ports):
    code = f"""{CALLER}
sandbox.landlock_abi = probes.landlock_abi = lambda: 3
confine(network=Network.call({ports[0]}), **folders)
probe_denied([outside], network=Network.call({ports[0]}))
attempts = [lambda: call({ports[0]}), lambda: call({ports[1]}), listen, lambda: read(outside / "secret")]
print(json.dumps([outcome(attempt) for attempt in attempts]))
"""
    assert result(code, place) == ["ok", "ok", "EPERM", "EACCES"]


def test_a_caller_that_is_not_held_to_its_port_is_found(place, ports):
    if landlock_abi() < network_module.PORTS_SINCE:
        pytest.skip("this kernel knows no ports")
    code = f"""
landlock._BIND_TCP = landlock._CONNECT_TCP = 0
landlock._allow_calls = lambda *_: None
confine(network=Network.call({ports[0]}), **folders)
try:
    probe_denied([outside], network=Network.call({ports[0]}))
except sandbox.ContainmentError as fault:
    print(json.dumps(str(fault)))
"""
    assert "could call another port" in str(result(code, place))


def test_a_caller_speaks_https_from_several_threads(place, tmp_path):
    make_coordinator_keys(tmp_path, "127.0.0.1", datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=place / "readable")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        code = f"""
import httpx, ssl
from concurrent.futures import ThreadPoolExecutor
address, keys = "https://127.0.0.1:{server.server_port}/", Path({str(tmp_path)!r})
confine(network=Network.call({server.server_port}), **folders | {{"readable": [*folders["readable"], keys]}})
with httpx.Client(verify=ssl.create_default_context(cafile=keys / "ca.crt"), trust_env=False) as client:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(client.get, [address] * 12))
print(json.dumps([answer.status_code for answer in answers]))
"""
        try:
            assert result(code, place) == [200] * 12
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize(
    "kind", ["AF_UNIX, socket.SOCK_STREAM", "AF_UNIX, socket.SOCK_DGRAM", "AF_INET, socket.SOCK_DGRAM"]
)
def test_a_standard_stream_that_could_be_pointed_elsewhere_is_a_fault_where_there_is_a_network(place, kind):
    code = f"""
loose = socket.socket(socket.{kind})
os.dup2(loose.fileno(), 0)
for network in (Network.SERVE, Network.call(443)):
    try:
        confine(network=network, **folders)
    except sandbox.ContainmentError as fault:
        print(json.dumps(str(fault)))
"""
    done = child(code, place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Standard stream 0 is a socket that could be pointed elsewhere") == 2


def test_a_standard_stream_to_a_log_stays_where_it_is(place, ports):
    code = f"""{CALLER}
ours, theirs = socket.socketpair()
os.dup2(ours.fileno(), 0); os.dup2(theirs.fileno(), 2)
confine(network=Network.call({ports[0]}), **folders)
stream = socket.socket(fileno=2)
print(json.dumps([outcome(lambda: stream.connect(str(outside / "socket"))), outcome(lambda: call({ports[0]}))]))
"""
    assert result(code, place) == ["EISCONN", "ok"]


@pytest.mark.parametrize("name", ["socketpair", "bind", "listen", "accept4"])
def test_a_call_that_a_caller_could_make_after_all_is_found(place, name):
    code = f"""
confine(network=Network.call(443), **folders)
probe_denied([], network=Network.call(443))
true, asked = kernel.syscall, (system_calls.NEVER | system_calls.SERVING)[{name!r}][column]
def let_through(called, *given):
    if called == asked:
        ctypes.set_errno(errno.EBADF)
        return -1
    return true(called, *given)
sandbox.syscall = landlock.syscall = probes.syscall = let_through
try:
    probe_denied([], network=Network.call(443))
except sandbox.ContainmentError as fault:
    print(json.dumps(str(fault)))
"""
    assert "The walls do not hold" in str(result(code, place))
