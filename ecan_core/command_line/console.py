"""Share what all command lines do alike.

Lazy commands, one-line errors, exit codes and progress.

Exit codes beyond those of the error classes (`ecan_core.errors`, `protocol.errors`): 1 a bug, 2 wrong
usage, 16 storage, 130 interrupted, 141 the reader of the output went away,
143 ended from outside.
"""

import errno
import importlib
import json
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TextIO

import click
from click.shell_completion import CompletionItem, shell_complete

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LOG_FORMAT = "ECAN_LOG_FORMAT"
"""The variable that says how people are told things: as ``text``, or as ``json``, one object a line."""

_BUG, _USAGE, _SETTINGS, _STORAGE, _INTERRUPTED, _PIPE_CLOSED, _TERMINATED = 1, 2, 3, 16, 130, 141, 143

_STORAGE_FAULTS = {
    errno.ENOSPC: "the disk is full; free some space and run the command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the command again",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "permission is denied; check the owner and mode of the file and its folder",
    errno.EPERM: "permission is denied; check the owner and mode of the file and its folder",
    errno.EIO: "the disk reports an error; check the device",
}

_USAGE_FAULTS = {
    errno.ENOENT: "there is no such file or folder; check the path",
    errno.ENOTDIR: "a part of the path is a file and not a folder; name another path",
    errno.EISDIR: "this is a folder and not a file; name a file",
    errno.EEXIST: "something of that name exists already; name another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "the links lead in a circle; name the file itself",
}


class LazyCommand(NamedTuple):
    """Describe a command that is imported when it runs.

    Attributes:
        target: `package.module:attribute` of the click command.
        help: One line for the list of commands.
    """

    target: str
    help: str


class LazyGroup(click.Group):
    """List commands without importing them.

    Args:
        commands: Name -> command, in the order of the help page.
    """

    def __init__(self, *args: Any, lazy_commands: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.lazy_commands)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names and options without importing a command."""
        named = [(name, self.lazy_commands[name].help) for name in self.lazy_commands if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=told) for name, told in named]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and returns one command."""
        if cmd_name not in self.lazy_commands:
            return None
        module, _, attribute = self.lazy_commands[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called.

        Suggests the nearest name for one that does not exist.
        """
        if args and not args[0].startswith("-") and args[0] not in self.lazy_commands:
            near = get_close_matches(args[0], self.lazy_commands, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(self.lazy_commands)}."
            ctx.fail(f"There is no command '{args[0]}'; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.lazy_commands.items()])


def refuse_foreign_package(name: str) -> NoReturn:
    """End the program: a foreign package has taken one of our names.

    The names are plain, so others use them as well.
    """
    sys.exit(_say(f"another distribution has overwritten the package '{name}'; {without_foreign(name)}.", _SETTINGS))


def without_foreign(name: str) -> str:
    """Tell how to remove another distribution's files from our package.

    Half a sentence.
    """
    return f"run `pip uninstall {name}` and then `pip install --force-reinstall --no-deps ecan-ser`"


def one_numeric_thread() -> None:
    """Set the numeric libraries to one thread, before they are loaded.

    Results then reproduce bit for bit.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def run(
    group: click.Command,
    *,
    prog_name: str,
    error_types: tuple[type[Exception], ...],
    args: Sequence[str] | None = None,
) -> NoReturn:
    """Run a command line and leaves the process.

    Every failure becomes one line `error: ...` on stderr. `ECAN_DEBUG=1` adds the traceback of a bug.

    Args:
        group: The command.
        prog_name: Its name in help pages and messages.
        error_types: Errors with a message for people: `str(error)` is a sentence, `error.exit_code` the exit code, and
            `error.code`, if there is one, a word that follows the sentence in brackets.
        args: Words of the command line; None takes those of the process.
    """
    code = 0
    _replace_closed_streams()
    _complete_for_shell(group, prog_name)
    interruption = _Interruption()
    with suppress(ValueError):  # only the main thread may listen
        interruption.listen()
    try:
        with group.make_context(prog_name, list(sys.argv[1:] if args is None else args)) as context:
            group.invoke(context)
        sys.stdout.flush()
    except BaseException as error:
        code = _report(error, error_types, interruption)
    sys.exit(code)


def completion_variable(prog_name: str) -> str:
    """Return the variable by which a shell asks a program for completions."""
    return f"_{prog_name.replace('-', '_').upper()}_COMPLETE"


def _complete_for_shell(group: click.Command, prog_name: str) -> None:
    """Answer a shell that asks what may come next, and end; else return."""
    variable = completion_variable(prog_name)
    if instruction := os.environ.get(variable):
        sys.exit(shell_complete(group, {}, prog_name, variable, instruction))


def tell(message: str, *, stream: TextIO | None = None, before: str = "", **facts: object) -> None:
    """Write one line on stderr, for people or as a JSON object.

    Args:
        message: what there is to say.
        stream: where to write; None takes stderr.
        before: what stands before the message where people read it.
        **facts: what a program is told besides.
    """
    line = one_line(f"{before}{message}")
    if os.environ.get(LOG_FORMAT) == "json":
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"at": at, "level": "info", "message": one_line(message), **facts})
    print(line, file=stream or sys.stderr, flush=True)


