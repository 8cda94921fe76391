"""The ODE ``dx/dt = field(x, t)`` with steps as long as a tolerance allows, for each sample or for all together."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from wasserflow._core.errors import UserError

__all__ = ["dormand_prince"]

# Dormand & Prince, A family of embedded Runge-Kutta formulae (1980): nodes, stages, and order 5 less order 4.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
SAFETY, LEAST, MOST = 0.9, 0.2, 10.0
MOST_STEPS = 10_000


@torch.no_grad()
def dormand_prince(
    x: Tensor,
    field: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    start: float = 0.0,
    end: float = 1.0,
    tolerance: float = 1e-3,
    control: Literal["sample", "batch"] = "sample",
) -> tuple[Tensor, Tensor]:
    """Carry points from time ``start`` to ``end`` by the Dormand-Prince pair of orders 5 and 4.

    A step is kept if the root mean square of its error over ``tolerance (1 + |x|)`` is at most 1.

    Args:
        x: Points, with shape (N, *).
        field: ``field(x, t, rows) -> v`` for some of the points: (M, *), their times (M,), and which they are (M,).
        start: The time to start at.
        end: The time to end at, which may lie before it.
        tolerance: Relative and absolute.
        control: ``sample`` chooses each point's steps separately, so that its path does not depend on the
            others; ``batch`` takes one step for all, by the mean error over all.

    Returns:
        The points at ``end``, with shape (N, *), and how many evaluations each has cost, (N,).

    Raises:
        UserError: If a point is no longer finite, or 10,000 steps do not suffice.
    """
    n, sign = len(x), 1.0 if end >= start else -1.0
    x = x.clone()
    t = torch.full((n,), start, device=x.device, dtype=x.dtype)
    rows = torch.arange(n, device=x.device)
    cost = torch.ones(n, dtype=torch.int64, device=x.device)
    k1 = field(x, t, rows)
    h = _agreed((0.01 * _rms(x, x, tolerance) / _rms(k1, x, tolerance).clamp(min=1e-9)).clamp(1e-5, 0.1), control)
    h = torch.minimum(h, torch.full_like(h, abs(end - start)))
    for _ in range(MOST_STEPS):
        if not len(rows):
            return x, cost
        y, at, step = x[rows], t[rows], sign * h[rows]
        slopes, y_new = [k1[rows]], y
        for node, weights in zip(NODES[1:], STAGES[1:], strict=True):
            y_new = y + _over(step, y) * _sum(weights, slopes)
            slopes.append(field(y_new, at + node * step, rows))
        cost[rows] += len(NODES) - 1
        error = _rms(_over(step, y) * _sum(ERROR, slopes), torch.maximum(y.abs(), y_new.abs()), tolerance)
        error = _agreed(error.square(), control).sqrt()
        if not error.isfinite().all():
            raise UserError("the points are no longer finite: the training diverged, or `end` is too far above 1")
        kept = rows[error <= 1]
        x[kept], t[kept], k1[kept] = y_new[error <= 1], (at + step)[error <= 1], slopes[-1][error <= 1]
        h[rows] *= (SAFETY * error.clamp(min=1e-10).pow(-0.2)).clamp(LEAST, MOST)
        left = (end - t).abs()
        h = torch.minimum(h, left)
        rows = rows[left[rows] > 1e-6 * abs(end - start)]
    raise UserError(f"{MOST_STEPS:,} steps do not reach the end: take a larger `tolerance` than {tolerance}")


def _rms(x: Tensor, size: Tensor, tolerance: float) -> Tensor:
    """Root mean squares of x over ``tolerance (1 + |size|)``: (N, *) to (N,)."""
    return (x / (tolerance * (1 + size.abs()))).flatten(1).square().mean(1).sqrt()


def _agreed(value: Tensor, control: str) -> Tensor:
    return value.mean().expand_as(value).clone() if control == "batch" else value


def _over(t: Tensor, x: Tensor) -> Tensor:
    return t.view(-1, *[1] * (x.ndim - 1))


def _sum(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight:
            total = total + weight * slope
    return total
