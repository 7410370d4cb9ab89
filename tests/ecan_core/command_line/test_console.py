import errno
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from textwrap import dedent

import pytest

from ecan_core.command_line.console import LOG_FORMAT, Narrator, Progress

PROGRAM = dedent(
    """
    import errno, os, sys, time
    import click
    from ecan_core.command_line.console import LazyCommand, LazyGroup, run
    from ecan_core.errors import AudioError

    class ProtocolError(Exception):
        exit_code = 10

    @click.group(cls=LazyGroup, lazy_commands={
        "adapt": LazyCommand("heavy_commands:adapt", "Adapt a model to unlabeled audio."),
        "audit": LazyCommand("heavy_commands:audit", "Audit a model."),
        "keys": LazyCommand("heavy_commands:keys", "Make keys."),
    })
    @click.version_option("1.2.3")
    def program():
        '''Does things.'''

    if __name__ == "__main__":
        run(program, prog_name="ecan-test", error_types=(AudioError, ProtocolError))
    """
)

COMMANDS = dedent(
    """
    import errno, os, sys, time
    import click
    from ecan_core.errors import AudioError
    from __main__ import ProtocolError
    print("imported", file=sys.stderr)

    FAULTS = {
        "none": None,
        "audio": AudioError("There is no recording."),
        "protocol": ProtocolError("The signature is wrong."),
        "full": OSError(errno.ENOSPC, "No space left on device", "out/model"),
        "quota": OSError(errno.EDQUOT, "Quota"),
        "read-only": OSError(errno.EROFS, "Read-only"),
        "denied": PermissionError(errno.EACCES, "Permission denied", "out"),
        "bug": KeyError("no\\nsuch\\nkey"),
        "other-os": OSError(errno.EBADF, "Bad file descriptor"),
        "no-file": FileNotFoundError(errno.ENOENT, "No such file", "out/link"),
        "no-folder": NotADirectoryError(errno.ENOTDIR, "Not a directory", "file/sub"),
        "folder": IsADirectoryError(errno.EISDIR, "Is a directory", "out"),
        "exists": FileExistsError(errno.EEXIST, "File exists", "out"),
        "long-name": OSError(errno.ENAMETOOLONG, "File name too long", "xxx"),
        "loop": OSError(errno.ELOOP, "Too many levels", "out"),
        "stranger": AudioError("call\\n\\x1b[2Jerror: é \\u202e.wav \\udcff is no audio."),
        "interrupt": KeyboardInterrupt(),
        "terminated": SystemExit(143),
    }

    @click.command()
    @click.option("--fault", type=click.Choice(list(FAULTS)), default="none")
    @click.option("--lines", type=int, default=1)
    @click.option("--code", type=int)
    @click.option("--wait", is_flag=True)
    @click.option("--import", "importing", is_flag=True)
    @click.pass_context
    def adapt(context, fault, lines, code, wait, importing):
        '''Adapt a model.'''
        if wait:
            print("waiting", flush=True)
            time.sleep(60)
        if importing:
            try:
                print("waiting", flush=True)
                time.sleep(60)
            except KeyboardInterrupt:
                raise ImportError("initialization failed")
        if FAULTS[fault]:
            raise FAULTS[fault]
        for _ in range(lines):
            print("result " + "x" * 1000)
        if code is not None:
            context.exit(code)

    audit = adapt

    @click.group()
    def keys():
        '''Make keys.'''

    @keys.command()
    def init():
        '''Make new keys.'''
        print("made")
    """
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "heavy_commands.py").write_text(COMMANDS)
    path = folder / "program.py"
    path.write_text(PROGRAM)
    return path


def call(program: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(program), *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ECAN_DEBUG": "", **environment},
    )


