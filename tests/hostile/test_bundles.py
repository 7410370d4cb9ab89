"""Hostile bundles, sealed files and trust states, given to ``ecan-target``.

Rows are those of the threat analysis. Not here, because the product has no such part: B34 (one policy of signatures,
and it has one), B64 (roots with thresholds), B66 (public backbones). Rows B14-B21 speak of an age file;
here they are about the sealed file that is in its place. It has one recipient and a head of 36 bytes, so most of what
those rows put into a head is a length that does not fit here; and no bundle of today fills a second segment.

Where this product ends differently from the analysis, the tables state what docs/operations.md and
docs/bundle-format.md say: DIGEST is a matter of authenticity (10); a length that disagrees with the file is TRUNCATED
or TRAILING; an envelope with two signatures has SIG_MISSING, for exactly one must be there; a key id is the key
itself, so a wrong one is KEY_UNKNOWN.
"""

import json
import os
import socket
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from protocol import canonical
from protocol.bundle.manifest import Manifest
from protocol.identity import signing
from protocol.locks import FOLDER_LOCK
from protocol.statements.revocations import Revocations, sign_revocations
from tests.ecan_core.audio.sounds import syllables
from tests.hostile import bundles as b
from tests.hostile import desks, sealed_files
from tests.hostile.bundle_cases import ADAPT, CASES, INSPECT, RECEIVE, Case, by_way
from tests.hostile.bundles import MARKER, SECOND_GRANT, SITE, TODAY, delivered
from tests.hostile.command_line import Ending, check_refused
from tests.hostile.desks import TRUST, Desk, check_unchanged_refusal, receipt
from tests.protocol.samples import ISSUER, OTHER_KEY, RELEASE_KEY
from tests.support import cli

TERABYTE = 1 << 40


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    folder = desks.write_template(tmp_path_factory.mktemp("site"))
    for number in range(2):
        write_voice(folder / "audio" / f"voice{number}.wav", number)
    return folder


@pytest.fixture
def desk(tmp_path, template) -> Desk:
    return desks.lay_out(tmp_path, template)


def write_voice(path: Path, number: int) -> None:
    sound = syllables(seconds=1.0, seed=number)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((sound / np.abs(sound).max() * 16_000).astype("<i2").tobytes())


def give(desk: Desk, plain: bytes, way: str) -> Callable[[], Ending]:
    """Put a bundle where a command will look for it, and return the command."""
    if way == RECEIVE:
        desk.lay("sealed", delivered(plain))
        return desk.receive
    desk.lay("model.ecan", plain)
    if way == ADAPT:
        desk.lay("model.ecan.receipt", receipt(plain))
        return desk.adapt
    return lambda: desk.run("inspect", "--bundle", "model.ecan")


@pytest.mark.parametrize("way", [RECEIVE, ADAPT, INSPECT])
def test_the_untouched_bundle_is_accepted(desk, way):
    ending = give(desk, b.honest(), way)()
    assert ending.code == 0, ending.stderr
    written = {RECEIVE: "model.ecan", ADAPT: "adapted/report.html", INSPECT: ".stdout"}
    assert (desk.folder / written[way]).stat().st_size


@pytest.mark.parametrize(
    "make",
    [b.frame, b.bundle_of, b.stating, lambda: b.weighing(b.packed()), lambda: b.with_values(lambda _: None)],
    ids=["frame", "signature", "manifest", "weights", "values"],
)
def test_what_the_tables_change_is_accepted_without_a_change(desk, make):
    ending = give(desk, make(), RECEIVE)()
    assert ending.code == 0, ending.stderr


def test_every_odd_header_is_one_that_the_library_loads():
    for name, data in b.odd_headers().items():
        assert load(data), name


@pytest.mark.parametrize(("case", "way"), [*by_way(CASES)])
def test_row_of_a_bundle(desk, case: Case, way: str):
    plain = case.make()
    run = give(desk, plain, way)
    check_unchanged_refusal(desk.folder, run, case.code, case.word, says=case.says, input_bytes=len(plain))


# B63: what a site asks of an audit, by its rules.

OVERRIDDEN = {"audit": "overridden", "lira_auc": 166}


