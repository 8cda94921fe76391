r"""Tables column by column, and how columns depend on each other.

For each column: the Kolmogorov-Smirnov distance :math:`\sup_t |F(t) - G(t)|` between its distribution functions; for
whole numbers and booleans of few values the total variation :math:`\tfrac12 \sum_v |P(v) - Q(v)|`; and the share of
values outside the range of the training data. For pairs of columns: the largest difference of their correlations.
"""

from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from wasserflow.metric.report import LOWER_IS_BETTER, Row

__all__ = ["column_rows", "correlation_difference", "total_variation"]

FEW_VALUES = 20


def column_rows(
    samples: np.ndarray, reference: np.ndarray, held_out: np.ndarray, train: np.ndarray, whole: bool
) -> tuple[Row, ...]:
    """The metrics of one column, each beside that of real data.

    Args:
        samples: Its values in samples, shape ``(N,)``, in the data's units.
        reference: In as many training rows.
        held_out: In the held-out rows that both are compared with; they are the reference of ``outside``, because
            training rows lie in their own range.
        train: In all training rows.
        whole: Whether it holds whole numbers or booleans.
    """
    found = {"ks": (_kolmogorov_smirnov(samples, held_out), _kolmogorov_smirnov(reference, held_out))}
    if whole and len(np.unique(train)) <= FEW_VALUES:
        found["total_variation"] = total_variation(samples, held_out), total_variation(reference, held_out)
    low, high = train.min(), train.max()
    beyond = [float(((x < low) | (x > high)).mean()) for x in (samples, held_out)]
    found["outside"] = beyond[0], beyond[1]
    return tuple(Row(name, value, real, LOWER_IS_BETTER[name]) for name, (value, real) in found.items())


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Half the sum of the differences between the shares of each value, in [0, 1]."""
    values, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    shares = [np.bincount(part, minlength=len(values)) / len(part) for part in np.split(codes, [len(a)])]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def correlation_difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference between the correlations of two columns in ``a`` and in ``b``, over all pairs.

    Args:
        a: Rows, shape ``(N, d)``, d >= 2.
        b: Rows, shape ``(M, d)``.

    Returns:
        A number in [0, 2]; a column that does not vary is taken as uncorrelated with all others.
    """
    return float(np.abs(_correlations(a) - _correlations(b)).max())


def _kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    statistic: Any = ks_2samp(a, b, method="asymp")[0]  # scipy has no types
    return float(statistic)


def _correlations(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    sd = centred.std(0)
    scaled = np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 0)
    return np.triu(scaled.T @ scaled / len(x), 1)
