"""The rows of the hostile tables, read off the tests themselves; `python -m tests.hostile.rows` writes the document.

A row is a test that bears an id: by the marker `row`, by the id of a parameter (`B17-...`), or by its name
(`test_row_b11_...`). What it must end with stands in the parameters of the test, in a table that it looks its
parameter up in, or in what it asserts.
"""

import ast
import enum
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "hostile-rows.md"
TABLES = {
    "A": "recordings, and lists of them",
    "B": "bundles, sealed files, receipts and what a target remembers",
    "C": "settings, options, the disk and the walls of a contained process",
    "D": "questions of a federation's coordinator, and strangers at its port",
    "E": "public encoders, as files and as folders",
    "F": "lists and releases that leap ahead",
    "G": "clients and sources on the wire",
    "H": "hand-overs to new keys",
    "K": "key files",
    "L": "ledgers",
    "Q": "requests",
    "R": "receipts at the source",
    "S": "models, their audits and what a source lets out",
    "V": "revocation lists",
}
HEAD = """# Rows of the hostile tests

Written by `python -m tests.hostile.rows` from the tests in `tests/hostile`; do not edit. `pytest tests/hostile --rows`
lists the same. A row is one hostile input. *Ends with* is what the test asserts: the exit code, and the code word of
the one line that the operator sees or of the answer on the wire; a dash where it asserts something else, such as that
nobody is answered or that nothing was changed. Ids with one number belong together; a letter behind the number tells
variants apart. The rows of the tables D, E, H, K, L, Q, R and V are counted in the order of their tests.
"""
_ID = re.compile(r"(?:^|-)([A-Z]\d\d(?:\d+|[A-Za-z]{0,2}))(?=-|$)")
_NAME = re.compile(r"test_(?:row_)?([a-z])(\d\d)?_(?:row_)?(.+)")
_CODE_WORD = re.compile(r"[A-Z][A-Z_]{3,}")
_UNNUMBERED = {"test_encoders.py": "E", "test_federation.py": "D"}
_LETTERS = {"test_requests.py": "HKLQRV"}


@dataclass(frozen=True)
class Row:
    """Hold a row.

    Attributes:
        name: its id.
        what: what is tried.
        ends: what it must end with.
        test: where it is tried.
    """

    name: str
    what: str
    ends: str
    test: str


def rows_of(items: Iterable[pytest.Item]) -> list[Row]:
    """Return the rows that some tests stand for, in the order of their ids, each once however often it is tried."""
    found: dict[tuple[str, str, str], Row] = {}
    numbers: dict[str, int] = {}
    for item in items:
        if isinstance(item, pytest.Function) and "hostile" in item.path.parts and (named := _named(item)):
            name, what = named
            test = f"{item.path.name}::{item.function.__name__}"
            key = (name, what, test)
            if key not in found:
                if len(name) == 1:
                    numbers[name] = numbers.get(name, 0) + 1
                    name = f"{name}{numbers[name]:03}"
                found[key] = Row(name, what, _ends(item), test)
    return sorted(found.values(), key=lambda row: (row.name[0], _natural(row.name), row.test))


def _natural(name: str) -> tuple[int, str]:
    number = re.sub(r"\D.*", "", name[1:]) or "0"
    return int(number), name


def _named(item: pytest.Function) -> tuple[str, str] | None:
    """Return a row's id and what it tries; the letter alone where its table has no numbers."""
    if marker := item.get_closest_marker("row"):
        return marker.args[0], marker.args[1]
    values = item.callspec.params if hasattr(item, "callspec") else {}
    shown = _shown(item.callspec.id, values) if values else ""
    if match := _ID.search(shown):
        return match[1], _in_words(shown[match.end() :]) or _in_words(item.function.__name__)
    words = item.function.__name__
    match, file = _NAME.fullmatch(words), item.path.name
    if match and (match[2] or match[1].upper() in _LETTERS.get(file, "")):
        name = match[1].upper() + (match[2] or "")
        return name, ": ".join(part for part in (match[3].replace("_", " "), _in_words(shown)) if part)
    if file in _UNNUMBERED and words.startswith("test_row_"):
        words = words.removeprefix("test_row_").replace("_", " ")
        return _UNNUMBERED[file], ": ".join(part for part in (words, _in_words(shown)) if part)
    return None


def _shown(text: str, values: dict[str, Any]) -> str:
    """Return the id of a test without the words that say by which way it is tried."""
    for name in ("way", "command", "method", "code", "word"):
        if isinstance(value := values.get(name), str | int):
            text = re.sub(f"(^|-){re.escape(str(value))}(?=-|$)", "", text)
    return text


