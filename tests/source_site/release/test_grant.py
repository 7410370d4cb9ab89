import hashlib
import socket
import stat
import threading
from dataclasses import replace

import numpy as np
import pytest

from ecan_core.errors import ModelError, UsageError
from protocol.bundle import frame
from protocol.bundle.egress import EgressError
from protocol.bundle.sealing import outline, unseal
from protocol.bundle.stated_audit import AuditFields
from protocol.bundle.trust import Anchor, verify
from protocol.errors import Code, FileError, KeyFileError, MalformedError, PeerError, RefusedError, UnauthenticError
from protocol.identity.identities import Role
from protocol.identity.key_files import load_identity, load_server_identity, write_identity
from protocol.ledger.grants import GrantState
from protocol.sandbox.landlock import landlock_abi
from protocol.wire.address import parse_address
from source_site.keys.folder import init_keys, load_keys, open_ledger
from source_site.release import exporter
from source_site.release.grant import Session, close_by_receipt, export_to_file, grant, manifest_fields
from source_site.release.outbox import read_kept_request, summary
from source_site.release.revoke import revoke_key, revoke_release
from source_site.training.run_folder import save_run
from tests.protocol.samples import random_model
from tests.source_site.training.runs import FACTS, write_run
from tests.support.calls import calling
from tests.support.loopback import require_loopback
from tests.support.sites import TODAY, new_identity, new_site, receipt_for

NOW_S = TODAY * 86_400 + 12_345
UNCONFINED = {"unconfined": landlock_abi() == 0}
SITE, OTHER_SITE = new_site(), new_site()


@pytest.fixture
def place(tmp_path):
    """A source with a trained run and two requests on its desk."""
    init_keys(tmp_path / "keys")
    write_run(tmp_path / "run")
    (tmp_path / "site.request").write_bytes(SITE.request)
    (tmp_path / "other.request").write_bytes(OTHER_SITE.request)
    return tmp_path


def session(place, run="run", **options):
    return Session(run_dir=place / run, keys_dir=place / "keys", now_s=NOW_S, **UNCONFINED, **options)


def grants(place, *requests, run="run", **options):
    paths = [place / name for name in requests or ("site.request",)]
    return grant(session(place, run, **options), paths)


def to_file(place, out="model.ecsl", run="run", **options):
    return export_to_file(session(place, run, **options), place / "site.request", place / out)


def serve(place, *chosen, listen="127.0.0.1:0", timeout_s=0.1, announce=lambda _: None):
    return exporter.export(
        place / "keys",
        chosen,
        parse_address(listen),
        load_server_identity(place / "keys"),
        announce=announce,
        timeout_s=timeout_s,
    )


class Serving:
    """`exporter.export` on another thread."""

    def __init__(self, place, *chosen, timeout_s=20.0):
        self._listening = threading.Event()
        self._arguments = (place, *chosen)
        self._timeout_s = timeout_s
        self.said = []
        self.records = None
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
            self.records = serve(*self._arguments, announce=self._say, timeout_s=self._timeout_s)
        except Exception as error:
            self.error = error
        self._listening.set()

    def _say(self, sentence):
        self.said.append(sentence)
        if sentence.startswith("listening"):
            self._listening.set()

    @property
    def address(self):
        (line,) = (line for line in self.said if line.startswith("listening"))
        return parse_address(line.split()[2])


def record_of(place, site=SITE):
    return open_ledger(place / "keys").find(site.grant)


def outbox(place):
    return sorted(path.name for path in (place / "keys" / "outbox").iterdir())


def sealed_file(place, site=SITE):
    return place / "keys" / "outbox" / f"{site.grant.hex()}.sealed"


def plain_of(delivered, site=SITE):
    return bytes(unseal(delivered, site.identity.sealing_key))


def weights_of(plain):
    return hashlib.sha256(frame.split(plain).weights).digest()


def receipt_of(delivered, site=SITE, **options):
    plain = plain_of(delivered, site)
    return receipt_for(site, plain, weights_of(plain), delivered=delivered, **options)


def take(serving, place, site=SITE):
    """Fetch and acknowledge as an honest site does."""
    source = load_identity(place / "keys")
    with calling(serving.address, site, source) as calls:
        data = b"".join(chunk.data for chunk in calls.fetch(calls.open().sealed_sha256))
        calls.ack(receipt_of(data, site))
    return data


def test_what_is_exported_verifies_for_the_site_of_the_request_alone(place):
    record = to_file(place)
    plain = plain_of((place / "model.ecsl").read_bytes())
    issuer = load_identity(place / "keys").fingerprint
    anchor = Anchor(issuer=issuer, today=TODAY, audience=SITE.identity.fingerprint, grants=frozenset({SITE.grant}))
    verified = verify(plain, anchor)
    assert verified.digest == record.bundle_sha256
    assert verified.manifest.classes == FACTS.classes
    assert (verified.manifest.uar_src, verified.manifest.uar_q_loss) == (161, 1)
    with pytest.raises(RefusedError):
        verify(plain, replace(anchor, audience=bytes(32), grants=None))


