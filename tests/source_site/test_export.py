import hashlib
import socket
import stat
import threading
from dataclasses import replace

import numpy as np
import pytest

from ecan_core.errors import ModelError, UsageFault
from protocol import bundle
from protocol.egress import EgressRefused
from protocol.errors import Code, ConnectionFault, Refused, StorageFault, TimedOut, Unauthentic
from protocol.identity import Role, load_identity
from protocol.ledger import GrantState
from protocol.trust import verify
from protocol.wire.address import parse_address
from source_site.export import close_by_receipt, export_to_file, manifest_fields, serve_once
from source_site.keys import init_keys, open_ledger
from source_site.store import save_run
from tests.protocol.samples import random_model
from tests.source_site.runs import FACTS, write_run
from tests.support.calls import calling
from tests.support.loopback import require_loopback
from tests.support.sites import TODAY, new_identity, new_site, receipt_for

SITE = new_site()


@pytest.fixture
def place(tmp_path):
    """A source with a trained run and a request on its desk."""
    init_keys(tmp_path / "keys")
    write_run(tmp_path / "run")
    (tmp_path / "site.request").write_bytes(SITE.request)
    return tmp_path


def to_file(place, out="model.ecan", run="run", **options):
    return export_to_file(place / run, place / "keys", place / "site.request", place / out, today=TODAY, **options)


class Serving:
    """`serve_once` on another thread."""

    def __init__(self, place, listen="127.0.0.1:0", timeout_s=20.0):
        self._listening = threading.Event()
        self._arguments = (place / "run", place / "keys", place / "site.request", listen)
        self._timeout_s = timeout_s
        self.said = []
        self.outcome = None
        self.error = None

    def __enter__(self):
        require_loopback()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._listening.wait(20)
        return self

    def __exit__(self, *_):
        self._thread.join(20)

    def _run(self):
        try:
            self.outcome = serve_once(*self._arguments, today=TODAY, announce=self._say, timeout_s=self._timeout_s)
        except Exception as error:
            self.error = error
        self._listening.set()

    def _say(self, sentence):
        self.said.append(sentence)
        if sentence.startswith("listening"):
            self._listening.set()

    @property
    def address(self):
        return parse_address(self.said[-1].split()[2])


def grant_state(place):
    return open_ledger(place / "keys").find(SITE.grant).state


def outbox(place):
    return [path.name for path in (place / "keys" / "outbox").iterdir()]


def weights_of(data):
    return hashlib.sha256(bundle.split(data).weights).digest()


def take(serving, place):
    """Fetch and acknowledge as an honest site does."""
    source = load_identity(place / "keys")
    with calling(serving.address, SITE, source) as calls:
        data = b"".join(chunk.data for chunk in calls.fetch(calls.open().digest))
        calls.ack(receipt_for(SITE, data, weights_of(data)))
    return data


def test_what_is_exported_verifies_for_the_site_of_the_request_alone(place):
    outcome = to_file(place)
    data = (place / "model.ecan").read_bytes()
    issuer = load_identity(place / "keys").fingerprint
    verified = verify(data, issuer=issuer, audience=SITE.identity.fingerprint, grant=SITE.grant, today=TODAY)
    assert verified.digest == outcome.digest
    assert verified.manifest.classes == FACTS.classes
    assert verified.manifest.uar_src == 161
    with pytest.raises(Refused):
        verify(data, issuer=issuer, audience=bytes(32), grant=None, today=TODAY)


def test_a_file_is_the_same_bundle_as_the_wire(place):
    to_file(place)
    with Serving(place) as serving:
        data = take(serving, place)
    assert data == (place / "model.ecan").read_bytes()


def test_serving_ends_with_the_receipt_and_clears_the_outbox(place):
    with Serving(place) as serving:
        assert outbox(place) == [f"{SITE.grant.hex()}.ecan"]
        data = take(serving, place)
    assert serving.error is None
    assert serving.outcome.receipt.digest == hashlib.sha256(data).digest()
    assert serving.outcome.summary() == {
        "grant": SITE.grant.hex(),
        "audience": SITE.identity.fingerprint.hex(),
        "release": 1,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "closed": True,
    }
    assert grant_state(place) is GrantState.CLOSED
    assert outbox(place) == []


def test_what_is_served_is_announced_with_the_fingerprints_to_compare(place):
    with Serving(place) as serving:
        take(serving, place)
    said = " ".join(serving.said)
    assert SITE.identity.fingerprint.hex() in said
    assert load_identity(place / "keys").fingerprint.hex() in said
    assert str(serving.address) in said


def test_a_second_export_sends_the_same_bytes_even_of_another_model(place):
    first = to_file(place)
    write_run(place / "newer", seed=1)
    said = []
    second = to_file(place, "again.ecan", "newer", announce=said.append)
    assert second == first
    assert (place / "again.ecan").read_bytes() == (place / "model.ecan").read_bytes()
    assert "sealed then" in said[0]


def test_a_closed_grant_is_refused_and_the_remedy_is_a_new_request(place):
    with Serving(place) as serving:
        take(serving, place)
    for again in (lambda: to_file(place), lambda: serve(place)):
        with pytest.raises(Refused, match="ask the target site for a new request") as caught:
            again()
        assert caught.value.code is Code.STATE
    assert not (place / "model.ecan").exists()


def serve(place, listen="127.0.0.1:0", timeout_s=0.1):
    return serve_once(
        place / "run",
        place / "keys",
        place / "site.request",
        listen,
        today=TODAY,
        announce=lambda _: None,
        timeout_s=timeout_s,
    )


