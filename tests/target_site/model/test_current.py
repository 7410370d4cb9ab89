from pathlib import Path

import pytest

from ecan_core.errors import UsageError
from protocol.errors import FileError
from target_site.model.current import followed, in_use, put_in_use


def test_a_link_names_the_model_in_use(tmp_path: Path) -> None:
    link = tmp_path / "current"
    assert in_use(link) is None
    for name in ("first", "second"):
        (tmp_path / "models" / name).mkdir(parents=True)
        put_in_use(tmp_path / "models" / name, link)
        assert in_use(link) == tmp_path / "models" / name
    assert [path.name for path in tmp_path.iterdir() if path.is_symlink()] == ["current"]


def test_a_link_and_its_models_can_be_mounted_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "here" / "models" / "first").mkdir(parents=True)
    put_in_use(tmp_path / "here" / "models" / "first", tmp_path / "here" / "current")
    (tmp_path / "here").rename(tmp_path / "there")
    assert in_use(tmp_path / "there" / "current") == tmp_path / "there" / "models" / "first"


def test_what_is_no_link_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no link"):
        in_use(tmp_path)
    assert followed(tmp_path) == tmp_path


def test_a_link_that_leads_nowhere_is_no_model_and_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("gone")
    for look in (in_use, followed):
        with pytest.raises(UsageError, match="leads to no folder"):
            look(tmp_path / "current")
    assert followed(tmp_path / "never") is None


def test_a_link_in_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        put_in_use(tmp_path, tmp_path / "gone" / "current")
