r"""The maximum mean discrepancy of two samples: its value, its witness, and for the energy kernel its usual name.

Arguments come in the order particles, target: ``x`` (N, d) is a sample of the particles' distribution q, ``y`` (M, d)
one of the target p, and N may differ from M. The target's points may be weighted. Sums over pairs are taken in tiles.

What a flow descends is ``F(q) = 1/2 MMD^2(q, p)``; its velocity is ``-grad witness``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow.kernel.base import Kernel, Linear

__all__ = ["Witness", "check_pair", "mmd_squared", "paired_mmd_squared", "target_weights", "witness"]

BLOCKS, BLOCK = 8, 512
"""Parts in which a sample meets itself, and the fewest points in one."""


@dataclass(frozen=True)
class Witness:
    """A function of the kernel's space, ``w(z) = sum_j weights_j k(z, support_j)``.

    Args:
        kernel: A kernel with its bandwidth bound.
        support: Points, shape (S, d).
        weights: Of any sign, shape (S,).
    """

    kernel: Kernel
    support: Tensor
    weights: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """``w`` at points (K, d), with shape (K,); differentiable in the points and in the support."""
        return self.kernel.combine(points, self.support, self.weights)

    def gradient(self, points: Tensor) -> Tensor:
        """``grad w`` at points (K, d), with shape (K, d), without a graph."""
        return self.kernel.gradient(points, self.support, self.weights)


def mmd_squared(x: Tensor, y: Tensor, kernel: Kernel, unbiased: bool = False, weights: Tensor | None = None) -> Tensor:
    r"""Squared maximum mean discrepancy; differentiable in ``x`` and ``y``, a 0-dimensional tensor.

    .. math:: \overline{k(x_i, x_j)} + \overline{k(y_i, y_j)} - 2\,\overline{k(x_i, y_j)}

    with means over all pairs (the V-statistic: at least 0), or, unbiased, over pairs of different points in the first
    two terms (the U-statistic: about 0, and possibly below, for equal distributions); a target with all its weight on
    one point has no such pairs, and its term is ``k(y, y)``. Where a shift of both samples changes nothing (linear and
    radial kernels) the pooled mean is subtracted first, so that close samples far from the origin lose no digits. The
    linear kernel takes O((N + M) d).

    Args:
        x: Particles, shape (N, d); N >= 2 if unbiased.
        y: Target, shape (M, d); M >= 2 if unbiased and without weights.
        kernel: A kernel; rules for its bandwidth look at these points.
        unbiased: Which of the two.
        weights: Of the target's points, shape (M,), non-negative with sum 1; equal by default.

    Raises:
        UserError: If the shapes do not fit.

    References:
        A Kernel Two-Sample Test (Gretton et al., 2012).
    """
    least = 2 if unbiased else 1
    check_pair(x, y, least, least if weights is None else 1)
    kernel = kernel.bind(x.detach(), y.detach())
    if kernel.invariant:
        pooled = (x.detach().sum(0) + y.detach().sum(0)) / (len(x) + len(y))
        x, y = x - pooled, y - pooled
    q = x.new_full((len(x),), 1 / len(x))
    p = target_weights(y, weights)
    xx, yy = (_within(kernel, points, mass, unbiased) for points, mass in ((x, q), (y, p)))
    return xx + yy - 2 * (kernel.combine(x, y, p) @ q)


def paired_mmd_squared(u: Tensor, v: Tensor, kernel: Kernel) -> Tensor:
    r"""The unbiased estimate of the squared MMD from pairs ``(u_i, v_i)``, whose members may depend on each other.

    .. math:: \frac1{B(B-1)} \sum_{i \ne j} k(u_i, u_j) + k(v_i, v_j) - k(u_i, v_j) - k(v_i, u_j)

    With data and the same data noised, what they have in common cancels: at small noise that is nearly everything.

    Args:
        u: Shape (B, D), B >= 2.
        v: Shape (B, D).
        kernel: A kernel with its bandwidth bound.

    References:
        A Kernel Two-Sample Test (Gretton et al., 2012), lemma 6.
    """
    b = len(u)
    if isinstance(kernel, Linear):
        difference = u - v
        total, diagonal = difference.sum(0).square().sum(), difference.square().sum()
    else:
        cross = kernel(u, v)
        gram = kernel(u, u) + kernel(v, v) - cross - cross.T
        total, diagonal = gram.sum(), gram.diagonal().sum()
    return (total - diagonal) / (b * (b - 1))


def witness(particles: Tensor, target: Tensor, kernel: Kernel, weights: Tensor | None = None) -> Witness:
    r"""The function that tells the two samples apart most clearly: particles go down its gradient.

    .. math:: w(z) = \overline{k(z, x_i)} - \sum_j p_j k(z, y_j)

    It is the first variation of 1/2 MMD^2 in q, and ``grad w(x_i) = N d(1/2 MMD^2)/dx_i`` for the
    V-statistic.

    Args:
        particles: Shape (N, d).
        target: Shape (M, d).
        kernel: A kernel; rules for its bandwidth look at these points.
        weights: Of the target's points, shape (M,), non-negative with sum 1; equal by default.

    Returns:
        ``w``, a function from points (K, d) to (K,), differentiable in them and in the two samples.

    Raises:
        UserError: If the shapes do not fit.
    """
    check_pair(particles, target)
    kernel = kernel.bind(particles.detach(), target.detach())
    q = particles.new_full((len(particles),), 1 / len(particles))
    return Witness(kernel, torch.cat([particles, target]), torch.cat([q, -target_weights(target, weights)]))


def target_weights(y: Tensor, weights: Tensor | None) -> Tensor:
    """The weights (M,) of the target, equal where none are given."""
    return y.new_full((len(y),), 1 / len(y)) if weights is None else weights


def check_pair(x: Tensor, y: Tensor, least_x: int = 1, least_y: int = 1) -> None:
    """Raise a `UserError` unless both are matrices of points of one length, with enough rows."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UserError(f"particles {tuple(x.shape)} and target {tuple(y.shape)} must be (N, d) and (M, d) with one d")
    if len(x) < least_x or len(y) < least_y:
        raise UserError(
            f"at least {least_x} particles and {least_y} target points are needed, not {len(x)} and {len(y)}"
        )


def _within(kernel: Kernel, x: Tensor, weights: Tensor, unbiased: bool) -> Tensor:
    """The weighted mean of ``k(x_i, x_j)`` over all pairs, or over pairs of different points; each pair taken once."""
    size, total = max(BLOCK, -(-len(x) // BLOCKS)), weights.new_zeros(())
    for start in range(0, len(x), size):
        rows, later = slice(start, start + size), slice(start + size, None)
        total = total + weights[rows] @ kernel.combine(
            x[rows], x[start:], torch.cat([weights[rows], 2 * weights[later]])
        )
    squares = weights.square()
    if not unbiased or not (apart := 1 - squares.sum()) > 0:
        return total
    return (total - kernel.diagonal(x) @ squares) / apart
