"""Sets of points: flattened, checked, and in double precision where the device has it."""

from torch import Tensor

from wasserflow._core.errors import UserError

__all__ = ["check_finite", "flat", "wide"]


def flat(points: Tensor) -> Tensor:
    """Points (N, *) as vectors (N, d), without a graph."""
    return points.detach().flatten(1)


def check_finite(points: Tensor, whose: str) -> None:
    """Raise a `UserError` that names the first of the points (N, *) that is not finite."""
    if points.is_floating_point() and not points.isfinite().all():
        row = int((~points.flatten(1).isfinite().all(1)).nonzero()[0])
        raise UserError(f"{whose} holds a number that is not finite in row {row}: fill it in or leave the row out")


def wide(x: Tensor) -> Tensor:
    """``x`` as float64; as float32 on Apple's GPUs, which have nothing wider."""
    return x.float() if x.device.type == "mps" else x.double()
