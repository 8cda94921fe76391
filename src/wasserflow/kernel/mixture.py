"""Sums of kernels, what ``k + l`` and ``c * k`` give."""

from functools import reduce

import torch
from torch import Tensor

from wasserflow.kernel.base import Kernel
from wasserflow.kernel.radial import Radial

__all__ = ["Mixture", "RadialMixture", "mix"]


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
        return mix(*((c, kernel.bind(particles, target, t)) for c, kernel in self.parts))


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
        return mix(*((c, kernel.bind(particles, target, t)) for c, kernel in self.parts))


def mix(*parts: tuple[float, Kernel]) -> Kernel:
    """The sum of the kernels, each times its factor; radial if all of them are."""
    radial = [(c, kernel) for c, kernel in parts if isinstance(kernel, Radial)]
    return RadialMixture(*radial) if len(radial) == len(parts) else Mixture(*parts)
