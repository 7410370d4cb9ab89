"""Make every random draw of a run follow from one seed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, *, stream: int = 0) -> Iterator[None]:
    """Run a block with torch's generator set from ``(seed, stream)``.

    It is the global one, and is restored afterwards.

    Streams keep the draws of different epochs apart, so that no epoch depends on how many draws came before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + stream)
        yield


def one_thread() -> None:
    """Compute on one thread.

    Results then reproduce bit for bit, and small networks run fastest.
    """
    torch.set_num_threads(1)
