import fcntl
import multiprocessing
import signal

import pytest

from protocol.errors import Code, FileError
from protocol.locks import FOLDER_LOCK, alone, writing_alone

spawn = multiprocessing.get_context("spawn")


def hold(folder, ready):
    with writing_alone(folder):
        ready.set()
        signal.pause()


@pytest.fixture
def owner(tmp_path):
    """Another process that writes into a folder until it is killed."""
    ready = spawn.Event()
    process = spawn.Process(target=hold, args=(tmp_path / "out", ready), daemon=True)
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def test_a_second_writer_is_refused_at_once(owner, tmp_path):
    with pytest.raises(FileError, match="Another command is writing") as caught, writing_alone(tmp_path / "out"):
        pytest.fail("two writers")
    assert caught.value.code is Code.LOCKED


def test_the_lock_of_a_killed_writer_is_gone(owner, tmp_path):
    owner.kill()
    owner.join()
    assert (tmp_path / "out" / FOLDER_LOCK).exists()
    with writing_alone(tmp_path / "out"):
        pass
    assert not (tmp_path / "out").exists()


def test_a_folder_that_stays_empty_is_removed_and_another_is_kept(tmp_path):
    with writing_alone(tmp_path / "kept"):
        (tmp_path / "kept" / "file").touch()
    with writing_alone(tmp_path / "empty"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept"]


def test_a_lock_file_that_its_last_owner_removed_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    """Between our opening it and our locking it, its owner may end and remove it."""
    lock, flock, removed = tmp_path / "lock", fcntl.flock, []

    def remove_first(descriptor, operation):
        if not removed:
            removed.append(lock.unlink())
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with alone(lock, "busy"), pytest.raises(FileError), alone(lock, "busy"):
        pytest.fail("two owners")


def test_a_folder_that_cannot_be_made_is_a_storage_fault(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError), writing_alone(tmp_path / "file" / "out"):
        pytest.fail("made")