def test_help_lists_the_commands_in_order_without_importing_them(program: Path) -> None:
    result = call(program, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith("Usage: ecan-test [OPTIONS] COMMAND [ARGS]...")
    listed = result.stdout.split("Commands:")[1].split("\n")[1:4]
    assert [line.split(maxsplit=1) for line in listed] == [
        ["adapt", "Adapt a model to unlabeled audio."],
        ["audit", "Audit a model."],
        ["keys", "Make keys."],
    ]


def test_the_version_is_told_without_importing_a_command(program: Path) -> None:
    result = call(program, "--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert "1.2.3" in result.stdout


def test_a_command_is_imported_when_it_runs(program: Path) -> None:
    result = call(program, "adapt")
    assert (result.returncode, result.stderr) == (0, "imported\n")
    assert result.stdout.startswith("result")
    assert call(program, "keys", "init").stdout == "made\n"


def test_the_help_of_a_command_names_the_whole_command_line(program: Path) -> None:
    result = call(program, "adapt", "--help")
    assert result.returncode == 0
    assert "Usage: ecan-test adapt [OPTIONS]" in result.stdout


def test_a_command_may_choose_its_exit_code(program: Path) -> None:
    result = call(program, "adapt", "--code", "14")
    assert result.returncode == 14
    assert result.stdout.startswith("result")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["adpt"], "There is no command 'adpt'; did you mean 'adapt'? (see 'ecan-test --help')."),
        (["zzz"], "There is no command 'zzz'; choose from adapt, audit, keys (see 'ecan-test --help')."),
        (["--what"], "No such option '--what' (see 'ecan-test --help')."),
        (["adapt", "--lines", "x"], "'x' is not a valid integer (see 'ecan-test adapt --help')."),
        (["adapt", "extra"], "Got unexpected extra argument (extra) (see 'ecan-test adapt --help')."),
    ],
)
def test_wrong_usage_is_one_line_that_points_to_the_help(program: Path, args: list[str], message: str) -> None:
    result = call(program, *args)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.replace("imported\n", "").splitlines()
    assert line.startswith("error: ")
    assert line.endswith(message)


@pytest.mark.parametrize("args", [[], ["keys"]])
def test_a_group_without_a_command_shows_its_help_on_stderr(program: Path, args: list[str]) -> None:
    result = call(program, *args)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: ecan-test" in result.stderr
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("audio", 13, "There is no recording."),
        ("protocol", 10, "The signature is wrong."),
        ("full", 16, "out/model: the disk is full; free some space and run the command again."),
        ("quota", 16, "the disk quota is used up; free some space and run the command again."),
        ("read-only", 16, "the file system is read-only; choose a folder that can be written."),
        ("denied", 16, "out: permission is denied; check the owner and mode of the file and its folder."),
        ("interrupt", 130, "interrupted; run the same command again to go on."),
        ("terminated", 143, "ended from outside; run the same command again when it is wanted."),
        (
            "bug",
            1,
            r"this is a bug in ecan-ser (KeyError: 'no\nsuch\nkey'); "
            "ECAN_DEBUG=1 shows where, please report it.",
        ),
        (
            "other-os",
            1,
            f"this is a bug in ecan-ser (OSError: [Errno {errno.EBADF}] Bad file descriptor); "
            "ECAN_DEBUG=1 shows where, please report it.",
        ),
        ("no-file", 2, "out/link: there is no such file or folder; check the path."),
        ("no-folder", 2, "file/sub: a part of the path is a file and not a folder; name another path."),
        ("folder", 2, "out: this is a folder and not a file; name a file."),
        ("exists", 2, "out: something of that name exists already; name another path."),
        ("long-name", 2, "xxx: the name is too long; choose a shorter one."),
        ("loop", 2, "out: the links lead in a circle; name the file itself."),
        ("stranger", 13, r"call\n\x1b[2Jerror: é \u202e.wav \udcff is no audio."),
    ],
)
def test_every_failure_is_one_line_and_its_exit_code(program: Path, fault: str, code: int, message: str) -> None:
    result = call(program, "adapt", "--fault", fault)
    assert result.stderr == f"imported\nerror: {message}\n"
    assert (result.returncode, result.stdout) == (code, "")


@pytest.mark.parametrize(("named", "begins"), [(True, "<3>error: "), (False, "error: ")])
def test_the_journal_is_told_that_an_error_is_one(program: Path, tmp_path: Path, named: bool, begins: str) -> None:
    """systemd names the file that it reads a service's words from."""
    with (tmp_path / "journal").open("w") as journal:
        status = os.fstat(journal.fileno())
        stream = f"{status.st_dev}:{status.st_ino if named else 0}"
        environment = os.environ | {"JOURNAL_STREAM": stream}
        words = [sys.executable, str(program), "adapt", "--fault", "audio"]
        assert subprocess.run(words, stderr=journal, env=environment, check=False).returncode == 13
    assert (tmp_path / "journal").read_text().splitlines()[-1].startswith(begins)


def test_the_traceback_of_a_bug_is_shown_where_it_is_asked_for(program: Path) -> None:
    result = call(program, "adapt", "--fault", "bug", ECAN_DEBUG="1")
    assert "Traceback (most recent call last)" in result.stderr
    assert result.returncode == 1
    assert "Traceback" not in call(program, "adapt", "--fault", "audio", ECAN_DEBUG="1").stderr


