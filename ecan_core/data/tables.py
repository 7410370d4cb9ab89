"""Read lists of utterances as CSV or JSON Lines.

One reader serves both sides. The caller names the columns it may see; every other cell is dropped unread,
so a target's listing cannot hold a label even where the file has one.
"""

import codecs
import csv
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ecan_core.data.cells import unguarded
from ecan_core.data.folders import printable
from ecan_core.errors import UsageError
from ecan_core.utterance import Utterance

TABLE_SUFFIXES = frozenset({".csv", ".jsonl"})
UTTERANCE_COLUMNS = frozenset({"file", "path", "speaker", "channel", "start", "end"})
_LONGEST_HEADER = 2**16  # bytes that are looked at to tell the encoding


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold one line of a list, reduced to the columns that may be seen.

    Attributes:
        where: File and line, for messages.
        utterance: The stretch of speech that the line names.
        extra: Cells of the further columns that were asked for; empty cells are absent.
    """

    where: str
    utterance: Utterance
    extra: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Hold a list of utterances.

    Attributes:
        rows: In the order of the file.
        ignored_columns: Names of the columns that were not read.
    """

    rows: tuple[Row, ...]
    ignored_columns: tuple[str, ...]


def read_table(path: Path, extra: Collection[str] = ()) -> Table:
    """Read a list of utterances.

    Paths in the list are relative to the list. The files themselves are not opened.

    Args:
        path: A `.csv` (comma-separated, first line names the columns, UTF-8) or a `.jsonl` (one object a
            line). It must have the column `file` or `path`; `speaker`, `channel` (from 0), `start` and `end`
            (seconds) are optional.
        extra: Further columns that the caller may see.

    Raises:
        UsageError: The list is absent or a line of it has no clear meaning.
    """
    wanted = UTTERANCE_COLUMNS | set(extra)
    lines = _csv_lines(path) if path.suffix.lower() == ".csv" else _json_lines(path)
    rows: list[Row] = []
    seen: dict[str, str] = {}
    ignored: dict[str, None] = {}
    for number, line in lines:
        where = f"{path}, line {number}"
        ignored.update(dict.fromkeys(name for name in line if name not in wanted))
        cells = {name: _text(line[name], name, where) for name in sorted(wanted & line.keys())}
        row = _row(where, {name: cell for name, cell in cells.items() if cell}, path.parent)
        earlier = seen.setdefault(row.utterance.id, where)
        if earlier is not where:
            raise UsageError(f"{where} repeats an earlier line ({earlier}); remove one of them.")
        rows.append(row)
    return Table(rows=tuple(rows), ignored_columns=tuple(ignored))


def _row(where: str, cells: dict[str, str], folder: Path) -> Row:
    names = [name for name in ("file", "path") if name in cells]
    if len(names) != 1:
        fault = "names no file" if not names else "has both a `file` and a `path`"
        raise UsageError(f"{where} {fault}; give the recording in one column `file` (or `path`).")
    file = cells[names[0]]
    channel = _channel(cells["channel"], where) if "channel" in cells else None
    start_s = _seconds(cells["start"], "start", where) if "start" in cells else None
    end_s = _seconds(cells["end"], "end", where) if "end" in cells else None
    if end_s is not None and end_s <= (start_s or 0.0):
        start = start_s or 0.0
        raise UsageError(f"{where} ends at {end_s:g} s, not after its start at {start:g} s; correct the times.")
    utterance = Utterance(
        id=_identifier(file, channel, start_s, end_s),
        path=folder / file,
        speaker=cells.get("speaker"),
        channel=channel,
        start_s=start_s,
        end_s=end_s,
    )
    extra = {name: cell for name, cell in cells.items() if name not in UTTERANCE_COLUMNS}
    return Row(where=where, utterance=utterance, extra=extra)


def _identifier(file: str, channel: int | None, start_s: float | None, end_s: float | None) -> str:
    """Name a part of a file as a media fragment does.

    An example is `call.wav#channel=1&t=2.5,4.0`.
    """
    fragment = []
    if channel is not None:
        fragment.append(f"channel={channel}")
    if start_s is not None or end_s is not None:
        fragment.append(f"t={start_s or 0.0}" + ("" if end_s is None else f",{end_s}"))
    name = printable(Path(file))
    return f"{name}#{'&'.join(fragment)}" if fragment else name


def _channel(cell: str, where: str) -> int:
    if not cell.isdecimal():
        raise UsageError(f"{where} has channel '{cell}'; write a whole number from 0.")
    return int(cell)


def _seconds(cell: str, column: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UsageError(f"{where} has {column} '{cell}'; write seconds from 0, such as 1.25.")
    return value


def _text(cell: Any, column: str, where: str) -> str:
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return repr(cell)
    if cell is None:
        return ""
    if not isinstance(cell, str):
        raise UsageError(f"{where} has a {column} that is neither text nor a number; write one plain value.")
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in cell):
        raise UsageError(f"{where} has a {column} that is not UTF-8 text; save the list as UTF-8.")
    return cell.strip()


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with _open(path) as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = _header(next(reader, []), path)
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if len(cells) > len(header):
                    raise UsageError(f"{where} has more cells than columns; quote a cell that holds a comma.")
                if any(cells):
                    yield reader.line_num, dict(zip(header, map(unguarded, cells), strict=False))
        except csv.Error as error:
            where = f"{path}, line {reader.line_num}"
            raise UsageError(f"{where} is not proper CSV ({error}); correct its quotes.") from None


def _header(cells: list[str], path: Path) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise UsageError(f"{path} separates its columns by {name}; save it with commas.")
    if not {"file", "path"} & set(header):
        raise UsageError(f"{path} has no column `file` or `path`; its first line must name the columns, such as file.")
    if len(set(header)) < len(header):
        raise UsageError(f"{path} names a column twice in its first line; remove one.")
    return header


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                fields = None
            if not isinstance(fields, dict):
                raise UsageError(f'{path}, line {number} is not a JSON object such as {{"file": "a.wav"}}.')
            yield number, fields


def _open(path: Path) -> TextIO:
    if not path.is_file():
        raise UsageError(f"There is no list at {path}; check the path.")
    with path.open("rb") as stream:
        start = stream.readline(_LONGEST_HEADER)
    # UTF-16 begins with a mark, or else fills each plain letter up with a zero byte.
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start:
        raise UsageError(f"{path} is not UTF-8 text but probably UTF-16; save the list as UTF-8.")
    # Columns that are not wanted may hold anything: only cells that are used must be UTF-8, see `_text`.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
