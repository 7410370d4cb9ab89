"""Write utterances as Parquet, for programs that read columns.

Needs pyarrow, which is an extra.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO

from ecan_core.errors import UsageError
from target_site.results.segments import Segment


def has_parquet() -> bool:
    """Return whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def require_parquet() -> None:
    """Refuse to go on without pyarrow.

    Raises:
        UsageError: it is not installed.
    """
    if not has_parquet():
        raise UsageError("--parquet needs pyarrow, which cannot be imported; run `pip install 'ecan-ser[parquet]'`")


def as_parquet(segments: Sequence[Segment], classes: Sequence[str]) -> bytes:
    """Format one row per segment, with the columns of ``segments.csv``.

    Names are bare and values typed; a name that is not UTF-8 has escapes. Equal segments give equal bytes.
    """
    import pyarrow
    from pyarrow import parquet

    text, number, share = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    place = {"recording": text, "channel": number, "role": text, "begin_ms": number, "end_ms": number, "speaker": text}
    found = {"label": text, "confidence": share, "abstained": pyarrow.bool_()}
    columns = {name: [_plain(getattr(one, name)) for one in segments] for name in (*place, *found)}
    columns |= {f"score_{name}": [one.scores.get(name) for one in segments] for name in classes}
    fields = pyarrow.schema(list((place | found | {f"score_{name}": share for name in classes}).items()))
    file = BytesIO()
    parquet.write_table(pyarrow.table(columns, schema=fields), file)
    return file.getvalue()


def _plain(value: object) -> object:
    """Return a value that UTF-8 can hold."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