def test_a_crash_between_receipt_and_clean_up_leaves_no_bundle_for_long(place):
    to_file(place)
    sealed = place / "keys" / "outbox" / f"{SITE.grant.hex()}.ecan"
    open_ledger(place / "keys").close(SITE.grant, b"receipt", TODAY)
    assert sealed.exists()
    with pytest.raises(Refused):
        to_file(place)
    assert not sealed.exists()


def test_without_a_receipt_the_grant_stays_open_for_the_next_try(place):
    with pytest.raises(TimedOut, match="run the command again"):
        serve(place)
    assert grant_state(place) is GrantState.RESERVED
    with Serving(place) as serving:
        take(serving, place)
    assert serving.outcome is not None


def test_a_port_in_use_is_refused_with_the_remedy_and_without_harm(place):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConnectionFault, match="choose another port"),
    ):
        serve(place, f"127.0.0.1:{taken.getsockname()[1]}")
    assert grant_state(place) is GrantState.RESERVED


def test_an_address_of_another_form_is_refused_before_anything_is_sealed(place):
    with pytest.raises(ConnectionFault):
        serve(place, "7443")
    assert open_ledger(place / "keys").find(SITE.grant) is None


def test_a_receipt_that_came_by_hand_closes_the_grant(place):
    to_file(place)
    data = (place / "model.ecan").read_bytes()
    (place / "receipt").write_bytes(receipt_for(SITE, data, weights_of(data)))
    outcome = close_by_receipt(place / "keys", place / "site.request", place / "receipt", today=TODAY)
    assert outcome.summary()["closed"]
    assert grant_state(place) is GrantState.CLOSED
    assert outbox(place) == []


def test_a_strangers_receipt_closes_nothing(place):
    to_file(place)
    data = (place / "model.ecan").read_bytes()
    lie = receipt_for(SITE, data, weights_of(data), signer=new_identity(Role.TARGET))
    (place / "receipt").write_bytes(lie)
    with pytest.raises(Unauthentic):
        close_by_receipt(place / "keys", place / "site.request", place / "receipt", today=TODAY)
    assert grant_state(place) is GrantState.STREAMING


def test_a_receipt_for_what_was_never_exported_is_refused(place):
    (place / "receipt").write_bytes(b"")
    with pytest.raises(Refused) as caught:
        close_by_receipt(place / "keys", place / "site.request", place / "receipt", today=TODAY)
    assert caught.value.code is Code.GRANT


def test_a_model_that_may_not_leave_reserves_nothing(place):
    (place / "bad").mkdir()
    bank = {"bank.features": np.zeros((400, 128), np.float32)}
    save_run(place / "bad", random_model() | bank, FACTS)
    with pytest.raises(EgressRefused, match=r"bank\.features"):
        to_file(place, run="bad")
    assert open_ledger(place / "keys").find(SITE.grant) is None
    assert outbox(place) == []
    assert to_file(place).release == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("anger", "joy", "neutral", "sadness")},
        {"classes": ("sadness", "neutral", "happiness", "anger")},
        {"arch": "vgg-11"},
        {"frontend": "frames-v1"},
    ],
)
def test_a_run_of_another_version_is_refused(changes):
    with pytest.raises(ModelError, match="train it again"):
        manifest_fields(replace(FACTS, **changes), audience=bytes(32), grant=bytes(16), release=1, today=TODAY)


def test_a_missing_run_is_named(place):
    (place / "empty").mkdir()
    with pytest.raises(UsageFault, match="ecan-source train"):
        to_file(place, run="empty")


def test_a_request_that_was_changed_is_refused(place):
    before, mark, signature = SITE.request.partition(b'"sig":"')
    first = b"A" if signature[:1] != b"A" else b"B"
    (place / "site.request").write_bytes(before + mark + first + signature[1:])
    with pytest.raises(Unauthentic):
        to_file(place)


def test_a_damaged_outbox_is_a_fault_and_not_another_bundle(place):
    to_file(place)
    sealed = place / "keys" / "outbox" / f"{SITE.grant.hex()}.ecan"
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageFault, match="new request"):
        to_file(place)


def test_the_outbox_is_for_its_owner_alone(place):
    to_file(place)
    (sealed,) = (place / "keys" / "outbox").iterdir()
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_leaves_the_grant_open(place):
    with pytest.raises(StorageFault):
        to_file(place, "m" * 250)  # too long a name for the temporary file beside it
    assert to_file(place).num_bytes == (place / "model.ecan").stat().st_size


@pytest.mark.parametrize("out", ["missing/model.ecan", "keys/ledger.sqlite", "keys/outbox/new.ecan", "link/new.ecan"])
def test_a_file_without_a_folder_or_among_the_keys_is_refused_and_nothing_is_reserved(place, out):
    (place / "link").symlink_to(place / "keys")
    with pytest.raises(UsageFault, match="name"):
        to_file(place, out)
    assert open_ledger(place / "keys").find(SITE.grant) is None


def test_only_the_same_bundle_is_written_over(place):
    to_file(place)
    sealed = (place / "model.ecan").read_bytes()
    to_file(place)
    (place / "model.ecan").write_bytes(sealed + b"x")
    (place / "link.ecan").symlink_to(place / "run" / "nothing")
    for out in ("model.ecan", "link.ecan"):
        with pytest.raises(UsageFault, match="not there yet"):
            to_file(place, out)
    assert (place / "model.ecan").read_bytes() == sealed + b"x"
