r"""Paths from noise (t = 0) to data (t = 1): ``x = mu(t) x1 + s(t) eps`` with ``eps ~ N(0, I)``.

Given ``x1``, x is Gaussian; over the data it has the density ``p_t``, which the ODE ``dx/dt = v(x, t)`` carries from
noise to data. With ``a = mu'/mu`` and ``b = s^2 (mu'/mu - s'/s)``

    ``v = a x + b grad log p_t = grad psi``,    ``psi = a |x|^2 / 2 + b log p_t + c(t)``,

so velocity, score, potential and log-density are one another's affine images at every t strictly between 0 and 1.
The innovation is ``d/dt log p(x | x1) = (mu'/s) x1.eps + (s'/s)(|eps|^2 - D)``: its mean given x1 is 0, and its mean
given x is ``d/dt log p_t(x)``.

============== =============== ================ ================================================================
name           mu              s                source
============== =============== ================ ================================================================
linear         t               1 - t            Flow Matching (Lipman et al., 2022), arXiv 2210.02747
vp             sin(pi t / 2)   cos(pi t / 2)    Stochastic Interpolants (Albergo et al., 2022), arXiv 2209.15571
log-homotopy   1 - e^(-k t)    w e^(-k t / 2)   Variational Potential Flow (Loo et al., 2024), arXiv 2407.15238
============== =============== ================ ================================================================
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf, log1p, pi

import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown

__all__ = [
    "Linear",
    "LogHomotopy",
    "Path",
    "VariancePreserving",
    "mean_and_deviation",
    "over",
    "path_named",
    "squared_norm",
]


def over(t: Tensor, x: Tensor) -> Tensor:
    """Times (N,), or one for all, so that they broadcast over points (N, *)."""
    return t if t.ndim == 0 else t.view(-1, *[1] * (x.ndim - 1))


def squared_norm(x: Tensor) -> Tensor:
    """``|x|^2`` of each point: (N, *) to (N,)."""
    return x.square().flatten(1).sum(1)


def mean_and_deviation(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of points (N, *shape), and one standard deviation for all dimensions, above 0."""
    mean = x.mean(0)
    return mean, (x - mean).square().mean().sqrt().clamp(min=1e-6)


