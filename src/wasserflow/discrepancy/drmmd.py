r"""DrMMD, the chi-square divergence regularised by the witness's norm in the kernel's space.

With lambda -> 0 it is chi^2(q|p), with lambda -> infinity MMD^2(q, p); unlike chi^2 it stays finite and
differentiable for distributions with different supports. A flow descends it along ``-grad`` of its witness.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wasserflow._core.points import wide
from wasserflow.discrepancy.kale import check_regularised
from wasserflow.discrepancy.mmd import Witness, check_pair, target_weights
from wasserflow.kernel.base import Kernel

__all__ = ["DrMMD", "Spectrum", "drmmd"]


class Spectrum:
    """What `drmmd` needs of a target: its weighted Gram matrix, diagonalised once for every lambda; O(M^3).

    Args:
        y: Target, shape (M, d).
        kernel: A positive definite kernel with its bandwidth bound.
        weights: Of the target's points, shape (M,), non-negative with sum 1; equal by default.
    """

    def __init__(self, y: Tensor, kernel: Kernel, weights: Tensor | None = None) -> None:
        self.kernel, self.y = kernel, wide(y.detach())
        self.weights = wide(target_weights(y, weights).detach())
        root = self.weights.sqrt()
        gram = kernel(self.y, self.y)
        values, vectors = torch.linalg.eigh(root[:, None] * gram * root)
        self.values, self.vectors = values.clamp(min=0), root[:, None] * vectors
        self.mean = gram @ self.weights

    def solve(self, b: Tensor, lam: float | Tensor) -> Tensor:
        """``W^(1/2) (W^(1/2) K W^(1/2) + lam I)^(-1) W^(1/2) b``."""
        return self.vectors @ ((self.vectors.T @ b) / (self.values + lam))


class DrMMD(NamedTuple):
    """What `drmmd` returns: the value, a 0-dimensional tensor without a graph, and the witness."""

    value: Tensor
    witness: Witness


def drmmd(
    x: Tensor,
    y: Tensor,
    kernel: Kernel,
    lam: float | Tensor,
    *,
    weights: Tensor | None = None,
    spectrum: Spectrum | None = None,
) -> DrMMD:
    r"""The de-regularised MMD of the particles' distribution from the target's.

    .. math:: (1 + \lambda) \big| (\Sigma_p + \lambda I)^{-1/2} (m_q - m_p) \big|^2
              = \tfrac{1 + \lambda}{\lambda} \big[\mathrm{MMD}^2 - b^T (K + M \lambda I)^{-1} b\big]

    with the target's Gram matrix K and ``b`` the MMD's witness at the target's points. The witness is the first
    variation of the value, ``2 (1 + lam) / lam [w(z) - k(z, Y) (K + M lam I)^(-1) b]``, whose gradient in the
    particle x_i is N times the value's.

    Args:
        x: Particles, shape (N, d).
        y: Target, shape (M, d).
        kernel: A positive definite kernel; rules for its bandwidth look at these points.
        lam: The regularisation lambda > 0.
        weights: Of the target's points, shape (M,), non-negative with sum 1; equal by default.
        spectrum: Of this target and kernel, if it has been computed already.

    Raises:
        UserError: If the shapes do not fit, lam is not positive, or the kernel is not positive definite.

    References:
        (De)-regularized Maximum Mean Discrepancy Gradient Flow (Chen et al., 2025), JMLR 26, arXiv 2409.14980.
    """
    check_pair(x, y)
    check_regularised(kernel, lam)
    if spectrum is None:
        spectrum = Spectrum(y, kernel.bind(x.detach(), y.detach()), weights)
    kernel, target, p, particles = spectrum.kernel, spectrum.y, spectrum.weights, wide(x.detach())
    q = particles.new_full((len(x),), 1 / len(x))
    pull = kernel.combine(target, particles, q)
    b = pull - spectrum.mean
    c = spectrum.solve(b, lam)
    squared = kernel.combine(particles, particles, q) @ q + p @ spectrum.mean - 2 * p @ pull
    factor = (1 + lam) / lam
    signed = torch.cat([q, -p - c]) * (2 * factor)
    return DrMMD((factor * (squared - b @ c)).to(x), Witness(kernel, torch.cat([x.detach(), y.detach()]), signed.to(x)))