def test_what_leaves_is_closed_to_everybody_but_the_site_of_the_request(place):
    to_file(place)
    delivered = (place / "model.ecsl").read_bytes()
    assert outline(delivered).grant == SITE.grant
    with pytest.raises(UnauthenticError):
        plain_of(delivered, OTHER_SITE)


def test_a_grant_seals_and_lets_nothing_out(place):
    (record,) = grants(place)
    assert (record.state, record.release) == (GrantState.ISSUED, 1)
    assert record.sealed_sha256 == hashlib.sha256(sealed_file(place).read_bytes()).digest()
    assert outbox(place) == [f"{SITE.grant.hex()}.request", f"{SITE.grant.hex()}.sealed"]
    released = place / "keys" / "released" / f"{SITE.grant.hex()}.ecan"
    assert released.read_bytes() == plain_of(sealed_file(place).read_bytes())
    assert read_kept_request(place / "keys", SITE.grant).fingerprint == SITE.identity.fingerprint


def test_sites_that_are_given_the_same_model_are_given_the_same_release(place):
    first, second = grants(place, "site.request", "other.request")
    assert (first.release, second.release) == (1, 1)
    assert first.weights_sha256 == second.weights_sha256
    assert first.sealed_sha256 != second.sealed_sha256
    write_run(place / "newer", seed=1)
    third_site = new_site()
    (place / "third.request").write_bytes(third_site.request)
    (third,) = grants(place, "third.request", run="newer")
    assert third.release == 2


def test_a_file_is_the_same_sealed_bundle_as_the_wire(place):
    to_file(place)
    with Serving(place, SITE.grant) as serving:
        data = take(serving, place)
    assert data == (place / "model.ecsl").read_bytes()


def test_serving_ends_with_the_receipt_and_clears_the_outbox(place):
    grants(place)
    with Serving(place, SITE.grant) as serving:
        assert len(outbox(place)) == 2
        data = take(serving, place)
    assert serving.error is None
    (record,) = serving.records
    assert summary(record) == {
        "grant": SITE.grant.hex(),
        "audience": SITE.identity.fingerprint.hex(),
        "release": 1,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "bundle_sha256": hashlib.sha256(plain_of(data)).hexdigest(),
        "state": "CLOSED",
        "closed": True,
    }
    assert record_of(place).state is GrantState.CLOSED
    assert outbox(place) == []


def test_every_grant_that_is_open_is_served_when_none_is_named(place):
    grants(place, "site.request", "other.request")
    with Serving(place) as serving:
        take(serving, place, OTHER_SITE)
        take(serving, place)
    assert {record.state for record in serving.records} == {GrantState.CLOSED}
    assert outbox(place) == []
    said = []
    assert serve(place, announce=said.append) == ()
    assert "issue one with `ecan-source grant`" in said[-1]


def test_a_grant_that_is_not_in_the_ledger_is_not_served(place):
    grants(place)
    with pytest.raises(RefusedError) as caught:
        serve(place, SITE.grant, OTHER_SITE.grant)
    assert caught.value.code is Code.GRANT


def test_a_request_that_is_named_twice_is_one_grant(place):
    assert len(grants(place, "site.request", "other.request", "site.request")) == 2


def test_what_is_served_is_announced_with_the_fingerprints_to_compare(place):
    grants(place)
    with Serving(place) as serving:
        take(serving, place)
    said = " ".join(serving.said)
    assert SITE.identity.fingerprint.hex() in said
    assert load_identity(place / "keys").fingerprint.hex() in said


def test_a_second_export_sends_the_same_bytes_even_of_another_model(place):
    first = to_file(place)
    write_run(place / "newer", seed=1)
    said = []
    second = to_file(place, "again.ecsl", "newer", announce=said.append)
    assert second == first
    assert (place / "again.ecsl").read_bytes() == (place / "model.ecsl").read_bytes()
    assert "sealed then" in said[0]


def test_a_second_export_needs_neither_the_model_nor_the_release_key(place):
    to_file(place)
    (place / "keys" / "signing.key").unlink()
    (place / "run" / "run.json").unlink()
    assert to_file(place, "again.ecsl").state is GrantState.STREAMING