class Path(ABC):
    """A Gaussian path from N(0, s(0)^2 I) to data.

    Throughout, ``x``, ``x1``, ``eps``, velocities and scores have shape (N, *), times (N,) or one for all, and
    potentials, log-densities and innovations (N,).
    """

    @abstractmethod
    def mu(self, t: Tensor) -> Tensor:
        """How much of the data point is in x; grows from 0 to about 1."""

    @abstractmethod
    def s(self, t: Tensor) -> Tensor:
        """How much noise is in x."""

    @abstractmethod
    def mu_dot(self, t: Tensor) -> Tensor:
        """``d mu / dt``."""

    @abstractmethod
    def s_dot(self, t: Tensor) -> Tensor:
        """``d s / dt``."""

    def a(self, t: Tensor) -> Tensor:
        """``mu'/mu``, the weight of x in the velocity; for t > 0."""
        return self.mu_dot(t) / self.mu(t)

    def b(self, t: Tensor) -> Tensor:
        """``s^2 (mu'/mu - s'/s)``, the weight of the score in the velocity; for t > 0."""
        s = self.s(t)
        return s * (s * self.a(t) - self.s_dot(t))

    def at(self, x1: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The point of the path: ``mu x1 + s eps``."""
        return over(self.mu(t), x1) * x1 + over(self.s(t), x1) * eps

    def velocity(self, x1: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The velocity given the data point, ``mu' x1 + s' eps``; its mean given x is ``v(x, t)``."""
        return over(self.mu_dot(t), x1) * x1 + over(self.s_dot(t), x1) * eps

    def innovation(self, x1: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """``d/dt log p(x | x1)``, in closed form and of mean 0 given x1; for s(t) > 0."""
        dot = (x1 * eps).flatten(1).sum(1)
        excess = squared_norm(eps) - eps[0].numel()
        return (self.mu_dot(t) * dot + self.s_dot(t) * excess) / self.s(t)

    def score_from_velocity(self, v: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``grad log p_t = (v - a x) / b``; for 0 < t < 1."""
        return (v - over(self.a(t), x) * x) / over(self.b(t), x)

    def velocity_from_score(self, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``v = a x + b grad log p_t``; for t > 0."""
        return over(self.a(t), x) * x + over(self.b(t), x) * score

    def log_density(self, psi: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``log p_t(x) = (psi - a |x|^2 / 2) / b`` up to a constant per time; for 0 < t < 1."""
        return (psi - self.a(t) * squared_norm(x) / 2) / self.b(t)

    def potential(self, log_density: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """``psi = a |x|^2 / 2 + b log p_t``, up to a constant per time; for t > 0."""
        return self.a(t) * squared_norm(x) / 2 + self.b(t) * log_density


@dataclass(frozen=True)
class Linear(Path):
    """``x = t x1 + (1 - t) eps``: straight lines."""

    def mu(self, t: Tensor) -> Tensor:
        """``t``."""
        return t

    def s(self, t: Tensor) -> Tensor:
        """``1 - t``."""
        return 1 - t

    def mu_dot(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def s_dot(self, t: Tensor) -> Tensor:
        """-1."""
        return -torch.ones_like(t)


@dataclass(frozen=True)
class VariancePreserving(Path):
    """``x = sin(pi t / 2) x1 + cos(pi t / 2) eps``: data of variance 1 keep it all along."""

    def mu(self, t: Tensor) -> Tensor:
        """``sin(pi t / 2)``."""
        return (pi / 2 * t).sin()

    def s(self, t: Tensor) -> Tensor:
        """``cos(pi t / 2)``."""
        return (pi / 2 * t).cos()

    def mu_dot(self, t: Tensor) -> Tensor:
        """``pi/2 cos(pi t / 2)``."""
        return pi / 2 * self.s(t)

    def s_dot(self, t: Tensor) -> Tensor:
        """``-pi/2 sin(pi t / 2)``."""
        return -pi / 2 * self.mu(t)


@dataclass(frozen=True)
class LogHomotopy(Path):
    r"""Bayes' rule switched on: ``p_t(x | x1)`` is proportional to ``N(x; 0, w^2 I) N(x1; x, nu^2 I)^tau``.

    So ``mu = tau w^2 / (nu^2 + tau w^2)`` and ``s^2 = w^2 nu^2 / (nu^2 + tau w^2)``. The exponent runs from 0 to 1
    as ``tau = (nu/w)^2 (e^(k t) - 1)`` with ``k = log(1 + w^2/nu^2)``: the precision of x grows by the same factor in
    equal times, ``mu = 1 - e^(-k t)`` and ``s = w e^(-k t / 2)``. It ends at data shrunk by ``1 / (1 + (nu/w)^2)`` and
    blurred by about nu.

    "Variational Potential Flow" (Loo et al., 2024), arXiv 2407.15238.

    Args:
        w: Standard deviation of the prior, the noise at t = 0.
        nu: Standard deviation of the likelihood, about that of the noise left at t = 1.

    Raises:
        UserError: If a width is not above 0 and finite.
    """

    w: float = 1.0
    nu: float = 0.01

    def __post_init__(self) -> None:
        for name in ("w", "nu"):
            if not 0 < getattr(self, name) < inf:
                raise UserError(f"the path's width {name} must be a finite number above 0, not {getattr(self, name)}")

    @property
    def k(self) -> float:
        """How fast the precision grows: ``log(1 + w^2/nu^2)``."""
        return log1p((self.w / self.nu) ** 2)

    def mu(self, t: Tensor) -> Tensor:
        """``1 - e^(-k t)``."""
        return -torch.expm1(-self.k * t)

    def s(self, t: Tensor) -> Tensor:
        """``w e^(-k t / 2)``."""
        return self.w * (-self.k / 2 * t).exp()

    def mu_dot(self, t: Tensor) -> Tensor:
        """``k e^(-k t)``."""
        return self.k * (-self.k * t).exp()

    def s_dot(self, t: Tensor) -> Tensor:
        """``-k/2 s``."""
        return -self.k / 2 * self.s(t)


def path_named(name: str, w: float = 1.0, nu: float = 0.01) -> Path:
    """The path called ``linear``, ``vp``, or ``log-homotopy`` with these widths.

    Raises:
        UserError: If there is none of that name, or a width is out of range.
    """
    paths = {"linear": Linear(), "vp": VariancePreserving(), "log-homotopy": LogHomotopy(w, nu)}
    if name not in paths:
        raise unknown("path", name, paths)
    return paths[name]
