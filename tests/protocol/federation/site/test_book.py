"""A site's book on the disk: nothing in it is forgotten, and nobody shortens it unseen."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from protocol import canonical
from protocol.errors import Code, FileError, MalformedError, ProtocolError, RefusedError, UnauthenticError
from protocol.federation.site.book import MAX_LINE_BYTES, Book, head_path
from protocol.federation.site.conduct import Fresh, admit_run, admit_step, answer_entry, run_entry

CORPUS = {"kind": "corpus", "sha256": "c" * 64}
OTHER = {"kind": "corpus", "sha256": "d" * 64}
NOW_S = 1_800_000_000
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no power is cut here, so a disk would only wait


def new_book(tmp_path: Path, *entries: dict) -> Path:
    path = tmp_path / "site" / "answers.book"
    book = Book.create(path, CORPUS, "first start", NOW_S)
    for entry in entries:
        book.append(entry)
    return path


THREE = [{"step": number} for number in (1, 2, 3)]


def steps_of(book: Book) -> list[int]:
    return [entry["step"] for entry in book.entries() if "step" in entry]


def test_entries_are_read_back_in_their_order(tmp_path):
    path = new_book(tmp_path, *THREE)
    book = Book.open(path, CORPUS)
    assert steps_of(book) == [1, 2, 3]
    first = book.entries()[0]
    assert (first["subject"], first["reason"], first["at"]) == (CORPUS, "first start", NOW_S)
    assert (path.stat().st_mode & 0o777, head_path(path).stat().st_mode & 0o777) == (0o600, 0o600)
    book.append({"step": 4})
    assert steps_of(Book.open(path, CORPUS)) == [1, 2, 3, 4]


def test_every_line_is_on_the_disk_before_append_returns(tmp_path):
    path = new_book(tmp_path)
    book = Book.open(path, CORPUS)
    book.append({"step": 1})
    assert b'"step":1' in path.read_bytes().splitlines()[-1]
    assert head_path(path).read_bytes().startswith(b"2 ")


def test_a_book_of_another_subject_is_refused(tmp_path):
    path = new_book(tmp_path)
    with pytest.raises(RefusedError, match="another corpus or model") as caught:
        Book.open(path, OTHER)
    assert (caught.value.code, caught.value.exit_code) == (Code.POLICY, 11)


def test_what_entries_returns_is_a_copy(tmp_path):
    book = Book.open(new_book(tmp_path, *THREE), CORPUS)
    book.entries()[1]["step"] = 99
    book.entries().clear()
    assert steps_of(book) == [1, 2, 3]


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def without(place: int):
    def change(path: Path) -> None:
        kept = lines(path)
        del kept[place]
        path.write_bytes(b"".join(kept))

    return change


def rewritten(path: Path) -> None:
    """An edited entry with the chain behind it made anew, by one who forgets the head."""
    first, *rest = (canonical.parse_object(line[:-1], what="line", max_bytes=MAX_LINE_BYTES) for line in lines(path))
    done = [canonical.encode(first)]
    for entry in rest:
        entry["step"] = 9
        entry["previous"] = hashlib.sha256(done[-1]).hexdigest()
        done.append(canonical.encode(entry))
    path.write_bytes(b"\n".join(done) + b"\n")


LOSSES = {
    "the book is missing": lambda path: path.unlink(),
    "the head is missing": lambda path: head_path(path).unlink(),
    "both are missing": lambda path: (path.unlink(), head_path(path).unlink()),
    "the book is empty": lambda path: path.write_bytes(b""),
    "the head is empty": lambda path: head_path(path).write_bytes(b""),
    "the head is no head": lambda path: head_path(path).write_bytes(b"4 lines\n\xff"),
    "the head is at the start": lambda path: head_path(path).write_bytes(b"0 " + b"0" * 64 + b"\n"),
    "the head is ahead": lambda path: head_path(path).write_bytes(b"5 " + b"a" * 64 + b"\n"),
    "the head has another digest": lambda path: head_path(path).write_bytes(b"4 " + b"a" * 64 + b"\n"),
    "the last line is missing": without(-1),
    "the first line is missing": without(0),
    "a line in the middle is missing": without(2),
    "the last line is cut short": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "the last end of line is missing": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "a line was edited": lambda path: path.write_bytes(path.read_bytes().replace(b'"step":2', b'"step":5')),
    "the last line was edited": lambda path: path.write_bytes(path.read_bytes().replace(b'"step":3', b'"step":5')),
    "a line is written in another form": lambda path: path.write_bytes(path.read_bytes().replace(b":3", b": 3")),
    "two lines are swapped": lambda path: path.write_bytes(b"".join([*lines(path)[:2], *lines(path)[:1:-1]])),
    "a line is there twice": lambda path: path.write_bytes(path.read_bytes() + lines(path)[-1]),
    "an empty line is added": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "the chain was made anew": rewritten,
    "others can read it": lambda path: path.chmod(0o644),
    "others can change it": lambda path: path.chmod(0o620),
    "nothing but noise": lambda path: path.write_bytes(bytes(range(256))),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_a_lost_book_asks_for_a_person_and_begins_anew_only_by_their_word(tmp_path, lose):
    path = new_book(tmp_path, *THREE)
    lose(path)
    left = {part.name for part in path.parent.iterdir()}
    for _ in range(2):  # the first look mends nothing away
        with pytest.raises(UnauthenticError, match="person") as caught:
            Book.open(path, CORPUS)
        assert (caught.value.code, caught.value.exit_code) == (Code.STATE_LOST, 10)
        assert '--new-book "REASON"' in str(caught.value)
    book = Book.create(path, CORPUS, "the disk broke", NOW_S + 5)
    assert [entry.get("reason") for entry in book.entries()] == ["the disk broke"]
    kept = {part.name for part in path.parent.iterdir() if ".lost-" in part.name}
    assert kept == {f"{name}.lost-{NOW_S + 5}" for name in left}


def test_an_open_book_that_is_lost_takes_no_entry(tmp_path):
    path = new_book(tmp_path, *THREE)
    book = Book.open(path, CORPUS)
    path.unlink()
    with pytest.raises(UnauthenticError) as caught:
        book.append({"step": 4})
    assert caught.value.code is Code.STATE_LOST
    assert not path.exists()


@pytest.mark.parametrize("subject", [CORPUS, OTHER])
def test_a_whole_book_is_never_begun_anew(tmp_path, subject):
    path = new_book(tmp_path, *THREE)
    before = path.read_bytes()
    with pytest.raises(RefusedError, match="never begun anew"):
        Book.create(path, subject, "I would like to", NOW_S)
    assert path.read_bytes() == before


def test_a_link_in_place_of_a_book_is_not_followed(tmp_path):
    path = new_book(tmp_path, *THREE)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProtocolError):
        Book.open(path, CORPUS)


def test_a_book_one_line_ahead_of_its_head_is_mended(tmp_path):
    path = new_book(tmp_path, *THREE)
    noted = head_path(path).read_bytes()
    Book.open(path, CORPUS).append({"step": 4})
    head = head_path(path).read_bytes()
    head_path(path).write_bytes(noted)
    assert steps_of(Book.open(path, CORPUS)) == [1, 2, 3, 4]
    assert head_path(path).read_bytes() == head


def test_a_book_two_lines_ahead_of_its_head_is_lost(tmp_path):
    path = new_book(tmp_path, *THREE)
    noted = head_path(path).read_bytes()
    book = Book.open(path, CORPUS)
    book.append({"step": 4})
    book.append({"step": 5})
    head_path(path).write_bytes(noted)
    with pytest.raises(UnauthenticError):
        Book.open(path, CORPUS)


@pytest.mark.parametrize("torn", [b"{", b'{"n":5,"previous":"', b"\0" * 100])
def test_a_line_that_was_never_finished_is_taken_away(tmp_path, torn):
    path = new_book(tmp_path, *THREE)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    book = Book.open(path, CORPUS)
    assert path.read_bytes() == whole
    book.append({"step": 4})
    assert steps_of(Book.open(path, CORPUS)) == [1, 2, 3, 4]


def test_a_full_disk_leaves_a_book_that_opens_and_an_entry_that_may_count(tmp_path, monkeypatch):
    path = new_book(tmp_path, *THREE)
    book = Book.open(path, CORPUS)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    with pytest.raises(FileError) as caught:
        book.append({"step": 4})
    assert caught.value.exit_code == 16
    monkeypatch.undo()
    book.append({"step": 5})
    assert steps_of(Book.open(path, CORPUS)) == [1, 2, 3, 5]


def test_a_head_that_cannot_be_written_makes_the_book_be_read_again(tmp_path, monkeypatch):
    path = new_book(tmp_path, *THREE)
    book = Book.open(path, CORPUS)

    def full(*_):
        raise FileError(Code.STORAGE, "full")

    monkeypatch.setattr("protocol.federation.site.book.write_atomic", full)
    with pytest.raises(FileError):
        book.append({"step": 4})
    monkeypatch.undo()
    with pytest.raises(FileError, match="has changed"):
        book.append({"step": 5})
    assert steps_of(Book.open(path, CORPUS)) == [1, 2, 3, 4]


def test_of_two_nodes_with_one_book_only_the_first_goes_on(tmp_path):
    """Both would have answered the same round."""
    path = new_book(tmp_path)
    first, second = Book.open(path, CORPUS), Book.open(path, CORPUS)
    for book in (first, second):
        assert admit_run(book.entries(), "7", b"t" * 32, 3, max_runs=1) == Fresh()
    first.append(run_entry("7", b"t" * 32, 3))
    with pytest.raises(FileError, match="has changed") as caught:
        second.append(run_entry("7", b"u" * 32, 3))
    assert caught.value.code is Code.LOCKED
    assert len(Book.open(path, CORPUS).entries()) == 2


@pytest.mark.parametrize(
    "entry",
    [
        {"n": 1},
        {"previous": "0"},
        {"epsilon": 1.5},
        {"epsilon": float("nan")},
        {"text": "Grüße"},
        {"value": {1, 2}},
        {"value": 10**16},
        {"text": "x" * MAX_LINE_BYTES},
        {"deep": [[[[[[[[[]]]]]]]]]},
    ],
    ids=str,
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, entry):
    path = new_book(tmp_path)
    book = Book.open(path, CORPUS)
    before = path.read_bytes()
    with pytest.raises(MalformedError):
        book.append(entry)
    assert path.read_bytes() == before
    book.append({"step": 1})


def test_conduct_reads_what_the_book_has_kept(tmp_path):
    path = new_book(tmp_path)
    book = Book.open(path, CORPUS)
    book.append(run_entry("7", b"t" * 32, 3))
    book.append(answer_entry("7", 1, b"q" * 32, b"a" * 32, noise_multiplier=1.2, steps=4))
    entries = Book.open(path, CORPUS).entries()
    assert admit_step(entries, "7", 1, b"q" * 32).entry["answer"] == (b"a" * 32).hex()
    assert admit_step(entries, "7", 2, b"q" * 32) == Fresh()
    with pytest.raises(RefusedError):
        admit_step(entries, "7", 3, b"q" * 32)


KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from protocol.federation.site import book
opened = book.Book.open(Path(sys.argv[1]), {"kind": "corpus", "sha256": "c" * 64})
book.write_atomic = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
opened.append({"step": 4})
"""


