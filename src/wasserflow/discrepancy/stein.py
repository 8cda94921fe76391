r"""Stein discrepancies: how far particles are from a target given by its score ``s = grad log p``.

The target is a function of points (N, d): the score, with values (N, d), or the log-density up to a constant, with
values (N,), from which the score comes by autograd.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.pairs import squared_distances
from wasserflow.kernel.base import Kernel
from wasserflow.kernel.radial import InverseMultiquadric, Radial

__all__ = ["SteinKernel", "ksd_squared", "score_of"]

Density = Callable[[Tensor], Tensor]


def score_of(target: Density, x: Tensor) -> Tensor:
    """The score at points (N, d), with shape (N, d): of a function that gives it, or by autograd from a log density.

    Raises:
        UserError: If the function gives neither, or numbers that are not finite; or if x requires a gradient and the
            score has no graph. A constant score looks the same; no distribution on R^d has one: return ``c + 0 * x``,
            or give the log density.
    """
    graph = x.requires_grad
    with torch.enable_grad():
        points = x if graph else x.detach().requires_grad_()
        value = target(points)
        shape = value.shape if isinstance(value, Tensor) else None
        if shape == x.shape:
            score = value.to(x)
            if graph and _slope(score, points) is None:
                raise UserError(
                    "the target's score cannot be differentiated, as ksd needs it to be, because no operation of torch "
                    "leads from the points to it: compute it without NumPy, detach and no_grad, or give the log density"
                )
        elif shape == x.shape[:1]:
            score = _slope(value, points, graph)
            if score is None:
                raise UserError(
                    "the target's log density cannot be differentiated, because no operation of torch leads from the "
                    "points to it: compute it without NumPy, detach and no_grad, or give the score"
                )
        else:
            given = f"type {type(value).__name__}" if shape is None else f"shape {tuple(shape)}"
            raise UserError(
                f"the target gave {given} at points {tuple(x.shape)}: it must give a tensor, the score, with their "
                f"shape, or the log density, with shape ({len(x)},)"
            )
    if not score.isfinite().all():
        raise UserError("the target's score is not finite at some particles: start where its density is positive")
    return score if graph else score.detach()


class SteinKernel(Kernel):
    r"""The Stein kernel of a target and a radial kernel ``k = kappa(s)``, ``s = |x - y|^2``, whose mean under p is 0.

    .. math:: k_p(x, y) = s(x) \cdot s(y)\, k + s(x) \cdot \nabla_y k + s(y) \cdot \nabla_x k
              + \mathrm{tr}\, \nabla_x \nabla_y k
              = s(x) \cdot s(y)\, \kappa - 2 (s(x) - s(y)) \cdot (x - y)\, \kappa' - 2 d\, \kappa' - 4 s\, \kappa''

    Args:
        target: Score or log density; differentiable where the kernel is to be.
        kernel: A smooth radial kernel with its bandwidth bound.
    """

    def __init__(self, target: Density, kernel: Radial) -> None:
        self.target, self.kernel = target, kernel

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The Gram matrix; differentiable once in both arguments."""
        score_x, score_y = score_of(self.target, x), score_of(self.target, y)
        with torch.enable_grad():
            s = squared_distances(x - y.detach().mean(0), y - y.detach().mean(0))
            s = s if s.requires_grad else s.requires_grad_()
            k = self.kernel.profile(s)
            (k1,) = torch.autograd.grad(k.sum(), s, create_graph=True)
            (k2,) = torch.autograd.grad(k1.sum(), s, create_graph=True)
        across = _inner(score_x, x)[:, None] - score_x @ y.T - x @ score_y.T + _inner(score_y, y)
        return (score_x @ score_y.T) * k - 2 * across * k1 - 2 * x.shape[1] * k1 - 4 * s * k2


def ksd_squared(x: Tensor, target: Density, kernel: Kernel | None = None) -> Tensor:
    """The squared kernel Stein discrepancy ``mean_ij k_p(x_i, x_j)`` of particles (N, d), over all pairs.

    Args:
        x: Particles, shape (N, d).
        target: Score or log density.
        kernel: A smooth radial kernel; by default ``(1 + |x - y|^2)^(-1/2)``.

    Returns:
        A 0-dimensional tensor, at least 0, and near 0 for particles that sample the target.

    References:
        A Kernelized Stein Discrepancy for Goodness-of-fit Tests (Liu, Lee and Jordan, 2016), arXiv 1602.03253.
    """
    stein = SteinKernel(target, smooth_kernel(kernel or InverseMultiquadric(), x))
    return stein.mean(x, x).mean()


def radial_kernel(kernel: Kernel, x: Tensor, t: float | None = None) -> Radial:
    """The kernel bound to the particles, which stand for the target too; refused where it is not radial."""
    bound = kernel.bind(x.detach(), x.detach(), t)
    if not isinstance(bound, Radial) or not bound.definite:
        raise UserError("Stein flows need a positive definite kernel of the distance: Gaussian, Laplace, ...")
    return bound


def smooth_kernel(kernel: Kernel, x: Tensor, t: float | None = None) -> Radial:
    bound = radial_kernel(kernel, x, t)
    if not bound.smooth:
        raise UserError("the kernel Stein discrepancy needs a smooth kernel: Gaussian, inverse multiquadric, ...")
    return bound


def _slope(value: Tensor, x: Tensor, graph: bool = False) -> Tensor | None:
    """The derivative of the value's sum in x; None where x has no part in it."""
    if not value.requires_grad:
        return None
    return torch.autograd.grad(value.sum(), x, create_graph=graph, retain_graph=True, allow_unused=True)[0]


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1)