def rules(desk: Desk, **asked: object) -> tuple[str, ...]:
    """The option that names rules of the site with these lines in them."""
    lines = "".join(f"{name}: {value}\n" for name, value in asked.items())
    cli.site_rules(desk.folder / "site.yaml", rules=f"approval: not-needed\n{lines}")
    return "--config", "site.yaml"


def ask(desk: Desk, plain: bytes, way: str, *options: object) -> Callable[[], Ending]:
    """A command that looks at a bundle with the site's rules at hand."""
    give(desk, plain, RECEIVE if way == RECEIVE else ADAPT)
    named = ("--keys", "keys", "--by", "Ada Byron", "--purpose", "research")
    approving = ("approve", "--bundle", "model.ecan", *named, *options)
    return {
        RECEIVE: lambda: desk.receive("sealed", *options),
        ADAPT: desk.adapt,
        "approve": lambda: desk.run(*approving),
    }[way]


@pytest.mark.parametrize("way", [RECEIVE, "approve", ADAPT])
@pytest.mark.parametrize(
    ("stated", "asked", "says"),
    [
        pytest.param(
            {"tier": 0, "audit": "measured"}, {"least_tier": 1}, "tier 0 and this site asks for tier 1", id="low"
        ),
        pytest.param({"tier": 1}, {"least_tier": 2}, "tier 1 and this site asks for tier 2", id="lower"),
        pytest.param(OVERRIDDEN, {"accept_overridden": "false"}, "has overridden that", id="overridden"),
        pytest.param(OVERRIDDEN, {"least_tier": 2}, "the source has overridden that", id="not-asked"),
        pytest.param(
            {"tier": 1, **OVERRIDDEN}, {"accept_overridden": "true", "least_tier": 2}, "asks for tier 2", id="both"
        ),
    ],
)
def test_row_b63_what_the_rules_do_not_take(desk, way, stated, asked, says):
    run = ask(desk, b.auditing(**stated), way, *rules(desk, **asked))
    check_unchanged_refusal(desk.folder, run, 11, "AUDIT", says=says)


def test_row_b63_what_no_audit_is_behind_is_refused_where_one_is_asked_for(desk):
    run = ask(desk, b.honest(), RECEIVE, *rules(desk, least_tier=1))
    check_unchanged_refusal(desk.folder, run, 11, "AUDIT", says="ask for a model of that tier")


@pytest.mark.parametrize(
    ("stated", "asked"),
    [
        ({}, {"least_tier": 2}),
        ({"tier": 1}, {"least_tier": 1}),
        (OVERRIDDEN, {"least_tier": 2, "accept_overridden": "true"}),
    ],
)
def test_row_b63_what_the_rules_take_is_received_and_said_in_words(desk, stated, asked):
    options = rules(desk, **asked)
    received = ask(desk, b.auditing(**stated), RECEIVE, *options)()
    assert received.code == 0, received.stderr
    named = ("--keys", "keys", "--by", "Ada Byron", "--purpose", "research")
    approved = desk.run("approve", "--bundle", "model.ecan", *named, *options)
    assert approved.code == 0, approved.stderr
    assert ("FAILED tier 2" if stated == OVERRIDDEN else "an audit clears tier") in approved.stderr
    assert "the source's own word" in approved.stderr


def test_row_b63_a_report_says_what_the_source_states(desk):
    options = rules(desk, accept_overridden="true")
    assert ask(desk, b.auditing(**OVERRIDDEN), RECEIVE, *options)().code == 0
    adapted = desk.adapt()
    assert adapted.code == 0, adapted.stderr
    told = json.loads((desk.folder / "adapted" / "report.json").read_text())["leakage"]
    assert "FAILED tier 2" in told[0]
    assert "own word" in told[-1]
    page = (desk.folder / "adapted" / "report.html").read_text()
    assert "FAILED tier 2" in page
    rules(desk)
    check_refused(desk.adapt(), 11, "AUDIT")


def test_a_low_rank_payload_is_accepted_and_its_room_is_printed(desk):
    """Row B67: the format cannot tell it from weights; the capacity says how much it can be at most."""
    assert give(desk, b.low_rank(), RECEIVE)().code == 0
    ending = desk.run("inspect", "--bundle", "model.ecan", "--format", "json")
    assert json.loads(ending.stdout)["capacity"]["bytes"] > 100_000


# B12-B22: the sealed file.


