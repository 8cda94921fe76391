r"""KALE, the KL divergence regularised by the witness's norm in the kernel's space.

With lambda -> 0 it is KL(q|p), with lambda -> infinity 1/2 MMD^2(q, p); unlike KL it stays finite, and has a gradient,
for distributions with different supports. A flow descends it along ``-grad (1 + lam) h``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.points import wide
from wasserflow.discrepancy.mmd import Witness, check_pair, target_weights
from wasserflow.kernel.base import Kernel, Linear

__all__ = ["Kale", "check_regularised", "kale"]

NEWTON = 100
"""Newton steps at most; about ten are usual, forty if lam is tiny and the samples are far apart."""


class Kale(NamedTuple):
    """What `kale` returns.

    Args:
        value: The divergence, a 0-dimensional tensor; differentiable in both samples with the witness held fixed, which
            by the envelope theorem is its gradient.
        witness: ``(1 + lam) h``, a function of points (K, d) with values (K,), differentiable in them but not in the
            two samples; its gradient in the particle x_i is N times the value's.
        solution: Where to start the next solve, when the samples have moved a little: pass it as ``start``.
        ratio: The density ratio q/p = exp(h) at the target's points, shape (M,).
    """

    value: Tensor
    witness: Witness
    solution: Tensor
    ratio: Tensor


def kale(
    x: Tensor,
    y: Tensor,
    kernel: Kernel,
    lam: float,
    *,
    weights: Tensor | None = None,
    start: Tensor | None = None,
    tolerance: float = 1e-9,
) -> Kale:
    r"""The KL approximate lower bound estimator of the particles' distribution from the target's.

    .. math:: (1 + \lambda) \max_h \Big\{1 + \overline{h(x_i)} - \sum_j p_j e^{h(y_j)} - \tfrac\lambda2 |h|^2\Big\}

    over the functions h of the kernel's space. It is solved by damped Newton steps in float64 (in the samples' own type
    where a device has no float64):

    * the **primal**, for the linear kernel on d <= M features: ``h(z) = v . z`` with v in R^d, O(M d^2) per step;
    * the **dual**, for every other kernel and for M < d: one positive number per target point,

    .. math:: \min_{a > 0} \sum_j a_j \log(a_j / p_j) - a_j
              + \tfrac{1}{2\lambda} \Big|\sum_j a_j k(y_j, \cdot) - \overline{k(x_i, \cdot)}\Big|^2

    whose minimum plus 1 is the primal's maximum; ``h = (mean_i k(x_i, .) - sum_j a_j k(y_j, .)) / lam``, and
    ``a_j = p_j exp(h(y_j))``; O(M^3) per step.

    Args:
        x: Particles, shape (N, d).
        y: Target, shape (M, d).
        kernel: A positive definite kernel; rules for its bandwidth look at these points.
        lam: The regularisation lambda > 0.
        weights: Of the target's points, shape (M,), positive with sum 1; equal by default.
        start: The ``solution`` of a solve for similar samples.
        tolerance: Newton's steps end when their squared length in the local norm, twice the distance to the optimum,
            is below this times the value, or below what float64 resolves.

    Raises:
        UserError: If the shapes do not fit, lam is not positive, or the kernel is not positive definite.

    References:
        KALE Flow: A Relaxed KL Gradient Flow for Probabilities with Disjoint Support (Glaser, Arbel and Gretton, 2021),
        arXiv 2106.08929.
    """
    check_pair(x, y)
    check_regularised(kernel, lam)
    kernel = kernel.bind(x.detach(), y.detach())
    p = target_weights(y, weights)
    solve = _primal if isinstance(kernel, Linear) and y.shape[1] <= len(y) else _dual
    return solve(x, y, kernel, lam, p, start, tolerance)


def _primal(
    x: Tensor, y: Tensor, kernel: Kernel, lam: float, p: Tensor, start: Tensor | None, tolerance: float
) -> Kale:
    """``h(z) = v . z``: Newton in R^d on the concave objective."""
    target, weight, mean = wide(y.detach()), wide(p.detach()), wide(x.detach()).mean(0)
    eye = torch.eye(y.shape[1], dtype=target.dtype, device=y.device)

    def loss(v: Tensor) -> Tensor:
        return weight @ (target @ v).exp() - mean @ v + lam / 2 * v @ v - 1

    def slope_and_step(v: Tensor) -> tuple[Tensor, Tensor]:
        a = weight * (target @ v).exp()
        slope = a @ target - mean + lam * v
        factor, failed = torch.linalg.cholesky_ex(torch.addmm(lam * eye, target.T * a, target))
        if failed:  # lam is lost beside huge features: the singular values of the Hessian's root still tell
            _, singular, right = torch.linalg.svd(a.sqrt()[:, None] * target, full_matrices=False)
            return slope, -right.T @ (right @ slope / (singular.square() + lam))
        return slope, -torch.cholesky_solve(slope[:, None], factor)[:, 0]

    v = _newton(
        wide(start.detach()) if start is not None else torch.zeros_like(mean), loss, slope_and_step, lam, tolerance
    )
    inside = 1 + (wide(x) @ v).mean() - weight @ (wide(y) @ v).exp() - lam / 2 * v @ v
    v, ratio = v.to(x), (target @ v).exp().to(y)
    return Kale((1 + lam) * inside.to(x), Witness(kernel, v[None], v.new_full((1,), 1 + lam)), v, ratio)


def _dual(x: Tensor, y: Tensor, kernel: Kernel, lam: float, p: Tensor, start: Tensor | None, tolerance: float) -> Kale:
    """One positive number per target point: Newton on the convex objective, moved multiplicatively where it shrinks."""
    particles, target, prior = wide(x.detach()), wide(y.detach()), wide(p.detach())
    q = particles.new_full((len(x),), 1 / len(x))
    gram, pull = kernel(target, target), kernel.combine(target, particles, q)
    constant = kernel.combine(particles, particles, q) @ q / (2 * lam)

    def loss(a: Tensor) -> Tensor:
        return 1 + torch.xlogy(a, a / prior).sum() - a.sum() + (a @ (gram @ a) / 2 - a @ pull) / lam + constant

    def slope_and_step(a: Tensor) -> tuple[Tensor, Tensor]:
        slope = (a / prior).log() + (gram @ a - pull) / lam
        root = a.sqrt()  # the Hessian diag(1/a) + K/lam, scaled by root from both sides, has all eigenvalues >= 1
        scaled = root[:, None] * gram * root / lam
        scaled.diagonal().add_(1)
        factor, failed = torch.linalg.cholesky_ex(scaled)
        if failed:  # the 1 is lost beside a huge Gram matrix
            values, vectors = torch.linalg.eigh(scaled)
            return slope, -root * (vectors @ (vectors.T @ (root * slope) / values.clamp(min=1)))
        return slope, -root * torch.cholesky_solve((root * slope)[:, None], factor)[:, 0]

    def move(a: Tensor, step: Tensor, size: float) -> Tensor:
        relative = size * step / a  # a + step in first order, and positive; one step from above for a single point
        return torch.where(relative < 0, a * relative.clamp(min=-100).exp(), a * (1 + relative))

    a = prior.clone() if start is None or len(start) != len(y) else wide(start.detach())
    a = _newton(a, loss, slope_and_step, lam, tolerance, move)
    a, ratio = a.to(y), (a / prior).to(y)
    q = q.to(x)
    quadratic = a @ kernel.combine(y, y, a) - 2 * (a @ kernel.combine(y, x, q)) + q @ kernel.combine(x, x, q)
    inside = 1 + torch.xlogy(a, a / p).sum() - a.sum() + quadratic / (2 * lam)
    support, signed = torch.cat([x, y]).detach(), torch.cat([q, -a]) * ((1 + lam) / lam)
    return Kale((1 + lam) * inside, Witness(kernel, support, signed), a, ratio)


def _newton(
    z: Tensor,
    loss: Callable[[Tensor], Tensor],
    slope_and_step: Callable[[Tensor], tuple[Tensor, Tensor]],
    lam: float,
    tolerance: float,
    move: Callable[[Tensor, Tensor, float], Tensor] = lambda z, step, size: z + size * step,
) -> Tensor:
    """Newton's method for a convex loss, KALE's up to a factor; each step is halved until the loss falls enough."""
    value, rounding = loss(z), torch.finfo(z.dtype).eps * (1 + 1 / lam)  # of terms of order 1 and 1 / lam
    for _ in range(NEWTON):
        slope, step = slope_and_step(z)
        promise = slope @ step  # minus the squared length of the step in the local norm
        if not -promise > tolerance * value.abs() + rounding:
            return z
        size = 1.0
        while size > 1e-12:
            there = move(z, step, size)
            lower = loss(there)
            if lower <= value + 0.1 * size * promise:
                break
            size /= 2
        else:  # nothing lower within rounding
            return z
        z, value = there, lower
    return z


def check_regularised(kernel: Kernel, lam: float | Tensor) -> None:
    """Raise a `UserError` unless a witness of this kernel can be regularised by lam times its squared norm."""
    if not kernel.definite:
        raise UserError("the energy kernel has no norm to regularise by: choose a positive definite kernel")
    if not isinstance(lam, Tensor) and not 0 < lam < float("inf"):
        raise UserError(f"the regularisation lambda must be positive and finite, not {lam}")