def test_a_closed_grant_is_refused_and_the_remedy_is_a_new_request(place):
    grants(place)
    with Serving(place) as serving:
        take(serving, place)
    for again in (lambda: to_file(place), lambda: grants(place, "other.request", "site.request")):
        with pytest.raises(RefusedError, match="ask the target site for a new request") as caught:
            again()
        assert caught.value.code is Code.STATE
    assert not (place / "model.ecsl").exists()
    assert record_of(place, OTHER_SITE) is None, "all requests are looked at before anything is sealed"


def test_a_crash_between_receipt_and_clean_up_leaves_no_bundle_for_long(place):
    to_file(place)
    open_ledger(place / "keys").close(SITE.grant, b"receipt", now_s=NOW_S)
    assert len(outbox(place)) == 2
    grants(place, "other.request")
    assert outbox(place) == [f"{OTHER_SITE.grant.hex()}.request", f"{OTHER_SITE.grant.hex()}.sealed"]


def test_without_a_receipt_the_grant_stays_open_for_the_next_try(place):
    grants(place)
    require_loopback()
    (record,) = serve(place)
    assert record.state is GrantState.ISSUED
    with Serving(place) as serving:
        take(serving, place)
    assert serving.records[0].state is GrantState.CLOSED


def test_a_port_in_use_is_refused_with_the_remedy_and_without_harm(place):
    grants(place)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(PeerError, match="choose another port"),
    ):
        serve(place, listen=f"127.0.0.1:{taken.getsockname()[1]}")
    assert record_of(place).state is GrantState.ISSUED


def test_a_request_that_was_put_in_another_ones_place_is_a_fault(place):
    grants(place)
    (place / "keys" / "outbox" / f"{SITE.grant.hex()}.request").write_bytes(OTHER_SITE.request)
    with pytest.raises(FileError, match="not the request of its grant"):
        serve(place)


def test_a_receipt_that_came_by_hand_closes_the_grant(place):
    to_file(place)
    (place / "receipt").write_bytes(receipt_of((place / "model.ecsl").read_bytes()))
    record = close_by_receipt(place / "keys", place / "site.request", place / "receipt", now_s=NOW_S)
    assert summary(record)["closed"]
    assert record_of(place).state is GrantState.CLOSED
    assert outbox(place) == []


def test_a_strangers_receipt_closes_nothing(place):
    to_file(place)
    lie = receipt_of((place / "model.ecsl").read_bytes(), signer=new_identity(Role.TARGET))
    (place / "receipt").write_bytes(lie)
    with pytest.raises(UnauthenticError):
        close_by_receipt(place / "keys", place / "site.request", place / "receipt", now_s=NOW_S)
    assert record_of(place).state is GrantState.STREAMING


def test_a_receipt_for_what_was_never_exported_is_refused(place):
    (place / "receipt").write_bytes(b"")
    with pytest.raises(RefusedError) as caught:
        close_by_receipt(place / "keys", place / "site.request", place / "receipt", now_s=NOW_S)
    assert caught.value.code is Code.GRANT


def test_a_model_that_may_not_leave_reserves_nothing(place):
    (place / "bad").mkdir()
    bank = {"bank.features": np.zeros((400, 128), np.float32)}
    save_run(place / "bad", random_model() | bank, FACTS)
    with pytest.raises(EgressError, match=r"bank\.features"):
        to_file(place, run="bad")
    assert record_of(place) is None
    assert outbox(place) == []
    assert list((place / "keys" / "released").iterdir()) == []
    assert to_file(place).release == 1


def test_a_model_that_quantization_makes_worse_does_not_leave(place):
    write_run(place / "coarse", facts=replace(FACTS, uar_float=0.7, uar_source=0.694))
    with pytest.raises(RefusedError, match="train longer, with weight decay or with another seed") as caught:
        grants(place, run="coarse")
    assert (caught.value.code, caught.value.exit_code) == (Code.UTILITY, 11)
    assert "0.6 points" in str(caught.value)
    assert record_of(place) is None


@pytest.mark.parametrize(
    ("uar_float", "uar_source", "stated"),
    [(0.705, 0.7, 1), (0.7001, 0.7, 1), (0.7, 0.7, 0), (0.7, 0.75, 0), (0.0, 0.0, 0)],
)
def test_a_loss_of_half_a_point_a_gain_and_no_estimate_may_leave(place, uar_float, uar_source, stated):
    facts = replace(FACTS, uar_float=uar_float, uar_source=uar_source)
    write_run(place / "other", facts=facts)
    assert grants(place, run="other")[0].state is GrantState.ISSUED
    fields = manifest_fields(facts, AuditFields(), audience=bytes(32), grant=bytes(16), release=1, today=TODAY)
    assert fields.uar_q_loss == stated


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
        manifest_fields(
            replace(FACTS, **changes), AuditFields(), audience=bytes(32), grant=bytes(16), release=1, today=TODAY
        )


