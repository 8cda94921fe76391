"""How many threads compute: one if the work is too small to share or the cores are busy, all otherwise.

OpenMP's threads wait for each other after every operation. Where an operation takes a tenth of a millisecond, or a
thread waits for a core, two threads take several times as long as one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["threads_for"]

SHARED = 8e6
"""Multiply-adds of an operation from which threads gain."""

SET_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def threads_for(operations: float) -> Iterator[str]:
    """Compute in one thread while the block runs, if that is faster; a number that the user has set stays.

    Args:
        operations: Multiply-adds of one operation that threads would share, roughly: a matrix product, a tile of pairs.

    Yields:
        What was chosen, in words.
    """
    import torch

    before = torch.get_num_threads()
    small, busy = operations < SHARED, _load() > (os.cpu_count() or 1) / 2
    if before == 1 or any(name in os.environ for name in SET_BY_USER) or not (small or busy):
        yield f"{before} thread{'s' if before > 1 else ''}"
        return
    torch.set_num_threads(1)
    try:
        yield f"1 of {before} threads, as {'the steps are small' if small else 'the cores are busy'}"
    finally:
        torch.set_num_threads(before)


def _load() -> float:
    """How many processes have wanted a core in the last minute; 0 where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0