@pytest.mark.parametrize("case", sealed_files.CASES, ids=lambda case: f"{case.row}-{case.what.replace(' ', '-')}")
def test_row_of_a_sealed_file(desk, case: sealed_files.Case):
    desk.lay("sealed", case.make())
    check_unchanged_refusal(desk.folder, desk.receive, case.code, case.word, says=case.says)


@pytest.mark.parametrize(
    "case", [case for case in sealed_files.CASES if case.word != "RECIPIENT"], ids=lambda case: case.row
)
def test_row_of_a_sealed_file_that_is_inspected(desk, case: sealed_files.Case):
    desk.lay("sealed", case.make())
    words = ("inspect", "--bundle", "sealed", "--keys", "keys")
    if case.word == "POLICY":  # a bundle that was not sealed can be looked at
        assert desk.run(*words).code == 0
    else:
        word = case.inspected or case.word
        check_unchanged_refusal(desk.folder, lambda: desk.run(*words), case.code, word)


# B11, B12: what lies at a path.

WAYS = [RECEIVE, ADAPT, INSPECT]


def place(desk: Desk, name: str, what: str) -> None:
    """Something at a path that is not the regular file itself."""
    path = desk.folder / name
    if what == "link":
        path.symlink_to(desk.lay("elsewhere", delivered(b.honest()) if name == "sealed" else b.honest()))
    elif what == "link to a link":
        (desk.folder / "first").symlink_to(desk.lay("elsewhere", b.honest()))
        path.symlink_to(desk.folder / "first")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "sparse":
        path.touch()
        os.truncate(path, TERABYTE)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(desk.folder)  # a socket's path must be short
            try:
                server.bind(name)
            finally:
                os.chdir(here)


