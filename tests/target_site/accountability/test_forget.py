"""What `forget` and `expire` remove, and what they must leave."""

import sqlite3

import numpy as np
import pytest

from ecan_core.data.cache import Extracted, FeatureCache, is_feature_cache
from ecan_core.errors import UsageError
from target_site.accountability.forget import remove_features


def a_cache(path):
    with FeatureCache(path) as cache:
        cache.store("key", Extracted(np.zeros(3, np.float32), 1.0))
    return path


def a_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE patients (name TEXT)")
    connection.close()
    return path


def a_text(path):
    path.write_text("precious")
    return path


def a_link(path):
    path.symlink_to(a_cache(path.with_name("elsewhere")))
    return path


def a_dangling_link(path):
    path.symlink_to(path.with_name("nowhere"))
    return path


def a_folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "make", [a_text, a_database, a_link, a_dangling_link, a_folder], ids=lambda make: make.__name__
)
def test_what_is_no_feature_cache_stays(tmp_path, make):
    path = make(tmp_path / "file")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match="no feature cache"):
        remove_features(path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_feature_cache_goes_with_what_lies_beside_it(tmp_path):
    path = tmp_path / "features.cache"
    cache = FeatureCache(path)
    cache.store("key", Extracted(np.zeros(3, np.float32), 1.0))
    assert is_feature_cache(path)
    assert len(list(tmp_path.iterdir())) == 3  # as a killed process leaves it
    remove_features(path)
    assert list(tmp_path.iterdir()) == []
    cache.close()


def test_a_cache_that_was_never_begun_is_no_hindrance(tmp_path):
    remove_features(tmp_path / "none")
    (tmp_path / "empty").touch()
    remove_features(tmp_path / "empty")
    assert list(tmp_path.iterdir()) == []
