r"""Whether samples are copies of training data.

A model that copies puts its samples nearer to the training points than new data would lie. With T the training set and
``d(x) = min_{t in T} |x - t|``, samples x ~ q are compared with held-out points h ~ p by

.. math:: P\big(d(x) < d(h)\big) + \tfrac12 P\big(d(x) = d(h)\big),

the Mann-Whitney statistic of the two sets of distances: 0.5 if samples are as far from the training points as new data
are, towards 1 if they are copies, below 0.5 if they are farther from the training points. It is one number for the
whole space (the paper also computes it per cell), and grows with the share of copies: a sampler that copies one sample
in ten and draws the others from p has the value 0.55.

References:
    A Non-Parametric Test to Detect Data-Copying in Generative Models (Meehan, Chaudhuri and Dasgupta, 2020),
    arXiv 2004.05675; theirs is the other tail, 1 minus this. Comparing the Areas under Two or More Correlated Receiver
    Operating Characteristic Curves (DeLong, DeLong and Clarke-Pearson, 1988), for the error.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from wasserflow.metric.distance import Estimate, nearest

__all__ = ["mann_whitney", "memorised"]


def memorised(samples: Tensor, held_out: Tensor, train: Tensor | Iterable[Tensor]) -> Estimate:
    """The probability that a sample lies nearer to its nearest training point than a held-out point to its own.

    Args:
        samples: Features, shape ``(N, d)``.
        held_out: Features of data that were not trained on, shape ``(M, d)``.
        train: Features of the training data, shape ``(T, d)``, or blocks of them.

    Returns:
        The probability, ties counted as half, and its standard error given the training set.
    """
    blocks = [train] if isinstance(train, Tensor) else train
    near = nearest(torch.cat([samples, held_out]), blocks)
    return mann_whitney(near[: len(samples)], near[len(samples) :])


def mann_whitney(a: Tensor, b: Tensor) -> Estimate:
    """Estimate of ``P(A < B) + P(A = B)/2`` from independent draws.

    Args:
        a: Draws of A, shape ``(N,)``, N >= 2.
        b: Draws of B, shape ``(M,)``, M >= 2.

    Returns:
        The probability and its standard error (DeLong's, ``var_i P(a_i < B) / N + var_j P(A < b_j) / M``).
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"at least 2 draws on each side are needed, not {len(a)} and {len(b)}")
    of_a, of_b = 1 - _below(b, a), _below(a, b)
    variance = of_a.var() / len(a) + of_b.var() / len(b)
    return Estimate(of_a.mean().item(), variance.sqrt().item(), (0.0, 1.0))


def _below(population: Tensor, x: Tensor) -> Tensor:
    """The share of the population that lies below each x, ties counted as half."""
    population = population.sort().values
    count = torch.searchsorted(population, x) + torch.searchsorted(population, x, right=True)
    return count.double() / (2 * len(population))
