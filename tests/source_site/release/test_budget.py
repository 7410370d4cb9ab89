"""The budget of a corpus: models that share speech count together, and a repeated grant counts once."""

import json

import pytest

from ecan_core.errors import ModelError
from protocol.errors import Code, FileError, RefusedError
from protocol.ledger.grants import NO_BOOK
from source_site.release.budget import BUDGET_FILE, digest_of_book, spend
from source_site.training.run_folder import load_run
from tests.source_site.training.runs import write_run

opacus = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("opacus") is None, reason="the extra `private` is not installed"
)


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "keys").mkdir()
    return tmp_path / "keys"


def model(tmp_path, number: int, utterances, *, noise: float | None = None, unit: str = "utterance"):
    """A run of its own weights that was trained on some utterances."""
    folder = write_run(tmp_path / f"run-{number}", seed=number)
    private = None if noise is None else {"noise_multiplier": noise, "unit": unit, "steps": 30}
    record = {
        "run_sha256": load_run(folder).digest.hex(),
        "utterances": list(utterances),
        "recipe": {"private": private},
        "promise": None if noise is None else {"delta": 1e-4},
    }
    (folder / "training.json").write_text(json.dumps(record))
    return folder


def spent(keys, folder, *, releases: int = 3, most_epsilon: float | None = None, anchor: bytes = NO_BOOK) -> str:
    told: list[str] = []
    run = load_run(folder)
    spend(keys, folder, run, anchor=anchor, releases=releases, most_epsilon=most_epsilon, announce=told.append)
    return told[0]


def test_a_fourth_model_of_the_same_speech_does_not_leave(tmp_path, keys):
    for number in range(3):
        assert f"{number + 1} of 3" in spent(keys, model(tmp_path, number, ["a", f"own {number}"]))
    before = (keys / BUDGET_FILE).read_bytes()
    fourth = model(tmp_path, 3, ["a"])
    with pytest.raises(RefusedError) as refusal:
        spent(keys, fourth)
    assert (refusal.value.code, refusal.value.exit_code) == (Code.RELEASE_BUDGET, 11)
    assert (keys / BUDGET_FILE).read_bytes() == before
    assert "4 of 4" in spent(keys, fourth, releases=4)


def test_one_shared_utterance_is_enough_and_other_speech_counts_apart(tmp_path, keys):
    spent(keys, model(tmp_path, 0, ["a", "b"]))
    assert "1 of 1" in spent(keys, model(tmp_path, 1, ["c", "d"]), releases=1)
    with pytest.raises(RefusedError, match="1 other model"):
        spent(keys, model(tmp_path, 2, ["d", "e"]), releases=1)


def test_the_same_model_counts_once_however_often_it_is_granted(tmp_path, keys):
    folder = model(tmp_path, 0, ["a"])
    for _ in range(3):
        assert "1 of 1" in spent(keys, folder, releases=1)


@opacus
@pytest.mark.filterwarnings("ignore")
def test_promises_of_models_of_the_same_speech_add_up_and_have_a_bound(tmp_path, keys):
    first = spent(keys, model(tmp_path, 0, ["a"], noise=8.0), most_epsilon=8.0)
    second = spent(keys, model(tmp_path, 1, ["a"], noise=8.0), most_epsilon=8.0)
    one, both = (float(told.split("epsilon of ")[1].split()[0]) for told in (first, second))
    assert one < both < 2 * one
    with pytest.raises(RefusedError, match="together, more than 8") as refusal:
        spent(keys, model(tmp_path, 2, ["a"], noise=3.0), most_epsilon=8.0)
    assert refusal.value.code is Code.RELEASE_BUDGET


def test_with_one_model_that_promises_nothing_all_promise_nothing(tmp_path, keys):
    spent(keys, model(tmp_path, 0, ["a"]))
    assert "epsilon" not in spent(keys, model(tmp_path, 1, ["a"], noise=8.0), most_epsilon=8.0)


def test_a_run_that_does_not_say_what_it_heard_is_refused(tmp_path, keys):
    folder = model(tmp_path, 0, ["a"])
    (folder / "training.json").unlink()
    with pytest.raises(ModelError, match="train again"):
        spent(keys, folder)


@pytest.mark.parametrize("text", ["[]", "{", '{"recipe": {"private": null}}', '{"run_sha256": 3}'])
def test_a_damaged_record_is_refused(tmp_path, keys, text):
    folder = model(tmp_path, 0, ["a"])
    (folder / "training.json").write_text(text)
    with pytest.raises(ModelError, match="damaged"):
        spent(keys, folder)


def test_a_record_of_other_weights_is_refused(tmp_path, keys):
    folder = model(tmp_path, 0, ["a"])
    other = model(tmp_path, 1, ["a"])
    (folder / "training.json").write_bytes((other / "training.json").read_bytes())
    with pytest.raises(ModelError, match="another training"):
        spent(keys, folder)


def test_a_damaged_book_stops_everything(tmp_path, keys):
    (keys / BUDGET_FILE).write_text("{")
    with pytest.raises(FileError, match="restore it from a backup"):
        spent(keys, model(tmp_path, 0, ["a"]))


def test_the_book_goes_on_from_where_the_ledger_has_seen_it(tmp_path, keys):
    """Row S11: also where a model was counted and then not granted."""
    assert digest_of_book(keys, NO_BOOK) == NO_BOOK
    spent(keys, model(tmp_path, 0, ["a"]))
    first = digest_of_book(keys, NO_BOOK)
    assert "2 of 3" in spent(keys, model(tmp_path, 1, ["a"]), anchor=first)
    second = digest_of_book(keys, first)
    assert len({NO_BOOK, first, second}) == 3
    spent(keys, tmp_path / "run-0", anchor=second)
    assert digest_of_book(keys, second) == second


@pytest.mark.parametrize("loss", ["deleted", "put back", "emptied", "changed", "reordered"])
def test_a_book_that_has_lost_a_model_that_left_stops_everything(tmp_path, keys, loss):
    """Row S11."""
    path = keys / BUDGET_FILE
    spent(keys, model(tmp_path, 0, ["a"]))
    earlier = path.read_bytes()
    spent(keys, model(tmp_path, 1, ["a"]))
    anchor = digest_of_book(keys, NO_BOOK)
    book = json.loads(path.read_bytes())
    if loss == "deleted":
        path.unlink()
    elif loss == "put back":
        path.write_bytes(earlier)
    elif loss == "emptied":
        path.write_text("{}")
    elif loss == "changed":
        book["spent"][0]["utterances"] = ["b"]
        path.write_text(json.dumps(book))
    else:
        path.write_text(json.dumps({"spent": book["spent"][::-1]}))
    before = path.read_bytes() if path.exists() else None
    for attempt in (
        lambda: spent(keys, model(tmp_path, 2, ["c"]), anchor=anchor),
        lambda: digest_of_book(keys, anchor),
    ):
        with pytest.raises(RefusedError, match="restore the last copy") as refusal:
            attempt()
        assert (refusal.value.code, refusal.value.exit_code) == (Code.RELEASE_BUDGET, 11)
    assert (path.read_bytes() if path.exists() else None) == before
