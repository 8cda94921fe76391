r"""How wide a kernel should be: a number, a rule that looks at the points, or a function of the flow's time.

All widths are the sigma of ``exp(-|x - y|^2 / (2 sigma^2))``, with the 2 (published code often leaves it out: its
``exp(-|x - y|^2 / h)`` has sigma = sqrt(h / 2)). The rules:

* ``median``: the median distance between two different points of the pooled sample;
* ``median-log``: Stein variational gradient descent's own, ``h = median^2 / log(N + 1)``, that is
  ``sigma = median / sqrt(2 log(N + 1))``, among the particles alone;
* ``optimal``: the width at which the normalised Gaussian kernel pulls hardest between two Gaussians, `optimal_width`
  of the distance between the means and of the pooled standard deviation; at least a tenth of ``median``, because the
  formula gives 0 once the two overlap.

Rules look at up to 1,000 points of each side, taken evenly, and wait for no device.
"""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown

__all__ = ["RULES", "Bandwidth", "check_width", "median_distance", "optimal_width", "resolve"]

Bandwidth = float | str | Tensor | Callable[[float], float]

MOST = 1000


def median_distance(x: Tensor) -> Tensor:
    """The median distance between two different points of a sample (N, d), N >= 2: a 0-dimensional tensor.

    Points that coincide, as zeros do in counts, are not different.

    Raises:
        UserError: If there are fewer points.
    """
    if len(x) < 2:
        raise UserError("the median distance needs two points at least: give the bandwidth as a number")
    x = x[:: -(-len(x) // MOST)].detach()
    distance = torch.pdist(x)
    median = distance.masked_fill(distance == 0, torch.nan).nanmedian()
    return median.nan_to_num(0).clamp(min=torch.finfo(x.dtype).tiny ** 0.5)


def optimal_width(shift: Tensor | float, deviation: Tensor | float, d: int) -> Tensor:
    r""":math:`\alpha^* = \sqrt{\mathrm{ReLU}(|\mu|^2 / (d + 2) - 2 \sigma^2)}`.

    The alpha that makes :math:`|\nabla_\mu \mathrm{MMD}^2|` largest between N(0, sigma^2 I) and N(mu, sigma^2 I) for
    the *normalised* kernel :math:`\alpha^{-d} \exp(-|x - y|^2 / (2 \alpha^2))`: far particles want a wide kernel.

    References:
        Deep MMD Gradient Flow without adversarial training (Galashov, De Bortoli and Gretton, 2025), arXiv 2405.06780.
    """
    shift, deviation = torch.as_tensor(shift), torch.as_tensor(deviation)
    return (shift.square() / (d + 2) - 2 * deviation.square()).relu().sqrt()


def _median(particles: Tensor, target: Tensor) -> Tensor:
    step_x, step_y = (-(-len(x) // MOST) for x in (particles, target))
    return median_distance(torch.cat([particles[::step_x], target[::step_y].to(particles)]))


def _median_log(particles: Tensor, target: Tensor) -> Tensor:
    return median_distance(particles) / (2 * log(len(particles) + 1)) ** 0.5


def _optimal(particles: Tensor, target: Tensor) -> Tensor:
    shift = (particles.mean(0) - target.mean(0)).norm()
    variance = (particles.var(0, correction=0).mean() + target.var(0, correction=0).mean()) / 2
    return optimal_width(shift, variance.sqrt(), particles.shape[1]).maximum(_median(particles, target) / 10)


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "median": _median,
    "median-log": _median_log,
    "optimal": _optimal,
}


def check_width(width: Bandwidth) -> Bandwidth:
    """The bandwidth itself, or a `UserError` for a number that is not positive or a name that is no rule."""
    if isinstance(width, str) and width not in RULES:
        raise unknown("bandwidth rule", width, RULES)
    if isinstance(width, (int, float)) and not 0 < width < float("inf"):
        raise UserError(f"a bandwidth, length or exponent of a kernel must be positive and finite, not {width}")
    return width


def resolve(width: Bandwidth, particles: Tensor, target: Tensor, t: float | None) -> float | Tensor:
    """The width for these particles (N, d), this target (M, d) and this time."""
    if isinstance(width, str):
        return RULES[width](particles, target)
    if isinstance(width, Tensor) or not callable(width):
        return width
    if t is None:
        raise UserError("the bandwidth is a function of time: evaluate the field at a t")
    return check_width(float(width(t)))  # type: ignore[return-value]
