"""A hostile coordinator, and strangers, against real sites of a federation: what may be asked, and what comes back.

One coordinator that obeys nobody (`tests.hostile.federations`) asks four real commands: a source site without rules of
its own, one that promises an epsilon and masks, one whose process that speaks to Flower was taken over, and a target
site. A row names one thing that is asked. What is refused comes back as one fixed word, nothing of it enters the book
as an answer, and the site's own log says why.
"""

import io
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.federation.answers import KEPT
from protocol.federation.book import head_path
from protocol.federation.coordinator_keys import make_coordinator_keys
from protocol.federation.masking import OFFER_BYTES, Roster, RoundKey, sum_masked, to_integers
from protocol.federation.messages import KEYS, MASKED, OFFER, OFFERS, STEP, Question, read_answer
from protocol.federation.node_keys import load_public, public_line
from source_site.federation.member import CLASSES, COUNTS, LARGEST, PLAN, ROUND
from source_site.federation.plan import HEARD, Plan, first_arrays, part
from tests.hostile.federations import (
    ARRAYS,
    CONFIG,
    INFECTED,
    METRICS,
    Coordinator,
    Place,
    Raw,
    Records,
    Told,
    hostile_coordinator,
    listening,
    node_process,
    sent,
)
from tests.source_site.runs import FACTS, write_run
from tests.support import cli
from tests.support.loopback import loopback_is_up
from tests.support.speech import synthesize

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not loopback_is_up(), reason="the loopback interface is down"),
]
OPEN = Plan(rounds=1, local_epochs=1, strategy="fedavg", normalization="corpus")
"""A plan that promises nothing, which a site without rules of its own takes part in."""
CLOSED = Plan(rounds=10, local_epochs=1, normalization="corpus", secure=True, min_sites=3, epsilon=8.0)
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

    def fields(self, plan: Plan | str, **more: Any) -> dict[str, Any]:
        """Return the fields of a question under a plan."""
        text = plan if isinstance(plan, str) else plan.to_text()
        return {PLAN: text, CLASSES: self.classes, **more}

    def start_of(self, plan: Plan) -> dict[str, np.ndarray]:
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
    rules = {PLAIN: ["--max-runs", 40], TAKEN_OVER: []}.get(
        number, ["--secure", "--max-epsilon", 8, "--max-runs", 40, *peer_words(work)]
    )
    environment = {"ECAN_PASSPHRASE_FILE": str(work / "phrase")} if number == TAKEN_OVER else {}
    return environment, ["federate", "join", *node_words(work, number), "--site", f"csv={corpus}", *rules]


def target_command(work: Path) -> tuple[dict[str, str], list[object]]:
    """Return those of a target site that has a bundle, recordings, and rules by which two updates may leave."""
    site = work / "ward"
    site.mkdir()
    write_run(work / "run")
    trust = cli.source("keys", "init", "--out", work / "source-keys").stdout.strip()
    steps = [
        cli.target("request", "--keys", site / "keys", "--out", site / "site.request"),
        cli.source(
            *("export", "--model", work / "run", "--keys", work / "source-keys", "--request", site / "site.request"),
            *("--file", site / "carried.ecan"),
        ),
        cli.target(
            *("receive", "--keys", site / "keys", "--from", site / "carried.ecan", "--trust", trust),
            *("--out", site / "model.ecan"),
        ),
        cli.approve(site / "model.ecan", site / "keys"),
    ]
    assert [step.code for step in steps] == [0] * 4, [step.stderr for step in steps]
    audio = synthesize(site / "psychiatry-audio", "harbor", speakers=2, utterances=1)
    rules = cli.site_rules(site / "site.yaml", rules="together:\n  rounds: 2\n")
    words = ["--keys", site / "keys", "--bundle", site / "model.ecan", "--audio", audio, "--config", rules]
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


