"""Read YAML that is reduced to plain data.

It means what it shows.
"""

import re
from typing import Any

import yaml

MAX_DEPTH = 16

_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", ["t", "T", "f", "F"]),
    "int": (r"[-+]?(?:0|[1-9][0-9]{0,17})", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.?[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
"""Unquoted words that are not text, and the letters they start with.

This is the core of YAML 1.2. The older rules of PyYAML read `no` as false, `12:30` as 750 and `1e-3` as text.
"""


class PlainLoader(yaml.SafeLoader):
    """Load mappings, lists and scalars alone.

    No anchors, tags, merge keys, repeated keys or deep nesting.
    """

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse what is not plain before it is built."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise _fault("uses an anchor; write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _fault("uses a tag; write the plain value", event.start_mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _fault("is nested too deeply; settings have a few levels", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a name that is given twice or is not text."""
        names: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _fault("has a name that is not text; put quotes around it", key.start_mark)
            if key.value in names:
                raise _fault(f"gives '{key.value}' twice; remove one", key.start_mark)
            names.add(key.value)
        return super().construct_mapping(node, deep)


PlainLoader.yaml_implicit_resolvers = {}
for _kind, (_pattern, _first) in _SCALARS.items():
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)


def load_plain(text: str) -> Any:
    """Read one YAML document.

    Raises:
        ValueError: It is not plain YAML; the message says where and why, to follow the name of the file.
    """
    try:
        return yaml.load(text, Loader=PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1} " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from None
    except yaml.YAMLError:
        raise ValueError("holds a character that is not text; remove it") from None


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
