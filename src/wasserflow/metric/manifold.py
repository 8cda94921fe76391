r"""Quality and variety as separate metrics: precision and recall, density and coverage.

The support of a set of points is estimated by the union of balls around them; the radius of a ball is the distance to
the k-th nearest neighbour in the same set. With real points ``x_i`` (N), their radii ``r_i``, samples ``y_j`` (M) and
their radii ``s_j``:

- precision: the share of samples inside some real ball, ``mean_j any_i |y_j - x_i| <= r_i``;
- recall: the share of real points inside some sample's ball, ``mean_i any_j |x_i - y_j| <= s_j``;
- density: real balls around a sample, ``sum_ij [|y_j - x_i| <= r_i] / (k M)``; about 1 when the distributions
  agree, above 1 when samples crowd where real points are dense;
- coverage: the share of real balls that hold a sample, ``mean_i any_j |y_j - x_i| <= r_i``.

A single outlier with a large ball distorts precision and recall, but hardly density and coverage.

References:
    Improved Precision and Recall Metric for Assessing Generative Models (Kynkaanniemi et al., 2019),
    arXiv 1904.06991. Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020),
    arXiv 2002.09797.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wasserflow._core.pairs import squared_distances, stripes

__all__ = ["Manifold", "manifold", "radii"]


class Manifold(NamedTuple):
    """The four metrics of a set of samples against a set of real points."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(samples: Tensor, real: Tensor, *, k: int = 5) -> Manifold:
    """Precision, recall, density and coverage of samples against real points.

    Memory is bounded (stripes of the distance matrix); time is that of three products ``N x d x M``.

    Args:
        samples: Features, shape ``(M, d)``, M > k.
        real: Features, shape ``(N, d)``, N > k; compare at M = N.
        k: The neighbour that sets the radius of a ball.

    Returns:
        The four metrics; all but density lie in [0, 1].
    """
    # Centring keeps the matrix form of the squared distance accurate.
    centre = real.detach().double().mean(0)
    y, x = samples.detach().double() - centre, real.detach().double() - centre
    # Slightly larger, so that rounding does not put the k-th neighbour itself outside.
    real_radius, sample_radius = radii(x, k=k) * (1 + 1e-9), radii(y, k=k) * (1 + 1e-9)
    inside, recalled, covered = 0, x.new_zeros(len(x), dtype=torch.bool), x.new_zeros(len(x), dtype=torch.bool)
    balls = 0
    for rows in stripes(len(y), len(x)):
        squared = squared_distances(y[rows], x, ties=True)
        hit = squared <= real_radius
        inside += int(hit.any(1).sum())
        balls += int(hit.sum())
        covered |= hit.any(0)
        recalled |= (squared <= sample_radius[rows, None]).any(0)
    return Manifold(
        precision=inside / len(y),
        recall=recalled.double().mean().item(),
        density=balls / (k * len(y)),
        coverage=covered.double().mean().item(),
    )


def radii(x: Tensor, *, k: int = 5) -> Tensor:
    """Squared distance from each point to its k-th nearest neighbour in the same set, itself left out.

    Args:
        x: Points, shape ``(N, d)``, N > k.
        k: The neighbour.

    Returns:
        Squared radii, shape ``(N,)``.
    """
    if len(x) <= k:
        raise ValueError(f"the {k}-th neighbour of {len(x)} points does not exist")
    radius = x.new_empty(len(x))
    for rows in stripes(len(x), len(x)):
        # A point is its own nearest neighbour, so the k-th other one is the (k + 1)-th smallest.
        radius[rows] = squared_distances(x[rows], x, ties=True).topk(k + 1, largest=False, sorted=True).values[:, -1]
    return radius
