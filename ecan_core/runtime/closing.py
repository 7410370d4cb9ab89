"""Close things at the end of the block that uses them."""

from types import TracebackType
from typing import Self


class Closing:
    """Serve as a context manager that ends with its own `close`."""

    def close(self) -> None:
        """Release what is open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
