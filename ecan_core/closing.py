"""What is open and closes with the block that uses it."""

from types import TracebackType
from typing import Self


class Closing:
    """A context manager whose end is its own `close`."""

    def close(self) -> None:
        """Gives back what is open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
