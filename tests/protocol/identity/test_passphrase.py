import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.errors import KeyFileError
from protocol.identity import passphrase
from protocol.identity.identities import Role
from protocol.identity.key_files import PASSPHRASE_VARIABLE, write_identity
from protocol.identity.passphrase import MAX_PASSPHRASE_BYTES, new_passphrase, passphrase_for, read_passphrase
from tests.support.sites import new_identity

WORDS = b"correct horse battery staple"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(path))
    return path


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "stdin", None)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_passphrase_is_the_one_line_of_its_file(file: Path, end: bytes) -> None:
    file.write_bytes(WORDS + end)
    assert read_passphrase() == new_passphrase() == WORDS


def test_blanks_belong_to_a_passphrase(file: Path) -> None:
    file.write_bytes(b"  spaces around it  \n")
    assert read_passphrase() == b"  spaces around it  "


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"two\nlines", b"two line ends\n\n", b"a\0b", b"x" * (MAX_PASSPHRASE_BYTES + 1)],
    ids=["empty", "blank", "two-lines", "two-ends", "zero", "long"],
)
def test_a_file_that_holds_no_passphrase_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(KeyFileError, match="give another") as caught:
        read_passphrase()
    assert caught.value.code == "KEY_LOCKED"


def test_the_longest_passphrase_is_taken(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"x" * MAX_PASSPHRASE_BYTES + b"\r\n")
    write_identity(new_identity(Role.TARGET), tmp_path / "keys", new_passphrase())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_read_is_refused_with_the_remedy(file: Path, mode: int) -> None:
    file.write_bytes(WORDS)
    file.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600") as caught:
        read_passphrase()
    assert caught.value.code == "KEY_EXPOSED"


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    file.unlink()
    with pytest.raises(KeyFileError, match="check ECAN_PASSPHRASE_FILE") as caught:
        read_passphrase()
    assert caught.value.code == "KEY_MISSING"


def test_a_link_to_a_passphrase_is_not_followed(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_passphrase()


def test_a_folder_that_is_not_locked_asks_nobody(file: Path, tmp_path: Path) -> None:
    file.unlink()
    write_identity(new_identity(Role.TARGET), tmp_path / "keys")
    assert passphrase_for(tmp_path / "keys") is None


def test_a_locked_folder_is_given_its_passphrase(file: Path, tmp_path: Path) -> None:
    file.write_bytes(WORDS)
    write_identity(new_identity(Role.TARGET), tmp_path / "keys", WORDS)
    assert passphrase_for(tmp_path / "keys") == WORDS


@pytest.mark.usefixtures("nobody")
def test_without_a_file_and_a_terminal_there_is_no_passphrase() -> None:
    assert read_passphrase() is None
    with pytest.raises(KeyFileError, match="nobody to ask"):
        new_passphrase()


def test_a_short_passphrase_is_not_taken_for_new_keys(file: Path) -> None:
    file.write_bytes(b"x" * 15)
    assert read_passphrase() == b"x" * 15
    with pytest.raises(KeyFileError, match="too short"):
        new_passphrase()


ASK = """
from protocol.errors import KeyFileError
from protocol.identity.passphrase import new_passphrase, read_passphrase
try:
    print("got", {function}().decode())
except KeyFileError as fault:
    print("fault", fault)
"""


def at_a_terminal(function: str, typed: bytes) -> str:
    """What a process says whose passphrase is typed by a person."""
    person, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != PASSPHRASE_VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-c", ASK.format(function=function)],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        start_new_session=True,  # no terminal of its own: getpass falls back to standard input
        env=environment,
        cwd=Path(passphrase.__file__).parents[2],
        text=True,
    )
    os.close(terminal)
    shown = b""
    for number, line in enumerate(typed.splitlines(keepends=True), start=1):
        while shown.count(b": ") < number:
            shown += os.read(person, 100)
        os.write(person, line)
    said, _ = process.communicate(timeout=60)
    os.close(person)
    assert not any(word in shown for word in typed.split()), "the passphrase was shown"
    return said


@pytest.mark.parametrize(
    ("function", "typed", "says"),
    [
        ("read_passphrase", b"short\n", "got short"),
        ("read_passphrase", b"\x04", "fault No passphrase was given"),
        ("read_passphrase", b"\n", "fault A passphrase is one line"),
        ("new_passphrase", b"%b\n%b\n" % (WORDS, WORDS), f"got {WORDS.decode()}"),
        ("new_passphrase", b"%b\n%bs\n" % (WORDS, WORDS), "fault The two passphrases are not the same"),
    ],
)
def test_a_person_types_a_passphrase(function: str, typed: bytes, says: str) -> None:
    assert at_a_terminal(function, typed).startswith(says)
