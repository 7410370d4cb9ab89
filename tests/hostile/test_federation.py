"""A hostile coordinator, and strangers, against real sites of a federation: what may be asked, and what comes back.

One coordinator that obeys nobody (`tests.hostile.federations`) asks four real commands: a source site without rules of
its own, one that promises an epsilon and masks, one whose process that speaks to Flower was taken over, and a target
site. A row names one thing that is asked. What is refused comes back as one fixed word, nothing of it enters the book
as an answer, and the site's own log says why.
"""

import http.client
import io
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.routing import iter_route_contexts
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from protocol.federation import superlink
from protocol.federation.coordinator_keys import make_coordinator_keys
from protocol.federation.masking import OFFER_BYTES, Roster, RoundKey, sum_masked, to_integers
from protocol.federation.messages import KEYS, MASKED, OFFER, OFFERS, STEP, Question, read_answer
from protocol.federation.node_keys import load_public, public_line
from protocol.federation.quiet import QUIET
from protocol.federation.site.answers import KEPT
from protocol.federation.site.book import head_path
from protocol.federation.update import shapes
from source_site.federation.member import CLASSES, COUNTS, LARGEST, PLAN, ROUND
from source_site.federation.plan import HEARD, ConsortiumPlan, first_arrays, part
from tests.hostile.federations import (
    ARRAYS,
    CONFIG,
    INFECTED,
    Coordinator,
    Place,
    Raw,
    Records,
    Told,
    free_port,
    hostile_coordinator,
    listening,
    node_process,
    sent,
)
from tests.source_site.training.runs import FACTS, write_run
from tests.support import cli
from tests.support.crossing import carry, new_source
from tests.support.engine import descendants
from tests.support.loopback import loopback_is_up
from tests.support.speech import synthesize

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not loopback_is_up(), reason="the loopback interface is down"),
]
OPEN = ConsortiumPlan(rounds=1, local_epochs=1, strategy="fedavg", normalization="corpus")
"""A plan that promises nothing, which a site without rules of its own takes part in."""
CLOSED = ConsortiumPlan(rounds=10, local_epochs=1, normalization="corpus", secure=True, min_sites=3, epsilon=8.0)
"""A plan by which the other site promises all that it may."""
PLAIN, PROMISING, TAKEN_OVER, TARGET = range(4)
"""The sites, by the number of their node."""
PEERS = [ec.generate_private_key(ec.SECP384R1()) for _ in range(2)]
"""Two sites that the hostile coordinator plays, which two of the real ones name as their peers."""


@dataclass(frozen=True)
class Federation:
    """Hold the hostile coordinator and the real sites.

    Attributes:
        work: folder of all.
        coordinator: the hostile one.
        sites: by number.
        classes: what the source sites say they have.
    """

    work: Path
    coordinator: Coordinator
    sites: Mapping[int, Place]
    classes: str = ""

    def fields(self, plan: ConsortiumPlan | str, **more: Any) -> dict[str, Any]:
        """Return the fields of a question under a plan."""
        text = plan if isinstance(plan, str) else plan.to_text()
        return {PLAN: text, CLASSES: self.classes, **more}

    def start_of(self, plan: ConsortiumPlan) -> dict[str, np.ndarray]:
        """Return the arrays that round 1 begins from."""
        return first_arrays(plan, self.classes.count(",") + 1)


@pytest.fixture(scope="module")
def federation(tmp_path_factory) -> Iterator[Federation]:
    """Start all of it once."""
    from datetime import UTC, datetime

    work = tmp_path_factory.mktemp("federation")
    make_coordinator_keys(work / "tls", "127.0.0.1", datetime.now(UTC))
    (work / "phrase").write_text("six words that nobody ever guesses\n")
    (work / "phrase").chmod(0o600)
    corpus = synthesize(work / "speech", "harbor", speakers=4, utterances=1)
    for number, peer in enumerate(PEERS):
        (work / f"peer{number}.pub").write_bytes(public_line(peer.public_key()))
    commands = {number: command(work, number, corpus) for number in range(3)} | {TARGET: target_command(work)}
    for number, (environment, words) in enumerate(commands[number] for number in range(4)):
        prepared(environment, words, work / f"{number}.key")
    publics = [der(work / f"{number}.key") for number in range(4)]
    with hostile_coordinator(work / "hostile", work / "tls", publics) as coordinator:
        sites = {
            number: Place(
                command=[program_of(number), *map(str, words), "--to", f"127.0.0.1:{coordinator.port}"],
                log=work / f"{number}.log",
                home=work / f"home{number}",
                book=work / f"{number}.book",
                coordinator=coordinator,
                number=number,
                environment=environment,
            )
            for number, (environment, words) in commands.items()
        }
        sites[TAKEN_OVER].command[:1] = [sys.executable, "-m", "tests.hostile.federations"]
        try:
            for site in sites.values():
                site.start()
            for site in sites.values():
                site.wait_until_there()
            classes = sites[PLAIN].ask(coordinator.begin(), "query", {}).fields[CLASSES]
            yield Federation(work, coordinator, sites, classes)
        finally:
            for site in sites.values():
                if site.process and site.process.poll() is None:
                    site.kill()


def program_of(number: int) -> str:
    return str(Path(sys.executable).with_name("ecan-target" if number == TARGET else "ecan-source"))


def node_words(work: Path, number: int) -> list[object]:
    return ["--ca", work / "tls" / "ca.crt", "--key", work / f"{number}.key", "--home", work / f"home{number}"]


def peer_words(work: Path) -> list[object]:
    return ["--peer", work / "peer0.pub", "--peer", work / "peer1.pub"]


def command(work: Path, number: int, corpus: Path) -> tuple[dict[str, str], list[object]]:
    """Return the environment and the words of a source site's command, its address left out."""
    rules = {PLAIN: ["--max-runs", 200], TAKEN_OVER: []}.get(
        number, ["--secure", "--max-epsilon", 8, "--max-runs", 40, *peer_words(work)]
    )
    environment = {"ECAN_PASSPHRASE_FILE": str(work / "phrase")} if number == TAKEN_OVER else {}
    return environment, ["federate", "join", *node_words(work, number), "--site", f"csv={corpus}", *rules]


def target_command(work: Path) -> tuple[dict[str, str], list[object]]:
    """Return those of a target site that has a bundle, recordings, and rules by which two updates may leave."""
    site = work / "ward"
    site.mkdir()
    write_run(work / "run")
    trust = new_source(work / "source-keys")
    bundle = carry(work / "run", work / "source-keys", site / "keys", site, trust=trust).bundle
    audio = synthesize(site / "psychiatry-audio", "harbor", speakers=2, utterances=1)
    rules = cli.site_rules(site / "site.yaml", rules="together:\n  rounds: 2\n")
    words = ["--keys", site / "keys", "--bundle", bundle, "--audio", audio, "--config", rules]
    words += ["--out", site / "adapted"]
    return {}, ["together", "join", *node_words(work, TARGET), *words, *peer_words(work)]


def prepared(environment: Mapping[str, str], words: list[object], key: Path) -> None:
    """Make a node's key and book, as the first run of the command does."""
    run = cli.target if words[0] == "together" else cli.source
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        made = run(*words, "--to", "127.0.0.1:9")
    assert made.code == 0, made.stderr
    assert key.exists()


def der(key: Path) -> bytes:
    """Return a node's public key as Flower keeps it."""
    return load_public(key.with_suffix(".pub")).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


# ---------------------------------------------------------------------------------------------- what a refusal is


