import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.conformance.case import Case
from protocol.conformance.runner import write_cases
from protocol.conformance.suite import make_cases


@pytest.fixture(scope="session")
def laid_out() -> Iterator[dict[str, Case]]:
    """Every case, laid out once for all clients: in memory where there is such a place, for our client syncs files."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as workplace:
        yield write_cases(make_cases(), Path(workplace))