@pytest.mark.parametrize("moment", ["--wait", "--import"])
def test_a_real_interrupt_ends_with_130_whatever_becomes_of_the_exception(program: Path, moment: str) -> None:
    command = [sys.executable, str(program), "adapt", moment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr == "imported\nerror: interrupted; run the same command again to go on.\n"


@pytest.mark.parametrize("lines", ["1", "5000"])
def test_a_reader_that_goes_away_ends_the_program_quietly(program: Path, lines: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as output:
        command = [sys.executable, str(program), "adapt", "--lines", lines]
        result = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert result.stderr == "imported\n"
    assert result.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("lines", ["1", "5000"])
def test_output_to_a_full_disk_is_a_storage_error(program: Path, lines: str) -> None:
    with Path("/dev/full").open("w") as output:
        command = [sys.executable, str(program), "adapt", "--lines", lines]
        result = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 16
    assert result.stderr == "imported\nerror: the disk is full; free some space and run the command again.\n"


@pytest.mark.parametrize(("closed", "stdout", "stderr"), [(">&-", "", "imported\n"), ("2>&-", "result ", "")])
def test_a_stream_that_the_shell_has_closed_is_no_fault(program: Path, closed: str, stdout: str, stderr: str) -> None:
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, str(program), "adapt"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout[:7], result.stderr) == (0, stdout, stderr)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_writes_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with Progress("Reading", stream=stream, interval_s=0) as progress:
        progress(1, 3)
        progress(2, 3)
    assert stream.getvalue() == "Reading: 1/3\nReading: 2/3\nReading: 2/3\n"


def test_progress_writes_no_more_than_a_line_every_few_seconds() -> None:
    stream = io.StringIO()
    with Progress("Reading", stream=stream, interval_s=60) as progress:
        for done in range(1, 1001):
            progress(done, 1000)
    assert stream.getvalue() == "Reading: 1000/1000\n"


def test_progress_is_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    with Progress("Reading", stream=stream) as progress:
        progress(7, 9)
    assert "Reading" in stream.getvalue()
    assert "7/9" in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_progress_is_silent_where_it_should_be_quiet(stream: io.StringIO) -> None:
    with Progress("Reading", quiet=True, stream=stream, interval_s=0) as progress:
        progress(1, 1)
    assert stream.getvalue() == ""


def test_progress_says_nothing_more_when_the_step_fails() -> None:
    stream = io.StringIO()
    with suppress(ValueError), Progress("Reading", stream=stream) as progress:
        progress(1, 2)
        raise ValueError
    assert stream.getvalue() == ""


def test_a_sentence_stays_one_line_whatever_names_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    Narrator().say("skipped \x1b[2Jcall\nerror: über.wav")
    assert capsys.readouterr().err == "skipped \\x1b[2Jcall\\nerror: über.wav\n"


def test_a_quiet_narrator_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Narrator(quiet=True).say("training")
    assert capsys.readouterr().err == ""


STARTED = [sys.executable, "-c", "from target_site.cli import main; main()"]


def told(stream: io.StringIO) -> list[dict[str, object]]:
    """The lines of a log, each one JSON object with a time of its own."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all(datetime.fromisoformat(str(line.pop("at"))).tzinfo is not None for line in lines)
    return lines


def test_a_gatherer_of_logs_gets_one_object_a_line(monkeypatch, capsys):
    monkeypatch.setenv(LOG_FORMAT, "json")
    Narrator().say('a "quoted"\nsentence')
    Narrator(quiet=True).say("nothing")
    assert told(io.StringIO(capsys.readouterr().err)) == [{"level": "info", "message": 'a "quoted"\\nsentence'}]


def test_progress_is_told_in_objects_and_draws_no_bar(monkeypatch):
    monkeypatch.setenv(LOG_FORMAT, "json")
    stream = Terminal()
    with Progress("Reading", stream=stream) as progress:
        progress(7, 9)
    assert told(stream) == [{"level": "info", "message": "Reading: 7/9", "done": 7, "total": 9}]


@pytest.mark.parametrize("way", [{"words": ["--log-format", "json"]}, {"words": [], "variable": "json"}])
def test_an_error_is_an_object_with_its_exit_code(way):
    words = [*STARTED, *way["words"], "log", "verify", "--folder", "/nowhere"]
    environment = os.environ | ({LOG_FORMAT: way["variable"]} if "variable" in way else {})
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    (line,) = told(io.StringIO(done.stderr))
    assert (done.returncode, line["exit_code"], line["level"]) == (2, 2, "error")
    assert not str(line["message"]).startswith("error:")


def test_a_form_of_logs_that_nobody_knows_is_refused():
    environment = os.environ | {LOG_FORMAT: "xml"}
    done = subprocess.run([*STARTED, "trust", "show"], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, LOG_FORMAT in done.stderr, done.stderr.count("\n")) == (2, True, 1)
