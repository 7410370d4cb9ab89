"""What the files of `deploy` start, as an operator's machine would start it."""

from importlib import import_module

import click

SITES = {"ecan-source": "source_site.cli", "ecan-target": "target_site.cli"}


def is_understood(words: list[str], program: str = "ecan-target") -> bool:
    """Whether a command of ours has all these options."""
    command: click.Command | None = import_module(SITES[program]).cli
    while isinstance(command, click.Group):
        name, *words = words
        command = command.get_command(click.Context(command), name)
        assert command is not None, f"there is no command {name}"
    assert command is not None
    with command.make_context(command.name, [], resilient_parsing=True) as context:
        command.make_parser(context).parse_args(words)
    return True
