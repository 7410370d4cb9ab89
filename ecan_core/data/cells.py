"""Write cells of lists so that a spreadsheet runs none of them.

A spreadsheet runs a cell that begins like a formula.

Names of recordings and speakers are chosen by whoever made them. A quote mark before such a beginning makes a
spreadsheet show it as text, and a list that is read takes it off again: `unguarded(guarded(text)) == text`.
"""

import re

_BEGINS_FORMULA = "[ \u00a0]*[=+\\-@\uff1d\uff0b\uff0d\uff20]"
_START = r"(?:^|(?<=[;\t\r\n]))"  # some spreadsheets split a cell there
_TO_GUARD = re.compile(rf"{_START}(?='*{_BEGINS_FORMULA})")
_GUARDED = re.compile(rf"{_START}'(?='*{_BEGINS_FORMULA})")


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return _TO_GUARD.sub("'", text)


def unguarded(cell: str) -> str:
    """Return the text that `guarded` was given."""
    return _GUARDED.sub("", cell)
