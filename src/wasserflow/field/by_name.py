"""Fields by name, and which settings each takes."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Literal

from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow._core.points import Points
from wasserflow.field.base import Field
from wasserflow.field.learned_ratio import LearnedRatioField
from wasserflow.field.of_samples import DrMMDField, KALEField, MMDField, SlicedField
from wasserflow.field.of_score import KSDField, SVGDField
from wasserflow.kernel.bandwidth import Bandwidth
from wasserflow.kernel.base import Kernel
from wasserflow.kernel.by_name import KERNELS, make_kernel
from wasserflow.kernel.radial import Energy

__all__ = ["FIELDS", "FieldRow", "check_settings", "default_of", "make_field", "takers"]

POINTS = ("batch", "seed")
KERNEL = ("kernel", "bandwidth", "r")


@dataclass(frozen=True)
class FieldRow:
    """A field of the table.

    Args:
        make: Gives the field, from the target and the settings as keywords.
        about: What it is, in a few words.
        settings: Names of the settings that it takes.
        target: Whether the target is given by points, or by its density or score.
        kernel: Name of the kernel it has by default, if it has one to choose.
        bandwidth: The bandwidth of its kernel by default.
        images: Whether it moves images too, not vectors only.
    """

    make: Callable[..., Field]
    about: str
    settings: tuple[str, ...]
    target: Literal["points", "density"] = "points"
    kernel: str | None = None
    bandwidth: Bandwidth = "median"
    images: bool = True


def _energy(target: Points, *, r: float = 1.0, **samples: object) -> Field:
    return MMDField(target, Energy(r), **samples)  # type: ignore[arg-type]


FIELDS = {
    "energy": FieldRow(_energy, "energy distance over all pairs, no bandwidth", ("r", "weights", *POINTS)),
    "sliced": FieldRow(SlicedField, "energy distance by sorting, for many points", ("slices", "weights", *POINTS)),
    "mmd": FieldRow(MMDField, "MMD of a kernel", (*KERNEL, "weights", *POINTS), kernel="gaussian"),
    "kale": FieldRow(KALEField, "KALE, near KL", ("lam", *KERNEL, "weights", *POINTS), kernel="gaussian"),
    "drmmd": FieldRow(
        DrMMDField, "DrMMD, near chi^2", ("lam", "adaptive", *KERNEL, "weights", *POINTS), kernel="gaussian"
    ),
    "ratio": FieldRow(
        LearnedRatioField, "density ratio that a classifier learns on the way", ("divergence", *POINTS), images=False
    ),
    "svgd": FieldRow(
        SVGDField, "Stein variational gradient descent", KERNEL, "density", kernel="gaussian", bandwidth="median-log"
    ),
    "ksd": FieldRow(KSDField, "kernel Stein discrepancy", KERNEL, "density", kernel="imq", bandwidth=1.0),
}
"""A new field needs a line here, and has its name in Python, on the command line and in every list of names."""


def make_field(
    name: str,
    target: Points | Callable[[Tensor], Tensor],
    *,
    kernel: Kernel | Callable[[Tensor, Tensor], Tensor] | str | None = None,
    bandwidth: Bandwidth | Sequence[float] | None = None,
    r: float | None = None,
    lam: float | None = None,
    adaptive: bool | None = None,
    slices: int | None = None,
    divergence: str | None = None,
    weights: Points | None = None,
    batch: int | None = None,
    seed: int | None = None,
) -> Field:
    """The field with this name.

    Args:
        name: A key of `FIELDS`.
        target: Points (M, *); for svgd and ksd a function of points (N, d) that gives the score (N, d) or the log
            density (N,).
        kernel: A kernel, a function that gives Gram matrices, or a name for `wasserflow.kernel.make_kernel`.
        bandwidth: Of a kernel given by name.
        r: Exponent of the energy kernel.
        lam: Regularisation lambda.
        adaptive: Whether lambda shrinks as the particles come near.
        slices: Directions per step.
        divergence: Row of `wasserflow.divergence`, by name.
        weights: Of the target's points, shape (M,).
        batch: Number of target points drawn afresh for each step.
        seed: Random seed of every choice.

    What is None has the field's own default.

    Raises:
        UserError: If there is no such field, or it does not take a setting that is given.
    """
    given = {
        "kernel": kernel,
        "bandwidth": bandwidth,
        "r": r,
        "lam": lam,
        "adaptive": adaptive,
        "slices": slices,
        "divergence": divergence,
        "weights": weights,
        "batch": batch,
        "seed": seed,
    }
    settings = {setting: value for setting, value in given.items() if value is not None}
    check_settings(name, settings)
    if FIELDS[name].kernel:
        settings["kernel"] = _kernel(FIELDS[name], kernel, settings.pop("bandwidth", None), settings.pop("r", None))
    return FIELDS[name].make(target, **settings)


def check_settings(name: str, settings: Collection[str]) -> None:
    """Raise a `UserError` unless there is a field with this name that takes all these settings."""
    if name not in FIELDS:
        raise unknown("field", name, FIELDS)
    for setting in settings:
        if setting not in FIELDS[name].settings:
            some = ", ".join(takers(setting))
            raise UserError(
                f"`{setting}` is for the field {some}, not for {name}: leave it out or take another `field`"
            )


def takers(setting: str) -> list[str]:
    """The names of the fields that take a setting."""
    return [name for name, row in FIELDS.items() if setting in row.settings]


def default_of(setting: str) -> object:
    """What a setting is if it is not given, which is the same for all fields that take it."""
    return signature(FIELDS[takers(setting)[0]].make).parameters[setting].default


def _kernel(
    row: FieldRow,
    kernel: Kernel | Callable[[Tensor, Tensor], Tensor] | str | None,
    bandwidth: Bandwidth | Sequence[float] | None,
    r: float | None,
) -> Kernel | Callable[[Tensor, Tensor], Tensor]:
    if kernel is not None and not isinstance(kernel, str):
        if bandwidth is not None or r is not None:
            raise UserError("`bandwidth` and `r` are for a kernel given by its name: set them in the kernel itself")
        return kernel
    name = kernel or row.kernel or ""
    if bandwidth is None and name in KERNELS and KERNELS[name].setting == "bandwidth":
        bandwidth = row.bandwidth
    return make_kernel(name, bandwidth=bandwidth, r=r)
