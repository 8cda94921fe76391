"""Kernels: symmetric functions of two points, and the sums over pairs that every kernel flow is made of."""

from wasserflow.kernel.base import Custom, Kernel, Linear
from wasserflow.kernel.by_name import make_kernel
from wasserflow.kernel.radial import Energy, Gaussian, InverseMultiquadric, Laplace, RationalQuadratic

__all__ = [
    "Custom",
    "Energy",
    "Gaussian",
    "InverseMultiquadric",
    "Kernel",
    "Laplace",
    "Linear",
    "RationalQuadratic",
    "make_kernel",
]


def __dir__() -> list[str]:
    return __all__