def assert_word(told: Told, code: str, said: str) -> None:
    """Check that one word came back and nothing else, and that the site's log says why."""
    assert (told.word, told.fields, told.arrays, told.records) in (
        ("refused", {}, {}, ()),
        ("failed", {}, {}, ()),
    ), told
    assert (f"{told.word} [{code}]" in said) if code.isupper() else (code in said), said


def said_since(site: Place, mark: int) -> str:
    own = site.log.read_text(errors="replace")[mark >> 32 :]
    return own + (site.home / "node.log").read_text(errors="replace")[mark & 0xFFFFFFFF :]


def mark_of(site: Place) -> int:
    """Return where both logs of a site end."""
    return site.log.stat().st_size << 32 | (site.home / "node.log").stat().st_size


def refused(site: Place, run: int, kind: str, records: Records, code: str) -> Told:
    """Ask something that is refused, and check that."""
    mark, before = mark_of(site), site.answers()
    told = site.ask(run, kind, records)
    assert_word(told, code, said_since(site, mark))
    assert site.answers() == before
    return told


# ------------------------------------------------------------------- B and C: what is no question, and in which order

IN_NODE = "a question was refused"
"""What the log of the process that speaks to Flower says of a message that is no question at all."""


@dataclass(frozen=True)
class Row:
    """Hold one thing that is asked of the site without rules, and why it is refused.

    Attributes:
        name: of the row.
        code: code word in the site's log, or words of the log of its node.
        content: what is asked, from the fields and arrays of an honest round 1.
        kind: type of the message.
    """

    name: str
    code: str
    content: Callable[[dict[str, Any], dict[str, Any]], Records]
    kind: str = "train"


def fields(**changes: Any) -> Callable[[dict[str, Any], dict[str, Any]], Records]:
    """Change fields of an honest question; None takes one away."""

    def changed(fields: dict[str, Any], arrays: dict[str, Any]) -> Records:
        told = {name: value for name, value in {**fields, **changes}.items() if value is not None}
        return sent(told, arrays)

    return changed


def plan(**changes: Any) -> Callable[[dict[str, Any], dict[str, Any]], Records]:
    """Change the plan of an honest question."""
    return fields(plan=json.dumps(json.loads(OPEN.to_text()) | changes))


def first_array(change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, Any], dict[str, Any]], Records]:
    """Change the first array of an honest question."""

    def changed(fields: dict[str, Any], arrays: dict[str, Any]) -> Records:
        name = min(arrays)
        return sent(fields, arrays | {name: change(arrays[name])})

    return changed


def pickled() -> bytes:
    """Return an array of objects as numpy pickles it."""
    stream = io.BytesIO()
    np.save(stream, np.array([print], dtype=object), allow_pickle=True)
    return stream.getvalue()


def header(text: str) -> bytes:
    """Return an array's file that has a header and nothing else."""
    padded = (text + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }"
ROWS = [
    # kinds of messages
    Row("train.evil", "PROTOCOL", sent, "train.evil"),
    Row("query.evil", "PROTOCOL", sent, "query.evil"),
    Row("query.end is none of a source site's", "PROTOCOL", sent, "query.end"),
    Row("evaluate.other", "PROTOCOL", sent, "evaluate.other"),
    Row("system message", "PROTOCOL", sent, "system"),
    Row("legacy type reconnect", "PROTOCOL", sent, "reconnect"),
    Row("legacy type get_parameters", "PROTOCOL", sent, "get_parameters"),
    Row("legacy type get_properties", "PROTOCOL", sent, "get_properties"),
    # the number of the round
    Row("round 0", "FAST_FORWARD", fields(round=0)),
    Row("round -1", "FAST_FORWARD", fields(round=-1)),
    Row("round 2 of one", "FAST_FORWARD", fields(round=2)),
    Row("round 2 of two first", "FAST_FORWARD", fields(round=2, plan=replace(OPEN, rounds=2).to_text())),
    Row("round 1 000 000", "FAST_FORWARD", fields(round=1_000_000)),
    Row("round 2**62", "FAST_FORWARD", fields(round=2**62)),
    Row("round as text", "FAST_FORWARD", fields(round="1")),
    Row("round as fraction", "FAST_FORWARD", fields(round=1.0)),
    Row("round as truth", IN_NODE, fields(round=True)),
    Row("round is not a number", IN_NODE, fields(round=float("nan"))),
    Row("no round", "FAST_FORWARD", fields(round=None)),
    # the plan
    Row("no plan", "SettingsError", fields(plan=None)),
    Row("damaged plan", "SettingsError", fields(plan=OPEN.to_text()[:-5])),
    Row("plan is a list", "SettingsError", fields(plan="[]")),
    Row("plan is a number", "SettingsError", fields(plan=7)),
    Row("unknown key of the plan", "SettingsError", plan(backdoor=1)),
    Row("nested bomb as plan", "SettingsError", fields(plan="[" * 60_000)),
    Row("nested bomb in the plan", "SettingsError", fields(plan='{"classes":' + "[" * 30_000 + "]" * 30_000 + "}")),
    Row("a number of ten thousand digits", "SettingsError", fields(plan='{"rounds":' + "9" * 10_000 + "}")),
    Row("plan of no rounds", "SettingsError", plan(rounds=0)),
    Row(
        "plan of a million rounds",
        "SettingsError",
        fields(plan=OPEN.to_text().replace('rounds": 1', 'rounds": 1000000')),
    ),
    Row(
        "epochs without end",
        "SettingsError",
        fields(plan=OPEN.to_text().replace('epochs": 1,', 'epochs": 1000000000,')),
    ),
    Row("plan of NaN epsilon", "SettingsError", fields(plan=OPEN.to_text().replace('epsilon": 0.0', 'epsilon": NaN'))),
    Row("negative epsilon", "SettingsError", plan(epsilon=-1.0)),
    Row("unknown encoder", "SettingsError", plan(encoder="../../etc/passwd")),
    Row("secure plan at a site that knows nobody", "POLICY", plan(secure=True, min_sites=3)),
    Row("offers at a site that knows nobody", "POLICY", fields(offers="00", step="round 1")),
    Row("arrays of other classes", "EGRESS", fields(classes="anger,fear")),
    Row("a class that is no emotion", "UsageError", fields(classes="anger,../../etc/passwd")),
    Row("one class", "UsageError", fields(classes="anger")),
    Row("a class twice", "UsageError", fields(classes="anger,anger")),
    Row("twenty thousand classes", "UsageError", fields(classes=",".join(["anger"] * 10_000))),
    # arrays
    Row("array missing", "EGRESS", lambda f, a: sent(f, {name: a[name] for name in sorted(a)[1:]})),
    Row("array more", "EGRESS", lambda f, a: sent(f, a | {"more": np.zeros(1, np.float32)})),
    Row("array renamed", "EGRESS", lambda f, a: sent(f, {f"x{name}": value for name, value in a.items()})),
    Row("array named as a path", "EGRESS", lambda f, a: sent(f, a | {"../../x": np.zeros(1, np.float32)})),
    Row("no arrays", "EGRESS", lambda f, a: sent(f)),
    Row("array flattened", "EGRESS", lambda f, a: sent(f, {n: v.ravel() if v.ndim > 1 else v for n, v in a.items()})),
    Row(
        "array transposed",
        "EGRESS",
        lambda f, a: sent(f, {n: np.ascontiguousarray(v.T) if v.ndim > 1 else v for n, v in a.items()}),
    ),
    Row("made-up weights at round 1", "EGRESS", lambda f, a: sent(f, {n: v + np.float32(1e-3) for n, v in a.items()})),
    Row("float64", "EGRESS", first_array(lambda v: v.astype(np.float64))),
    Row("float16", IN_NODE, first_array(lambda v: v.astype(np.float16))),
    Row("complex", IN_NODE, first_array(lambda v: v.astype(np.complex64))),
    Row("texts", IN_NODE, first_array(lambda v: v.astype("U8"))),
    Row("NaN", "RANGE", first_array(lambda v: np.full_like(v, np.nan))),
    Row("infinite", "RANGE", first_array(lambda v: np.full_like(v, np.inf))),
    Row("1e30", "RANGE", first_array(lambda v: np.full_like(v, 1e30))),
    Row("pickled objects", IN_NODE, first_array(lambda v: Raw(pickled(), "object"))),
    Row("a pickle", IN_NODE, first_array(lambda v: Raw(b"cos\nsystem\n(S'id'\ntR."))),
    Row("a zip", IN_NODE, first_array(lambda v: Raw(b"PK\x03\x04" + bytes(40)))),
    Row("a header of 10**12", IN_NODE, first_array(lambda v: Raw(header(HUGE % 10**12)))),
    Row("a header of 2**80", IN_NODE, first_array(lambda v: Raw(header(HUGE % 2**80)))),
    Row("a header of -1", IN_NODE, first_array(lambda v: Raw(header(HUGE % -1)))),
    Row("a header that is code", IN_NODE, first_array(lambda v: Raw(header("__import__('os').getpid()")))),
    Row("an empty array's bytes", IN_NODE, first_array(lambda v: Raw(b""))),
    Row("another encoding", IN_NODE, first_array(lambda v: Raw(b"x", stype="pickle"))),
    # records and fields
    Row("too many fields", IN_NODE, lambda f, a: sent(f | {f"f{n}": n for n in range(64)}, a)),
    Row("too long a text", IN_NODE, fields(note="x" * 70_000)),
    Row("many long texts", IN_NODE, lambda f, a: sent(f | {f"f{n}": "x" * 60_000 for n in range(40)}, a)),
    Row("a field's name without end", IN_NODE, lambda f, a: sent(f | {"n" * 2_000_000: 1}, a)),
    Row("an array's name without end", IN_NODE, lambda f, a: sent(f, a | {"n" * 70_000_000: np.zeros(1, np.float32)})),
    Row("bytes", IN_NODE, fields(note=b"x")),
    Row("list", IN_NODE, fields(note=[1, 2])),
    Row("two lists of texts", IN_NODE, fields(note=["a", "b"])),
    Row("another record", IN_NODE, lambda f, a: {**sent(f, a), "fitins": (CONFIG, {"x": 1})}),
    Row("arrays under the name of fields", IN_NODE, lambda f, a: {CONFIG: (ARRAYS, a)}),
    Row("fields under the name of arrays", IN_NODE, lambda f, a: {ARRAYS: (CONFIG, f)}),
    Row("SecAgg+ stage 0", IN_NODE, lambda f, a: {"secaggplus": (CONFIG, {"stage": "setup", "share_num": 1})}),
    Row("SecAgg+ share keys", IN_NODE, lambda f, a: {"secaggplus": (CONFIG, {"stage": "share_keys"})}),
    Row("FedAvg's legacy parameters", IN_NODE, lambda f, a: {"fitins.parameters": (ARRAYS, a), CONFIG: (CONFIG, f)}),
    # the tally
    Row("tally before any round", "FAST_FORWARD", fields(), "evaluate"),
    Row("tally of made-up networks before any round", "FAST_FORWARD", lambda f, a: sent(f, made_up(a)), "evaluate"),
    Row("many named networks in a tally", "FAST_FORWARD", lambda f, a: sent(f, {"n0001/x": min_of(a)}), "evaluate"),
    # masking where nobody masks
    Row("a key of a site that knows nobody", "POLICY", lambda f, a: sent({"step": "round 1"}), KEYS),
]


