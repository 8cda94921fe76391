"""How far apart two samples are, as plain functions of arrays, and whether that could be chance.

Each takes two samples ``(N, d)`` and ``(M, d)`` (or ``(N,)`` and ``(M,)``), arrays, DataFrames or tensors, and gives
the value and, with ``permutations=B``, the p-value of the test that both come from one distribution: the share of B
random relabellings of the pooled points, and of the given labelling, whose value is at least as large. It is exact at
any sample size.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError, check_seed
from wasserflow._core.points import Points, as_points, check_finite
from wasserflow.discrepancy import mmd
from wasserflow.discrepancy.kale import kale as solve_kale
from wasserflow.kernel.base import Kernel, as_kernel
from wasserflow.kernel.radial import Energy, Gaussian

__all__ = ["TwoSample", "energy_distance", "kale", "mmd_squared"]


class TwoSample(NamedTuple):
    """The value, and the p-value of the permutation test if one was asked for."""

    value: float
    p_value: float | None


def mmd_squared(
    x: Points,
    y: Points,
    kernel: Kernel | Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    permutations: int = 0,
    seed: int = 0,
) -> TwoSample:
    """Squared maximum mean discrepancy, unbiased: about 0, and possibly below, for equal distributions.

    Args:
        x: First sample, shape (N, d), N >= 2.
        y: Second sample, shape (M, d), M >= 2.
        kernel: A kernel, or a function of two sets of points that gives the Gram matrix; by default a Gaussian whose
            bandwidth is the median distance within the pooled sample.
        permutations: Number of random relabellings to compare with; 0: no test.
        seed: Random seed of the relabellings.

    Raises:
        UserError: If the shapes do not fit, or a number is not finite.

    References:
        A Kernel Two-Sample Test (Gretton et al., 2012).
    """
    return _test(*_pair(x, y), Gaussian("median") if kernel is None else as_kernel(kernel), permutations, seed)


def energy_distance(x: Points, y: Points, *, permutations: int = 0, seed: int = 0) -> TwoSample:
    """Energy distance ``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, unbiased; arguments and errors as for `mmd_squared`."""
    return _test(*_pair(x, y), Energy(), permutations, seed)


def kale(
    x: Points,
    y: Points,
    lam: float = 1e-2,
    kernel: Kernel | Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    permutations: int = 0,
    seed: int = 0,
) -> TwoSample:
    """KALE of the first sample from the second, between KL(x|y) (small lam) and 1/2 MMD^2 (large); O(M^3).

    Arguments and errors are those of `mmd_squared`, with the regularisation ``lam`` > 0 and a positive definite kernel.
    """
    x, y = _pair(x, y)
    pooled = torch.cat([x, y])
    bound = _bound(Gaussian("median") if kernel is None else as_kernel(kernel), pooled)
    value = solve_kale(x, y, bound, lam).value.item()
    orders = _orders(len(pooled), permutations, seed)
    others = [solve_kale(pooled[o[: len(x)]], pooled[o[len(x) :]], bound, lam).value.item() for o in orders]
    return TwoSample(value, _p_value(value, np.array(others)))


def _test(x: Tensor, y: Tensor, kernel: Kernel, permutations: int, seed: int) -> TwoSample:
    pooled = torch.cat([x, y])
    bound = _bound(kernel, pooled)
    value = mmd.mmd_squared(x, y, bound, unbiased=True).item()
    orders = _orders(len(pooled), permutations, seed)
    return TwoSample(value, _p_value(value, _relabelled(pooled, len(x), bound, orders)))


def _bound(kernel: Kernel, pooled: Tensor) -> Kernel:
    """The kernel with one bandwidth for every labelling."""
    return kernel.bind(pooled[::2], pooled[1::2])


def _relabelled(pooled: Tensor, n: int, kernel: Kernel, orders: list[Tensor]) -> np.ndarray:
    """The unbiased squared MMD of every relabelling: one pass through the pooled Gram matrix, in tiles."""
    if not orders:
        return np.empty(0)
    m = len(pooled) - n
    if kernel.invariant:  # no digits are lost far from the origin
        pooled = pooled - pooled.mean(0)
    first = pooled.new_zeros(len(pooled), len(orders))  # a column per labelling: 1 if a point counts as of x
    for column, order in enumerate(orders):
        first[order[:n], column] = 1
    both = torch.cat([first, torch.ones_like(first[:, :1])], 1)
    sums, diagonal = kernel.combine(pooled, pooled, both), kernel.diagonal(pooled)
    within = (first * sums[:, :-1]).sum(0)
    across = first.T @ sums[:, -1] - within
    rest = sums[:, -1].sum() - within - 2 * across
    own = first.T @ diagonal
    u = (within - own) / (n * (n - 1)) + (rest - diagonal.sum() + own) / (m * (m - 1)) - 2 * across / (n * m)
    return u.numpy()


def _p_value(value: float, others: np.ndarray) -> float | None:
    if not len(others):
        return None
    # Relabellings that change nothing come out a rounding error apart.
    close = value - 1e-9 * max(abs(value), np.abs(others).max())
    return (1 + int((others >= close).sum())) / (1 + len(others))


def _orders(size: int, permutations: int, seed: int) -> list[Tensor]:
    check_seed(seed)
    if permutations < 0:
        raise UserError(f"permutations must be >= 0, not {permutations}")
    rng = torch.Generator().manual_seed(seed)
    return [torch.randperm(size, generator=rng) for _ in range(permutations)]


def _pair(x: Points, y: Points) -> tuple[Tensor, Tensor]:
    both = []
    for whose, array in (("the first sample", x), ("the second sample", y)):
        points = as_points(array, whose).detach().cpu().double()
        points = points[:, None] if points.ndim == 1 else points
        if points.ndim != 2 or len(points) < 2:
            raise UserError(f"{whose} must be (N, d) with N of 2 at least, not {tuple(points.shape)}")
        check_finite(points, whose)
        both.append(points)
    if both[0].shape[1] != both[1].shape[1]:
        raise UserError(f"the samples have {both[0].shape[1]} and {both[1].shape[1]} columns: they must have the same")
    return both[0], both[1]
