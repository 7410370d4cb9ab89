"""Print what a shell must read to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from ecan_core.command_line.console import completion_variable

SHELLS = ("bash", "zsh", "fish")


@click.command(epilog='Example, for bash:  eval "$(ecan-target completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and paths in SHELL.

    Put `eval "$(ecan-target completion bash)"` into ~/.bashrc, with zsh into ~/.zshrc, or for fish
    `ecan-target completion fish | source` into ~/.config/fish/config.fish. `ecan-source` has the same command.
    """
    program = context.find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    assert program.info_name is not None
    click.echo(kind(program.command, {}, program.info_name, completion_variable(program.info_name)).source())