PLACES = [
    ("B11", "link", 12, "NOT_REGULAR"),
    ("B11b", "link to a link", 12, "NOT_REGULAR"),
    ("B11c", "pipe", 12, "NOT_REGULAR"),
    ("B11d", "folder", 12, "NOT_REGULAR"),
    ("B11e", "socket", 12, "NOT_REGULAR"),
    ("B12", "sparse", 12, "LENGTH"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("row", "what", "code", "word"), PLACES, ids=lambda value: str(value).replace(" ", "-"))
def test_row_of_a_path(desk, way, row, what, code, word):
    place(desk, "sealed" if way == RECEIVE else "model.ecan", what)
    run = {
        RECEIVE: desk.receive,
        ADAPT: desk.adapt,
        INSPECT: lambda: desk.run("inspect", "--bundle", "model.ecan"),
    }[way]
    if what == "folder" and way != RECEIVE:  # found before the command begins: wrong usage
        code, word = 2, ""
    check_unchanged_refusal(desk.folder, run, code, word)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/urandom", "/dev/tty"])
def test_row_b11_device(desk, way, device):
    run = {
        RECEIVE: lambda: desk.receive(device),
        ADAPT: lambda: desk.adapt(bundle=device),
        INSPECT: lambda: desk.run("inspect", "--bundle", device),
    }[way]
    check_unchanged_refusal(desk.folder, run, 12, "NOT_REGULAR")


def test_row_b11_link_that_leads_nowhere(desk):
    (desk.folder / "sealed").symlink_to("nowhere")
    check_unchanged_refusal(desk.folder, desk.receive, 4, "ADDRESS")


def test_row_b11_something_else_at_out(desk):
    desk.lay("sealed", delivered(b.honest()))
    desk.lay("model.ecan", MARKER.encode())
    check_unchanged_refusal(desk.folder, desk.receive, 2, "")


def test_row_b11_link_at_out_is_not_followed(desk):
    desk.lay("sealed", delivered(b.honest()))
    victim = desk.lay("victim", b"untouched")
    (desk.folder / "model.ecan").symlink_to(victim)
    assert desk.receive("sealed", "--replace").code == 0
    assert victim.read_bytes() == b"untouched"
    assert not (desk.folder / "model.ecan").is_symlink()


@pytest.mark.parametrize("name", ["model.ecan.partial", "model.ecan.receipt"])
def test_row_b11_planted_link_is_not_followed(desk, name):
    desk.lay("sealed", delivered(b.honest()))
    victim = desk.lay("victim", b"untouched")
    (desk.folder / name).symlink_to(victim)
    assert desk.receive().code == 0
    assert victim.read_bytes() == b"untouched"


def test_row_b11_planted_link_as_lock(desk):
    desk.lay("sealed", delivered(b.honest()))
    (desk.folder / "model.ecan.partial.lock").symlink_to(desk.lay("victim", b"untouched"))
    check_unchanged_refusal(desk.folder, desk.receive, 16, "STORAGE")


def test_row_b11_out_in_a_folder_that_is_missing(desk):
    desk.lay("sealed", delivered(b.honest()))
    run = lambda: desk.run(  # noqa: E731
        *("receive", "--keys", "keys", "--from", "sealed", "--trust", TRUST, "--out", "missing/model.ecan")
    )
    check_unchanged_refusal(desk.folder, run, 16, "STORAGE")


@pytest.mark.parametrize("name", ["trust.state", "signing.key", "new.ecan"])
def test_row_b11_out_among_the_keys(desk, name):
    desk.lay("sealed", delivered(b.honest()))
    words = ("receive", "--keys", "keys", "--from", "sealed", "--trust", TRUST, "--out", f"keys/{name}", "--replace")
    check_unchanged_refusal(desk.folder, lambda: desk.run(*words), 2, "")


@pytest.mark.parametrize("name", ["keys/signing.key", "keys/trust.state", "model.ecan"])
def test_row_b11_page_over_something_else(desk, name):
    desk.lay("model.ecan", b.honest())
    words = ("inspect", "--bundle", "model.ecan", "--format", "html", "--out", name)
    check_unchanged_refusal(desk.folder, lambda: desk.run(*words), 2, "")


@pytest.mark.parametrize("name", ["model.ecan.partial", "model.ecan.partial.lock", "model.ecan.receipt"])
def test_row_b11_input_with_a_name_of_our_own(desk, name):
    sealed = desk.lay(name, delivered(b.honest()))
    before = sealed.read_bytes()
    desk.receive(name)
    assert sealed.exists()
    assert sealed.read_bytes() == before


# B13: a file that is replaced while it is read.


def test_row_b13_sealed_file_replaced_after_its_first_reading(desk):
    desk.lay("sealed", delivered(b.honest()))
    desk.lay("other", delivered(b.honest(seed=1)))
    before = desk.snapshot()
    ending = desk.run_replacing("sealed", "other", 2, *desks.receiving())
    check_refused(ending, 10, "DIGEST", never=[MARKER])
    after = desk.snapshot()
    assert after.pop("sealed") == before["other"]
    del before["sealed"]
    assert after == before


def test_row_b13_bundle_replaced_after_it_was_verified(desk):
    """What is adapted is what was verified, not what lies at its path by then."""
    desk.lay("model.ecan", b.honest())
    desk.lay("model.ecan.receipt", receipt(b.honest()))
    desk.lay("other", b.honest(seed=1))
    ending = desk.run_replacing("model.ecan", "other", 1, *desks.adapting(), trigger=FOLDER_LOCK)
    check_refused(ending, 10, "RECEIPT", never=[MARKER])
    assert {path.name for path in (desk.folder / "adapted").iterdir()} == {
        "audit.jsonl",
        "audit.head",
        "audit.key",
        "cache",
    }


# B59, B60: what this site remembers.


def remember_release(desk: Desk, release: int = 7) -> None:
    desk.remember(lambda state: state.accepted(Manifest.from_bytes(b.payload(release=release))))


@pytest.mark.parametrize(
    ("row", "fields", "word"),
    [
        ("B60-same-release-with-other-weights", {"release": 7, "seed": 1}, "ROLLBACK"),
        ("B60b-release-before", {"release": 6}, "ROLLBACK"),
        ("B60c-first-release", {"release": 1}, "ROLLBACK"),
        ("B60d-65-releases-later", {"release": 72}, "FAST_FORWARD"),
        ("B60e-last-number", {"release": 65535}, "FAST_FORWARD"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_row_of_a_release(desk, row, fields, word):
    remember_release(desk)
    check_unchanged_refusal(desk.folder, give(desk, b.honest(**fields), RECEIVE), 11, word)


@pytest.mark.parametrize("release", [7, 8, 71])
def test_a_release_within_the_window_is_accepted(desk, release):
    remember_release(desk)
    ending = give(desk, b.honest(release=release), RECEIVE)()
    assert ending.code == 0, ending.stderr


@pytest.mark.parametrize("what", ["other weights", "sealed anew"])
def test_row_b59_grant_used_already(desk, what):
    assert give(desk, b.honest(), RECEIVE)().code == 0
    (desk.folder / "model.ecan").unlink()
    (desk.folder / "model.ecan.receipt").unlink()
    again = b.honest(seed=1, release=8) if what == "other weights" else b.honest()
    check_unchanged_refusal(desk.folder, give(desk, again, RECEIVE), 11, "GRANT")


# B62: withdrawn before and after.


def revoke(desk: Desk, *, weights: bytes = b"", key: bytes = b"", version: int = 1) -> None:
    """Withdraw the weights of a bundle or a key, with the source's list carried by hand."""
    digests = frozenset([b.sha256(bytes(b.bundle.split(weights).weights))]) if weights else frozenset[bytes]()
    keys = frozenset([key]) if key else frozenset[bytes]()
    statement = sign_revocations(Revocations(version=version, day=TODAY, weights=digests, keys=keys), RELEASE_KEY)
    desk.lay("revocations", statement)
    ending = desk.run("trust", "update", "--keys", "keys", "--statement", "revocations", "--trust", TRUST)
    assert ending.code == 0, ending.stderr


def test_row_b62_weights_withdrawn_before_import(desk):
    revoke(desk, weights=b.honest())
    check_unchanged_refusal(desk.folder, give(desk, b.honest(), RECEIVE), 11, "REVOKED")


def test_row_b62_weights_withdrawn_after_import(desk):
    assert give(desk, b.honest(), RECEIVE)().code == 0
    revoke(desk, weights=b.honest())
    check_unchanged_refusal(desk.folder, lambda: desk.adapt("--keys", "keys"), 11, "REVOKED")
    check_unchanged_refusal(desk.folder, desk.receive, 11, "REVOKED")


def test_row_b62_weights_withdrawn_after_adaptation(desk):
    assert give(desk, b.honest(), RECEIVE)().code == 0
    assert desk.adapt("--keys", "keys").code == 0
    revoke(desk, weights=b.honest())
    words = ("predict", "--model", "adapted", "--audio", "audio", "--keys", "keys", "--out", "predictions")
    check_unchanged_refusal(desk.folder, lambda: desk.run(*words), 11, "REVOKED")


def test_row_b62_key_withdrawn_before_import(desk):
    revoke(desk, key=ISSUER)
    check_unchanged_refusal(desk.folder, give(desk, b.honest(), RECEIVE), 11, "REVOKED")


def test_row_b62_key_withdrawn_after_import(desk):
    assert give(desk, b.honest(), RECEIVE)().code == 0
    revoke(desk, key=ISSUER)
    check_unchanged_refusal(desk.folder, lambda: desk.adapt("--keys", "keys"), 11, "REVOKED")
    check_unchanged_refusal(desk.folder, desk.receive, 11, "REVOKED")


def test_other_weights_than_the_withdrawn_are_accepted(desk):
    revoke(desk, weights=b.honest(seed=1))
    assert give(desk, b.honest(), RECEIVE)().code == 0


# B65: the site's memory.


def spoil(change: Callable[[bytes], bytes]) -> Callable[[Desk], None]:
    return lambda desk: void(desk.state.write_bytes(change(desk.state.read_bytes())))


def void(_: object) -> None:
    pass


def restate(**changes: object) -> Callable[[Desk], None]:
    """A memory with other content and the right check sum, as a later or foreign program might write it."""

    def change(data: bytes) -> bytes:
        value = json.loads(data) | changes
        content = {"lost": value["lost"], "sources": value["sources"]}
        return b.compact(value | {"check": b.sha256(canonical.encode(content)).hex()} | changes)

    return spoil(change)


def replace_state(desk: Desk, what: str) -> None:
    data = desk.state.read_bytes()
    desk.state.unlink()
    if what == "link":
        copy = desk.lay("copy.state", data)
        copy.chmod(0o600)
        desk.state.symlink_to(copy)
    elif what == "pipe":
        os.mkfifo(desk.state, 0o600)
    elif what == "folder":
        desk.state.mkdir()


STATES: dict[str, Callable[[Desk], None]] = {
    "B65-deleted": lambda desk: desk.state.unlink(),
    "B65b-empty": spoil(lambda _: b""),
    "B65c-half": spoil(lambda data: data[: len(data) // 2]),
    "B65d-last-byte-missing": spoil(lambda data: data[:-1]),
    "B65e-bit-flipped": spoil(lambda data: b.flip(data, 8 * data.index(b'"release":7') + 80)),
    "B65f-zeros": spoil(lambda data: bytes(len(data))),
    "B65g-noise": spoil(lambda _: MARKER.encode() * 50),
    "B65h-line-feed": spoil(lambda data: data + b"\n"),
    "B65i-twice": spoil(lambda data: data * 2),
    "B65j-other-version": restate(v=3),
    "B65k-unknown-field": restate(note=MARKER),
    "B65l-wrong-check": restate(check="0" * 64),
    "B65m-sources-is-an-object": restate(sources={}),
    "B65n-sources-is-null": restate(sources=None),
    "B65o-source-without-fields": restate(sources=[{}]),
    "B65p-source-is-text": restate(sources=[MARKER]),
    "B65q-nested": spoil(lambda _: b"[" * 200_000),
    "B65r-two-megabytes": spoil(lambda _: b" " * 2**21),
    "B65s-sparse": lambda desk: os.truncate(desk.state, TERABYTE),
    "B65t-read-by-others": lambda desk: desk.state.chmod(0o644),
    "B65u-written-by-the-group": lambda desk: desk.state.chmod(0o620),
    "B65v-link": lambda desk: replace_state(desk, "link"),
    "B65w-pipe": lambda desk: replace_state(desk, "pipe"),
    "B65x-folder": lambda desk: replace_state(desk, "folder"),
}


def trust_commands(desk: Desk) -> dict[str, Callable[[], Ending]]:
    """Every command that asks this site's memory."""
    empty = Revocations(version=1, day=TODAY, weights=frozenset(), keys=frozenset())
    desk.lay("sealed", delivered(b.honest()))
    desk.lay("kept.ecan", b.honest())
    desk.lay("kept.ecan.receipt", receipt(b.honest()))
    desk.lay("statement", sign_revocations(empty, RELEASE_KEY))
    return {
        "receive": desk.receive,
        "show": lambda: desk.run("trust", "show", "--keys", "keys"),
        "update": lambda: desk.run("trust", "update", "--keys", "keys", "--statement", "statement"),
        "adapt": lambda: desk.adapt("--keys", "keys", bundle="kept.ecan"),
    }


@pytest.mark.parametrize("command", ["receive", "show", "update", "adapt"])
def test_a_whole_memory_serves_every_command(desk, command):
    remember_release(desk)
    assert trust_commands(desk)[command]().code == 0


@pytest.mark.parametrize("name", STATES)
def test_row_of_a_memory(desk, name):
    remember_release(desk)
    run = trust_commands(desk)["receive"]
    STATES[name](desk)
    check_unchanged_refusal(desk.folder, run, 10, "STATE_LOST", says="ecan-target trust reset")


@pytest.mark.parametrize("command", ["show", "update", "adapt"])
@pytest.mark.parametrize("name", ["B65-deleted", "B65c-half", "B65t-read-by-others", "B65w-pipe"])
def test_row_of_a_memory_for_other_commands(desk, name, command):
    remember_release(desk)
    run = trust_commands(desk)[command]
    STATES[name](desk)
    check_unchanged_refusal(desk.folder, run, 10, "STATE_LOST", says="ecan-target trust reset")


def test_row_b65_source_listed_twice(desk):
    """With a valid check sum: an empty entry before the true one would hide all that is known."""
    remember_release(desk)
    (known,) = json.loads(desk.state.read_bytes())["sources"]
    restate(sources=[known | {"release": 0, "weights": "00" * 32}, known])(desk)
    desk.lay("sealed", delivered(b.honest(release=1)))
    check_unchanged_refusal(desk.folder, desk.receive, 10, "STATE_LOST")


def test_row_b65_request_does_not_begin_anew_in_silence(desk):
    desk.state.unlink()
    ending = desk.run("request", "--keys", "keys", "--out", "again.request")
    assert ending.code == 0  # asking changes nothing that is remembered
    assert not desk.state.exists()


def test_row_b65_after_a_reset_no_source_is_met_for_the_first_time(desk):
    desk.state.unlink()
    other = signing.fingerprint_of(signing.raw_public_key(OTHER_KEY)).hex()
    assert desk.run("trust", "reset", "--keys", "keys", "--trust", other, "--release", "3").code == 0
    check_unchanged_refusal(desk.folder, give(desk, b.honest(), RECEIVE), 10, "STATE_LOST")


def test_a_bundle_that_was_never_received_is_not_adapted_past_the_sites_memory(desk):
    """Only `receive` compares with the memory and writes to it; naming the source instead of a receipt is no way in."""
    remember_release(desk)
    desk.lay("model.ecan", b.honest(release=6))
    check_unchanged_refusal(desk.folder, lambda: desk.adapt("--keys", "keys"), 10, "RECEIPT")
    check_unchanged_refusal(desk.folder, lambda: desk.adapt("--keys", "keys", "--trust", TRUST), 2, "")


# The receipt beside a bundle.

RECEIPTS: dict[str, tuple[Callable[[], bytes | None], int, str]] = {
    "none": (lambda: None, 10, "RECEIPT"),
    "empty": (lambda: b"", 10, "RECEIPT"),
    "cut": (lambda: receipt(b.honest())[:-1], 10, "RECEIPT"),
    "text": (lambda: MARKER.encode() * 100, 10, "RECEIPT"),
    "too-long": (lambda: receipt(b.honest()) + b" " * 4096, 10, "RECEIPT"),
    "line-feed": (lambda: receipt(b.honest()) + b"\n", 10, "RECEIPT"),
    "bit-flipped": (lambda: b.flip(receipt(b.honest()), 800), 10, "RECEIPT"),
    "brackets": (lambda: b"[" * 4096, 10, "RECEIPT"),
    "of-another-bundle": (lambda: receipt(b.honest(seed=1)), 10, "RECEIPT"),
    "of-another-grant": (lambda: receipt(b.honest(), grant=SECOND_GRANT), 11, "GRANT"),
    "of-another-site": (lambda: receipt(b.honest(), key=b.OTHER_SITE.identity.signing_key), 10, "KEY_UNKNOWN"),
    "of-the-source": (lambda: receipt(b.honest(), key=RELEASE_KEY), 10, "KEY_UNKNOWN"),
    "request-as-receipt": (lambda: SITE.request, 10, "RECEIPT"),
    "manifest-as-receipt": (lambda: bytes(b.bundle.split(b.honest()).envelope), 10, "KEY_UNKNOWN"),
    "verdict-refused": (lambda: receipt(b.honest(), verdict="refused"), 10, "RECEIPT"),
}


@pytest.mark.parametrize("name", RECEIPTS)
@pytest.mark.parametrize("options", [(), ("--keys", "keys")], ids=["alone", "keys"])
def test_row_of_a_receipt_beside_a_bundle(desk, name, options):
    make, code, word = RECEIPTS[name]
    desk.lay("model.ecan", b.honest())
    if (data := make()) is not None:
        desk.lay("model.ecan.receipt", data)
    check_unchanged_refusal(desk.folder, lambda: desk.adapt(*options), code, word)


def test_row_of_a_receipt_that_is_a_link(desk):
    desk.lay("model.ecan", b.honest())
    (desk.folder / "model.ecan.receipt").symlink_to(desk.lay("elsewhere", receipt(b.honest())))
    check_unchanged_refusal(desk.folder, desk.adapt, 10, "RECEIPT")


def test_row_of_a_receipt_of_a_terabyte(desk):
    desk.lay("model.ecan", b.honest())
    place(desk, "model.ecan.receipt", "sparse")
    check_unchanged_refusal(desk.folder, desk.adapt, 10, "RECEIPT")


def test_row_of_a_bundle_that_this_site_never_received(desk):
    """Another site's bundle with that site's own receipt is usable there, not here."""
    plain = b.honest(audience=b.OTHER_SITE.identity.fingerprint)
    desk.lay("model.ecan", plain)
    desk.lay("model.ecan.receipt", receipt(plain, key=b.OTHER_SITE.identity.signing_key))
    check_unchanged_refusal(desk.folder, lambda: desk.adapt("--keys", "keys"), 10, "KEY_UNKNOWN")
