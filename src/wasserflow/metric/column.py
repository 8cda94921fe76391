r"""Tables column by column, and how columns depend on each other.

For each column: the Kolmogorov-Smirnov distance :math:`\sup_t |F(t) - G(t)|` between its distribution functions; for
whole numbers and booleans of few values the total variation :math:`\tfrac12 \sum_v |P(v) - Q(v)|`; and the share of
values outside the range of the training data. For pairs of columns: the largest difference of their correlations.
"""

import numpy as np

from wasserflow.data.dataset import Form
from wasserflow.metric.report import LOWER_IS_BETTER, Row

__all__ = ["compare_columns", "correlation_difference", "summary", "total_variation"]

FEW_VALUES = 20


def compare_columns(
    form: Form, samples: np.ndarray, reference: np.ndarray, held_out: np.ndarray, train: np.ndarray
) -> dict[str, tuple[Row, ...]]:
    """The metrics of each column of a table, by its name, each beside that of real data.

    Args:
        form: The form of the table.
        samples: Rows in the data's units, shape ``(N, d)``.
        reference: As many training rows.
        held_out: The rows that both are compared with. They are also the reference of ``outside``, because training
            rows lie in their own range.
        train: All training rows.
    """
    kinds = form.dtypes if len(form.dtypes) == form.shape[0] else form.dtypes * form.shape[0]
    sides = (samples, reference, held_out, train)
    return {
        name: _column(*(rows[:, i] for rows in sides), whole=np.dtype(kinds[i]).kind in "iub")
        for i, name in enumerate(form.columns or ())
    }


def summary(
    columns: dict[str, tuple[Row, ...]], samples: np.ndarray, reference: np.ndarray, held_out: np.ndarray
) -> list[Row]:
    """The metrics of a whole table: mean and worst Kolmogorov-Smirnov distance, and the difference of correlations."""
    distances = [row for rows in columns.values() for row in rows if row.name == "ks"]
    values, real = [row.value for row in distances], [row.reference for row in distances]
    found = {"ks_mean": (float(np.mean(values)), float(np.mean(real))), "ks_worst": (max(values), max(real))}
    if len(columns) > 1:
        found["correlations"] = (
            correlation_difference(samples, held_out),
            correlation_difference(reference, held_out),
        )
    return [Row(name, value, real, LOWER_IS_BETTER[name]) for name, (value, real) in found.items()]


def _column(
    samples: np.ndarray, reference: np.ndarray, held_out: np.ndarray, train: np.ndarray, *, whole: bool
) -> tuple[Row, ...]:
    """The metrics of one column; ``whole`` says whether it holds whole numbers or booleans."""
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
    values = np.concatenate([a, b])
    shares = [np.searchsorted(np.sort(x), values, side="right") / len(x) for x in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def _correlations(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    sd = centred.std(0)
    scaled = np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 0)
    return np.triu(scaled.T @ scaled / len(x), 1)