def test_a_process_killed_between_line_and_head_leaves_an_entry_that_counts(tmp_path):
    path = new_book(tmp_path, *THREE)
    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert head_path(path).read_bytes().startswith(b"4 ")
    assert steps_of(Book.open(path, CORPUS)) == [1, 2, 3, 4]


WORKER = """
import sys
from pathlib import Path
from protocol.federation.site.book import Book
book = Book.open(Path(sys.argv[1]), {"kind": "corpus", "sha256": "c" * 64})
step = len(book.entries())
print("ready", flush=True)
while True:
    book.append({"step": step})
    print(step, flush=True)
    step += 1
"""


def kill_often(num_kills: int) -> tuple[int, int]:
    """Kill a writer at random moments; returns numbers of acknowledged entries, and of kills between line and head."""
    generator = random.Random(5)
    num_acknowledged = num_between = 0
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = new_book(Path(folder))
        for _ in range(num_kills):
            command = [sys.executable, "-c", WORKER, path]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
                assert worker.stdout.readline() == b"ready\n"
                time.sleep(generator.uniform(0.0, 0.03))
                worker.kill()
                acknowledged, complaints = worker.communicate()
            assert (worker.returncode, complaints) == (-signal.SIGKILL, b"")
            num_between += len(lines(path)) != int(head_path(path).read_bytes().split()[0])
            steps = [int(line) for line in acknowledged.splitlines()]
            num_acknowledged += len(steps)
            kept = steps_of(Book.open(path, CORPUS))
            assert kept == list(range(1, len(kept) + 1))
            assert set(steps) <= set(kept)
    return num_acknowledged, num_between


def test_a_writer_that_is_killed_leaves_a_book_that_opens():
    assert kill_often(3)[0] > 0


@pytest.mark.slow
def test_fifty_kills_forget_no_entry_that_was_acknowledged():
    num_acknowledged, num_between = kill_often(50)
    print(f"\n{num_acknowledged} entries acknowledged, {num_between} of 50 kills between line and head")
    assert num_acknowledged > 50
