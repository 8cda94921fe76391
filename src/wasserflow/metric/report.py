"""What an evaluation found: its rows, how they were made, and what they show."""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["DUE", "LOWER_IS_BETTER", "Report", "Row", "signs_of_collapse"]

FAR = 0.5  # of the floor, below which recall or coverage is a sign of collapse
DUE = 0.1  # of its share, below which a class, or a mode, is missing

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
}


@dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        name: A key of `LOWER_IS_BETTER`, or ``ratio_loss``.
        value: For the samples.
        floor: For as many real training samples; see the module's docstring for ``memorised``.
        lower_is_better: Which way is up; None where the floor itself is best.
        error: Standard error of the value, where it is known.
        interval: 95 % interval of the value, where its error is known.
    """

    name: str
    value: float
    floor: float
    lower_is_better: bool | None
    error: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Report:
    """What `evaluate` found, and how.

    Args:
        rows: The figures.
        data: What finds the data again.
        fingerprint: The data's fingerprint.
        split: The held-out split compared with.
        features: Name of the feature extractor.
        count: Samples on each side of every comparison.
        available: How many samples there were to choose from, and how many in each split.
        seed: Seed of every random choice.
        protocol: How the figures were made, in sentences.
        warnings: What to keep in mind when reading them.
        class_shares: Per class the share among samples and among held-out data, as the classifier sees both.
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

    def __getitem__(self, name: str) -> Row:
        """The row of that name."""
        return {row.name: row for row in self.rows}[name]

    def to_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}


def signs_of_collapse(rows: tuple[Row, ...], shares: dict[str, dict[str, float]] | None) -> list[str]:
    """One sentence with all that is missing from the samples and is there in real data, or nothing.

    Args:
        rows: The figures.
        shares: As in `Report`.
    """
    signs = [
        f"{row.name} is {row.value:.2g}, and {row.floor:.2g} for real data"
        for row in rows
        if row.name in ("recall", "coverage") and row.value < FAR * row.floor
    ]
    signs += [
        f"class {name} has {share['samples']:.1%} of the samples, and {share['real']:.1%} of real data"
        for name, share in (shares or {}).items()
        if share["samples"] < DUE * share["real"]
    ]
    return [f"Signs of collapse: {'; '.join(signs)}."] if signs else []
