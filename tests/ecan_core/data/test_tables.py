from pathlib import Path

import pytest

from ecan_core.data.tables import read_table
from ecan_core.errors import UsageError


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("content", ["file,speaker\na.wav,anna\n", '{"file": "a.wav"}\n'], ids=["csv", "jsonl"])
def test_a_list_in_utf16_is_told_to_be_saved_as_utf8(tmp_path: Path, content: str, encoding: str) -> None:
    path = tmp_path / ("list.jsonl" if content.startswith("{") else "list.csv")
    path.write_bytes(content.encode(encoding))
    with pytest.raises(UsageError, match="not UTF-8 text but probably UTF-16; save the list as UTF-8"):
        read_table(path)
