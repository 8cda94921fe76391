"""The result of an evaluation: its metrics, how they were computed, and warnings."""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["DUE", "LOWER_IS_BETTER", "Report", "Row", "signs_of_collapse"]

FAR = 0.5
"""Share of the real-data reference below which recall or coverage is a sign of collapse."""

DUE = 0.1
"""Share of what real data have below which a class, or a mode, is missing."""

LOWER_IS_BETTER = {
    "frechet": True,
    "kernel": True,
    "sliced": True,
    "energy": True,
    "log_chamfer": True,
    "precision": False,
    "recall": False,
    "density": False,
    "coverage": False,
    "memorised": None,
    "modes": False,
    "high_quality": False,
    "smallest_class": False,
    "largest_class": True,
    "ks_mean": True,
    "ks_worst": True,
    "correlations": True,
    "ks": True,
    "total_variation": True,
    "outside": None,
}
"""Every metric; None where the value closest to the real-data reference is best."""


@dataclass(frozen=True)
class Row:
    """One metric.

    Args:
        name: A key of `LOWER_IS_BETTER`, or ``ratio_loss``.
        value: Its value for the samples.
        reference: Its value for real data: as many training samples, or held-out ones where training samples would
            be compared with themselves (``memorised``, ``outside``).
        lower_is_better: Whether lower is better; None if closest to the reference is best.
        error: Standard error of the value, where it is known.
        interval: 95 % interval of the value, where its error is known.
    """

    name: str
    value: float
    reference: float
    lower_is_better: bool | None
    error: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Report:
    """The result of `evaluate`, and how it was computed.

    Args:
        rows: The metrics.
        data: Name or path of the data.
        fingerprint: The data's fingerprint.
        split: The held-out split compared with.
        features: Name of the feature extractor.
        count: Samples on each side of every comparison.
        available: How many samples there were to choose from, and how many in each split.
        seed: Seed of every random choice.
        protocol: How the metrics were computed, in sentences.
        warnings: What to keep in mind when reading them.
        class_shares: Per class its share of samples and of held-out data, both by the classifier.
        columns: Metrics of each column of a table, by its name.
    """

    rows: tuple[Row, ...]
    data: str
    fingerprint: str
    split: str
    features: str
    count: int
    available: dict[str, int]
    seed: int
    protocol: str
    warnings: list[str] = field(default_factory=list)
    class_shares: dict[str, dict[str, float]] | None = None
    columns: dict[str, tuple[Row, ...]] | None = None

    def __getitem__(self, name: str) -> Row:
        """The row of that name."""
        return {row.name: row for row in self.rows}[name]

    def to_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)


def signs_of_collapse(rows: tuple[Row, ...], shares: dict[str, dict[str, float]] | None) -> list[str]:
    """One sentence on what real data have and the samples lack, or nothing.

    Args:
        rows: The metrics.
        shares: As in `Report`.
    """
    signs = [
        f"{row.name} is {row.value:.2g}, and {row.reference:.2g} for real data"
        for row in rows
        if row.name in ("recall", "coverage") and row.value < FAR * row.reference
    ]
    signs += [
        f"class {name} has {share['samples']:.1%} of the samples, and {share['real']:.1%} of real data"
        for name, share in (shares or {}).items()
        if share["samples"] < DUE * share["real"]
    ]
    return [f"Signs of collapse: {'; '.join(signs)}."] if signs else []
