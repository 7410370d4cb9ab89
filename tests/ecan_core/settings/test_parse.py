from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from ecan_core.errors import SettingsError, UsageError
from ecan_core.settings.parse import parse_settings, read_yaml


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    learning_rate: float = 1e-3
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise SettingsError(f"learning_rate is {self.learning_rate}, but must be above 0.")


@dataclass(frozen=True, kw_only=True)
class Training:
    epochs: int
    title: str = "run"
    shuffle: bool = True
    mode: Literal["none", "corpus", "speaker"] = "speaker"
    limit: int | None = None
    folder: Path | None = None
    widths: tuple[int, ...] = (256,)
    weights: dict[str, float] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=Optimizer)


def parse(mapping: dict[str, Any]) -> Training:
    return parse_settings(Training, mapping, "train.yaml")


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(content: str | bytes) -> Path:
        path = tmp_path / "train.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def test_a_file_becomes_a_dataclass_with_its_defaults(write: Any) -> None:
    path = write(
        "epochs: 30\nmode: none\nfolder: runs/a\nwidths: [512, 128]\nweights: {diversity: 1, neighbor: 0.5}\n"
        "optimizer:\n  learning_rate: 1e-4  # written as people write it\n"
    )
    settings = parse(read_yaml(path))
    assert settings == Training(
        epochs=30,
        mode="none",
        folder=Path("runs/a"),
        widths=(512, 128),
        weights={"diversity": 1.0, "neighbor": 0.5},
        optimizer=Optimizer(learning_rate=1e-4),
    )
    assert isinstance(settings.weights["diversity"], float)


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "---\n", "null\n"])
def test_an_empty_file_is_an_empty_mapping(write: Any, content: str) -> None:
    assert read_yaml(write(content)) == {}


def test_words_that_old_yaml_bends_stay_what_they_show(write: Any) -> None:
    content = read_yaml(write("a: no\nb: on\nc: 12:30\nd: 010\ne: 1e3\nf: 2024-01-01\ng: .5\nh: ~\ni: True\nj: 1_0"))
    assert content == {
        "a": "no",
        "b": "on",
        "c": "12:30",
        "d": 10.0,
        "e": 1000.0,
        "f": "2024-01-01",
        "g": 0.5,
        "h": None,
        "i": True,
        "j": "1_0",
    }