def made_up(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return networks that were built to listen."""
    return {name.removeprefix(HEARD): np.full_like(value, 7.9) for name, value in arrays.items()}


def min_of(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return arrays[min(arrays)]


Asked = Mapping[str, tuple[int, Told | None]]
"""What was asked of a site at once, by name: the run in which it was, and what came back."""


def asked_at_once(federation: Federation, site: Place, questions: Mapping[str, tuple[str, Records]]) -> Asked:
    """Ask a site all of this, a type and its records by name, each in a run of its own."""
    runs = [federation.coordinator.begin() for _ in questions]
    asked = [(run, site.node, *question) for run, question in zip(runs, questions.values(), strict=True)]
    told = federation.coordinator.ask_all(asked)
    return dict(zip(questions, zip(runs, told, strict=True), strict=True))


def assert_refused(site: Place, asked: tuple[int, Told | None], code: str) -> None:
    """Check that one word came back, that the log says why, and that the book holds no answer of that run."""
    run, told = asked
    assert told is not None, site.said()[-3000:]
    assert_word(told, code, "".join(line for line in site.said().splitlines() if line.startswith(f"run {run}: ")))
    assert not [entry for entry in entries(site) if entry["kind"] == "answer" and entry["run"] == str(run)]


@pytest.fixture(scope="module")
def refusals(federation) -> Asked:
    """Ask all rows."""
    arrays, honest = federation.start_of(OPEN), federation.fields(OPEN, round=1)
    questions = {row.name: (row.kind, row.content(honest, arrays)) for row in ROWS}
    return asked_at_once(federation, federation.sites[PLAIN], questions)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_asked_of_a_site_without_rules(federation, refusals, row):
    assert_refused(federation.sites[PLAIN], refusals[row.name], row.code)


def test_rows_have_names_of_their_own():
    assert len({row.name for row in ROWS}) == len(ROWS)


def entries(site: Place) -> list[dict[str, Any]]:
    """Return what stands in a site's book."""
    return [json.loads(line) for line in site.book.read_text().splitlines()]


# ------------------------------------------------------------- C: a site without rules, what it answers once and again


@pytest.fixture(scope="module")
def history(federation) -> dict[str, tuple[Told, str]]:
    """Take the site without rules through a run, and ask what is out of order at every stage.

    Returns:
        What came back by its name, and what the site's log said meanwhile.
    """
    site, run = federation.sites[PLAIN], federation.coordinator.begin()
    other_run = federation.coordinator.begin()
    start = federation.start_of(OPEN)
    moved = {name: array + np.float32(0.01) for name, array in start.items()}
    question = federation.fields(OPEN, round=1)
    told: dict[str, tuple[Told, str]] = {}

    def ask(name: str, kind: str, asked: Mapping[str, Any], arrays: Mapping[str, Any], in_run: int = run) -> Told:
        mark = mark_of(site)
        answer = site.ask(in_run, kind, sent(asked, arrays))
        told[name] = answer, said_since(site, mark)
        return answer

    trained = ask("round 1", "train", question, start).arrays
    ask("round 1 again", "train", question, start)
    ask("round 1 of other arrays", "train", question, moved)
    ask("round 1 with a note", "train", question | {"note": "x"}, start)
    ask("round 1 of another plan", "train", question | {PLAN: replace(OPEN, seed=5).to_text()}, start)
    fewer = federation.classes.rpartition(",")[0]
    ask("round 1 of other classes", "train", question | {CLASSES: fewer}, first_arrays(OPEN, fewer.count(",") + 1))
    for number in (2, 0, -1, 1_000_000, "1", 1.0):
        ask(f"round {number!r} of one", "train", question | {ROUND: number}, start)
    heard = part(trained, HEARD)
    asked = federation.fields(OPEN)
    ask("tally of made-up networks", "evaluate", asked, made_up(part(start, HEARD)))
    ask("tally of both networks", "evaluate", asked, trained)
    ask("tally of nothing", "evaluate", asked, {})
    ask("tally", "evaluate", asked, heard)
    ask("tally again", "evaluate", asked, heard)
    ask("tally of another network", "evaluate", asked, {n: a + np.float32(1e-4) for n, a in heard.items()})
    ask("round 1 after the tally", "train", question, start)
    ask("another run's round 1", "train", question, start, other_run)
    ask("tally after another run", "evaluate", asked, heard)
    return told


@pytest.mark.parametrize(
    "name",
    ["round 1", "round 1 again", "tally", "tally again", "another run's round 1"],
)
def test_row_in_order_is_answered(history, name):
    told, said = history[name]
    assert told.word == "", said
    assert "answered" in said
    assert set(told.arrays) == ({COUNTS} if name.startswith("tally") else set(history["round 1"][0].arrays))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("round 1 of other arrays", "SWAP"),
        ("round 1 with a note", "SWAP"),
        ("round 1 of another plan", "SWAP"),
        ("round 1 of other classes", "SWAP"),
        ("round 2 of one", "RANGE"),
        ("round 0 of one", "RANGE"),
        ("round -1 of one", "RANGE"),
        ("round 1000000 of one", "RANGE"),
        ("round '1' of one", "PROTOCOL"),
        ("round 1.0 of one", "PROTOCOL"),
        ("tally of made-up networks", "EGRESS"),
        ("tally of both networks", "EGRESS"),
        ("tally of nothing", "EGRESS"),
        ("tally of another network", "SWAP"),
        ("round 1 after the tally", "ROLLBACK"),
        ("tally after another run", "STATE"),
    ],
)
def test_row_out_of_order_is_refused(history, name, code):
    told, said = history[name]
    assert (told.word, told.fields, told.arrays, told.records) == ("refused", {}, {}, ())
    assert f"refused [{code}]" in said