def _in_words(text: str) -> str:
    text = text.removeprefix("test_row_").removeprefix("test_")
    return re.sub(r"[-_\s]+", " ", text).strip()


def _ends(item: pytest.Function) -> str:
    """Return the exit code and the code word that a test asks for, as far as it says them."""
    values = list(item.callspec.params.items()) if hasattr(item, "callspec") else []
    codes, words = _asserted(item.function)
    told = [pair for name, value in values for pair in _told(name, value, item.function)]
    codes = [one for one in (code for code, _ in told) if one] or [one for one in codes if one != "0"] or codes[:1]
    words = [one for one in (word for _, word in told) if one] or words
    return " ".join([*dict.fromkeys(codes), *(f"`{word}`" for word in dict.fromkeys(words))]) or "-"


def _told(name: str, value: Any, function: Any) -> Iterator[tuple[str, str]]:
    """Return what a parameter says of the end."""
    if name in ("code", "word"):
        yield _pair(value)
    elif isinstance(value, enum.Enum) and name in ("code", "status", "state"):
        yield "", value.name
    elif name == "status" and isinstance(value, tuple):
        yield "", value[0].name
    elif hasattr(value, "code"):
        yield _pair(value.code)
        yield _pair(getattr(value, "word", ""))
    elif isinstance(value, str) and (entry := _looked_up(value, function)) is not None:
        for part in entry if isinstance(entry, tuple) else (entry,):
            if _is_exit_code(part) or (isinstance(part, str) and _CODE_WORD.fullmatch(part)):
                yield _pair(part)


def _pair(value: Any) -> tuple[str, str]:
    if isinstance(value, enum.Enum):
        return "", value.name
    return (str(value), "") if isinstance(value, int) else ("", str(value or ""))


def _looked_up(key: str, function: Any) -> Any:
    """Return what a table of the test's module has for a parameter."""
    for name in function.__code__.co_names:
        table = function.__globals__.get(name)
        if isinstance(table, dict) and key in table:
            return table[key]
    return None


@cache
def _asserted(function: Any) -> tuple[list[str], list[str]]:
    """Return the exit codes and code words in a test's own lines."""
    codes, words = [], []
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith((".code", ".returncode")):
            codes += [str(one.value) for one in _constants(node) if _is_exit_code(one.value)]
        elif isinstance(node, ast.Call) and re.search("refuse|kept_back|alarm", ast.unparse(node.func)):
            codes += [str(one.value) for one in _constants(node) if one.value and _is_exit_code(one.value)]
            words += [one.value for one in _constants(node) if _is_word(one.value)]
        elif isinstance(node, ast.Constant) and _is_word(str(node.value).strip("[]")):
            words.append(str(node.value).strip("[]"))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("Code", "grpc.StatusCode"):
            words.append(node.attr)
    return codes, words


def _constants(node: ast.AST) -> list[ast.Constant]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Constant)]


def _is_exit_code(value: Any) -> bool:
    return type(value) is int and 0 <= value < 20


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value in _code_words()


@cache
def _code_words() -> frozenset[str]:
    """Return every code word that the product has."""
    from protocol.errors import Code

    return frozenset(Code.__members__) | {str(code.value) for code in Code}


def page(rows: list[Row]) -> str:
    """Return the document."""
    parts = [HEAD, f"{len(rows)} rows.\n"]
    for letter, what in TABLES.items():
        lines = [
            f"| {row.name} | {_cell(row.what)} | {row.ends} | `{row.test}` |" for row in rows if row.name[0] == letter
        ]
        if lines:
            parts.append(
                "\n".join([f"## {letter}: {what}\n", "| row | tries | ends with | test |", "|---|---|---|---|"])
            )
            parts[-1] += "\n" + "\n".join(lines) + "\n"
    return "\n".join(parts)


def _cell(text: str) -> str:
    text = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


class _Collecting:
    """Keep what is collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = list(session.items)


def main() -> int:
    """Write the document, or with --check say whether it is as the tests are."""
    collecting = _Collecting()
    collected = pytest.main(
        ["--collect-only", "-qqq", "-o", "addopts=", str(Path(__file__).parent)], plugins=[collecting]
    )
    if collected != pytest.ExitCode.OK:
        return int(collected)
    text = page(rows_of(collecting.items))
    if "--check" not in sys.argv:
        PAGE.write_text(text)
    return int(not PAGE.exists() or PAGE.read_text() != text)


if __name__ == "__main__":
    sys.exit(main())
