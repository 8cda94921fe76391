"""All pairs of two sets of points: squared distances, and the parts in which pairs are visited."""

from collections.abc import Iterator
from math import isqrt

import torch
from torch import Tensor

__all__ = ["squared_distances", "stripes", "tiles"]

TILE = 2**17
"""Pairs in a tile on a CPU: 0.5 MB in float32."""

STRIPE = 2**21
"""Pairs in a stripe: 16 MB in float64."""


def squared_distances(x: Tensor, y: Tensor, *, ties: bool = False) -> Tensor:
    """Squared distances ``(N, M)`` by one matrix product, at least 0; differentiable twice.

    A difference of large numbers is noise below some 1e-15 (float64) or 1e-6 (float32) of the squared norm: centre the
    points first. With ``ties`` such noise is cut off, so that equal points have the distance 0 exactly.
    """
    x2, y2 = x.square().sum(1), y.square().sum(1)
    s = torch.addmm(y2[None], x, y.T, alpha=-2)
    if s.requires_grad:
        s = s + x2[:, None]
        return torch.where(s > _noise(x2), s, 0) if ties else s.clamp(min=0)
    s += x2[:, None]
    return s.masked_fill_(s <= _noise(x2), 0) if ties else s.clamp_(min=0)


def _noise(x2: Tensor) -> Tensor:
    return 32 * torch.finfo(x2.dtype).eps * x2[:, None]  # equal points were seen to come out at up to 14


def tiles(n: int, m: int, device: torch.device | None = None) -> Iterator[tuple[slice, slice]]:
    """Rows and columns that cover an ``n`` x ``m`` matrix in tiles that stay in a cache (or, on a GPU, fill it)."""
    size = TILE if device is None or device.type == "cpu" else 2**26
    height = max(1, min(n, isqrt(size) // 2))
    width = max(1, min(m, size // height))
    height = max(1, min(n, size // width))
    for column in range(0, m, width):
        for row in range(0, n, height):
            yield slice(row, min(row + height, n)), slice(column, min(column + width, m))


def stripes(n: int, m: int) -> Iterator[slice]:
    """Rows that cover an ``n`` x ``m`` matrix in stripes of whole rows, for what needs all columns at once."""
    height = max(1, STRIPE // max(m, 1))
    for start in range(0, n, height):
        yield slice(start, min(start + height, n))
