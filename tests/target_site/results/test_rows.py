"""Values are held against the annotations of their fields."""

from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from target_site.results.rows import built

GOOD = {
    "number": 1,
    "share": 0.5,
    "name": "a\udcff",
    "flag": True,
    "parts": [1],
    "by_name": {"x": None},
    "note": {"n": 1},
}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Hold a value of every kind."""

    number: int
    share: float
    name: str
    flag: bool
    parts: tuple[int, ...]
    by_name: dict[str, int | None]
    note: Annotated[dict[str, Any], {"n": int}]


def test_values_of_their_types_are_taken():
    assert built(Thing, GOOD) == Thing(**GOOD)
    assert built(Thing, GOOD | {"share": 1}).share == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("number", value) for value in (True, 1.0, "1", None, 1 << 62)),
        *(("share", value) for value in (float("nan"), float("inf"), True, "0.5")),
        *(("name", value) for value in (1, None, "\ud800")),
        *(("flag", value) for value in (1, "true")),
        *(("parts", value) for value in (1, [None], {"1": 1})),
        *(("by_name", value) for value in ([], {"x": "1"}, {"\ud800": 1})),
        *(("note", value) for value in ({}, {"n": "1"}, {"n": 1, "more": 1})),
    ],
)
def test_a_value_of_another_type_is_refused(field, value):
    with pytest.raises(ValueError, match=f"^{field} cannot be$"):
        built(Thing, GOOD | {field: value})


def test_a_field_that_is_missing_or_unknown_is_refused():
    for facts in ({**GOOD, "more": 1}, {name: GOOD[name] for name in list(GOOD)[1:]}):
        with pytest.raises(TypeError):
            built(Thing, facts)
