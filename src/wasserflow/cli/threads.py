"""How many threads compute: one if a step is too small to share, because threads that wait for each other crawl."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["threads_for"]

SHARED = 3e8
"""Multiply-adds per step from which a step is shared among threads."""

SET_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def threads_for(operations: float) -> Iterator[str]:
    """Compute in one thread while the block runs, if its steps are small; what the user has set stays.

    Args:
        operations: Multiply-adds per step, roughly.

    Yields:
        What was chosen, in words.
    """
    import torch

    before = torch.get_num_threads()
    if before == 1:
        yield "1 thread"
    elif any(name in os.environ for name in SET_BY_USER) or operations >= SHARED:
        yield f"{before} threads"
    else:
        torch.set_num_threads(1)
        try:
            yield f"1 of {before} threads, as the steps are small"
        finally:
            torch.set_num_threads(before)
