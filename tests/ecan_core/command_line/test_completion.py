"""A real shell completes our commands, options and paths."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
ASK = """
eval "$({program} completion bash)"
complete -p {program} > /dev/null || exit 9
COMP_WORDS=({words} "$LAST"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_{function}_completion {program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def run(*words, **environment):
    surroundings = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | environment
    return subprocess.run(list(words), capture_output=True, text=True, check=False, env=surroundings)


def completed(words, last):
    """What bash offers for the last word of a command line."""
    program = words.split()[0]
    script = ASK.format(program=program, words=words, function=program.replace("-", "_"))
    done = run("bash", "--norc", "-c", script, LAST=last)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@needs_bash
@pytest.mark.parametrize(
    ("words", "last", "offered"),
    [
        ("ecan-target", "", {"adapt", "predict", "status", "init", "completion"}),
        ("ecan-target", "re", {"request", "receive", "replay"}),
        ("ecan-target", "--log", {"--log-format"}),
        ("ecan-target log", "", {"show", "verify"}),
        ("ecan-target status", "--f", {"--format"}),
        ("ecan-target status --format", "", {"text", "json", "prometheus"}),
        ("ecan-target completion", "z", {"zsh"}),
        ("ecan-source", "ke", {"keys"}),
        ("ecan-source ledger", "v", {"verify"}),
    ],
)
def test_bash_completes_commands_options_and_values(words, last, offered):
    found = completed(words, last)
    assert found >= offered
    assert all(one.startswith(last) for one in found)


@needs_bash
def test_nothing_is_offered_for_a_command_that_does_not_exist():
    assert completed("ecan-target", "zzz") == set()


def test_a_list_of_commands_is_completed_without_importing_one():
    code = (
        "import sys\n"
        "from target_site.cli import cli\n"
        "import click\n"
        "names = [one.value for one in cli.shell_complete(click.Context(cli, info_name='ecan-target'), 'a')]\n"
        "assert names == ['approve', 'adapt'], names\n"
        "print([name for name in sys.modules if name.startswith('target_site.commands')])"
    )
    done = run(sys.executable, "-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_of_their_own(shell):
    done = run("ecan-target", "completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_ECAN_TARGET_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        assert run(shell, "-n", "-c", done.stdout).returncode == 0


def test_a_shell_that_nobody_knows_is_refused_with_those_that_there_are():
    done = run("ecan-target", "completion", "cmd")
    assert (done.returncode, "bash" in done.stderr) == (2, True)