@pytest.mark.parametrize("name", ["round 1", "tally"])
def test_row_the_same_question_gets_the_very_same_answer(history, name):
    first, again = history[name][0], history[f"{name} again"][0]
    assert first.arrays.keys() == again.arrays.keys()
    assert all(first.arrays[key].tobytes() == again.arrays[key].tobytes() for key in first.arrays)


# ------------------------------------------------------- C and D: a site that masks and promises an epsilon, and masks


class Masking:
    """Play the two peers of a site that masks, in one run.

    Args:
        federation: the hostile one.
        number: of the site.
    """

    def __init__(self, federation: Federation, number: int) -> None:
        self.site = federation.sites[number]
        self.run = federation.coordinator.begin()
        self._public = load_public(federation.work / f"{number}.pub")
        self.weights = self.site.ask(self.run, "query", {}).fields.get("weights", "")

    def keys(self, step: str, *, run: str = "", stranger: bool = False) -> list[RoundKey]:
        """Make fresh keys of the peers for a step."""
        peers = [ec.generate_private_key(ec.SECP384R1()), PEERS[1]] if stranger else PEERS
        return [
            RoundKey(
                Roster(own.public_key(), [self._public, other.public_key()]), own, run=run or str(self.run), step=step
            )
            for own, other in (peers, peers[::-1])
        ]

    def offer(self, step: str) -> str:
        """Ask the site for its fresh key."""
        told = self.site.ask(self.run, KEYS, sent({STEP: step}))
        offer = str(told.fields[OFFER])
        assert len(offer) == 2 * OFFER_BYTES
        return offer

    def ask(self, kind: str, step: str, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Ask in order, and take the peers' pads off; returns the site's own answer in units, ``[N]``."""
        keys = self.keys(step)
        offers = [self.offer(step), *(key.offer().hex() for key in keys)]
        told = self.site.ask(self.run, kind, sent({**fields, STEP: step, OFFERS: ",".join(offers)}, arrays))
        assert told.word == "", self.site.said()[-3000:]
        masked = told.arrays[MASKED]
        asked = Question(run=self.run, kind=kind, fields={**fields, STEP: step}, arrays=dict(arrays))
        nothing, binary = np.zeros(len(masked), "<u8"), [bytes.fromhex(offer) for offer in offers]
        total: np.ndarray = sum_masked([masked, *(key.mask(nothing, binary, asked.digest()) for key in keys)])
        assert not np.array_equal(total, masked), "what left was in clear"
        return total


@pytest.fixture(scope="module")
def masking(federation) -> tuple[Masking, dict[str, Any], dict[str, np.ndarray], np.ndarray]:
    """Let the promising site answer round 1 of a run in order, masked; returns that run, its question, its answer."""
    played = Masking(federation, PROMISING)
    fields, arrays = federation.fields(CLOSED, round=1), federation.start_of(CLOSED)
    return played, fields, arrays, played.ask("train", "round 1", fields, arrays)


def test_row_a_masked_round_asked_again_is_the_very_same_answer(masking):
    played, fields, arrays, answer = masking
    assert np.array_equal(played.ask("train", "round 1", fields, arrays), answer)
    start = to_integers(arrays, LARGEST)
    assert not np.array_equal(answer, start), "something was learned"


PROMISES: list[tuple[str, str, Callable[[Federation], tuple[str, Mapping[str, Any]]]]] = [
    ("no offers", "POLICY", lambda f: ("train", f.fields(CLOSED, round=1))),
    ("a plan that is not secure", "POLICY", lambda f: ("train", f.fields(replace(CLOSED, secure=False), round=1))),
    ("a tally that is not masked", "POLICY", lambda f: ("evaluate", f.fields(CLOSED))),
    ("no epsilon", "SettingsError", lambda f: ("train", with_offers(f.fields(replace(CLOSED, epsilon=0.0), round=1)))),
    ("epsilon 9", "SettingsError", lambda f: ("train", with_offers(f.fields(replace(CLOSED, epsilon=9.0), round=1)))),
    (
        "a tally without epsilon",
        "SettingsError",
        lambda f: ("evaluate", with_offers(f.fields(replace(CLOSED, epsilon=0.0)))),
    ),
    ("epsilon 1e-9", "UsageError", lambda f: ("train", with_offers(f.fields(replace(CLOSED, epsilon=1e-9), round=1)))),
    ("seven rounds", "UsageError", lambda f: ("train", with_offers(f.fields(replace(CLOSED, rounds=7), round=1)))),
    ("a second run that overspends", "POLICY", lambda f: ("train", with_offers(f.fields(CLOSED, round=1)))),
    ("a second run's tally", "POLICY", lambda f: ("evaluate", with_offers(f.fields(CLOSED)))),
    ("SecAgg+ setup", IN_NODE, lambda f: ("train", {"stage": ["setup"], "share_num": 1, "threshold": 1})),
    ("a key for no step", "PROTOCOL", lambda f: (KEYS, {STEP: "round 0"})),
    ("a key for any text", "PROTOCOL", lambda f: (KEYS, {STEP: "round 1\\n" * 9})),
    ("a key for nothing", "PROTOCOL", lambda f: (KEYS, {})),
]


def with_offers(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**fields, OFFERS: "00", STEP: "round 1"}


@pytest.fixture(scope="module")
def promises(federation, masking) -> Asked:
    """Ask all of it, of a site that has answered a first round."""
    questions = {}
    for name, _, asked in PROMISES:
        kind, fields = asked(federation)
        arrays = federation.start_of(CLOSED) if kind == "train" and PLAN in fields else {}
        questions[name] = kind, sent(fields, arrays)
    return asked_at_once(federation, federation.sites[PROMISING], questions)


@pytest.mark.parametrize(("name", "code", "asked"), PROMISES, ids=[row[0] for row in PROMISES])
def test_row_against_a_sites_promise(federation, promises, name, code, asked):
    assert_refused(federation.sites[PROMISING], promises[name], code)


OFFERED: list[tuple[str, str, Callable[[Masking, str, list[str]], str]]] = [
    ("own is missing", "OFFER", lambda m, own, peers: ",".join([peers[0], *peers])),
    ("own of before", "OFFER", lambda m, own, peers: ",".join([m.offer("round 2"), *peers])),
    ("one participant", "OFFER", lambda m, own, peers: own),
    ("two participants", "OFFER", lambda m, own, peers: ",".join([own, peers[0]])),
    ("own three times", "OFFER", lambda m, own, peers: ",".join([own] * 3)),
    ("a peer twice", "OFFER", lambda m, own, peers: ",".join([own, peers[0], peers[0]])),
    ("a fourth", "OFFER", lambda m, own, peers: ",".join([own, *peers, peers[0]])),
    ("a stranger's", "OFFER", lambda m, own, peers: joined(own, m.keys("round 1", stranger=True))),
    ("of another run", "OFFER", lambda m, own, peers: joined(own, m.keys("round 1", run="7"))),
    ("of another step", "OFFER", lambda m, own, peers: joined(own, m.keys("round 2"))),
    ("a bit flipped", "OFFER", lambda m, own, peers: ",".join([own, flipped(peers[0], 70), peers[1]])),
    ("a site's id flipped", "OFFER", lambda m, own, peers: ",".join([own, flipped(peers[0], 3), peers[1]])),
    ("a signature flipped", "OFFER", lambda m, own, peers: ",".join([own, flipped(peers[0], 200), peers[1]])),
    ("cut", "OFFER", lambda m, own, peers: ",".join([own, peers[0][:-2], peers[1]])),
    ("no hexadecimal", "OFFER", lambda m, own, peers: "xy"),
    ("none", "OFFER", lambda m, own, peers: ""),
]


def joined(own: str, keys: list[RoundKey]) -> str:
    return ",".join([own, *(key.offer().hex() for key in keys)])


def flipped(offer: str, place: int) -> str:
    data = bytearray.fromhex(offer)
    data[place % len(data)] ^= 1
    return data.hex()


@pytest.mark.parametrize(("name", "code", "offers"), OFFERED, ids=[row[0] for row in OFFERED])
def test_row_of_wrong_offers(masking, name, code, offers):
    played, fields, arrays, _ = masking
    peers = [key.offer().hex() for key in played.keys("round 1")]
    chosen = offers(played, played.offer("round 1"), peers)
    refused(played.site, played.run, "train", sent({**fields, STEP: "round 1", OFFERS: chosen}, arrays), code)


def test_row_an_answer_without_having_asked_for_a_key_or_with_one_used_up(masking):
    played, fields, arrays, _ = masking
    offers = joined(played.offer("round 1"), played.keys("round 1"))
    asked = sent({**fields, STEP: "round 1", OFFERS: offers}, arrays)
    assert played.site.ask(played.run, "train", asked).word == ""
    refused(played.site, played.run, "train", asked, "STATE")


def test_row_an_answer_by_the_key_of_another_step(masking):
    played, fields, arrays, _ = masking
    offers = joined(played.offer("round 2"), played.keys("round 2"))
    refused(played.site, played.run, "train", sent({**fields, STEP: "round 2", OFFERS: offers}, arrays), "SWAP")


@pytest.mark.parametrize(
    ("name", "kind", "code", "changes"),
    [
        ("a lower epsilon in the same run", "train", "SWAP", {PLAN: replace(CLOSED, epsilon=4.0).to_text()}),
        ("another seed in the same run", "train", "SWAP", {PLAN: replace(CLOSED, seed=1).to_text()}),
        ("the tally before the last round", "evaluate", "FAST_FORWARD", {}),
        ("round 3 after 1", "train", "FAST_FORWARD", {ROUND: 3}),
        ("round 1 with a note", "train", "SWAP", {"note": 1}),
    ],
)
def test_row_out_of_order_at_a_site_that_masks(masking, name, kind, code, changes):
    played, fields, arrays, _ = masking
    told = with_offers({**fields, **changes})
    refused(played.site, played.run, kind, sent(told, arrays if kind == "train" else {}), code)


def test_row_round_1_of_other_arrays_at_a_site_that_masks(masking):
    played, fields, arrays, _ = masking
    moved = {name: array + np.float32(0.01) for name, array in arrays.items()}
    refused(played.site, played.run, "train", sent(with_offers(fields), moved), "SWAP")


# ------------------------------------------------------------------------- B: apps, foreign types and damaged messages


def test_row_an_app_of_a_run_is_not_even_fetched(federation):
    site, run = federation.sites[PLAIN], federation.coordinator.begin(evil_app())
    assert site.ask(run, "query", {}).fields == {CLASSES: federation.classes}
    assert {call.rpartition("/")[2] for call in federation.coordinator.call("calls")} <= {
        *("activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages"),
        *("push-object", "pull-object", "confirm-message-received"),
    }
    kept = {path.name for path in site.home.iterdir()}
    assert kept <= {"node.log", "work", "cache", KEPT}, "Flower keeps nothing there"


def evil_app() -> bytes:
    """Return an app that would say that it ran."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("evilapp/c.py", "raise SystemExit('it ran')")
        packed.writestr("pyproject.toml", '[project]\nname = "evil"\n')
    return stream.getvalue()


UNKNOWN_KINDS = ["agent", "model", "connector", "evil", "train.x.y", "train.7"]


@pytest.fixture(scope="module")
def unread(federation) -> tuple[dict[str, Told | None], int]:
    """Send all of them, and an honest question after each; returns what came back, and how many were not read."""
    site, node = federation.sites[PLAIN], federation.sites[PLAIN].node
    mark, asked = mark_of(site), []
    for kind in UNKNOWN_KINDS:
        run = federation.coordinator.begin()
        asked += [(run, node, kind, sent({"x": 1})), (run, node, "query", {})]
    told = federation.coordinator.ask_all(asked, patience_s=10)
    for answer in told[1::2]:
        assert answer is not None, site.said()[-3000:]
        assert answer.fields == {CLASSES: federation.classes}
    return dict(zip(UNKNOWN_KINDS, told[::2], strict=True)), said_since(site, mark).count("a message was not read")


@pytest.mark.parametrize("kind", UNKNOWN_KINDS)
def test_row_a_type_that_flower_does_not_know_is_not_answered(unread, kind):
    told, number = unread
    assert told[kind] is None
    assert number == len(UNKNOWN_KINDS)


# ---------------------------------------------------------------------------------------- E: sites that adapt together


@pytest.fixture(scope="module")
def ward(federation) -> Masking:
    """Return the target site with its peers played, and a run in which round 1 of 2 was answered in order."""
    return Masking(federation, TARGET)


def wanted(ward: Masking, **changes: Any) -> dict[str, Any]:
    """Return the fields of an honest round 1 of two."""
    return {"weights": ward.weights, "rounds": 2, "number": 1, "epochs": 1, "seed": 1, **changes}


def change_of(length: float) -> dict[str, np.ndarray]:
    """Return weights that somebody made up, so long."""
    drawn = np.random.default_rng(0)
    made = {name: drawn.standard_normal(shape).astype(np.float32) for name, shape in FORM.items()}
    whole = np.sqrt(sum(float(np.square(array).sum()) for array in made.values()))
    return {name: (array * np.float32(length / whole)).astype(np.float32) for name, array in made.items()}


FORM = shapes(FACTS.arch, len(FACTS.classes))
TOGETHER: list[tuple[str, str, str, float, dict[str, Any]]] = [
    ("round 6 of 6 first", "POLICY", "train", 9.99, {"rounds": 6, "number": 6}),
    ("round 1 000 000 of as many", "RANGE", "train", 9.99, {"rounds": 1_000_000, "number": 1_000_000}),
    ("round 1 000 000 of two", "EGRESS", "train", 9.99, {"number": 1_000_000}),
    ("round 2 of two first", "FAST_FORWARD", "train", 0.0, {"number": 2}),
    ("round 0", "SettingsError", "train", 0.0, {"number": 0}),
    ("round -1", "SettingsError", "train", 0.0, {"number": -1}),
    ("round as text", "SettingsError", "train", 0.0, {"number": "1"}),
    ("round as fraction", "SettingsError", "train", 0.0, {"number": 1.0}),
    ("made-up weights at round 1", "EGRESS", "train", 1.0, {}),
    ("the least of made-up weights at round 1", "EGRESS", "train", 1e-3, {}),
    ("other weights", "POLICY", "train", 0.0, {"weights": "00" * 32}),
    ("weights that are no digest", "POLICY", "train", 0.0, {"weights": "../../keys"}),
    ("more rounds than may leave", "POLICY", "train", 0.0, {"rounds": 3}),
    ("the end before a round", "STATE", "query.end", 0.0, {}),
    ("no epochs", "SettingsError", "train", 0.0, {"epochs": 0}),
    ("negative seed", "SettingsError", "train", 0.0, {"seed": -1}),
    ("no number", "SettingsError", "train", 0.0, {"number": None}),
    ("evaluate", "PROTOCOL", "evaluate", 0.0, {}),
    ("train.evil", "PROTOCOL", "train.evil", 0.0, {}),
    ("NaN", "EGRESS", "train", float("nan"), {}),
]


@pytest.fixture(scope="module")
def kept_back(federation, ward) -> tuple[Asked, bool]:
    """Ask all of it; returns what came back, and whether no update has left."""
    questions = {}
    for name, _, kind, length, changes in TOGETHER:
        fields = {key: value for key, value in wanted(ward, **changes).items() if value is not None}
        questions[name] = kind, sent(with_offers(fields), change_of(length))
    left = updates_of(federation)
    return asked_at_once(federation, ward.site, questions), updates_of(federation) == left


@pytest.mark.parametrize(("name", "code"), [row[:2] for row in TOGETHER], ids=[row[0] for row in TOGETHER])
def test_row_asked_of_a_site_that_adapts_with_others(ward, kept_back, name, code):
    asked, has_kept_all = kept_back
    assert_refused(ward.site, asked[name], code)
    assert has_kept_all


def updates_of(federation: Federation) -> list[Path]:
    return sorted((federation.work / "ward" / "keys" / "left").rglob("*.safetensors"))


def test_row_a_round_that_is_not_masked_or_brings_no_weights(ward):
    refused(ward.site, ward.run, "train", sent(wanted(ward), change_of(0.0)), "POLICY")
    refused(ward.site, ward.run, "train", sent(with_offers(wanted(ward))), "EGRESS")


def test_row_the_end_of_a_run_that_was_never_begun(federation, ward):
    run = federation.coordinator.begin()
    refused(ward.site, run, "query.end", sent(wanted(ward), change_of(0.0)), "STATE")


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("model.ecan.approval", "Nobody at this site has approved"),
        ("psychiatry-audio", "psychiatry-audio"),
        ("model.ecan", "model.ecan does not exist"),
    ],
)
def test_row_what_is_missing_at_the_site_is_not_told(federation, ward, gone, says):
    fields, place = with_offers(wanted(ward)), federation.work / "ward" / gone
    place.rename(place.with_name("away"))
    try:
        mark = mark_of(ward.site)
        told = ward.site.ask(federation.coordinator.begin(), "train", sent(fields, change_of(0.0)))
        assert told.word in ("refused", "failed")
        assert (told.fields, told.arrays) == ({}, {})
        assert says in said_since(ward.site, mark), "the operator's log says what is missing"
    finally:
        place.with_name("away").rename(place)


