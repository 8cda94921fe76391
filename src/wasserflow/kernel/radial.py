"""Radial kernels, functions of ``s = |x - y|^2``: Gaussian, Laplace, inverse multiquadric, rational quadratic, energy.

One matrix product gives all distances of a tile, ``profile`` the values of the kernel, ``slope`` its derivative in s,
and one more product the gradient.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from math import inf, log2
from typing import Any

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.pairs import squared_distances, tiles
from wasserflow.kernel.bandwidth import Bandwidth, check_width, resolve
from wasserflow.kernel.base import Kernel, shown

__all__ = ["Energy", "Gaussian", "InverseMultiquadric", "Laplace", "Radial", "RationalQuadratic"]


class Radial(Kernel):
    """A function of the squared distance ``s = |x - y|^2``; a subclass gives ``profile`` and ``slope``.

    In float32 s errs by some 1e-6 of the points' squared distance from their mean: where what matters is finer than a
    hundredth of the clouds' width (s is then wrong by a per cent and more), give points in float64.
    """

    invariant = True
    bandwidth: Bandwidth | None = None
    smooth = True
    """Whether the profile is differentiable at s = 0; where it is not, a pair of equal points has no gradient."""

    def profile(self, s: Tensor) -> Tensor:
        """``k`` at squared distances ``s``, elementwise; differentiable twice."""
        raise NotImplementedError

    def slope(self, s: Tensor) -> Tensor:
        """``dk/ds``, elementwise, 0 at infinity; may overwrite ``s``."""
        raise NotImplementedError

    @property
    def lipschitz(self) -> float:  # type: ignore[override]
        """``-2 k'(0)``: the second derivative of a positive definite radial kernel is largest at the origin."""
        return -2 * self.slope(torch.zeros(1, dtype=torch.float64)).item() if self.smooth else inf

    @property
    def width(self) -> Any:
        """The bandwidth as a number, or a tensor with one."""
        if isinstance(self.bandwidth, (int, float, Tensor)):
            return self.bandwidth
        rule = repr(self.bandwidth) if isinstance(self.bandwidth, str) else "function of time"
        raise UserError(f"the bandwidth is the rule {rule}: use kernel.bind(particles, target, t) first")

    def bind(self, particles: Tensor, target: Tensor, t: float | None = None) -> Kernel:
        """The kernel with the bandwidth that its rule chooses for these points and this time."""
        if self.bandwidth is None or isinstance(self.bandwidth, (int, float, Tensor)):
            return self
        return type(self)(resolve(self.bandwidth, particles, target, t))  # type: ignore[call-arg]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The Gram matrix."""
        c = y.detach().mean(0)
        return self.profile(squared_distances(x - c, y - c, ties=not self.smooth))

    def diagonal(self, x: Tensor) -> Tensor:
        """``k(x, x)``, the same everywhere."""
        return self.profile(x.new_zeros(1)).expand(len(x))

    def combine(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """``sum_j w_j k(z_i, points_j)``, centred once for all tiles."""
        c = points.detach().mean(0)
        return super().combine(z - c, points - c, weights)

    def gradient(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        r""":math:`\sum_j 2 w_j k'(s_{ij}) (z_i - p_j)`: two matrix products and one ``slope`` per tile."""
        c = points.detach().mean(0)
        z, points, weights = z.detach() - c, points.detach() - c, 2 * weights.detach()
        # |x|^2 - 2 x.y + |y|^2 as one product, and sums over j with and without y_j as another.
        z2, points2 = z.square().sum(1, keepdim=True), points.square().sum(1, keepdim=True)
        if not self.smooth:
            z2 = z2 * (1 - 8 * torch.finfo(z.dtype).eps)  # equal points come out below 0
        left = torch.cat([z * -2, z2, torch.ones_like(z2)], 1)
        right = torch.cat([points, torch.ones_like(points2), points2], 1).T.contiguous()
        moments = torch.cat([points, torch.ones_like(points2)], 1) * weights[:, None]
        sums = z.new_zeros(len(z), z.shape[1] + 1)
        for rows, cols in tiles(len(z), len(points), z.device):
            s = left[rows] @ right[:, cols]
            # Rounding may leave s below 0. Two points that are one have no force: as if infinitely far apart.
            s = s.clamp_(min=0) if self.smooth else torch.threshold_(s, 0.0, inf)
            sums[rows].addmm_(self.slope(s), moments[cols])
        return sums[:, -1:] * z - sums[:, :-1]


class Gaussian(Radial):
    r"""``exp(-|x - y|^2 / (2 sigma^2))``, with the 2; several bandwidths give the sum of their kernels.

    Bandwidths that are each a power of two times the next, in sigma^2, cost one exponential together: a narrower kernel
    is the repeated square of a wider one.

    Args:
        bandwidth: sigma > 0, or several; a rule, or a function of the flow's time (`wasserflow.kernel.bandwidth`).
    """

    def __init__(self, bandwidth: Bandwidth | Sequence[float] = "median") -> None:
        several = isinstance(bandwidth, Sequence) and not isinstance(bandwidth, str)
        self.bandwidth = None if several else check_width(bandwidth)  # type: ignore[arg-type]
        self.widths: list[Any] = sorted(map(check_width, bandwidth), reverse=True) if several else []  # type: ignore
        if several and not self.widths:
            raise UserError("a Gaussian kernel needs at least one bandwidth")

    def __repr__(self) -> str:
        return f"Gaussian(bandwidth={shown(self.widths or self.bandwidth)})"

    def profile(self, s: Tensor) -> Tensor:
        """``sum_sigma exp(-s / (2 sigma^2))``."""
        rates = [0.5 / width**2 for width in self.widths or [self.width]]
        return reduce(torch.add, ((s * -rate).exp() for rate in rates))

    def slope(self, s: Tensor) -> Tensor:
        """``-sum_sigma exp(-s / (2 sigma^2)) / (2 sigma^2)``."""
        if not self.widths:
            rate = 0.5 / self.width**2
            return s.mul_(-rate).exp_().mul_(-rate)
        part = total = s
        for rate, squarings in self._rates():
            if squarings:
                for _ in range(squarings):
                    part.square_()
                total.add_(part, alpha=-rate)
            else:
                part = (s * -rate).exp_()
                total = part * -rate if total is s else total.add_(part, alpha=-rate)
        return total

    def _rates(self) -> Iterator[tuple[float, int]]:
        """``1 / (2 sigma^2)``, the widest kernel first, and how often the last is squared to give it; 0: it is not."""
        before = 0.0
        for width in self.widths:
            rate = 0.5 / width**2
            squarings = log2(rate / before) if before else 0.0
            whole = squarings <= 4 and abs(squarings - round(squarings)) < 1e-9
            yield rate, round(squarings) if whole else 0
            before = rate


class Laplace(Radial):
    """``exp(-|x - y| / sigma)``.

    Args:
        bandwidth: sigma > 0; a rule, or a function of the flow's time (`wasserflow.kernel.bandwidth`).
    """

    smooth = False

    def __init__(self, bandwidth: Bandwidth = "median") -> None:
        self.bandwidth = check_width(bandwidth)

    def profile(self, s: Tensor) -> Tensor:
        """``exp(-sqrt(s) / sigma)``."""
        return (_root(s) / -self.width).exp()

    def slope(self, s: Tensor) -> Tensor:
        """``-exp(-sqrt(s) / sigma) / (2 sigma sqrt(s))``."""
        root = s.sqrt_()
        return (root / -self.width).exp_().div_(root).div_(-2 * self.width)


class InverseMultiquadric(Radial):
    """``(c^2 + |x - y|^2)^(-1/2)``.

    Args:
        bandwidth: c > 0; a rule, or a function of the flow's time (`wasserflow.kernel.bandwidth`).
    """

    def __init__(self, bandwidth: Bandwidth = 1.0) -> None:
        self.bandwidth = check_width(bandwidth)

    def profile(self, s: Tensor) -> Tensor:
        """``(c^2 + s)^(-1/2)``."""
        return (s + self.width**2).rsqrt()

    def slope(self, s: Tensor) -> Tensor:
        """``-(c^2 + s)^(-3/2) / 2``."""
        inverse = s.add_(self.width**2).rsqrt_()
        return (inverse.square() * inverse).mul_(-0.5)


class RationalQuadratic(Radial):
    r"""``sum_alpha (1 + |x - y|^2 / (2 alpha l^2))^(-alpha)``, the mixture of the MMD GAN; a sum, not a mean.

    Args:
        alphas: Exponents > 0; the smaller, the heavier the tail.
        scale: The length l.

    References:
        Demystifying MMD GANs (Binkowski et al., 2018), arXiv 1801.01401.
    """

    def __init__(self, alphas: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0), scale: float = 1.0) -> None:
        if not alphas:
            raise UserError("a rational quadratic kernel needs at least one alpha")
        for value in (*alphas, scale):
            check_width(value)
        self.alphas, self.scale = tuple(alphas), scale

    def profile(self, s: Tensor) -> Tensor:
        """``sum_alpha (1 + s / (2 alpha l^2))^(-alpha)``."""
        return reduce(torch.add, ((self._log(s, a) * -a).exp() for a in self.alphas))

    def slope(self, s: Tensor) -> Tensor:
        """``-sum_alpha (1 + s / (2 alpha l^2))^(-alpha - 1) / (2 l^2)``."""
        total = reduce(torch.Tensor.add_, (self._log(s, a).mul_(-a - 1).exp_() for a in self.alphas))
        return total.mul_(-0.5 / self.scale**2)

    def _log(self, s: Tensor, alpha: float) -> Tensor:
        return (s / (2 * alpha * self.scale**2)).log1p()


class Energy(Radial):
    """``-|x - y|^r`` with 0 < r < 2, the energy distance's at r = 1 and Riesz' else: no bandwidth, and far reach.

    It is positive definite on weights that sum to zero only: it serves discrepancies and flows of samples.

    Args:
        r: The exponent.
    """

    definite = False
    smooth = False

    def __init__(self, r: float = 1.0) -> None:
        if not 0 < r < 2:
            raise UserError(f"the energy kernel -|x - y|^r needs 0 < r < 2, not r = {r}")
        self.r = float(r)

    def profile(self, s: Tensor) -> Tensor:
        """``-s^(r/2)``."""
        return -_root(s, self.r)

    def slope(self, s: Tensor) -> Tensor:
        """``-(r/2) s^(r/2 - 1)``."""
        return (s.rsqrt_() if self.r == 1 else s.pow_(self.r / 2 - 1)).mul_(-self.r / 2)


def _root(s: Tensor, r: float = 1.0) -> Tensor:
    """``s^(r/2)`` whose derivatives are 0, not infinite, at 0."""
    if not s.requires_grad:
        return s.pow(r / 2)
    apart = s > 0
    return torch.where(apart, s, 1).pow(r / 2) * apart
