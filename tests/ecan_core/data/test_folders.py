from pathlib import Path

import pytest

from ecan_core.data.folders import AUDIO_SUFFIXES, find_files
from ecan_core.errors import AudioError


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "calls").mkdir()
    files = find_files(tmp_path, AUDIO_SUFFIXES)
    assert next(files) == tmp_path / "a.wav"
    (tmp_path / "calls").rmdir()  # an error of listing that even root meets
    with pytest.raises(AudioError, match=r"The folder .*calls cannot be listed .*; check its permissions"):
        next(files)