def test_row_one_update_leaves_masked_and_what_follows_has_to_follow(federation, ward):
    update = ward.ask("train", "round 1", wanted(ward), change_of(0.0))
    assert len(updates_of(federation)) == 1
    again = ward.ask("train", "round 1", wanted(ward), change_of(0.0))
    assert np.array_equal(update, again)
    assert len(updates_of(federation)) == 1
    second = with_offers(wanted(ward, number=2))
    refused(ward.site, ward.run, "train", sent(second, change_of(2.5)), "EGRESS")
    refused(ward.site, ward.run, "train", sent(with_offers(wanted(ward, seed=2)), change_of(0.0)), "SWAP")
    refused(ward.site, ward.run, "query.end", sent(wanted(ward), change_of(1.0)), "FAST_FORWARD")
    more = sent(with_offers(wanted(ward)), change_of(0.0))
    refused(ward.site, federation.coordinator.begin(), "train", more, "POLICY")
    assert len(updates_of(federation)) == 1


# ------------------------------------------------------------------------------------------------ F: walls of a process


@pytest.fixture(scope="module")
def doors(federation) -> dict[str, str]:
    """Return what an intruder in the process that speaks to Flower tried, and what each door answered."""
    log = (federation.sites[TAKEN_OVER].home / "node.log").read_text()
    return json.loads(next(line for line in log.splitlines() if line.startswith(INFECTED)).removeprefix(INFECTED))


