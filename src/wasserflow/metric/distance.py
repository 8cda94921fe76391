r"""Distances between two samples of feature vectors.

Each asks how far the distributions behind ``a`` ``(N, d)`` and ``b`` ``(M, d)`` are from each other, through
something different that both must share: mean and covariance (`frechet`), polynomial moments up to the third
(`kernel_distance`), every one-dimensional projection (`sliced_wasserstein`), all pairwise distances
(`energy_distance`), or the nearest neighbours (`log_chamfer`). Values are float64 whatever the features' type, and no
array grows as ``N * M``: pairs are visited in parts.
"""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from wasserflow._core.pairs import STRIPE, stripes
from wasserflow.discrepancy.mmd import mmd_squared
from wasserflow.kernel.radial import Energy

__all__ = [
    "Estimate",
    "energy_distance",
    "frechet",
    "kernel_distance",
    "log_chamfer",
    "nearest",
    "sliced_wasserstein",
]


class Estimate(NamedTuple):
    """A metric's value, its standard error, and the least and greatest value that it can take."""

    value: float
    error: float
    bounds: tuple[float, float] = (-inf, inf)

    @property
    def interval(self) -> tuple[float, float]:
        """The normal 95 % interval, 1.96 standard errors to each side, within the bounds."""
        reach, (least, most) = 1.96 * self.error, self.bounds
        return max(self.value - reach, least), min(self.value + reach, most)


def frechet(a: Tensor, b: Tensor) -> float:
    r"""Squared Frechet (2-Wasserstein) distance between the Gaussians fitted to two samples.

    .. math:: |\mu_a - \mu_b|^2 + \mathrm{tr}(S_a + S_b - 2 (S_a S_b)^{1/2})

    with unbiased covariances. They are never formed: for centred data :math:`A = Q R` the covariance is
    :math:`R^T R`, and the trace of the root is the sum of the singular values of :math:`R_a R_b^T`. Nothing is
    squared and no root of a noisy zero is taken, so rank-deficient sets (fewer points than dimensions, constant
    features) lose no accuracy.

    Args:
        a: Features, shape ``(N, d)``, N >= 2.
        b: Features, shape ``(M, d)``, M >= 2.

    Returns:
        The distance, at least 0, in squared feature units. It is biased upward by about 1/N.

    References:
        GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
        (Heusel et al., 2017), arXiv 1706.08500.
    """
    a, b = _pair(a, b, least=2)
    shift = a.mean(0) - b.mean(0)
    root_a, root_b = _root(a), _root(b)
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    value = shift.square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * overlap
    return max(value.item(), 0.0)


def kernel_distance(a: Tensor, b: Tensor) -> Estimate:
    r"""Unbiased squared MMD with the cubic kernel of the kernel inception distance.

    .. math:: \overline{k(a_i, a_j)}_{i \ne j} + \overline{k(b_i, b_j)}_{i \ne j} - 2\,\overline{k(a_i, b_j)},
              \qquad k(x, y) = (x \cdot y / d + 1)^3

    over *all* pairs, where the usual average over random subsets estimates the same number with more noise. The
    standard error is the jackknife's (every point left out in turn); near equality, where the statistic is
    degenerate, it errs on the large side.

    Args:
        a: Features, shape ``(N, d)``, N >= 3.
        b: Features, shape ``(M, d)``, M >= 3.

    Returns:
        Value, about 0 and possibly negative for equal distributions, and its standard error.

    References:
        Demystifying MMD GANs (Binkowski et al., 2018), arXiv 1801.01401.
        The Jackknife Estimate of Variance (Efron and Stein, 1981).
    """
    a, b = _pair(a, b, least=3)
    n, m, d = len(a), len(b), a.shape[1]
    within_a, within_b, across_a = a.new_zeros(n), b.new_zeros(m), a.new_zeros(n)
    across_b = b.new_zeros(m)
    for rows in stripes(n, m):
        gram = _cubic(a[rows], b, d)
        across_a[rows] = gram.sum(1)
        across_b += gram.sum(0)
    for x, sums in ((a, within_a), (b, within_b)):
        for rows in stripes(len(x), len(x)):
            sums[rows] = _cubic(x[rows], x, d).sum(1)
        sums -= (x.square().sum(1) / d + 1) ** 3
    total_a, total_b, total = within_a.sum(), within_b.sum(), across_a.sum()
    mean_a, mean_b, mean = total_a / (n * (n - 1)), total_b / (m * (m - 1)), total / (n * m)
    # The statistic without point i of a, for every i at once; then the same for b.
    without_a = (total_a - 2 * within_a) / ((n - 1) * (n - 2)) - 2 * (total - across_a) / ((n - 1) * m)
    without_b = (total_b - 2 * within_b) / ((m - 1) * (m - 2)) - 2 * (total - across_b) / ((m - 1) * n)
    variance = (n - 1) * without_a.var(correction=0) + (m - 1) * without_b.var(correction=0)
    return Estimate((mean_a + mean_b - 2 * mean).item(), variance.sqrt().item())


