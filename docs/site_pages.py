"""Add to the site what lies outside docs/: papers, and a page by room.

mkdocs.yml names this file as a hook. A room is a folder of a package. Its page is made from the docstrings of its
modules.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ecan_core", "protocol", "source_site", "target_site")
PAPERS = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SHOWN_AS_TEXT = re.compile(r"\[([^]]+)\]\((?:deploy/[^)]*|docs/decisions/)\)")
"""Links to what the site does not have."""
GENERATED = ROOT / "protocol" / "wire" / "ecan"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put decisions and rooms into the navigation.

    Args:
        config: the site's settings, whose navigation has two empty lists for them.

    Returns:
        The same settings.
    """
    sections = {name: pages for entry in config.nav for name, pages in entry.items()}
    decisions = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs/decisions").glob("*.md"))
    sections["Contributor"][-1]["Decisions"] = [str(path) for path in decisions]
    sections["Reference"][:] = [{package: [page_of(room) for room in rooms(package)]} for package in PACKAGES]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages themselves.

    Args:
        files: what docs/ holds.
        config: the site's settings.

    Returns:
        The same files and the new ones.
    """
    for name, page in PAPERS.items():
        files.append(File.generated(config, page, content=as_page((ROOT / name).read_text())))
    for room in (room for package in PACKAGES for room in rooms(package)):
        files.append(File.generated(config, page_of(room), content=reference(room)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turn links to the papers above docs/ into links to their pages.

    Args:
        markdown: a page of docs/.

    Returns:
        The same page for the site.
    """
    for name, page in PAPERS.items():
        markdown = markdown.replace(f"](../{name})", f"]({page})")
    return markdown


def as_page(text: str) -> str:
    """Return a top-level paper with links as from within docs/.

    Args:
        text: Markdown, with links from the top level.

    Returns:
        Markdown, with links from docs/.
    """
    text = SHOWN_AS_TEXT.sub(r"\1", text)
    for name, page in PAPERS.items():
        text = text.replace(f"]({name})", f"]({page})")
    return text.replace("](docs/", "](")


def rooms(package: str) -> list[str]:
    """List the rooms of a package by dotted name, itself first.

    Args:
        package: the name of a package.

    Returns:
        Names of all folders that hold modules which somebody wrote.
    """
    return sorted({str(path.parent.relative_to(ROOT)).replace("/", ".") for path in modules(ROOT / package, "**/*.py")})


def modules(folder: Path, pattern: str = "*.py") -> list[Path]:
    """List the modules of a folder, without generated and empty ones.

    Args:
        folder: where to look.
        pattern: which files.

    Returns:
        Their paths, in order.
    """
    found = sorted(folder.glob(pattern))
    return [path for path in found if GENERATED not in path.parents and path.read_text().strip()]


def page_of(room: str) -> str:
    """Return the path of a room's page in the site.

    Args:
        room: its dotted name.

    Returns:
        A path below docs/.
    """
    return f"reference/{room}.md"


def reference(room: str) -> str:
    """Return the page of a room, with the docstrings of its modules.

    Args:
        room: its dotted name.

    Returns:
        Markdown with one directive of mkdocstrings for each module.
    """
    names = [path.stem for path in modules(ROOT / room.replace(".", "/"))]
    dotted = [room if name == "__init__" else f"{room}.{name}" for name in names]
    return f"# {room}\n\n" + "\n".join(f"::: {name}\n" for name in dotted)
