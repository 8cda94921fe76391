"""Kernels by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wasserflow._core.errors import UserError, unknown
from wasserflow.kernel.bandwidth import Bandwidth
from wasserflow.kernel.base import Kernel, Linear
from wasserflow.kernel.radial import Energy, Gaussian, InverseMultiquadric, Laplace, RationalQuadratic

__all__ = ["KERNELS", "KernelRow", "make_kernel"]


@dataclass(frozen=True)
class KernelRow:
    """A kernel of the table.

    Args:
        make: Gives the kernel, from the one setting that it takes.
        about: What it is, in a few words.
        setting: ``bandwidth``, ``r``, or None for a kernel without settings.
        several: Whether it takes several bandwidths.
    """

    make: Callable[..., Kernel]
    about: str
    setting: str | None = None
    several: bool = False


KERNELS = {
    "gaussian": KernelRow(Gaussian, "exp(-d^2 / (2 sigma^2))", "bandwidth", several=True),
    "laplace": KernelRow(Laplace, "exp(-d / sigma)", "bandwidth"),
    "imq": KernelRow(InverseMultiquadric, "inverse multiquadric, (sigma^2 + d^2)^(-1/2)", "bandwidth"),
    "rq": KernelRow(RationalQuadratic, "mixture of rational quadratic kernels"),
    "energy": KernelRow(Energy, "-d^r", "r"),
    "linear": KernelRow(Linear, "x . y, which compares means only"),
}
"""A new kernel needs a line here, and has its name in Python, on the command line and in every list of names."""


def make_kernel(name: str, *, bandwidth: Bandwidth | Sequence[float] | None = None, r: float | None = None) -> Kernel:
    """The kernel with this name.

    Args:
        name: A key of `KERNELS`.
        bandwidth: sigma of a gaussian, laplace or imq kernel: a number, several (gaussian), a rule, or a function of
            the flow's time; None: the kernel's default.
        r: Exponent of the energy kernel, 0 < r < 2; None: 1.

    Raises:
        UserError: If there is no such kernel, or it does not take the setting.
    """
    if name not in KERNELS:
        raise unknown("kernel", name, KERNELS)
    row, given = KERNELS[name], {"bandwidth": bandwidth, "r": r}
    settings = {key: value for key, value in given.items() if value is not None}
    for key in settings:
        if key != row.setting:
            takers = ", ".join(other for other, its in KERNELS.items() if its.setting == key)
            raise UserError(f"the kernel {name} has no `{key}`: leave it out, or take one of: {takers}")
    if isinstance(bandwidth, Sequence) and not isinstance(bandwidth, str) and not row.several:
        raise UserError(f"the kernel {name} takes one bandwidth, not {len(bandwidth)}")
    return row.make(**settings)
