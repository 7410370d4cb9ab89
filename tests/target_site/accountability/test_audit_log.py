"""A log whose lines cannot be changed unseen, and which a killed process does not spoil."""

import hashlib
import hmac
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocol.errors import FileError, MalformedError, UnauthenticError
from target_site.accountability.audit_log import HEAD, LOG, PSEUDONYM_KEY, AuditLog, verify_log
from tests.support import cli

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "audit-log.md"
NOW = datetime(2026, 11, 27, 1, 2, 3, tzinfo=UTC)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def log(tmp_path, said) -> AuditLog:
    """A log of four lines."""
    written = AuditLog(tmp_path / "model", now=lambda: NOW, announce=said.append)
    for number in range(4):
        written.append("predict", utterances=number)
    return written


@pytest.fixture
def folder(log, tmp_path) -> Path:
    return tmp_path / "model"


@pytest.fixture
def check(tmp_path):
    """The program of the document, which knows nothing of our code."""
    _, _, rest = DOCUMENT.read_text().partition("```python\n")
    program = tmp_path / "check.py"
    program.write_text(rest.partition("```")[0])

    def run(folder: Path) -> int:
        done = subprocess.run([sys.executable, "-I", program, folder], capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode

    return run


def lines_of(folder: Path) -> list[bytes]:
    return (folder / LOG).read_bytes().splitlines(keepends=True)


def test_a_line_says_what_the_document_says(folder, check):
    second = json.loads(lines_of(folder)[1])
    assert second == {
        "at": "2026-11-27T01:02:03Z",
        "event": "predict",
        "n": 2,
        "previous": hashlib.sha256(lines_of(folder)[0].rstrip(b"\n")).hexdigest(),
        "utterances": 1,
    }
    assert json.loads(lines_of(folder)[0])["previous"] == "0" * 64
    assert check(folder) == 0
    assert verify_log(folder).num_lines == 4
    assert (folder / LOG).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize(("what", "by"), [(b'"utterances":', b'"utterance5":'), (b"02:03Z", b"02:04Z"), (b"{", b"[")])
def test_a_changed_line_is_named(folder, check, number, what, by):
    lines = lines_of(folder)
    lines[number - 1] = lines[number - 1].replace(what, by, 1)
    (folder / LOG).write_bytes(b"".join(lines))
    with pytest.raises(UnauthenticError, match=rf"^Line {number} of .*changed"):
        verify_log(folder)
    if by != b"[":
        assert check(folder) == 1


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_changed_link_is_laid_to_the_line_that_carries_it(folder, number):
    lines = lines_of(folder)
    lines[number - 1] = lines[number - 1].replace(b'"previous":"', b'"previous":"0', 1)
    (folder / LOG).write_bytes(b"".join(lines))
    with pytest.raises(UnauthenticError, match=rf"^Line {number} of"):
        verify_log(folder)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_missing_line_is_named(folder, check, number):
    lines = lines_of(folder)
    del lines[number - 1]
    (folder / LOG).write_bytes(b"".join(lines))
    with pytest.raises(UnauthenticError, match=rf"^Line {number} of .*missing"):
        verify_log(folder)
    assert check(folder) == 1


def test_a_line_that_was_put_in_is_named(folder, check):
    lines = lines_of(folder)
    (folder / LOG).write_bytes(b"".join([*lines[:2], lines[1], *lines[2:]]))
    with pytest.raises(UnauthenticError, match=r"^Line 3 of .*put in"):
        verify_log(folder)
    assert check(folder) == 1


def test_a_log_that_was_cut_off_and_a_head_that_was_lost_are_refused(folder, log):
    lines = lines_of(folder)
    (folder / LOG).write_bytes(b"")
    with pytest.raises(UnauthenticError, match=r"^Line 1 of"):
        verify_log(folder)
    with pytest.raises(UnauthenticError, match=r"^Line 4 of .*missing"):
        log.append("predict")
    (folder / LOG).write_bytes(b"".join(lines))
    (folder / HEAD).unlink()
    with pytest.raises(UnauthenticError, match=r"^Line 4 of"):
        verify_log(folder)
    (folder / HEAD).write_text("no head")
    with pytest.raises(MalformedError, match="damaged"):
        verify_log(folder)


def test_a_log_that_was_changed_is_not_gone_on_with(folder, log):
    lines = lines_of(folder)
    (folder / LOG).write_bytes(b"".join([*lines[:3], lines[3].replace(b'"utterances":3', b'"utterances":9')]))
    with pytest.raises(UnauthenticError, match=r"^Line 4 of"):
        log.append("predict")
    assert len(lines_of(folder)) == 4


def test_a_torn_line_is_repaired_loudly(folder, log, said, check):
    whole = lines_of(folder)
    before = (folder / HEAD).read_bytes()
    log.append("predict", utterances=4)
    last = lines_of(folder)[-1]
    for length in (1, 2, len(last) // 2, len(last) - 1):
        (folder / LOG).write_bytes(b"".join(whole) + last[:length])
        (folder / HEAD).write_bytes(before)
        assert verify_log(folder).torn_bytes == length
        said.clear()
        log.append("predict", utterances=4)
        assert "cut off" in said[0]
        repair, again = (json.loads(line) for line in lines_of(folder)[4:])
        assert (repair["event"], repair["bytes"], again["utterances"]) == ("repair", length, 4)
    assert check(folder) == 0


def test_a_head_that_a_killed_process_left_behind_is_mended(folder, log):
    before = (folder / HEAD).read_bytes()
    log.append("predict")
    (folder / HEAD).write_bytes(before)
    assert verify_log(folder).num_lines == 5
    log.append("predict")
    assert verify_log(folder).num_lines == 6


def test_a_log_that_was_written_anew_does_not_contain_a_noted_head(folder, log, tmp_path):
    noted = verify_log(folder).head
    log.append("predict")
    assert verify_log(folder, noted.upper()).num_lines == 5
    forged = AuditLog(tmp_path / "forged", now=lambda: NOW, announce=print)
    forged.append("predict")
    assert verify_log(tmp_path / "forged").num_lines == 1
    with pytest.raises(UnauthenticError, match="written anew"):
        verify_log(tmp_path / "forged", noted)


def test_writers_at_the_same_time_make_one_chain(folder, log):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: log.append("predict", utterances=number), range(12)))
    assert verify_log(folder).num_lines == 16


