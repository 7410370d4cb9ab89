"""A second release beside the first: adapt, switch, go back, and nobody who was forgotten comes back."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from protocol.locks import alone
from tests.support import cli
from tests.support.crossing import Crossing, carry, succeeded

pytestmark = [pytest.mark.journey, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def rules(crossing: Crossing, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cli.site_rules(tmp_path_factory.mktemp("rules") / "site.yaml", adaptation="epochs: 1")


class SiteHome:
    """A target site that has adapted one release and puts it to use."""

    def __init__(self, crossing: Crossing, home: Path, rules: Path) -> None:
        self.crossing, self.home, self.rules = crossing, home, rules
        self.keys, self.link = home / "keys", home / "current"
        shutil.copytree(crossing.target_keys, self.keys)
        (home / "bundles").mkdir()
        (home / "models").mkdir()

    def adapt(self, bundle: Path, name: str, *words: object) -> Path:
        out = self.home / "models" / name
        done = cli.target(
            *("adapt", "--config", self.rules, "--keys", self.keys, "--bundle", bundle),
            *("--audio", self.crossing.target_labels, "--out", out, "--after", self.link, *words),
        )
        assert done.code in (0, 14), done.stderr
        return out

    def switch(self, model: Path) -> cli.Result:
        return cli.target("switch", "--model", model, "--current", self.link, "--keys", self.keys)

    def second_release(self) -> Path:
        folder = self.home / "bundles" / "second"
        folder.mkdir()
        carried = carry(
            self.crossing.run, self.crossing.source_keys, self.keys, folder, trust=self.crossing.fingerprint
        )
        return carried.bundle

    def predicted(self, name: str) -> dict[str, object]:
        out = self.home / name
        words = ("predict", "--model", self.link, "--keys", self.keys, "--audio", self.crossing.target_labels)
        succeeded(cli.target(*words, "--out", out))
        (summary,) = out.rglob("summary.json")
        return dict(json.loads(summary.read_text()))


@pytest.fixture(scope="module")
def site(crossing: Crossing, rules: Path, tmp_path_factory: pytest.TempPathFactory) -> SiteHome:
    site = SiteHome(crossing, tmp_path_factory.mktemp("site"), rules)
    first = site.adapt(crossing.bundle, "2026-10-01")
    said = succeeded(site.switch(first))
    assert str(first) in said
    return site


def test_a_second_release_is_put_to_use_and_taken_back(site: SiteHome) -> None:
    first, before = site.link.resolve(), site.predicted("of-the-first")
    second = site.adapt(site.second_release(), "2026-11-30", "--seed", "1")
    assert site.predicted("while-adapting")["model_sha256"] == before["model_sha256"]

    assert str(first) in succeeded(site.switch(second))
    assert str(site.link.readlink()) == "models/2026-11-30"
    after = site.predicted("of-the-second")
    assert after["model_sha256"] != before["model_sha256"]

    succeeded(site.switch(first))
    assert site.predicted("back")["model_sha256"] == before["model_sha256"]
    log = (site.keys / "audit.jsonl").read_text()
    assert log.count('"switch"') == 3
    succeeded(cli.target("log", "verify", "--folder", site.keys))
    succeeded(site.switch(second))


def test_whoever_opens_the_link_finds_a_whole_model(site: SiteHome) -> None:
    from target_site.model.current import put_in_use
    from target_site.model.folder import read_facts

    models, done = sorted((site.home / "models").iterdir()), threading.Event()

    def turn() -> None:
        for index in range(300):
            put_in_use(models[index % len(models)], site.link)
        done.set()

    turning = threading.Thread(target=turn)
    turning.start()
    looks = 0
    while not done.is_set():
        assert read_facts(site.link)["card"]["classes"]
        looks += 1
    turning.join()
    assert looks > 10
    assert not list(site.home.glob(".current*"))


def test_a_model_that_recalls_a_forgotten_person_is_not_put_to_use(site: SiteHome) -> None:
    crossing, used = site.crossing, site.link.resolve()
    speaker = crossing.target_labels.read_text().splitlines()[1].split(",")[2]
    bundle = next((site.home / "bundles").rglob("model.ecan"))
    forgetting = cli.target(
        *("forget", "--model", site.link, "--speaker", speaker, "--bundle", bundle, "--config", site.rules),
        *("--audio", crossing.target_labels, "--keys", site.keys),
    )
    assert forgetting.code in (0, 14), forgetting.stderr
    earlier = next(path for path in (site.home / "models").iterdir() if path != used)

    refused = site.switch(earlier)
    assert refused.code == 11
    assert "--after" in refused.refusal()
    assert site.link.resolve() == used

    again = site.adapt(crossing.bundle, "2026-12-01")
    provenance = json.loads((again / "adapted.json").read_text())["provenance"]
    assert provenance["utterances"] < 60
    assert (again / "forgotten.json").is_file()
    succeeded(site.switch(again))


def test_two_switches_at_once_do_not_pass_each_other(site: SiteHome) -> None:
    lock = site.link.with_name(f".{site.link.name}.lock")
    with alone(lock, "busy"):
        refused = site.switch(site.link)
    assert "Another command is changing" in refused.refusal()
    succeeded(site.switch(site.link))
    assert not lock.exists()


def test_another_sites_model_and_a_folder_in_the_links_place_are_refused(site: SiteHome, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(site.link.resolve(), tmp_path / "copied"))
    (copied / "adapted.signature").unlink()
    assert site.switch(copied).code == 10
    words = ("switch", "--model", site.link, "--current", tmp_path, "--keys", site.keys)
    assert "no link" in cli.target(*words).refusal()
    gone = tmp_path / "gone"
    gone.symlink_to(tmp_path / "nowhere")
    assert "leads to no folder" in cli.target(*words[:4], gone, *words[5:]).refusal()


def test_a_command_keeps_to_the_model_that_it_began_with(site: SiteHome) -> None:
    """A link is followed once: what it names later is for later commands."""
    from target_site.commands.model import predict

    words = ["--model", str(site.link), "--audio", str(site.crossing.target_labels), "--out", str(site.home / "out")]
    assert predict.make_context("predict", words).params["model_dir"] == site.link.resolve()
