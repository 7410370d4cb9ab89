import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.dockerfile import Stage, read_stages
from tests.support.installed import as_installed

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "deploy" / "containers" / "Dockerfile"
BIN = Path(sys.executable).parent
SITES = [("target", "source"), ("source", "target")]


def run(*words: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=120, **options)


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return read_stages(RECIPE)


def taken(stage: Stage) -> list[str]:
    """What a stage copies out of the project."""
    return [word for rest in stage.all_of("COPY") if "--from" not in rest for word in rest.split()[:-1]]


def test_the_recipe_is_written_as_its_linter_likes_it():
    done = run(BIN / "hadolint", RECIPE)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_image_stands_upon_one_base_that_is_named_by_its_digest(stages):
    outside = {stage.base for stage in stages.values()} - stages.keys() - {"scratch"}
    assert len(outside) == 1
    assert re.fullmatch(r"python:3\.11-slim-\w+@sha256:[0-9a-f]{64}", outside.pop())


def test_packages_come_from_the_lock_by_hash_and_are_one_layer_of_both_images(stages):
    (install,) = stages["packages"].all_of("RUN")
    assert "--require-hashes --requirement cpu.txt" in install
    assert "deploy/locks/cpu.txt" in taken(stages["packages"])
    for site, _ in SITES:
        assert stages[site].base == "site"
        assert stages[site].all_of("COPY") == [f"--from={site}-packages /site /opt/ecan"]
        (own,) = stages[f"{site}-packages"].all_of("RUN")
        assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(own.split())


def test_no_image_runs_as_root_or_depends_on_a_name_of_its_user(stages):
    assert stages["site"].all_of("USER") == ["10001:10001"]
    assert not [stage for name, stage in stages.items() if name != "site" and stage.all_of("USER")]
    assert "useradd" not in RECIPE.read_text()


def test_an_image_says_what_it_is_and_whether_it_is_well(stages):
    labels = " ".join(stages["site"].all_of("LABEL"))
    for name in ("licenses", "version", "revision", "base.name"):
        assert f"org.opencontainers.image.{name}=" in labels
    for site, _ in SITES:
        assert f"org.opencontainers.image.title=ecan-{site}" in stages[site].all_of("LABEL")[0]
        assert json.loads(stages[site].all_of("ENTRYPOINT")[0]) == [f"ecan-{site}"]
        (health,) = stages[site].all_of("HEALTHCHECK")
        assert json.loads(health.partition("CMD ")[2])[0] in ("python", "ecan-target")


def test_the_version_of_an_image_is_that_of_the_package(stages):
    declared = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert f"image.version={declared[1]} " in " ".join(stages["site"].all_of("LABEL")) + " "


def test_what_the_recipe_copies_is_let_through_and_nothing_else(stages):
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    let_through = {rule[1:] for rule in rules if rule[0] == "!"}
    wanted = {name for stage in stages.values() for name in taken(stage)}
    assert wanted - let_through == {"deploy/locks/cpu.txt"}  # its folder is
    assert let_through - wanted == {"deploy/locks"}
    assert all((ROOT / name).exists() for name in wanted)


@pytest.mark.parametrize("site", ["target"])
def test_the_composition_builds_what_it_runs(site):
    services = yaml.safe_load((RECIPE.parent / "compose.yaml").read_text())["services"]
    for service in services.values():
        built = service["build"]
        assert (RECIPE.parent / built["context"]).resolve() == ROOT
        assert (ROOT / built["dockerfile"], built["target"]) == (RECIPE, site)


@pytest.mark.slow
@pytest.mark.parametrize(("site", "other"), SITES)
def test_an_image_holds_one_site_alone(site, other, stages, tmp_path):
    """What the image copies is built as it builds it, and works without the other site."""
    context, image = tmp_path / "context", tmp_path / "image"
    context.mkdir()
    for name in taken(stages[f"{site}-packages"]):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, context / name)
    wheel = run(
        *(BIN / "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"),
        *("--wheel-dir", tmp_path, context),
    )
    assert wheel.returncode == 0, wheel.stderr
    (built,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(built, image, "zip")
    assert not (image / f"{other}_site").exists()
    assert run("diff", "-rq", "-x", "__pycache__", ROOT / f"{site}_site", image / f"{site}_site").stdout == ""
    code = as_installed(image) + (
        f"from {site}_site.cli import main, cli\nfor name in cli.lazy_commands: cli.get_command(None, name)\nmain()"
    )
    done = run(sys.executable, "-c", code, "--help", cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