def test_what_begins_is_written_down_before_and_after(folder, log):
    with log.recorded("adapt", audio="x") as noted:
        assert json.loads(lines_of(folder)[-1])["state"] == "begun"
        noted["verdict"] = "improved"
    failing = log.recorded("adapt")
    with pytest.raises(FileError), failing:
        verify_log(folder / "nowhere")
    ends = [json.loads(line) for line in lines_of(folder)[5:]]
    assert [(end["state"], end.get("verdict"), end.get("exit_code")) for end in ends] == [
        ("done", "improved", None),
        ("begun", None, None),
        ("failed", None, 16),
    ]


def test_a_pseudonym_is_that_of_the_document(folder, log):
    name = log.pseudonym(Path("/ward/7/a.wav"))
    key = (folder / PSEUDONYM_KEY).read_bytes()
    assert name == hmac.new(key, b"/ward/7/a.wav", "sha256").hexdigest()[:16]
    assert log.pseudonym(Path("/ward/7/a.wav")) == name != log.pseudonym(Path("/ward/7/b.wav"))
    (folder / PSEUDONYM_KEY).write_bytes(b"")
    with pytest.raises(MalformedError, match="damaged"):
        log.pseudonym(Path("/ward/7/a.wav"))


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").touch()
    (tmp_path / LOG).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError):
        AuditLog(tmp_path, now=lambda: NOW, announce=print).append("predict")
    assert (tmp_path / "elsewhere").stat().st_size == 0


def test_log_verify_says_how_far_a_log_goes(folder):
    result = cli.target("log", "verify", "--folder", folder, "--format", "json")
    assert (result.code, result.json()["lines"], result.json()["torn_bytes"]) == (0, 4, 0)
    (folder / LOG).write_bytes((folder / LOG).read_bytes() + b'{"at":')
    result = cli.target("log", "verify", "--folder", folder)
    assert result.code == 0
    assert "cut off (6 bytes)" in result.stdout
    (folder / LOG).write_bytes(b"".join(lines_of(folder)[1:4]))
    result = cli.target("log", "verify", "--folder", folder)
    assert (result.code, result.stdout) == (10, "")
    assert result.refusal().startswith("Line 1 of")
