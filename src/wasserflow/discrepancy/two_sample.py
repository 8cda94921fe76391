"""How far apart two samples are, as plain functions of NumPy arrays, and whether that could be chance.

Each takes two arrays ``(N, d)`` and ``(M, d)`` (or ``(N,)`` and ``(M,)``) and gives the value and, with
``permutations=B``, the p-value of the test that both come from one distribution: the share of B random re-labellings of
the pooled points, and of the labelling at hand, whose value is at least as large. It is exact at any sample size.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError, check_seed
from wasserflow._core.points import check_finite
from wasserflow.discrepancy.kale import kale as solve_kale
from wasserflow.kernel.base import Custom, Kernel
from wasserflow.kernel.radial import Energy, Gaussian

__all__ = ["TwoSample", "energy_distance", "kale", "mmd"]

Array = np.ndarray | Tensor


class TwoSample(NamedTuple):
    """The value, and the p-value of the permutation test where one was asked for."""

    value: float
    p_value: float | None


def mmd(
    x: Array,
    y: Array,
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
        permutations: How many random re-labellings to compare with.
        seed: Of those.

    Raises:
        UserError: If the shapes do not fit, or a number is not finite.

    References:
        A Kernel Two-Sample Test (Gretton et al., 2012).
    """
    x, y = _pair(x, y)
    kernel = Gaussian("median") if kernel is None else kernel
    return _test(x, y, kernel if isinstance(kernel, Kernel) else Custom(kernel), permutations, seed)


def energy_distance(x: Array, y: Array, *, permutations: int = 0, seed: int = 0) -> TwoSample:
    """Energy distance ``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, unbiased; arguments and errors as those of `mmd`."""
    return _test(*_pair(x, y), Energy(), permutations, seed)


def kale(
    x: Array,
    y: Array,
    lam: float = 1e-2,
    kernel: Kernel | Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    permutations: int = 0,
    seed: int = 0,
) -> TwoSample:
    """KALE of the first sample from the second, between KL(x|y) (small lam) and 1/2 MMD^2 (large); O(M^3).

    Arguments and errors are those of `mmd`, with the regularisation ``lam`` > 0 and a positive definite kernel.
    """
    x, y = _pair(x, y)
    pooled = torch.cat([x, y])
    kernel = Gaussian("median") if kernel is None else kernel
    bound = (kernel if isinstance(kernel, Kernel) else Custom(kernel)).bind(pooled[::2], pooled[1::2])
    value = solve_kale(x, y, bound, lam).value.item()
    orders = _orders(len(pooled), permutations, seed)
    others = [solve_kale(pooled[o[: len(x)]], pooled[o[len(x) :]], bound, lam).value.item() for o in orders]
    return TwoSample(value, _p_value(value, np.array(others)))


def _test(x: Tensor, y: Tensor, kernel: Kernel, permutations: int, seed: int) -> TwoSample:
    """The U-statistic of all labellings at once: one pass through the pooled Gram matrix, in tiles."""
    n, m = len(x), len(y)
    pooled = torch.cat([x, y])
    kernel = kernel.bind(pooled[::2], pooled[1::2])  # the same for every labelling
    if kernel.invariant:  # no digits are lost far from the origin
        pooled = pooled - pooled.mean(0)
    orders = _orders(n + m, permutations, seed)
    first = pooled.new_zeros(n + m, permutations + 1)  # a column per labelling: 1 where a point counts as of x
    first[:n, 0] = 1
    for column, order in enumerate(orders, 1):
        first[order[:n], column] = 1
    both = torch.cat([first, torch.ones_like(first[:, :1])], 1)
    sums, diagonal = kernel.combine(pooled, pooled, both), kernel.diagonal(pooled)
    within = (first * sums[:, :-1]).sum(0)
    across = first.T @ sums[:, -1] - within
    rest = sums[:, -1].sum() - within - 2 * across
    own = first.T @ diagonal
    u = (within - own) / (n * (n - 1)) + (rest - diagonal.sum() + own) / (m * (m - 1)) - 2 * across / (n * m)
    return TwoSample(u[0].item(), _p_value(u[0].item(), u[1:].numpy()))


def _p_value(value: float, others: np.ndarray) -> float | None:
    # Relabellings that change nothing come out a rounding error apart.
    if not len(others):
        return None
    close = value - 1e-9 * max(abs(value), np.abs(others).max())
    return (1 + int((others >= close).sum())) / (1 + len(others))


def _orders(size: int, permutations: int, seed: int) -> list[Tensor]:
    check_seed(seed)
    if permutations < 0:
        raise UserError(f"permutations must be >= 0, not {permutations}")
    rng = torch.Generator().manual_seed(seed)
    return [torch.randperm(size, generator=rng) for _ in range(permutations)]


def _pair(x: Array, y: Array) -> tuple[Tensor, Tensor]:
    both = []
    for name, array in (("first", x), ("second", y)):
        points = array.detach().cpu() if isinstance(array, Tensor) else _tensor(np.asarray(array), name)
        if points.is_complex():
            raise UserError(f"the {name} sample holds complex numbers: give their parts as columns")
        points = points.double()[:, None] if points.ndim == 1 else points.double()
        if points.ndim != 2 or len(points) < 2:
            raise UserError(f"the {name} sample must be (N, d) with N of 2 at least, not {tuple(points.shape)}")
        check_finite(points, f"the {name} sample")
        both.append(points)
    if both[0].shape[1] != both[1].shape[1]:
        raise UserError(f"the samples have {both[0].shape[1]} and {both[1].shape[1]} columns: they must have the same")
    return both[0], both[1]


def _tensor(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.kind not in "fiubc":
        raise UserError(f"the {name} sample holds {array.dtype}, not numbers: convert it with astype")
    return torch.from_numpy(np.ascontiguousarray(array, np.complex128 if array.dtype.kind == "c" else np.float64))