def test_row_an_intruder_finds_every_door_shut(federation, doors):
    assert {name: answer for name, answer in doors.items() if not answer} == {}
    site = federation.sites[TAKEN_OVER]
    assert f"read {site.book}" in doors
    assert f"read {site.book.with_suffix('.key')}" in doors
    assert f"read {federation.work / 'speech' / 'labels.csv'}" in doors
    assert len(doors) >= 17


def test_row_an_intruder_is_still_asked_and_answers(federation):
    site = federation.sites[TAKEN_OVER]
    assert site.ask(federation.coordinator.begin(), "query", {}).fields[CLASSES] == federation.classes


@pytest.mark.parametrize("number", [PLAIN, PROMISING, TARGET])
def test_row_no_process_of_a_site_listens(federation, number):
    pids = federation.sites[number].pids()
    assert len(pids) >= 2
    assert listening(pids) == []


@pytest.mark.parametrize("number", [PLAIN, PROMISING, TARGET])
def test_row_the_environment_of_the_node_is_the_least(federation, number):
    told = Path(f"/proc/{node_process(federation.sites[number])}/environ").read_bytes().decode().split("\0")
    names = {variable.partition("=")[0] for variable in told if variable}
    assert names == {"PATH", "FLWR_HOME", *QUIET}
    assert all(f"{name}={value}" in told for name, value in QUIET.items())


def test_row_an_encrypted_node_key_works_and_is_not_read_without_its_passphrase(federation, monkeypatch):
    key = federation.work / f"{TAKEN_OVER}.key"
    assert key.read_bytes().startswith(b"-----BEGIN ECAN LOCKED KEY-----")
    assert federation.coordinator.call("is_there", federation.sites[TAKEN_OVER].node)
    monkeypatch.delenv("ECAN_PASSPHRASE_FILE", raising=False)
    assert "[KEY_LOCKED]" in joining_anew(federation, TAKEN_OVER).refusal()
    monkeypatch.setenv("ECAN_PASSPHRASE_FILE", str(federation.work / "tls" / "ca.crt"))
    assert joining_anew(federation, TAKEN_OVER).code != 0


def joining_anew(federation: Federation, number: int, **places: Path) -> cli.Result:
    """Run a site's command in this process, as far as it comes; options may be replaced."""
    words = federation.sites[number].command[1:]
    words = words[words.index("federate") :]
    for name, place in places.items():
        words[words.index(f"--{name}") + 1] = str(place)
    return cli.source(*words)


# ---------------------------------------------------------------------------------------------------------- G: the book


