import os
import sys
from pathlib import Path

import pytest

from protocol.announce import is_journal
from protocol.containment.launcher import _show


def test_an_error_of_the_contained_process_has_its_priority_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w") as journal:
        status = os.fstat(journal.fileno())
        monkeypatch.setattr(sys, "stderr", journal)
        _show("error: There is no recording.")
        assert not is_journal(journal)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        _show("12 utterances")
        _show("error: There is no recording.")
    lines = (tmp_path / "journal").read_text().splitlines()
    assert lines == ["error: There is no recording.", "12 utterances", "<3>error: There is no recording."]
