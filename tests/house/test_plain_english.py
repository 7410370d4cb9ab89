"""Docstrings and help are plain English: a verb and its object, short first lines, one word per idea."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from source_site.cli import cli as source
from target_site.cli import cli as target
from tests.house.test_help import groups

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ecan_core", "protocol", "source_site", "target_site")
QUESTIONS = {"What", "Whether", "Who", "Whom", "Whose", "How", "Where", "When", "Which", "Why", "That", "If"}
ARTICLES = {"A", "An", "The"}
MAX_FIRST_LINE = 72
CEILINGS = {
    "ecan_core": (0, 0, 0),
    "protocol": (0, 0, 0),
    "source_site": (0, 0, 0),
    "target_site": (0, 0, 0),
}
"""By package: docstrings that still open with a question word, with an article, and whose first line is too long.

The figures may only fall: whoever mends some of them lowers the figure.
"""
ANOTHER_MEANING = re.compile("samples|sample_rate|^clip$", re.IGNORECASE)
"""Names whose word means something else: samples of sound, and the length that gradients are clipped to."""
SILENT_OPTIONS: set[tuple[str, str]] = set()
"""Options without a help text, which may only become fewer."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module that somebody wrote, with its package."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
                yield package, ast.parse(path.read_text())


def first_lines(tree: ast.Module) -> Iterator[str]:
    """The first line of each docstring but those of boolean properties, which may say "Whether"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and not is_boolean_property(node):
                yield text.splitlines()[0]


def is_boolean_property(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef) or node.returns is None or ast.unparse(node.returns) != "bool":
        return False
    return any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list)


def faults(lines: list[str]) -> tuple[int, int, int]:
    opening = [line.split()[0].strip(":,") for line in lines]
    return (
        sum(word in QUESTIONS for word in opening),
        sum(word in ARTICLES for word in opening),
        sum(len(line) > MAX_FIRST_LINE for line in lines),
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_open_with_a_verb_in_a_short_line(package):
    lines = [line for name, tree in modules() if name == package for line in first_lines(tree)]
    counted = faults(lines)
    assert len(lines) > 100
    assert all(count <= ceiling for count, ceiling in zip(counted, CEILINGS[package], strict=True)), counted


def test_every_kind_of_fault_is_counted():
    source_text = '''
class Box:
    """What lies in it."""

    @property
    def is_open(self) -> bool:
        """Whether it is open."""

    def lid(self):
        """The lid of the box."""

    def close(self):
        """Close it."""
'''
    lines = list(first_lines(ast.parse(source_text)))
    assert faults([*lines, "Close " + "x" * 70]) == (1, 1, 1)


def glossary() -> list[tuple[str, str, str]]:
    """The rows of the glossary: the words, their meaning, and what is not said for it."""
    rows = [line for line in (ROOT / "docs/glossary.md").read_text().splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows[1:]]


def forbidden() -> set[str]:
    return {word for _, _, others in glossary() for word in re.findall(r"\*\*(.+?)\*\*", others)}


def test_each_word_of_the_glossary_has_one_meaning():
    listed = [word.strip() for words, _, _ in glossary() for word in words.split(",")]
    assert len(listed) > 60
    assert len(listed) == len(set(listed))
    assert forbidden().isdisjoint(listed)
    assert {"clip", "sample", "dataset"} <= forbidden()


def defined_names(tree: ast.Module) -> Iterator[str]:
    """Every name that a module gives to something; names of libraries that it only uses do not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def in_words(name: str) -> str:
    """A name as words: ``GroundTruth`` and ``ground_truth`` as ``ground truth``."""
    return " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)).lower()


def says(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}s?\b", text.lower()) is not None


def test_no_name_of_the_code_uses_a_word_that_the_glossary_forbids():
    names = {name for _, tree in modules() for name in defined_names(tree)}
    words = {word.replace("-", " ") for word in forbidden()}
    told = {name for name in names for word in words if says(in_words(name), word)}
    assert {name for name in told if not ANOTHER_MEANING.search(name)} == set()
    assert says(in_words("GroundTruths"), "ground truth")
    assert says(in_words("num_clips"), "clip")


def help_pages() -> Iterator[tuple[str, str]]:
    """Every help page of both programs, by the command that prints it."""
    for program, cli in (("ecan-source", source), ("ecan-target", target)):
        for group, context in groups(cli, click.Context(cli, info_name=program)):
            yield context.command_path, group.get_help(context)
            for name in group.list_commands(context):
                command = group.get_command(context, name)
                below = click.Context(command, info_name=name, parent=context)
                yield below.command_path, command.get_help(below)


def test_no_help_page_uses_a_word_that_the_glossary_forbids():
    pages = dict(help_pages())
    assert len(pages) > 40
    assert {(command, word) for command, page in pages.items() for word in forbidden() if says(page, word)} == set()


def test_every_option_says_what_to_give_it():
    silent = set()
    for program, cli in (("ecan-source", source), ("ecan-target", target)):
        for group, context in groups(cli, click.Context(cli, info_name=program)):
            for name in group.list_commands(context):
                command = group.get_command(context, name)
                silent |= {(name, one.name) for one in command.params if isinstance(one, click.Option) and not one.help}
    assert silent <= SILENT_OPTIONS
