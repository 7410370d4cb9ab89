import os
import stat

import pytest

from ecan_core.errors import UsageFault
from protocol.errors import KeyFault, StorageFault
from protocol.identity import Role, write_identity
from protocol.request import grant_id, open_request
from target_site.keys import load_keys
from target_site.request import requested_grants, write_request
from tests.support.sites import TODAY, new_identity


def test_the_first_request_makes_the_keys_and_later_ones_use_them(tmp_path):
    first = write_request(tmp_path / "keys", tmp_path / "1.request", today=TODAY)
    second = write_request(tmp_path / "keys", tmp_path / "2.request", today=TODAY)
    assert first == second == load_keys(tmp_path / "keys").fingerprint.hex()


def test_a_request_names_the_site_and_the_day(tmp_path):
    fingerprint = write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    site = open_request((tmp_path / "site.request").read_bytes())
    assert (site.fingerprint.hex(), site.day) == (fingerprint, TODAY)


def test_every_request_is_a_grant_of_its_own_and_the_latest_comes_first(tmp_path):
    grants = []
    for number in range(3):
        out = tmp_path / f"{number}.request"
        write_request(tmp_path / "keys", out, today=TODAY)
        grants.append(grant_id(out.read_bytes()))
        os.utime(tmp_path / "keys" / "requests" / f"{grants[-1].hex()}.request", (number, number))
    assert requested_grants(tmp_path / "keys") == tuple(reversed(grants))


def test_a_site_without_requests_has_no_grants(tmp_path):
    assert requested_grants(tmp_path) == ()


def test_the_keys_are_for_their_owner_alone(tmp_path):
    write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    assert modes == {"identity.pem": 0o644, "requests": 0o700, "signing.key": 0o600, "tls.key": 0o600}


def test_a_sources_keys_are_refused(tmp_path):
    write_identity(new_identity(Role.SOURCE), tmp_path / "keys")
    with pytest.raises(KeyFault, match="this site's keys folder"):
        write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)


def test_a_request_that_cannot_be_written_is_a_storage_fault(tmp_path):
    with pytest.raises(StorageFault):
        write_request(tmp_path / "keys", tmp_path / "missing" / "site.request", today=TODAY)


@pytest.mark.parametrize("out", ["keys/signing.key", "keys/new.request", "thesis", "folder", "link"])
def test_nothing_but_an_older_request_is_written_over(tmp_path, out):
    (tmp_path / "folder").mkdir()
    (tmp_path / "thesis").write_bytes(b"my thesis")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    older = (tmp_path / "site.request").read_bytes()
    key = (tmp_path / "keys" / "signing.key").read_bytes()
    with pytest.raises(UsageFault, match="choose another --out"):
        write_request(tmp_path / "keys", tmp_path / out, today=TODAY)
    assert (tmp_path / "thesis").read_bytes() == b"my thesis"
    assert (tmp_path / "keys" / "signing.key").read_bytes() == key
    assert len(requested_grants(tmp_path / "keys")) == 1
    write_request(tmp_path / "keys", tmp_path / "site.request", today=TODAY)
    assert (tmp_path / "site.request").read_bytes() != older
