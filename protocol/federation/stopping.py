"""End a command of a federation in order when it is ended from outside."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TERMINATED = 128 + signal.SIGTERM


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM end the block as an exception does.

    What the block started is ended too.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
