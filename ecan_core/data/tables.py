"""Read lists of utterances as CSV or JSON Lines.

Spreadsheets of different countries and versions save a CSV in different ways. Those with one clear meaning are read.

One reader serves both sides. The caller names the columns it may see; every other cell is dropped unread,
so a target's listing cannot hold a label even where the file has one.
"""

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ecan_core.data.cells import unguarded
from ecan_core.data.folders import printable
from ecan_core.errors import UsageError
from ecan_core.utterance import Utterance

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl"})
UTTERANCE_COLUMNS = frozenset({"file", "path", "speaker", "channel", "start", "end"})
_LONGEST_HEADER = 2**16  # bytes that are looked at to tell the encoding
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_THOUSANDS = re.compile(r"\d{1,3},\d{3}")  # 1,250 is a fraction to some people and a large number to others


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
        path: A `.csv` or `.tsv` (separated by commas, semicolons or tabs, first line names the columns) or a
            `.jsonl` (one object a line), in UTF-8, or in UTF-16 with its mark. It must have the column `file` or
            `path`; `speaker`, `channel` (from 0), `start` and `end` (seconds) are optional.
        extra: Further columns that the caller may see.

    Raises:
        UsageError: The list is absent or a line of it has no clear meaning.
    """
    wanted = UTTERANCE_COLUMNS | set(extra)
    lines = _json_lines(path) if path.suffix.lower() == ".jsonl" else _csv_lines(path, wanted)
    rows: list[Row] = []
    seen: dict[str, str] = {}
    ignored: dict[str, None] = {}
    marks: set[str] = set()
    for number, line in lines:
        where = f"{path}, line {number}"
        ignored.update(dict.fromkeys(name for name in line if name not in wanted))
        cells = {name: _text(line[name], name, where) for name in sorted(wanted & line.keys())}
        _require_one_mark(marks, cells, where)
        row = _row(where, {name: cell for name, cell in cells.items() if cell}, path.parent)
        earlier = seen.setdefault(row.utterance.id, where)
        if earlier is not where:
            raise UsageError(f"{where} repeats an earlier line ({earlier}); remove one of them.")
        rows.append(row)
    return Table(rows=tuple(rows), ignored_columns=tuple(ignored))


def _require_one_mark(marks: set[str], cells: Mapping[str, str], where: str) -> None:
    """Refuse a list that writes fractions of seconds in two ways.

    A spreadsheet that takes a point for the mark of thousands leaves such a list, in which some times are wrong.

    Args:
        marks: Decimal marks of the lines before; those of this line are added.
        cells: Of this line.
        where: This line.
    """
    times = cells.get("start", "") + cells.get("end", "")
    marks.update(mark for mark in ",." if mark in times)
    if len(marks) > 1:
        raise UsageError(
            f"{where}: the list writes seconds with decimal commas and with decimal points; "
            "check its times and write all with a point, such as 1.25."
        )


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
        value = float(cell.replace(",", "."))
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


def _csv_lines(path: Path, wanted: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
    with _open(path) as stream:
        separator = _separator(stream, path)
        reader = csv.reader(stream, delimiter=separator, strict=True)
        try:
            header = _header(next(reader, []), path)
            _refuse_mixed(header, separator, path, wanted)
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if any(cells[len(header) :]):
                    raise UsageError(
                        f"{where} has more cells than columns; quote a cell that holds "
                        f"{'a comma' if separator == ',' else _SEPARATORS[separator]}."
                    )
                line = dict(zip(header, map(unguarded, cells), strict=False))
                _refuse_thousands(line, separator, where)
                if any(cells):
                    yield reader.line_num, line
        except csv.Error as error:
            where = f"{path}, line {reader.line_num}"
            raise UsageError(f"{where} is not proper CSV ({error}); correct its quotes.") from None


def _separator(stream: TextIO, path: Path) -> str:
    """Return what separates the columns of a list, which is left at its start."""
    readings = {separator: _first_cells(stream, separator) for separator in _SEPARATORS}
    found = {separator: names for separator, names in readings.items() if {"file", "path"} & set(names)}
    if len(set(found.values())) > 1:
        raise _mixed(path, *found)
    stream.seek(0)
    return next(iter(found), ",")


def _first_cells(stream: TextIO, separator: str) -> tuple[str, ...]:
    stream.seek(0)
    try:
        return tuple(_names(next(csv.reader(stream, delimiter=separator, strict=True), [])))
    except csv.Error:
        return ()


def _names(cells: list[str]) -> list[str]:
    """Return names of columns; a spreadsheet may leave empty ones at the end."""
    names = [cell.strip().lower() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _refuse_mixed(header: list[str], separator: str, path: Path, wanted: Collection[str]) -> None:
    for other in _SEPARATORS.keys() - {separator}:
        if any(other in name and set(wanted) & {piece.strip() for piece in name.split(other)} for name in header):
            raise _mixed(path, separator, other)


def _mixed(path: Path, *separators: str) -> UsageError:
    names = " and by ".join(_SEPARATORS[separator] for separator in sorted(separators))
    return UsageError(f"{path} separates its columns by {names}; save it with one of them alone.")


def _refuse_thousands(line: Mapping[str, str], separator: str, where: str) -> None:
    """Refuse a number whose comma may mark thousands.

    Who separates columns by semicolons does so because the comma is their decimal mark.
    """
    if separator == ";":
        return
    for name in ("start", "end"):
        if _THOUSANDS.fullmatch(cell := line.get(name, "").strip()):
            plain = cell.replace(",", ".")
            raise UsageError(
                f"{where} has {name} '{cell}', which may also mean thousands; write seconds such as {plain}."
            )


def _header(cells: list[str], path: Path) -> list[str]:
    header = _names(cells)
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
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _utf16(path)
    # UTF-16 without its mark fills each plain letter up with a zero byte.
    if b"\0" in start:
        raise UsageError(f"{path} is not UTF-8 text but probably UTF-16; save the list as UTF-8.")
    # Columns that are not wanted may hold anything: only cells that are used must be UTF-8, see `_text`.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _utf16(path: Path) -> TextIO:
    """Open a list as a spreadsheet saves it as "Unicode text"."""
    try:
        return io.StringIO(path.read_bytes().decode("utf-16"), newline="")
    except UnicodeDecodeError:
        raise UsageError(f"{path} begins as UTF-16 text and goes on otherwise; save the list as UTF-8.") from None