def test_a_byte_order_mark_is_no_part_of_the_first_name(write: Any) -> None:
    assert read_yaml(write("\ufeffepochs: 3\n")) == {"epochs": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs: 1\nepochs: 2\n", r"line 2 gives 'epochs' twice"),
        ("optimizer:\n  momentum: 1\n  momentum: 2\n", r"line 3 gives 'momentum' twice"),
        ("a: &x 1\nb: *x\n", "line 1 uses an anchor"),
        ("b: *x\n", "line 1 uses an anchor"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1 uses a tag"),
        ("a: !!str 1\n", "line 1 uses a tag"),
        ("[" * 40 + "]" * 40, "is nested too deeply"),
        ("{" * 30000, "is nested too deeply"),
        ("1: x\n", "has a name that is not text"),
        ("yes: x\ntrue: y\n", "line 2 has a name that is not text"),
        ("? [a, b]\n: x\n", "has a name that is not text"),
        ("- a\n- b\n", "must hold lines such as `name: value`, not a list"),
        ("just words\n", "must hold lines such as `name: value`, not 'just words'"),
        ("a: [1, 2\n", "line 2"),
        ("a: b: c\n", "line 1"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        (b"a: \x00\n", "holds a character that is not text"),
        (b"a: \xff\xfe\n", "is not UTF-8 text"),
        ("a: 1\n" + "#" * (1 << 20), "larger than 64 KiB"),
    ],
)
def test_a_file_that_is_not_plain_settings_is_refused_with_its_place(
    write: Any, content: str | bytes, message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read_yaml(write(content))
    assert "train.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bomb_of_aliases_is_refused_before_it_unfolds(write: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    with pytest.raises(SettingsError, match="anchor"):
        read_yaml(write("\n".join(lines)))


def test_a_merge_key_is_an_unknown_name_like_any_other(write: Any) -> None:
    with pytest.raises(SettingsError, match="<< is not a setting"):
        parse(read_yaml(write("epochs: 1\n<<: {title: x}\n")))


@pytest.mark.parametrize("place", ["absent.yaml", "."])
def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="no settings file") as caught:
        read_yaml(tmp_path / place)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"epochs": 1, "epoch": 2}, "epoch is not a setting; did you mean epochs?"),
        (
            {"epochs": 1, "optimizer": {"learning_rat": 1.0}},
            "optimizer.learning_rat is not a setting; did you mean optimizer.learning_rate?",
        ),
        ({"epochs": 1, "zzz": 2}, "zzz is not a setting; the known ones are epochs, title, shuffle"),
        ({}, "epochs is missing; give it a value."),
        ({"epochs": "ten"}, "epochs must be a whole number, not 'ten'."),
        ({"epochs": 1.5}, "epochs must be a whole number, not 1.5."),
        ({"epochs": True}, "epochs must be a whole number, not true."),
        ({"epochs": None}, "epochs must be a whole number, not empty."),
        ({"epochs": 1, "shuffle": 1}, "shuffle must be true or false, not 1."),
        ({"epochs": 1, "shuffle": "no"}, "shuffle must be true or false, not 'no'."),
        ({"epochs": 1, "title": 3}, "title must be text, not 3."),
        ({"epochs": 1, "mode": "Speaker"}, "mode must be one of none, corpus, speaker, not 'Speaker'."),
        ({"epochs": 1, "mode": ["none"]}, "mode must be one of none, corpus, speaker, not a list."),
        ({"epochs": 1, "limit": "x"}, "limit must be a whole number, not 'x'."),
        ({"epochs": 1, "widths": 3}, "widths must be a list, not 3."),
        ({"epochs": 1, "widths": [1, "x"]}, "widths[1] must be a whole number, not 'x'."),
        ({"epochs": 1, "weights": {"a": "x"}}, "weights.a must be a finite number, not 'x'."),
        ({"epochs": 1, "weights": [1]}, "weights must be a group of `name: value` lines, not a list."),
        ({"epochs": 1, "optimizer": 3}, "optimizer must be a group of `name: value` lines, not 3."),
        (
            {"epochs": 1, "optimizer": {"momentum": float("nan")}},
            "optimizer.momentum must be a finite number, not nan.",
        ),
        (
            {"epochs": 1, "optimizer": {"momentum": float("-inf")}},
            "optimizer.momentum must be a finite number, not -inf.",
        ),
        (
            {"epochs": 1, "optimizer": {"momentum": 10**400}},
            f"optimizer.momentum must be a finite number, not 1{59 * '0'}....",
        ),
        (
            {"epochs": 1, "optimizer": {"learning_rate": -1}},
            "optimizer.learning_rate is -1.0, but must be above 0.",
        ),
        ({"epochs": "x" * 1000}, f"epochs must be a whole number, not '{'x' * 59}...."),
    ],
)
def test_a_wrong_setting_is_refused_by_its_dotted_path(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(mapping)
    assert str(caught.value).startswith(f"train.yaml: {message}")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("number", [".inf", "-.Inf", ".nan", "1e999", "9" * 400])
def test_numbers_that_are_not_finite_are_refused_from_a_file_too(write: Any, number: str) -> None:
    with pytest.raises(SettingsError, match="momentum must be a finite number"):
        parse(read_yaml(write(f"epochs: 1\noptimizer: {{momentum: {number}}}\n")))


def test_a_null_is_accepted_only_where_the_setting_may_be_absent() -> None:
    assert parse({"epochs": 1, "limit": None}).limit is None
    with pytest.raises(SettingsError, match="title must be text, not empty"):
        parse({"epochs": 1, "title": None})


def test_a_schema_that_settings_cannot_hold_is_a_bug_not_a_fault_of_the_user() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: complex = 1j

    with pytest.raises(TypeError, match="cannot hold"):
        parse_settings(Odd, {"value": 1}, "odd.yaml")
