"""A target given by points: in memory, in a file too large for memory, or in batches drawn afresh at every step."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError, check_seed
from wasserflow._core.points import Points, as_points, check_finite, wide

__all__ = ["Samples"]

BLOCK = 2**24
"""Numbers read at a time from an array in a file: 64 MB in float32."""


SKETCH = 10_000
"""Points used in place of all, to choose a bandwidth or to log an energy."""


class Samples:
    """Points of the target, possibly weighted.

    Args:
        points: Shape (M, *), M >= 1: a tensor, an array or a DataFrame. A memory-mapped array
            (``np.load(path, mmap_mode="r")``) stays in its file and is read in blocks whenever it is needed.
        weights: Shape (M,), non-negative; scaled to sum 1. Equal by default. Points whose weight is 0 in float32 are
            left out.
        batch: Take this many of the points at every step, drawn afresh (with the weights' probabilities).
        seed: Random seed of that choice.

    Raises:
        UserError: If a shape does not fit, or a number is not finite.
    """

    def __init__(
        self,
        points: Points,
        weights: Points | None = None,
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        check_seed(seed)
        self.filed = isinstance(points, np.memmap)
        self.points: Tensor | np.memmap = points if isinstance(points, np.memmap) else as_points(points, "the target")
        if self.points.ndim < 2 or not len(self.points):
            raise UserError(f"the target needs at least one point, as rows (M, d), not {tuple(self.points.shape)}")
        if isinstance(self.points, Tensor):
            check_finite(self.points, "the target")
        self.weights = None if weights is None else _normalised(as_points(weights, "weights"), len(self.points))
        self._kept: np.ndarray | None = None
        """The rows of a file that count; None: all."""
        if self.weights is not None and not (kept := self.weights >= torch.finfo(torch.float32).tiny).all():
            self.weights = self.weights[kept]
            if isinstance(self.points, Tensor):
                self.points = self.points[kept.to(self.points.device)]
            else:
                self._kept = kept.nonzero().flatten().cpu().numpy()
        if batch is not None and batch < 1:
            raise UserError(f"batch must be at least 1, not {batch}")
        self.batch = batch if batch is not None and batch < len(self) else None
        self._rng = np.random.default_rng(seed)
        self._cache: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.points) if self._kept is None else len(self._kept)

    def draw(self, like: Tensor) -> "Samples":
        """The points of this step: all of them, or a fresh batch."""
        if self.batch is None:
            return self
        if self.weights is None:
            rows = np.sort(self._rng.choice(len(self), self.batch, replace=False))
        else:
            rows = np.sort(self._rng.choice(len(self), self.batch, p=self.weights.double().cpu().numpy()))
        return Samples(self._rows(rows))

    def blocks(self, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Points (m, d) and weights (m,) in the type and on the device of ``like``, part by part."""
        self.check(like)
        if not self.filed:
            if self._cache is None or self._cache[0].dtype != like.dtype or self._cache[0].device != like.device:
                self._cache = self._as(like, torch.as_tensor(self.points), self.weights)
            yield self._cache
            return
        rows = max(1, BLOCK // int(np.prod(self.points.shape[1:])))
        for start in range(0, len(self), rows):
            part = slice(start, start + rows)
            yield self._as(like, self._rows(part), None if self.weights is None else self.weights[part])

    def sketch(self, like: Tensor, most: int = SKETCH) -> tuple[Tensor, Tensor]:
        """At most ``most`` of the points, evenly, and their weights."""
        if not self.filed and len(self) <= most:
            return next(self.blocks(like))
        self.check(like)
        rows = slice(None, None, -(-len(self) // most))
        weights = None if self.weights is None else self.weights[rows]
        points, weights = self._as(like, self._rows(rows), weights)
        return points, weights / weights.sum()

    def whole(self, like: Tensor, most: int, why: str) -> tuple[Tensor, Tensor]:
        """All points and weights in memory, or a `UserError` where they are more than ``most``."""
        if len(self) > most:
            raise UserError(f"{why}: {len(self):,} target points are too many, give a batch of at most {most:,}")
        parts = list(self.blocks(like))
        return torch.cat([points for points, _ in parts]), torch.cat([weights for _, weights in parts])

    def check(self, like: Tensor) -> None:
        """Raise a `UserError` unless particles (N, d) can flow onto this target."""
        d = int(np.prod(self.points.shape[1:]))
        if like.ndim < 2 or like.shape[1] != d:
            raise UserError(f"particles of {tuple(like.shape[1:])} numbers cannot flow onto a target of {d}")

    def _rows(self, rows: slice | np.ndarray) -> Tensor:
        if isinstance(self.points, Tensor):
            return self.points[torch.from_numpy(rows).to(self.points.device) if isinstance(rows, np.ndarray) else rows]
        rows = rows if self._kept is None else self._kept[rows]
        points = torch.from_numpy(np.array(self.points[rows]))
        check_finite(points, "the target")
        return points

    def _as(self, like: Tensor, points: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        points = points.detach().to(like).flatten(1)
        return points, points.new_full((len(points),), 1 / len(self)) if weights is None else weights.to(like)


def _normalised(weights: Tensor, count: int) -> Tensor:
    weights = wide(weights.detach())
    if weights.shape != (count,):
        raise UserError(f"weights must be {count} numbers, one for each point, not {tuple(weights.shape)}")
    if (bad := ~(weights >= 0)).any():
        row = int(bad.nonzero()[0])
        raise UserError(f"weights must be numbers >= 0, and number {row} is {weights[row].item()}")
    if not 0 < weights.sum() < torch.inf:
        raise UserError(f"weights must have a positive, finite sum, not {weights.sum().item():g}")
    return weights / weights.sum()