def assert_refused(site: Place, told: Told, code: str, mark: int, *, before: int) -> None:
    """Check that one word came back, that nothing left, and that the site's log says why."""
    assert (told.word, told.fields, told.arrays, told.records) in (
        ("refused", {}, {}, ()),
        ("failed", {}, {}, ()),
    ), told
    said = said_since(site, mark)
    assert (f"{told.word} [{code}]" in said) if code.isupper() else (code in said), said
    assert site.answers() == before


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
    assert_refused(site, told, code, mark, before=before)
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
    Row("round 0", "RANGE", fields(round=0)),
    Row("round -1", "RANGE", fields(round=-1)),
    Row("round 2 of one", "RANGE", fields(round=2)),
    Row("round 2 of two first", "FAST_FORWARD", fields(round=2, plan=replace(OPEN, rounds=2).to_text())),
    Row("round 1 000 000", "RANGE", fields(round=1_000_000)),
    Row("round 2**62", "RANGE", fields(round=2**62)),
    Row("round as text", "PROTOCOL", fields(round="1")),
    Row("round as fraction", "PROTOCOL", fields(round=1.0)),
    Row("round as truth", IN_NODE, fields(round=True)),
    Row("round is not a number", IN_NODE, fields(round=float("nan"))),
    Row("no round", "PROTOCOL", fields(round=None)),
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
    Row("plan of a million rounds", "RANGE", plan(rounds=1_000_000)),
    Row("plan of NaN epsilon", "SettingsError", fields(plan=OPEN.to_text().replace('epsilon": 0.0', 'epsilon": NaN'))),
    Row("negative epsilon", "SettingsError", plan(epsilon=-1.0)),
    Row("unknown encoder", "SettingsError", plan(encoder="../../etc/passwd")),
    Row("secure plan at a site that knows nobody", "POLICY", plan(secure=True, min_sites=3)),
    Row("offers at a site that knows nobody", "POLICY", fields(offers="00", step="round 1")),
    Row("arrays of other classes", "EGRESS", fields(classes="anger,fear")),
    Row("a class that is no emotion", "UsageFault", fields(classes="anger,../../etc/passwd")),
    Row("one class", "UsageFault", fields(classes="anger")),
    Row("a class twice", "UsageFault", fields(classes="anger,anger")),
    Row("twenty thousand classes", "UsageFault", fields(classes=",".join(["anger"] * 10_000))),
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


@pytest.fixture(scope="module")
def many_runs(federation) -> Iterator[Callable[[], int]]:
    """Give out a run for each row; those that bind a run's terms would else use up the site's runs."""
    run, number = federation.coordinator.begin(), iter(range(1_000_000))
    shared = {"run": run}

    def next_run(is_own: bool) -> int:
        return federation.coordinator.begin() if is_own else shared["run"]

    assert next(number) == 0
    yield next_run


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_asked_of_a_site_without_rules(federation, many_runs, row):
    arrays = federation.start_of(OPEN)
    records = row.content(federation.fields(OPEN, round=1), arrays)
    told = records.get(CONFIG, (CONFIG, {}))[1]
    is_own = row.kind in ("train", "evaluate") and told.get(PLAN) != OPEN.to_text()
    is_own |= told.get(CLASSES) != federation.classes
    refused(federation.sites[PLAIN], many_runs(is_own), row.kind, records, row.code)


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
    ask("round 1 of other classes", "train", question | {CLASSES: federation.classes.rpartition(",")[0]}, start)
    ask("round 2 of one", "train", question | {ROUND: 2}, start)
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
    ("epsilon 1e-9", "UsageFault", lambda f: ("train", with_offers(f.fields(replace(CLOSED, epsilon=1e-9), round=1)))),
    ("seven rounds", "UsageFault", lambda f: ("train", with_offers(f.fields(replace(CLOSED, rounds=7), round=1)))),
    ("a second run that overspends", "POLICY", lambda f: ("train", with_offers(f.fields(CLOSED, round=1)))),
    ("a second run's tally", "POLICY", lambda f: ("evaluate", with_offers(f.fields(CLOSED)))),
    ("SecAgg+ setup", IN_NODE, lambda f: ("train", {"stage": ["setup"], "share_num": 1, "threshold": 1})),
    ("a key for no step", "PROTOCOL", lambda f: (KEYS, {STEP: "round 0"})),
    ("a key for any text", "PROTOCOL", lambda f: (KEYS, {STEP: "round 1\\n" * 9})),
    ("a key for nothing", "PROTOCOL", lambda f: (KEYS, {})),
]


def with_offers(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**fields, OFFERS: "00", STEP: "round 1"}


@pytest.mark.parametrize(("name", "code", "asked"), PROMISES, ids=[row[0] for row in PROMISES])
def test_row_against_a_sites_promise(federation, masking, name, code, asked):
    kind, fields = asked(federation)
    arrays = federation.start_of(CLOSED) if kind == "train" and PLAN in fields else {}
    refused(federation.sites[PROMISING], federation.coordinator.begin(), kind, sent(fields, arrays), code)


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
    refused(played.site, played.run, "train", sent({**fields, STEP: "round 2", OFFERS: offers}, arrays), "STATE")


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
