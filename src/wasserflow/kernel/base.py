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
"""

from collections.abc import Callable
from functools import reduce
from math import inf

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.pairs import tiles
from wasserflow.kernel.bandwidth import check_width

__all__ = ["Custom", "Kernel", "Linear", "as_kernel", "shown"]


class Kernel:
    """A symmetric function of two points; a subclass gives ``__call__``, and faster sums if it has them.

    A polynomial kernel, which an MMD flow can follow:

    .. code-block:: python

        class Polynomial(wf.Kernel):
            def __init__(self, degree: int) -> None:
                self.degree = degree

            def __call__(self, x: Tensor, y: Tensor) -> Tensor:  # (N, d), (M, d) -> (N, M)
                return (1 + x @ y.T) ** self.degree


        moved = wf.flow(x, wf.MMDField(y, Polynomial(3)), steps=500, step_size=0.01)

    """

    definite = True
    """Whether it is positive definite. The energy kernel is so on weights that sum to 0 only, which is enough for a
    discrepancy, but not for KALE, DrMMD and Stein flows."""
    invariant = False
    """Whether a discrepancy of two samples stays the same when both are shifted."""
    lipschitz = inf
    """A Lipschitz constant L of its gradient, infinite if none is known: the MMD flow lowers its energy at step sizes
    up to 2 / (3 L) (Arbel et al., 2019, arXiv 1906.04370)."""

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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={shown(v)}' for k, v in vars(self).items() if v is not None)})"

    def __add__(self, other: "Kernel") -> "Kernel":
        from wasserflow.kernel.mixture import mix

        return mix((1.0, self), (1.0, other))

    def __rmul__(self, factor: float) -> "Kernel":
        from wasserflow.kernel.mixture import mix

        return mix((check_width(float(factor)), self))  # type: ignore[arg-type]


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
    """A custom kernel, given as a function.

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


def as_kernel(given: Kernel | Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    """The kernel itself, or a `Custom` one of a function that gives Gram matrices."""
    return given if isinstance(given, Kernel) else Custom(given)


def shown(value: object) -> str:
    """A setting in a repr: numbers with the digits that a reader needs."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
