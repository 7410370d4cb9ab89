"""Read a Dockerfile into the stages that its engine would build."""

import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """Hold what one `FROM` begins.

    Attributes:
        base: Image or stage that it stands upon, arguments filled in.
        steps: Its instructions in order, each a word in capitals and the rest of its line.
    """

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all_of(self, word: str) -> list[str]:
        """Return the rest of every line that begins with a word."""
        return [rest for name, rest in self.steps if name == word]


def read_stages(path: Path) -> dict[str, Stage]:
    """Return the stages of a Dockerfile by name, in order."""
    defaults: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for word, rest in _instructions(path):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = stage = Stage(base=_filled(base, defaults))
        elif not stages:
            defaults |= [rest.split("=", 1)]
        else:
            stage.steps.append((word, rest))
    return stages


def _instructions(path: Path) -> list[tuple[str, str]]:
    lines = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    whole = re.sub(r"\\\n\s*", " ", lines).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in whole if line.strip()]


def _filled(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text)