def one_line(text: str) -> str:
    """Return the text on one line, unprintable characters escaped.

    A new line or ESC is such a character.

    Names of files and columns come from strangers and must not steer a terminal or feign a second message.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


class _Interruption:
    """Remember whether a person has interrupted the program.

    It knows this even if the running code swallows the exception.
    """

    def __init__(self) -> None:
        self.happened = False

    def listen(self) -> None:
        """Listen for Ctrl-C, unless the program's starter has disabled it."""
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        self.happened = True
        raise KeyboardInterrupt


def _replace_closed_streams() -> None:
    """Open the null device where the shell has closed stdout or stderr.

    Python leaves None there.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open to the end


def _report(error: BaseException, error_types: tuple[type[Exception], ...], interruption: _Interruption) -> int:
    if isinstance(error, BrokenPipeError):
        _discard_stdout()
    if interruption.happened or isinstance(error, KeyboardInterrupt):
        return _say("interrupted; run the same command again to go on.", _INTERRUPTED)
    if isinstance(error, SystemExit) and error.code == _TERMINATED:
        return _say("ended from outside; run the same command again when it is wanted.", _TERMINATED)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        return _PIPE_CLOSED
    if isinstance(error, click.ClickException):
        return _report_usage(error)
    if isinstance(error, error_types):
        return _say(f"{error}{_code_word(error)}", getattr(error, "exit_code", _BUG))
    if isinstance(error, OSError):
        return _report_os_error(error)
    return _report_bug(error)


def _code_word(error: BaseException) -> str:
    """Return the fault's code word, where it has one.

    Machines read it, and people look it up.
    """
    code = getattr(error, "code", None)
    return f" [{code}]" if code else ""


def _report_os_error(error: OSError) -> int:
    if os.environ.get("ECAN_DEBUG") == "1":
        traceback.print_exception(error)
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in _STORAGE_FAULTS:
        return _say(f"{place}{_STORAGE_FAULTS[error.errno]}.", _STORAGE)
    if error.errno in _USAGE_FAULTS:
        return _say(f"{place}{_USAGE_FAULTS[error.errno]}.", _USAGE)
    return _report_bug(error)


def _report_usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return _USAGE
    message = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return _say(f"{message} (see '{context.command_path} --help')." if context else f"{message}.", _USAGE)


def _report_bug(error: BaseException) -> int:
    if os.environ.get("ECAN_DEBUG") == "1":
        traceback.print_exception(error)
    fault = " ".join(f"{type(error).__name__}: {error}".split())
    return _say(f"this is a bug in ecan-ser ({fault}); ECAN_DEBUG=1 shows where, please report it.", _BUG)


def _say(message: str, code: int) -> int:
    mark = "<3>" if code != _TERMINATED and _is_journal(sys.stderr) else ""
    with suppress(OSError):
        tell(message, before=f"{mark}error: ", level="error", exit_code=code)
    return code


def _is_journal(stream: TextIO) -> bool:
    """Return whether a stream goes to systemd's journal.

    It takes `<3>` before a line for the priority of an error.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _discard_stdout() -> None:
    """Discard stdout, so that Python does not complain on its way out.

    Nobody reads the output any longer.
    """
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """Show on stderr how far a long step has come.

    A bar on a terminal, else a line every few seconds.

    Use as a context manager and call with what is done and what there is to do; it fits every `on_progress`.

    Args:
        title: What is being done, such as "Extracting features".
        quiet: Say nothing.
        stream: Where to write; None takes stderr.
        interval_s: Least time between two lines.
    """

    def __init__(
        self, title: str, *, quiet: bool = False, stream: TextIO | None = None, interval_s: float = 5.0
    ) -> None:
        self._title, self._quiet, self._interval_s = title, quiet, interval_s
        self._stream = stream if stream is not None else sys.stderr
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._due_s = 0.0
        self._last = (0, 0)

    def __enter__(self) -> "Progress":
        self._due_s = time.monotonic() + self._interval_s
        if not self._quiet and self._stream.isatty() and os.environ.get(LOG_FORMAT) != "json":
            self._start_bar()
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` is done."""
        self._last = (done, total)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif not self._quiet and time.monotonic() >= self._due_s:
            self._write_line()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self._quiet and kind is None and self._last[1]:
            self._write_line()

    def _write_line(self) -> None:
        done, total = self._last
        self._due_s = time.monotonic() + self._interval_s
        tell(f"{self._title}: {done}/{total}", stream=self._stream, done=done, total=total)

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=self._stream),
        )
        self._task = self._bar.add_task(self._title, total=None)
        self._bar.start()


class Narrator:
    """Tell a person what is going on.

    Args:
        quiet: say nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def say(self, sentence: str) -> None:
        """Write one sentence."""
        if not self._quiet:
            tell(sentence)

    def suggest(self, *words: object) -> None:
        """Name the command that comes next, as a shell reads it."""
        self.say(f"next: {shlex.join(str(word) for word in words)}")

    def progress(self, title: str) -> Progress:
        """Return a context manager for progress.

        Call it with what is done and what there is to do.
        """
        return Progress(title, quiet=self._quiet)
