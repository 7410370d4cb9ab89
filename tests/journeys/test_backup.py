"""The drill of docs/operations.md: back up, lose the machine, restore, and what an old memory must not do."""

import shutil
from pathlib import Path

import pytest

from tests.support import cli
from tests.support.crossing import Crossing, carry, succeeded

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]


class Site:
    """A target and its source, after the first release."""

    def __init__(self, crossing: Crossing, adapted: Path, home: Path) -> None:
        self.crossing, self.home = crossing, home
        self.keys, self.source_keys = home / "keys", home / "source-keys"
        shutil.copytree(crossing.target_keys, self.keys)
        shutil.copytree(crossing.source_keys, self.source_keys)
        shutil.copytree(adapted, home / "model")

    def predict(self) -> cli.Result:
        words = ("predict", "--model", self.home / "model", "--keys", self.keys, "--out", self.home / "predictions")
        return cli.target(*words, "--audio", self.crossing.target_labels)

    def receive_first_again(self, out: Path) -> cli.Result:
        trust = ("--trust", self.crossing.fingerprint)
        return cli.target("receive", "--keys", self.keys, "--from", self.crossing.sealed, *trust, "--out", out)

    def restore(self, backup: Path, folder: Path) -> None:
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)


@pytest.fixture
def site(crossing: Crossing, adapted: Path, tmp_path: Path) -> Site:
    return Site(crossing, adapted, tmp_path)


def test_a_restored_site_learns_again_what_it_has_forgotten(site: Site, tmp_path: Path) -> None:
    crossing = site.crossing
    backup = Path(shutil.copytree(site.keys, tmp_path / "backup"))
    succeeded(site.predict())

    (tmp_path / "second").mkdir()
    carry(crossing.run, site.source_keys, site.keys, tmp_path / "second", trust=crossing.fingerprint)
    listed = cli.source("ledger", "list", "--keys", site.source_keys, "--format", "json").json()
    latest = max(entry["release"] for entry in listed)
    revoked = cli.source("revoke", "--keys", site.source_keys, "--format", "json", "--release", 1).json()["file"]
    update = ("trust", "update", "--keys", site.keys, "--statement", revoked)
    succeeded(cli.target(*update))
    assert site.predict().code == 11

    site.restore(backup, site.keys)
    succeeded(site.predict())  # the memory of that day knows of no withdrawal: this is why the drill goes on

    reset = ("trust", "reset", "--keys", site.keys, "--trust", crossing.fingerprint, "--release", latest)
    succeeded(cli.target(*reset), cli.target(*update))
    assert "withdrawn" in site.predict().refusal()
    refused = site.receive_first_again(tmp_path / "again.ecan")
    assert refused.code in (10, 11), refused.stderr
    assert not (tmp_path / "again.ecan").exists()
    succeeded(cli.target("log", "verify", "--folder", site.keys))


def test_a_site_without_its_memory_does_nothing_until_a_person_has_asked(site: Site) -> None:
    (site.keys / "trust.state").unlink()
    refused = site.predict()
    assert (refused.code, "[STATE_LOST]" in refused.refusal()) == (10, True)
    assert "trust reset" in refused.refusal()


def test_a_source_that_is_restored_whole_goes_on(site: Site, tmp_path: Path) -> None:
    succeeded(cli.target("request", "--keys", site.keys, "--out", tmp_path / "site.request"))
    words = ("--model", site.crossing.run, "--keys", site.source_keys, "--request", tmp_path / "site.request")
    succeeded(cli.source("grant", *words))
    backup = Path(shutil.copytree(site.source_keys, tmp_path / "backup"))
    before = cli.source("ledger", "list", "--keys", site.source_keys, "--format", "json").json()

    site.restore(backup, site.source_keys)
    succeeded(cli.source("ledger", "verify", "--keys", site.source_keys))
    assert cli.source("ledger", "list", "--keys", site.source_keys, "--format", "json").json() == before


def test_a_source_without_its_ledger_serves_nothing(site: Site) -> None:
    shutil.rmtree(site.source_keys / "ledger")
    refused = cli.source("ledger", "verify", "--keys", site.source_keys)
    assert refused.code in (3, 10, 16), refused.stderr
    assert "backup" in refused.refusal()