def sliced_wasserstein(a: Tensor, b: Tensor, *, projections: int = 512, seed: int = 0) -> float:
    r"""Sliced 2-Wasserstein distance: the root of the mean squared W2 between one-dimensional projections.

    .. math:: \Big( \frac{1}{L} \sum_{l=1}^{L} W_2^2(\theta_l^T a, \theta_l^T b) \Big)^{1/2},
              \qquad |\theta_l| = 1

    Between projections W2 is exact, for unequal counts too (the L2 distance between the quantile functions). No
    factor makes up for the dimension: a translation by ``c`` is at the distance ``|c| / sqrt(d)``, exactly so
    when ``projections`` is a multiple of ``d``, because directions are drawn as random orthonormal bases.

    Args:
        a: Features, shape ``(N, d)``.
        b: Features, shape ``(M, d)``.
        projections: Number of directions, L.
        seed: Seed of the directions.

    Returns:
        The distance, in feature units.

    References:
        Sliced and Radon Wasserstein Barycenters of Measures (Bonneel et al., 2015).
        Orthogonal Estimation of Wasserstein Distances (Rowland et al., 2019), arXiv 1903.03784.
    """
    a, b = _pair(a, b, least=1)
    n, m, d = len(a), len(b), a.shape[1]
    rng = torch.Generator().manual_seed(seed)
    bases = [torch.randn(d, d, generator=rng, dtype=torch.float64) for _ in range(-(-projections // d))]
    directions = torch.cat([torch.linalg.qr(basis).Q for basis in bases], 1)[:, :projections].to(a.device)
    # Quantile functions are steps; between two neighbouring jumps of either both are constant. In units of
    # 1/(nm) the jumps are integers, so the grid is exact.
    jumps = torch.cat([torch.arange(n, device=a.device) * m, torch.arange(m, device=a.device) * n]).unique()
    weight = torch.diff(jumps, append=jumps.new_tensor([n * m])).double() / (n * m)
    squared = 0.0
    for block in directions.split(max(1, STRIPE // (n + m)), 1):
        projected_a = (a @ block).T.contiguous().sort(-1).values[:, jumps // m]
        projected_b = (b @ block).T.contiguous().sort(-1).values[:, jumps // n]
        squared += ((projected_a - projected_b).square() @ weight).sum().item()
    return (squared / projections) ** 0.5


def energy_distance(x: Tensor, y: Tensor, weights: Tensor | None = None) -> float:
    r"""Energy distance :math:`2 E|X - Y| - E|X - X'| - E|Y - Y'|` with Euclidean norms.

    Means over pairs of *different* points estimate the last two terms (the U-statistic), so the value is unbiased:
    about 0, and possibly a little negative, for equal distributions. It is the square of what
    ``scipy.stats.energy_distance`` estimates in one dimension.

    Args:
        x: Points, shape ``(N, d)``, N >= 2.
        y: Points, shape ``(M, d)``, M >= 2, or with weights M >= 1.
        weights: Of y, shape ``(M,)``, non-negative with sum 1; equal by default.

    Returns:
        The distance, in units of the points.

    References:
        Energy statistics: A class of statistics based on distances (Szekely and Rizzo, 2013).
    """
    x, y = _pair(x, y, least=2 if weights is None else 1)
    return mmd_squared(x, y, Energy(), True, None if weights is None else weights.to(y)).item()


def log_chamfer(x: Tensor, y: Tensor) -> float:
    r"""Log of the Chamfer distance between two sets of points.

    .. math:: \log \Big( \tfrac1N \sum_i \min_j |x_i - y_j| + \tfrac1M \sum_j \min_i |x_i - y_j| \Big)

    Both sets must lie on each other's support; how much of the points lies where does not count.

    Args:
        x: Points, shape ``(N, d)``, N >= 1.
        y: Points, shape ``(M, d)``, M >= 1.

    Returns:
        The logarithm, ``-inf`` for equal sets. It falls as the counts grow: compare at equal counts.

    References:
        A Point Set Generation Network for 3D Object Reconstruction from a Single Image (Fan, Su and Guibas, 2016),
        arXiv 1612.00603; its logarithm is the monitor of the published 2-D experiments of Deep Generative Learning
        via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469.
    """
    x, y = _pair(x, y, least=1)
    return (nearest(x, [y]).mean() + nearest(y, [x]).mean()).log().item()


def nearest(x: Tensor, blocks: Iterable[Tensor]) -> Tensor:
    """Distance from each point to the nearest of a set that comes in blocks, and need never be in memory at once.

    The nearest point is sought by a matrix product; the distance to it is then taken from the difference, so that a
    point that is in the set has the distance 0.

    Args:
        x: Points, shape ``(N, d)``.
        blocks: The parts ``(m, d)`` of the set, on the same device.

    Returns:
        Distances, float64, shape ``(N,)``.
    """
    x = x.double()
    centre = x.mean(0)  # keeps the matrix form of the squared distance accurate
    x = x - centre
    least, distance = x.new_full((len(x),), inf), x.new_full((len(x),), inf)
    for block in blocks:
        y = block.double() - centre
        y2 = y.square().sum(1)
        for rows in stripes(len(x), len(y)):
            relative, found = torch.addmm(y2[None], x[rows], y.T, alpha=-2).min(1)  # to |x|^2
            closer = (relative < least[rows]).nonzero().flatten()
            least[rows] = torch.minimum(least[rows], relative)
            distance[rows][closer] = (x[rows][closer] - y[found[closer]]).norm(dim=1)
    return distance


def _pair(a: Tensor, b: Tensor, least: int) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"two sets of vectors of one length are compared, not {tuple(a.shape)}, {tuple(b.shape)}")
    if min(len(a), len(b)) < least:
        raise ValueError(f"at least {least} points on each side are needed, not {len(a)} and {len(b)}")
    return a.detach().double(), b.detach().double()


def _root(x: Tensor) -> Tensor:
    """R with ``R.T @ R`` the covariance of ``x``."""
    return torch.linalg.qr(x - x.mean(0), mode="r").R / (len(x) - 1) ** 0.5


def _cubic(x: Tensor, y: Tensor, d: int) -> Tensor:
    inner = (x @ y.T).div_(d).add_(1)
    return inner * inner.square()