def test_a_missing_run_is_named(place):
    (place / "empty").mkdir()
    with pytest.raises(UsageError, match="ecan-source train"):
        to_file(place, run="empty")


def test_a_request_that_was_changed_is_refused(place):
    before, mark, signature = SITE.request.partition(b'"sig":"')
    first = b"A" if signature[:1] != b"A" else b"B"
    (place / "site.request").write_bytes(before + mark + first + signature[1:])
    with pytest.raises(UnauthenticError):
        to_file(place)


def test_a_damaged_outbox_is_a_fault_and_not_another_bundle(place):
    to_file(place)
    sealed_file(place).write_bytes(sealed_file(place).read_bytes()[:-1] + b"x")
    with pytest.raises(FileError, match="new request"):
        to_file(place)
    with pytest.raises(FileError, match="new request"):
        serve(place)


def test_everything_that_a_grant_writes_is_for_its_owner_alone(place):
    grants(place)
    written = [path for name in ("outbox", "released") for path in (place / "keys" / name).iterdir()]
    assert len(written) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}


def test_a_file_that_cannot_be_written_leaves_the_grant_open(place):
    with pytest.raises(FileError):
        to_file(place, "m" * 250)  # too long a name for the temporary file beside it
    assert to_file(place).size == (place / "model.ecsl").stat().st_size


@pytest.mark.parametrize("out", ["missing/model.ecsl", "keys/ledger.sqlite", "keys/outbox/new", "link/new"])
def test_a_file_without_a_folder_or_among_the_keys_is_refused_and_nothing_is_reserved(place, out):
    (place / "link").symlink_to(place / "keys")
    with pytest.raises(UsageError, match="name"):
        to_file(place, out)
    assert record_of(place) is None


def test_only_the_same_bundle_is_written_over(place):
    to_file(place)
    sealed = (place / "model.ecsl").read_bytes()
    to_file(place)
    (place / "model.ecsl").write_bytes(sealed + b"x")
    (place / "link.ecsl").symlink_to(place / "run" / "nothing")
    for out in ("model.ecsl", "link.ecsl"):
        with pytest.raises(UsageError, match="not there yet"):
            to_file(place, out)
    assert (place / "model.ecsl").read_bytes() == sealed + b"x"


def listed_but_not_denied(place):
    """What a revocation that was killed after it wrote its list leaves."""
    ledger = place / "keys" / "ledger"
    before = {path: path.read_bytes() for path in ledger.iterdir()}
    revoke_release(place / "keys", 1, now_s=NOW_S)
    for path in ledger.iterdir():
        path.unlink()
    for path, data in before.items():
        path.write_bytes(data)


def test_a_withdrawn_model_does_not_leave_even_if_its_grants_are_still_open(place):
    grants(place)
    kept = {path: path.read_bytes() for path in (place / "keys" / "outbox").iterdir()}
    listed_but_not_denied(place)
    for path, data in kept.items():
        path.write_bytes(data)
    assert record_of(place).state is GrantState.ISSUED
    for leave in (
        lambda: to_file(place),
        lambda: grants(place),
        lambda: grants(place, "other.request", "site.request"),
        lambda: serve(place),
        lambda: serve(place, SITE.grant),
    ):
        with pytest.raises(RefusedError, match="withdrawn") as caught:
            leave()
        assert (caught.value.code, caught.value.exit_code) == (Code.REVOKED, 11)
    assert not (place / "model.ecsl").exists()
    assert record_of(place, OTHER_SITE) is None


def test_a_withdrawn_model_is_not_granted_again(place):
    to_file(place)
    revoke_release(place / "keys", 1, now_s=NOW_S)
    with pytest.raises(RefusedError) as caught:
        grants(place, "other.request")
    assert caught.value.code is Code.REVOKED
    assert record_of(place, OTHER_SITE) is None


def test_with_a_withdrawn_release_key_nothing_is_granted_or_served(place):
    grants(place)
    key = load_keys(place / "keys").fingerprint
    assert [record.grant for record in revoke_key(place / "keys", key, now_s=NOW_S).denied] == [SITE.grant]
    for leave in (lambda: grants(place, "other.request"), lambda: serve(place, SITE.grant)):
        with pytest.raises(RefusedError, match="keys rotate") as caught:
            leave()
        assert caught.value.code is Code.REVOKED
    assert record_of(place, OTHER_SITE) is None


def test_nothing_is_granted_between_two_identities(place):
    write_identity(new_identity(Role.SOURCE), place / "keys" / ".next")
    with pytest.raises(KeyFileError, match="keys rotate"):
        grants(place)


def test_a_file_that_is_no_request_is_named(place):
    (place / "c.yaml").write_text("epochs: 1\n")
    with pytest.raises(MalformedError, match=r"c\.yaml is not a request"):
        grants(place, "c.yaml")
