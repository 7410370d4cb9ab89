"""Our packages as a user has them: found by the path alone, not by what an editable installation adds."""


def as_installed(*folders: object) -> str:
    """The beginning of a script that finds packages in these folders first, then where the interpreter looks."""
    return (
        "import sys\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'Editable' not in getattr(finder, '__name__', '')]\n"
        f"sys.path[:] = [*{[str(folder) for folder in folders]!r}, *(path for path in sys.path if path)]\n"
    )
