"""Check what `predict` wrote against the published schema."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "outputs.schema.json"
LINES = {"segments.jsonl": "segment", "calls.jsonl": "call"}


@cache
def _validator(kind: str) -> Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})


def faults_of(kind: str, what: Any) -> list[str]:
    """What the schema has against an object."""
    return [error.message for error in _validator(kind).iter_errors(what)]


def faults_in(day: Path) -> list[str]:
    """What it has against the files of a day."""
    found = faults_of("summary", json.loads((day / "summary.json").read_text()))
    for name, kind in LINES.items():
        for line in (day / name).read_text().splitlines():
            found += faults_of(kind, json.loads(line))
    return found
