import os
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from ecan_core.data.cache import Extracted, FeatureCache
from ecan_core.errors import StorageError

WRITER = """
import sys
from pathlib import Path
import numpy as np
from ecan_core.data.cache import Extracted, FeatureCache

with FeatureCache(Path(sys.argv[1])) as cache:
    for number in range(100_000):
        cache.store(str(number), Extracted(np.full(500, number, np.float32), 1.0))
        print(number, flush=True)
"""


def extracted(values, duration_s=1.5) -> Extracted:
    return Extracted(np.asarray(values), duration_s)


def test_what_is_stored_is_found_again_after_reopening(tmp_path):
    vector = extracted(np.arange(5, dtype=np.float32))
    frames = extracted(np.arange(12, dtype=np.float16).reshape(4, 3), duration_s=0.04)
    with FeatureCache(tmp_path / "cache") as cache:
        cache.store("a", vector)
        cache.store("b", frames)
    with FeatureCache(tmp_path / "cache") as cache:
        for key, stored in (("a", vector), ("b", frames)):
            found = cache.load(key)
            assert found is not None
            assert found.duration_s == stored.duration_s
            assert found.features.dtype == stored.features.dtype
            np.testing.assert_array_equal(found.features, stored.features)


def test_an_unknown_key_is_not_found(tmp_path):
    with FeatureCache(tmp_path / "cache") as cache:
        assert cache.load("a") is None


def test_storing_twice_keeps_the_later(tmp_path):
    with FeatureCache(tmp_path / "cache") as cache:
        cache.store("a", extracted(np.zeros(2, np.float32)))
        cache.store("a", extracted(np.ones(3, np.float32)))
        assert cache.load("a").features.tolist() == [1, 1, 1]


def test_two_openings_share_one_file(tmp_path):
    with FeatureCache(tmp_path / "cache") as first, FeatureCache(tmp_path / "cache") as second:
        first.store("a", extracted(np.ones(2, np.float32)))
        second.store("b", extracted(np.zeros(2, np.float32)))
        assert first.load("b") is not None
        assert second.load("a") is not None


def test_everything_stored_before_a_kill_is_there_and_whole(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        last = [int(writer.stdout.readline()) for _ in range(30)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    with FeatureCache(tmp_path / "cache") as cache:
        for number in range(last + 1):
            np.testing.assert_array_equal(cache.load(str(number)).features, np.full(500, number))
        cache.store("after", extracted(np.ones(2, np.float32)))
        assert cache.load("after") is not None


def test_a_file_that_is_no_cache_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "cache").write_text("A shopping list, long enough not to be mistaken for an empty database." * 20)
    with pytest.raises(StorageError, match="name another --cache") as caught:
        FeatureCache(tmp_path / "cache")
    assert caught.value.exit_code == 16


def test_the_database_of_another_program_is_refused_and_not_touched(tmp_path):
    path = tmp_path / "ledger"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE features (key TEXT)")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(StorageError, match="no feature cache of this version; remove it"):
        FeatureCache(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_file_becomes_a_cache(tmp_path):
    (tmp_path / "cache").touch()
    for _ in range(2):
        with FeatureCache(tmp_path / "cache") as cache:
            assert cache.load("a") is None


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        FeatureCache(tmp_path / "file" / "cache")


def test_a_full_disk_is_said_and_leaves_the_cache_whole(tmp_path):
    with FeatureCache(tmp_path / "cache") as cache:
        cache.store("a", extracted(np.ones(4, np.float32)))
        cache._run("PRAGMA max_page_count=1")  # SQLite's own way to be out of space
        with pytest.raises(StorageError, match="full"):
            cache.store("b", extracted(np.ones(100_000, np.float32)))
        assert cache.load("a") is not None
        assert cache.load("b") is None
