"""What `ecan-source status` says of a source, seen through the command."""

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from protocol.identity.identities import Role
from protocol.ledger.grants import SealedFacts
from protocol.ledger.store import Ledger
from source_site.keys.folder import STAGED, init_keys, open_ledger, outbox_file, released_file
from source_site.release.revoke import renew_list, revoke_release
from source_site.release.status import Source, status_of
from tests.house.test_structure import HEAVY
from tests.protocol.samples import FIELDS
from tests.support import cli
from tests.support.sites import new_identity, new_site, sealed_for

ISSUER, SITE = new_identity(Role.SOURCE), new_site()
ISSUED = datetime.fromtimestamp(FIELDS.day * 86_400, UTC)
WEIGHTS = hashlib.sha256(b"weights").digest()


@pytest.fixture
def keys(tmp_path):
    init_keys(tmp_path / "keys")
    return tmp_path / "keys"


def grant(keys):
    """A grant of release 1, as the gate leaves it."""

    def seal(release):
        outbox_file(keys, SITE.grant).write_bytes(b"sealed")
        released_file(keys, SITE.grant).write_bytes(sealed_for(SITE, ISSUER))
        return SealedFacts(sealed_sha256=bytes(32), size=6, bundle_sha256=bytes(32), weights_sha256=WEIGHTS)

    return open_ledger(keys).issue(SITE.grant, bytes(32), bytes(32), seal, now_s=int(ISSUED.timestamp())).grant


def looked(keys, days_on=0):
    status = status_of(Source(keys=keys, now=ISSUED + timedelta(days=days_on)))
    return status, {one.reason for one in status.attentions}


def value(status, name, **labels):
    return next(one.value for one in status.measures if one.name == name and one.labels == labels)


def test_a_source_that_is_well_is_healthy_and_says_how_far_its_ledger_goes(keys):
    grant(keys)
    status, attention = looked(keys)
    head = open_ledger(keys).verify()
    assert attention == set()
    assert value(status, "ledger_lines") == head.seq == 1
    assert value(status, "ledger_head_info", sha256=head.digest.hex()) == 1
    assert value(status, "last_event_timestamp_seconds", event="issued") == ISSUED.timestamp()
    assert value(status, "grants", state="issued") == 1
    assert value(status, "bundle_end_days", release="1") == FIELDS.valid_days


def test_a_window_that_is_open_tells_how_long(keys):
    open_ledger(keys).open(grant(keys), now_s=int(ISSUED.timestamp()))
    assert value(looked(keys)[0], "grant_end_seconds") == 86_400


def test_a_bundle_that_ends_before_its_site_has_come_needs_attention(keys):
    grant(keys)
    assert looked(keys, FIELDS.valid_days - 7)[1] == set()
    assert looked(keys, FIELDS.valid_days - 6)[1] == {"BUNDLE"}


def test_a_sealed_file_that_is_gone_needs_attention(keys):
    outbox_file(keys, grant(keys)).unlink()
    assert looked(keys)[1] == {"OUTBOX"}


def test_a_source_that_has_delivered_renews_its_list(keys):
    name = grant(keys)
    open_ledger(keys).carry(name, now_s=int(ISSUED.timestamp()))
    open_ledger(keys).close(name, b"receipt", now_s=int(ISSUED.timestamp()))
    assert looked(keys)[1] == {"LIST"}
    renew_list(keys, now_s=int(ISSUED.timestamp()))
    assert looked(keys, 45)[1] == set()
    assert looked(keys, 46)[1] == {"LIST"}


def test_an_open_grant_of_a_withdrawn_release_needs_attention(keys):
    grant(keys)
    withdrawal = revoke_release(keys, 1, now_s=int(ISSUED.timestamp()))
    assert (len(withdrawal.denied), looked(keys)[1]) == (1, set())
    for path in (keys / "ledger").iterdir():
        path.unlink()
    Ledger.create(keys / "ledger" / "ledger.sqlite")
    grant(keys)
    assert looked(keys)[1] == {"WITHDRAWN"}


def test_a_half_finished_rotation_and_an_old_certificate_need_attention(keys):
    assert looked(keys, 365 * 60)[1] == {"KEYS"}
    init_keys(keys / STAGED)
    assert looked(keys)[1] == {"KEYS"}


def test_a_ledger_that_is_gone_needs_attention_and_is_told_once(keys):
    for path in (keys / "ledger").iterdir():
        path.unlink()
    status, attention = looked(keys)
    assert (attention, len(status.attentions)) == ({"LEDGER"}, 1)
    assert value(status, "disk_free_bytes", of="keys") > 0


def test_the_command_tells_it_in_each_form_and_ends_with_a_code(keys):
    assert cli.source("status", "--keys", keys).stdout.startswith("healthy\n")
    assert cli.source("status", "--keys", keys, "--format", "json").json()["healthy"] is True
    (keys / "ledger" / "ledger.sqlite").unlink()
    result = cli.source("status", "--keys", keys, "--format", "prometheus")
    assert result.code == 19
    assert 'ecan_source_attention{reason="LEDGER"} 1' in result.stdout
    assert "needs attention (LEDGER)" in result.refusal()


def test_status_loads_nothing_heavy(keys):
    code = (
        "import sys\n"
        "from source_site.cli import cli\n"
        f"cli.main(['status', '--keys', {str(keys)!r}], standalone_mode=False)\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
