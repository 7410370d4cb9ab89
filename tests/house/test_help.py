"""What a person reads first: every list of commands says in full what each of them does."""

import click
import pytest

from source_site.cli import cli as source
from target_site.cli import cli as target


def groups(group: click.Group, context: click.Context):
    """A group and all groups below it, each with its context."""
    yield group, context
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from groups(command, click.Context(command, info_name=name, parent=context))


@pytest.mark.parametrize(("program", "cli"), [("ecan-source", source), ("ecan-target", target)])
def test_no_line_of_a_list_of_commands_is_cut_off(program, cli):
    for group, context in groups(cli, click.Context(cli, info_name=program, terminal_width=80)):
        _, _, listed = group.get_help(context).partition("Commands:")
        assert listed.split()
        assert "..." not in listed.partition("Example")[0], context.command_path