@pytest.fixture
def copied(federation, tmp_path) -> Path:
    """Return a copy of the site's key, beside a copy of its book."""
    for name in (f"{PLAIN}.key", f"{PLAIN}.pub", f"{PLAIN}.book", f"{PLAIN}.book.head"):
        shutil.copy2(federation.work / name, tmp_path / name.replace(str(PLAIN), "node"))
    return tmp_path / "node.key"


def edited(book: Path) -> None:
    book.write_bytes(book.read_bytes().replace(b'"steps":1', b'"steps":0').replace(b"first use", b"first usa"))


def without_last_line(book: Path) -> None:
    book.write_bytes(b"".join(book.read_bytes().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("deleted", lambda book: book.unlink()),
        ("empty", lambda book: book.write_bytes(b"")),
        ("last line gone", without_last_line),
        ("all but the first line gone", lambda book: book.write_bytes(book.read_bytes().splitlines(keepends=True)[0])),
        ("edited", edited),
        ("head gone", lambda book: head_path(book).unlink()),
        ("head of nothing", lambda book: head_path(book).write_text("0 " + "0" * 64 + "\n")),
        ("readable by others", lambda book: book.chmod(0o644)),
        ("two lines swapped", lambda book: book.write_bytes(swapped(book.read_bytes()))),
    ],
)
def test_row_a_site_whose_book_is_lost_does_not_begin(federation, copied, history, name, harm):
    harm(copied.with_suffix(".book"))
    ended = joining_anew(federation, PLAIN, key=copied, home=copied.parent / "home")
    assert ended.code == 10, ended.stderr
    assert "[STATE_LOST]" in ended.refusal()
    assert "--new-book" in ended.refusal()
    assert not (copied.parent / "home" / "node.log").exists(), "nobody was called"


def swapped(data: bytes) -> bytes:
    first, second, third, *rest = data.splitlines(keepends=True)
    return b"".join([first, third, second, *rest])


def test_row_a_book_of_another_corpus_is_refused(federation, copied, tmp_path):
    other = synthesize(tmp_path / "other", "valley", speakers=2, utterances=1)
    ended = joining_anew(federation, PLAIN, key=copied, home=tmp_path / "home", site=Path(f"csv={other}"))
    assert ended.code != 0
    assert "[POLICY]" in ended.refusal()


def test_row_a_killed_site_keeps_what_it_has_promised(federation, masking):
    played, fields, arrays, answer = masking
    played.site.kill()
    played.site.start()
    played.site.wait_until_there()
    assert np.array_equal(played.ask("train", "round 1", fields, arrays), answer), "the very same answer"
    asked = with_offers(federation.fields(CLOSED, round=1))
    refused(played.site, federation.coordinator.begin(), "train", sent(asked, arrays), "POLICY")
    refused(played.site, played.run, "train", sent(with_offers({**fields, "note": 1}), arrays), "SWAP")


def test_row_a_site_killed_between_answer_and_sending_gives_that_answer_and_no_other(federation, history):
    site, run = federation.sites[PLAIN], federation.coordinator.begin()
    arrays, before = federation.start_of(OPEN), site.answers()
    asked = sent(federation.fields(OPEN, round=1), arrays)
    federation.coordinator.call("hold_back", True)
    try:
        assert federation.coordinator.ask(run, site.node, "train", asked, patience_s=0.5) is None
        deadline = time.monotonic() + 60
        while site.answers() == before and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        site.kill()
    finally:
        federation.coordinator.call("hold_back", False)
    kept = read_answer(io.BytesIO((site.home / KEPT).read_bytes()))
    assert kept is not None
    runs = sum(entry["kind"] == "run" for entry in entries(site))
    site.start("--max-runs", runs)
    site.wait_until_there()
    told = site.ask(run, "train", asked)
    assert told.arrays.keys() == kept.arrays.keys()
    assert all(told.arrays[name].tobytes() == kept.arrays[name].tobytes() for name in kept.arrays)
    assert site.answers() == before + 1
    refused(site, federation.coordinator.begin(), "train", asked, "QUOTA")


# --------------------------------------------------------------------------------- B, last: objects that are damaged


@pytest.mark.parametrize("how", ["cut", "empty", "noise", "other"])
def test_row_damaged_objects_are_refused(federation, how):
    site, run = federation.sites[PLAIN], federation.coordinator.begin()
    mark = mark_of(site)
    federation.coordinator.call("damage", how)
    try:
        told = federation.coordinator.ask(run, site.node, "query", sent({"x": 1}), patience_s=20)
    finally:
        federation.coordinator.call("damage", "")
    assert told is None or told.word == "refused"
    assert IN_NODE in said_since(site, mark)
    assert site.ask(federation.coordinator.begin(), "query", {}).fields[CLASSES] == federation.classes


# ------------------------------------------------------------------------------ A: a stranger at the coordinator's port


@dataclass(frozen=True)
class Served:
    """Hold a real coordinator, which waits for two nodes that never come.

    Attributes:
        work: folder of all.
        port: where it listens.
        key: of a node that it lets in.
        process: the command.
    """

    process: "subprocess.Popen[bytes]"
    work: Path
    port: int
    key: ec.EllipticCurvePrivateKey

    def status(self, request: bytes) -> int:
        """Send bytes over TLS, as somebody who verifies nothing; returns the status, or 0 where none came."""
        place = "127.0.0.1", self.port
        with socket.create_connection(place, timeout=20) as plain, trusting().wrap_socket(plain) as secure:
            return status_of(secure, request)

    def statuses(self, calls: Iterable[tuple[str, str]]) -> Iterator[int]:
        """Make calls without a body, a method and a path each, one after the other over one connection."""
        with closing(http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=trusting())) as secure:
            for call in calls:
                secure.request(*call)
                with secure.getresponse() as answer:
                    answer.read()
                    yield answer.status

    def headers(self, **changes: str) -> dict[str, str]:
        """Return the headers by which a node that is let in signs a call."""
        stamp = changes.pop("stamp", now().isoformat())
        public = b64encode(public_key_to_bytes(self.key.public_key())).decode()
        signed = b64encode(sign_message(self.key, stamp.encode())).decode()
        names = (FLEET_HTTP_PUBLIC_KEY_HEADER, TIMESTAMP_HEADER, FLEET_HTTP_SIGNATURE_HEADER)
        return dict(zip(names, (public, stamp, signed), strict=True)) | changes


