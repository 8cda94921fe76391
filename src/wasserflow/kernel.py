r"""Kernels, and the two sums over pairs that every kernel flow is made of.

A kernel ``k`` is used in three ways:

* ``k(x, y)``, the Gram matrix ``(N, M)``, differentiable twice in both arguments;
* ``k.combine(z, points, weights)``, the function :math:`\sum_j w_j k(z_i, p_j)` of ``z``, with shape ``(N,)``: a mean
  embedding, or a witness when the weights have both signs (``k.mean`` is the case of equal weights);
* ``k.gradient(z, points, weights)``, its gradient in ``z``, with shape ``(N, d)``, without a graph.

Both sums go through the pairs in tiles: no array grows as ``N * M`` unless a graph is being recorded.

A radial kernel is a function of ``s = |x - y|^2``: one matrix product gives all distances of a tile, ``profile`` the
kernel's values, ``slope`` its derivative in s, and one more product the gradient. All functions take matrices of points
``(N, d)``; images are flattened by whoever calls.

``definite`` says whether a kernel is positive definite (the energy kernel is so on weights that sum to zero only, which
is enough for a discrepancy but not for a regression), ``invariant`` whether a discrepancy between two samples stays the
same when both are shifted, ``lipschitz`` is a Lipschitz constant L of its gradient: the MMD flow lowers its energy at
step sizes up to 2 / (3 L) (Arbel et al., 2019, arXiv 1906.04370).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from math import inf, isqrt, log2
from typing import Any

import torch
from torch import Tensor

from wasserflow.bandwidth import Bandwidth, check_width, resolve
from wasserflow.errors import UserError

__all__ = [
    "Custom",
    "Energy",
    "Gaussian",
    "InverseMultiquadric",
    "Kernel",
    "Laplace",
    "Linear",
    "Radial",
    "RationalQuadratic",
    "squared_distances",
    "tiles",
]


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
    size = 2**17 if device is None or device.type == "cpu" else 2**26
    height = max(1, min(n, isqrt(size) // 2))
    width = max(1, min(m, size // height))
    height = max(1, min(n, size // width))
    for column in range(0, m, width):
        for row in range(0, n, height):
            yield slice(row, min(row + height, n)), slice(column, min(column + width, m))


class Kernel:
    """A symmetric function of two points; a subclass gives ``__call__``, and the sums where it knows better."""

    definite = True
    invariant = False
    lipschitz = inf

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The Gram matrix ``k(x_i, y_j)``, with shape (N, M), of points (N, d) and (M, d)."""
        raise NotImplementedError

    def diagonal(self, x: Tensor) -> Tensor:
        """``k(x_i, x_i)``, with shape (N,)."""
        return torch.cat([self(part, part).diagonal() for part in x.split(64)])

    def mean(self, z: Tensor, points: Tensor, weights: Tensor | None = None) -> Tensor:
        """``sum_j w_j k(z_i, points_j)``, with shape (N,); the weights (M,) are 1/M where none are given."""
        return self.combine(z, points, points.new_full((len(points),), 1 / len(points)) if weights is None else weights)

    def combine(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """``sum_j w_j k(z_i, points_j)`` for weights (M,) of any sign, with shape (N,); differentiable.

        Weights (M, c) give c such sums, with shape (N, c).
        """
        columns: dict[int, list[Tensor]] = {}
        for rows, cols in tiles(len(z), len(points), z.device):
            columns.setdefault(cols.start, []).append(self(z[rows], points[cols]) @ weights[cols])
        return reduce(torch.add, (torch.cat(parts) for parts in columns.values()))

    def gradient(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """``sum_j w_j grad_z k(z_i, points_j)``, with shape (N, d), without a graph."""
        z, points, weights = z.detach(), points.detach(), weights.detach()
        total = torch.zeros_like(z)
        for rows, cols in tiles(len(z), len(points), z.device):
            part = z[rows].clone().requires_grad_()
            with torch.enable_grad():
                total[rows] += torch.autograd.grad((self(part, points[cols]) @ weights[cols]).sum(), part)[0]
        return total

    def bind(self, particles: Tensor, target: Tensor, t: float | None = None) -> "Kernel":
        """The kernel with the bandwidths that its rules choose for these points and this time."""
        return self

    def __add__(self, other: "Kernel") -> "Kernel":
        return _mix((1.0, self), (1.0, other))

    def __rmul__(self, factor: float) -> "Kernel":
        return _mix((check_width(float(factor)), self))  # type: ignore[arg-type]


class Linear(Kernel):
    """``k(x, y) = x . y``: compares means alone; every sum takes O(N + M)."""

    invariant = True
    lipschitz = 1.0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The Gram matrix."""
        return x @ y.T

    def diagonal(self, x: Tensor) -> Tensor:
        """``|x_i|^2``."""
        return x.square().sum(1)

    def combine(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """``z_i . sum_j w_j points_j``."""
        return z @ (points.T @ weights)

    def gradient(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """``sum_j w_j points_j``, the same everywhere."""
        return (weights @ points).detach().expand_as(z)


class Custom(Kernel):
    """A kernel of one's own.

    Args:
        function: ``function(x, y) -> (N, M)``, symmetric, made of differentiable torch operations.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The Gram matrix, checked for its shape."""
        gram = self.function(x, y)
        if gram.shape != (len(x), len(y)):
            raise UserError(f"the kernel gave shape {tuple(gram.shape)} for {len(x)} and {len(y)} points")
        return gram


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
        bandwidth: sigma > 0, or several; a rule, or a function of the flow's time (`wasserflow.bandwidth`).
    """

    def __init__(self, bandwidth: Bandwidth | Sequence[float] = "median") -> None:
        several = isinstance(bandwidth, Sequence) and not isinstance(bandwidth, str)
        self.widths: list[Any] = sorted(map(check_width, bandwidth), reverse=True) if several else []  # type: ignore
        self.bandwidth = None if several else check_width(bandwidth)  # type: ignore[arg-type]
        if several and not self.widths:
            raise UserError("a Gaussian kernel needs at least one bandwidth")

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
        bandwidth: sigma > 0; a rule, or a function of the flow's time (`wasserflow.bandwidth`).
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
        bandwidth: c > 0; a rule, or a function of the flow's time (`wasserflow.bandwidth`).
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


class Mixture(Kernel):
    """``sum_i c_i k_i(x, y)``, what ``k + l`` and ``c * k`` give."""

    def __init__(self, *parts: tuple[float, Kernel]) -> None:
        self.parts = parts
        self.definite = all(kernel.definite for _, kernel in parts)
        self.invariant = all(kernel.invariant for _, kernel in parts)

    @property
    def lipschitz(self) -> float:  # type: ignore[override]
        """The sum over the parts."""
        return sum(c * kernel.lipschitz for c, kernel in self.parts)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The Gram matrix."""
        return reduce(torch.add, (c * kernel(x, y) for c, kernel in self.parts))

    def diagonal(self, x: Tensor) -> Tensor:
        """The sum over the parts."""
        return reduce(torch.add, (c * kernel.diagonal(x) for c, kernel in self.parts))

    def combine(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """The sum over the parts."""
        return reduce(torch.add, (kernel.combine(z, points, c * weights) for c, kernel in self.parts))

    def gradient(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """The sum over the parts."""
        return reduce(torch.add, (kernel.gradient(z, points, c * weights) for c, kernel in self.parts))

    def bind(self, particles: Tensor, target: Tensor, t: float | None = None) -> Kernel:
        """Every part bound."""
        return _mix(*((c, kernel.bind(particles, target, t)) for c, kernel in self.parts))


class RadialMixture(Radial):
    """A mixture of radial kernels, which share the distances."""

    def __init__(self, *parts: tuple[float, Radial]) -> None:
        self.parts = parts
        self.definite = all(kernel.definite for _, kernel in parts)
        self.smooth = all(kernel.smooth for _, kernel in parts)

    def profile(self, s: Tensor) -> Tensor:
        """The sum over the parts."""
        return reduce(torch.add, (c * kernel.profile(s) for c, kernel in self.parts))

    def slope(self, s: Tensor) -> Tensor:
        """The sum over the parts."""
        return reduce(torch.Tensor.add_, (kernel.slope(s.clone()).mul_(c) for c, kernel in self.parts))

    def bind(self, particles: Tensor, target: Tensor, t: float | None = None) -> Kernel:
        """Every part bound."""
        return _mix(*((c, kernel.bind(particles, target, t)) for c, kernel in self.parts))


def _mix(*parts: tuple[float, Kernel]) -> Kernel:
    radial = [(c, kernel) for c, kernel in parts if isinstance(kernel, Radial)]
    return RadialMixture(*radial) if len(radial) == len(parts) else Mixture(*parts)


def _root(s: Tensor, r: float = 1.0) -> Tensor:
    """``s^(r/2)`` whose derivatives are 0, not infinite, at 0."""
    apart = s > 0
    return torch.where(apart, s, 1).pow(r / 2) * apart
