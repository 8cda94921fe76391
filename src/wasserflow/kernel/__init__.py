"""Kernels: symmetric functions of two points, and the sums over pairs that every kernel flow is made of."""

from wasserflow.kernel.base import Custom, Kernel, Linear
from wasserflow.kernel.radial import Energy, Gaussian, InverseMultiquadric, Laplace, Radial, RationalQuadratic

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
]