def trusting() -> ssl.SSLContext:
    """Return what verifies nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def status_of(connection: socket.socket, request: bytes) -> int:
    try:
        connection.sendall(request)
        head = connection.recv(4096)
    except OSError:
        return 0
    return int(head.split()[1]) if head.startswith(b"HTTP/1.") else 0


def request(
    line: str, headers: Mapping[str, str] | None = None, body: bytes = b"", *, length: str | None = ""
) -> bytes:
    """Write a request; its length is the true one unless another is given, or None."""
    told = {"host": "127.0.0.1", "content-type": "application/protobuf", **(headers or {})}
    if length is not None:
        told["content-length"] = length or str(len(body))
    lines = [line, *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    """Start `ecan-source federate serve` for two nodes."""
    work, port = tmp_path_factory.mktemp("served"), free_port()
    assert cli.source("federate", "keys", "--host", "127.0.0.1", "--out", work / "tls").code == 0
    key = ec.generate_private_key(ec.SECP384R1())
    for name, public in (("a", key.public_key()), ("b", PEERS[0].public_key())):
        (work / f"{name}.pub").write_bytes(public_line(public))
    words = ["federate", "serve", "--keys", work / "tls", "--listen", f"127.0.0.1:{port}", "--out", work / "run"]
    words += ["--node", work / "a.pub", "--node", work / "b.pub"]
    with (work / "log").open("wb") as log:
        process = subprocess.Popen([program_of(PLAIN), *map(str, words)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while b"waiting for 2 sites" not in (work / "log").read_bytes():
            assert process.poll() is None, (work / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield Served(process, work, port, key)
        assert process.poll() is None, "nothing ended it"
    finally:
        process.terminate()
        process.wait(60)


def test_row_none_of_flowers_other_calls_is_there(served):
    paths = {route.path for route in iter_route_contexts(superlink._superlink_app().routes)} - superlink.NODE_CALLS
    assert len(paths) > 60
    methods = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
    got = {path: set(served.statuses((method, path) for method in methods)) for path in sorted(paths)}
    assert {path: told for path, told in got.items() if told != {404}} == {}


CALL = "/v1/fleet/pull-messages"
TRICKS = {
    "two slashes": "POST //v1/control/list-runs HTTP/1.1",
    "dots": "POST /v1/fleet/../control/list-runs HTTP/1.1",
    "coded dots": "POST /v1/fleet/%2e%2e/control/list-runs HTTP/1.1",
    "coded slash": "POST /v1/fleet%2f..%2fcontrol/list-runs HTTP/1.1",
    "a slash at the end": "POST /v1/control/list-runs/ HTTP/1.1",
    "upper case": "POST /V1/CONTROL/LIST-RUNS HTTP/1.1",
    "a query": "POST /v1/control/list-runs?x=/v1/fleet/pull-messages HTTP/1.1",
    "a fragment": "POST /v1/control/list-runs#/v1/fleet/pull-messages HTTP/1.1",
    "absolute form": "POST https://127.0.0.1/v1/control/start-run HTTP/1.1",
    "HTTP/1.0": "POST /v1/control/list-runs HTTP/1.0",
    "a zero byte": "POST /v1/control/list-runs%00/v1/fleet/pull-messages HTTP/1.1",
    "a semicolon": "POST /v1/control/list-runs;/v1/fleet/pull-messages HTTP/1.1",
    "GET of a node's call": f"GET {CALL} HTTP/1.1",
    "a node's call with a slash": f"POST {CALL}/ HTTP/1.1",
    "a node's call in upper case": f"POST {CALL.upper()} HTTP/1.1",
    "register-node": "POST /v1/fleet/register-node HTTP/1.1",
    "get-fab": "POST /v1/fleet/get-fab HTTP/1.1",
    "the schema": "GET /openapi.json HTTP/1.1",
    "health": "GET /health HTTP/1.1",
}


@pytest.mark.parametrize("name", TRICKS)
def test_row_a_stranger_finds_nothing(served, name):
    assert served.status(request(TRICKS[name])) == 404
    assert served.status(request(TRICKS[name], served.headers())) == 404, "nor does a node that is let in"


def test_row_a_websocket_is_not_opened(served):
    upgrade = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13"}
    upgrade |= {"sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert served.status(request(f"GET {CALL} HTTP/1.1", upgrade, length=None)) in (403, 404)


def test_row_a_node_that_is_let_in_is_answered_so_that_the_refusals_mean_something(served):
    body = ActivateNodeRequest(public_key=public_key_to_bytes(served.key.public_key()), heartbeat_interval=30.0)
    headers = served.headers() | {"flwr-package-name": "flwr", "flwr-package-version": "1.42.0"}
    got = served.status(request("POST /v1/fleet/activate-node HTTP/1.1", headers, body.SerializeToString()))
    assert got not in (0, 401, 404, 413)


IMPOSTORS: dict[str, Callable[[Served], dict[str, str]]] = {
    "nobody": lambda s: {},
    "a key that is not let in": lambda s: replace(s, key=ec.generate_private_key(ec.SECP384R1())).headers(),
    "a known key and another's signature": lambda s: (
        s.headers() | {FLEET_HTTP_SIGNATURE_HEADER: replace(s, key=PEERS[1]).headers()[FLEET_HTTP_SIGNATURE_HEADER]}
    ),
    "no signature": lambda s: s.headers(**{FLEET_HTTP_SIGNATURE_HEADER: ""}),
    "a signature of yesterday": lambda s: s.headers(stamp=(now() - timedelta(days=1)).isoformat()),
    "a signature of tomorrow": lambda s: s.headers(stamp=(now() + timedelta(days=1)).isoformat()),
    "no time": lambda s: s.headers(**{TIMESTAMP_HEADER: "yesterday"}),
    "an empty key": lambda s: s.headers(**{FLEET_HTTP_PUBLIC_KEY_HEADER: ""}),
}


@pytest.mark.parametrize("name", IMPOSTORS)
def test_row_a_node_that_is_not_who_it_says_is_refused(served, name):
    body = PullMessagesRequest().SerializeToString() or b""
    for call in sorted(superlink.NODE_CALLS):
        got = served.status(request(f"POST {call} HTTP/1.1", IMPOSTORS[name](served), body))
        assert got == 401, call


@pytest.mark.parametrize("length", [None, "9000000", "99999999999999", "-1", "1e3", "0x10"])
def test_row_a_call_that_is_too_long_or_states_no_length_is_not_read(served, length):
    more = {"transfer-encoding": "chunked"} if length is None else {}
    got = served.status(request(f"POST {CALL} HTTP/1.1", served.headers() | more, length=length))
    assert got in (400, 413)


def test_row_two_lengths_are_refused(served):
    told = request(f"POST {CALL} HTTP/1.1", served.headers() | {"Content-Length": "3"}, b"abc")
    assert served.status(told) in (400, 413)


def test_row_a_stranger_in_clear_gets_no_word(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as plain:
        assert status_of(plain, request(f"POST {CALL} HTTP/1.1")) == 0


def test_row_a_strangers_app_is_not_run(served, tmp_path):
    """01 and 08 of the findings: `flwr run` with the coordinator's address and its certificate."""
    app, marker = tmp_path / "evil", tmp_path / "RAN"
    (app / "evilapp").mkdir(parents=True)
    (app / "evilapp" / "__init__.py").write_text(f"import os; open({str(marker)!r}, 'a').write(f'{{os.getpid()}} ')")
    (app / "evilapp" / "s.py").write_text("from flwr.serverapp import ServerApp\napp = ServerApp()\n")
    (app / "evilapp" / "c.py").write_text("from flwr.clientapp import ClientApp\napp = ClientApp()\n")
    (app / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "config.toml").write_text(
        f'[superlink]\ndefault = "v"\n\n[superlink.v]\naddress = "127.0.0.1:{served.port}"\n'
        f'root-certificates = "{served.work / "tls" / "ca.crt"}"\n'
    )
    environment = {"PATH": "/usr/bin:/bin", **QUIET, "FLWR_HOME": str(tmp_path)}
    flwr = [Path(sys.executable).with_name("flwr"), "run", app, "v"]
    done = subprocess.run(flwr, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0, done.stdout
    assert "404" in done.stdout + done.stderr
    assert str(served.process.pid) not in marker.read_text().split(), "the stranger's own machine ran it"
    assert descendants([served.process]) == set()
    assert not list((served.work / "run.flower").rglob("*.py"))
    assert {path.name for path in (served.work / "run.flower").iterdir()} == {"superlink.log"}


PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "evil"
version = "0.1.0"
description = "x"
license = "Apache-2.0"
dependencies = []
[tool.hatch.build.targets.wheel]
packages = ["evilapp"]
[tool.flwr.app]
publisher = "stranger"
[tool.flwr.app.components]
serverapp = "evilapp.s:app"
clientapp = "evilapp.c:app"
[tool.flwr.app.config]
out = "x"
"""
