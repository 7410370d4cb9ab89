"""A person who is forgotten: nothing that came from their recordings is left, and the model never heard them."""

import csv
import shutil
import sqlite3
from pathlib import Path

import pytest

from target_site.model.folder import CACHE_FILE
from target_site.trust.keys import own_fingerprint
from tests.support import cli

pytestmark = pytest.mark.journey
WINDOW_BYTES = 48


def adapt(crossing, audio: Path, out: Path) -> None:
    result = cli.target("adapt", "--bundle", crossing.bundle, "--audio", audio, "--out", out)
    assert result.code in (0, 14), result.stderr


def rows_of(labels: Path) -> list[dict[str, str]]:
    with labels.open(newline="") as file:
        return list(csv.DictReader(file))


def write_list(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def cached(folder: Path) -> dict[str, bytes]:
    """The features by key."""
    with sqlite3.connect(f"file:{folder / CACHE_FILE}?mode=ro", uri=True) as connection:
        found = dict(connection.execute("SELECT key, content FROM features").fetchall())
    connection.close()
    return found


def found_in(site: list[Path], needles: list[bytes]) -> set[tuple[str, bytes]]:
    files = [path for folder in site for path in folder.rglob("*") if path.is_file()]
    return {(path.name, needle) for path in files for needle in needles if needle in path.read_bytes()}


@pytest.fixture(scope="module")
def site(crossing, tmp_path_factory):
    """A list, the list without one of its speakers, that speaker, and a site that has adapted and predicted."""
    work = tmp_path_factory.mktemp("forget")
    rows = rows_of(crossing.target_labels)
    for row in rows:
        row["file"] = str(crossing.target_labels.parent / row["file"])
    person = rows[0]["speaker"]
    everybody = write_list(work / "everybody.csv", rows)
    others = write_list(work / "others.csv", [row for row in rows if row["speaker"] != person])
    adapt(crossing, everybody, work / "model")
    predicting = ("predict", "--model", work / "model", "--audio", everybody, "--out", work / "predictions")
    assert cli.target(*predicting).code == 0
    return work, everybody, others, person


def forget(crossing, model: Path, audio: Path, *who: object) -> cli.Result:
    return cli.target(
        *("forget", "--model", model, "--bundle", crossing.bundle, "--audio", audio, "--keys", crossing.target_keys),
        *who,
    )


def test_nothing_of_a_forgotten_person_is_left_and_the_model_is_as_if_they_had_never_been_there(crossing, site):
    work, everybody, others, person = site
    model, predictions = work / "model", work / "predictions"
    theirs = [Path(row["file"]) for row in rows_of(everybody) if row["speaker"] == person]
    before = cached(model)
    shutil.copytree(model, work / "copy")
    result = forget(crossing, model, everybody, "--speaker", person, "--predictions", predictions, "--format", "json")
    assert result.code == 0, result.stderr
    assert result.json()["forgotten"] == len(theirs)

    gone = [content for key, content in before.items() if key not in cached(model)]
    assert len(gone) == len(theirs)
    windows = [
        content[start : start + WINDOW_BYTES]
        for content in gone
        for start in range(0, len(content) - WINDOW_BYTES, WINDOW_BYTES)
        if len(set(content[start : start + WINDOW_BYTES])) > WINDOW_BYTES // 3
    ]
    needles = [person.encode(), *(str(path).encode() for path in theirs), *windows]
    there = {needle for _, needle in found_in([work / "copy"], needles)}
    assert len(windows) > 100
    assert len(there) > 0.9 * len(needles)  # some windows lie across two pages of the cache
    assert there.issuperset(needles[: 1 + len(theirs)])
    assert found_in([model, work / "predictions", crossing.target_keys], needles) == set()

    adapt(crossing, others, work / "never")
    for name in ("weights.safetensors", "normalizer.safetensors", "segments.csv"):
        assert (model / name).read_bytes() == (work / "never" / name).read_bytes(), name
    certificate = result.json()["certificate"]
    keys = ("--keys", crossing.target_keys, "--model", model)
    said = cli.target("certificate", "verify", certificate, *keys, "--format", "json").json()
    assert said["utterances"] == len(theirs)
    assert said["signer"] == own_fingerprint(crossing.target_keys).hex()
    assert said["before"] != said["after"]
    assert cli.target("log", "verify", "--folder", model).code == 0


def test_who_was_forgotten_is_not_heard_again_by_any_name(crossing, site, tmp_path):
    """Adapt and predict once more with everybody's recordings, and with a copy that is called otherwise."""
    _, everybody, _, person = site
    work, model, rows = tmp_path, tmp_path / "model", rows_of(everybody)
    adapt(crossing, everybody, model)
    assert forget(crossing, model, everybody, "--speaker", person).code == 0
    theirs = [row for row in rows if row["speaker"] == person]
    copy = shutil.copy(theirs[0]["file"], work / "renamed.wav")
    once_more = write_list(work / "once_more.csv", [*rows, theirs[0] | {"file": str(copy), "speaker": "Somebody"}])
    before = (model / "weights.safetensors").read_bytes()
    certificates = [path.read_bytes() for path in model.glob("forgotten-*.certificate")]
    left_out = f"left out {len(theirs) + 1} of what is listed: these people and recordings were forgotten"

    result = cli.target("adapt", "--bundle", crossing.bundle, "--audio", once_more, "--out", model)
    assert left_out in result.stderr
    assert (model / "weights.safetensors").read_bytes() == before
    assert [path.read_bytes() for path in model.glob("forgotten-*.certificate")] == certificates
    assert len(certificates) == 1

    result = cli.target("predict", "--model", model, "--audio", once_more, "--out", work / "again", "--format", "json")
    assert (result.code, left_out in result.stderr) == (0, True), result.stderr
    assert result.json()["forgotten"] == len(theirs) + 1
    needles = [person.encode(), str(copy).encode(), *(row["file"].encode() for row in theirs)]
    assert found_in([model, work / "again"], needles) == set()

    result = cli.target("evaluate", "--model", model, "--labels", everybody, "--format", "json")
    assert result.json()["n"] == len(rows) - len(theirs)
    only_theirs = write_list(work / "theirs.csv", theirs)
    result = cli.target("predict", "--model", model, "--audio", only_theirs, "--out", work / "theirs")
    assert (result.code, "Everything that is listed here was forgotten" in result.stderr) == (13, True)
    result = cli.target("replay", "--model", model, "--bundle", crossing.bundle, "--audio", once_more)
    assert result.code == 0, result.stderr


@pytest.mark.parametrize(
    ("who", "code", "words"),
    [
        ([], 2, "nobody is named"),
        (["--speaker", "Nobody"], 2, "was adapted to no utterance of theirs"),
        (["--file", "nowhere.wav"], 2, "was adapted to no utterance of theirs"),
    ],
)
def test_who_was_never_heard_cannot_be_forgotten(crossing, adapted, who, code, words):
    before = (adapted / "adapted.json").read_bytes()
    result = forget(crossing, adapted, crossing.target_labels, *who)
    assert (result.code, words in result.refusal()) == (code, True), result.stderr
    assert (adapted / "adapted.json").read_bytes() == before
