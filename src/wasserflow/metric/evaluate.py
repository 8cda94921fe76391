"""Samples against held-out data, with real data against the same held-out data beside every figure.

A distance between finite samples has no natural zero: its bias and scatter depend on counts, features and data.
So each figure stands beside its *floor*, the same figure for as many real training samples, which is what a
perfect generator would be expected to reach.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from wasserflow.data import toy
from wasserflow.data.dataset import Dataset, Split
from wasserflow.errors import UserError, unknown
from wasserflow.metric.distance import Estimate, energy_distance, frechet, kernel_distance, sliced_wasserstein
from wasserflow.metric.feature import Classifier, Extractor, extractor
from wasserflow.metric.manifold import manifold

__all__ = ["Report", "Row", "evaluate"]

FEWEST = 10
ENOUGH = 2_000
BATCH = 1024

LOWER_IS_BETTER = {
    "frechet": True,
    "kernel": True,
    "sliced": True,
    "energy": True,
    "precision": False,
    "recall": False,
    "density": False,
    "coverage": False,
    "modes": False,
    "high_quality": False,
    "smallest_class": False,
    "largest_class": True,
}

Figures = dict[str, float | Estimate]


@dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        name: A key of `LOWER_IS_BETTER`.
        value: For the samples.
        floor: For as many real training samples.
        lower_is_better: Which way is up.
        error: Standard error of the value, where it is known.
    """

    name: str
    value: float
    floor: float
    lower_is_better: bool
    error: float | None = None


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
        available: How many samples, held-out and training samples there were to choose from.
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


def evaluate(samples: Tensor, data: Dataset, *, split: str = "test", features: str = "pixels", seed: int = 0) -> Report:
    """Compare samples with a held-out split at equal counts, each figure beside its real-against-real floor.

    Images are rounded to grey levels first, as they would be when written to a file. Their figures are Frechet,
    kernel and sliced distance, precision, recall, density and coverage, all between features; with ``classifier``
    features also the smallest and the largest share of a class. Vectors are compared in model space: energy and
    sliced distance, precision and recall, for more than two dimensions Frechet distance too, and for toys with
    known modes how many of them are covered and which share of samples lies close to one.

    Args:
        samples: In model space, shape ``(N, *shape)``.
        data: What they should look like.
        split: ``test``, ``validation`` or ``train`` (then the floor comes from the other half of the training
            samples).
        features: ``pixels`` or ``classifier``.
        seed: Chooses the samples on every side and the directions of the sliced distance. Extractors do not
            depend on it.

    Returns:
        The figures and all that is needed to repeat them.

    Raises:
        UserError: The samples have the wrong shape, are not finite or too few, or a name is unknown.
    """
    if split not in ("train", "validation", "test"):
        raise unknown("split", split, ("train", "validation", "test"))
    _check(samples, data)
    # Double precision is at the heart of every figure, and Apple's GPUs have none.
    samples = samples.detach().cpu() if samples.device.type == "mps" else samples.detach()
    held_out = data.split(split)
    spare = len(data.train) // 2 if split == "train" else len(data.train)
    count = min(len(samples), len(held_out), spare)
    if count < FEWEST:
        raise UserError(
            f"an evaluation needs at least {FEWEST} samples on each side; there are {len(samples)} samples, "
            f"{len(held_out)} in the {split} split and {spare} training samples beside it."
        )

    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(held_out), generator=rng)
    rest = order[count:] if split == "train" else torch.randperm(len(data.train), generator=rng)
    chosen = samples[torch.randperm(len(samples), generator=rng)[:count].to(samples.device)]
    extract = extractor(features, data)
    real_x = _model(data, held_out, order[:count], samples.device)
    floor_x = _model(data, data.train, rest[:count], samples.device)
    if data.form.is_image:
        grey = chosen.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        chosen = data.form.to_model(grey)
    real, fake, floor = (_features(extract, x) for x in (real_x, chosen.float(), floor_x))

    found = _figures(fake, real, data, seed)
    ideal = _figures(floor, real, data, seed)
    shares = None
    if isinstance(extract, Classifier):
        ours, theirs, training = (extract.shares(x) for x in (fake, real, floor))
        for figures, share in ((found, ours), (ideal, training)):
            figures |= {"smallest_class": min(share), "largest_class": max(share)}
        known = data.classes or ()
        names = known if len(known) == len(ours) else map(str, range(len(ours)))
        shares = {name: {"samples": a, "real": b} for name, a, b in zip(names, ours, theirs, strict=True)}
    rows = tuple(_row(name, found[name], ideal[name]) for name in found)
    warnings = []
    if count < ENOUGH:
        warnings.append(
            f"Only {count:,} samples on each side: at fewer than {ENOUGH:,} the figures carry a bias that depends "
            "on the count; compare them with the floor, not with figures from other counts."
        )
    return Report(
        rows=rows,
        data=data.source,
        fingerprint=data.fingerprint,
        split=split,
        features=extract.name,
        count=count,
        available={"samples": len(samples), split: len(held_out), "train": len(data.train)},
        seed=seed,
        protocol=_protocol(data, split, extract, count),
        warnings=warnings,
        class_shares=shares,
    )


def _check(samples: Tensor, data: Dataset) -> None:
    shape = tuple(samples.shape)
    if samples.ndim == 0 or shape[1:] != data.form.shape or not samples.is_floating_point():
        wanted = ", ".join(map(str, ("N", *data.form.shape)))
        kind = str(samples.dtype).removeprefix("torch.")
        raise UserError(f"samples of {data.source} are floating-point of shape ({wanted}), not {kind} of {shape}.")
    bad = int((~samples.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise UserError(f"{bad:,} of {len(samples):,} samples hold values that are not finite: the model diverged.")


def _model(data: Dataset, split: Split, index: Tensor, device: torch.device) -> Tensor:
    return data.form.to_model(split.x[index.to(split.x.device)].to(device))


def _features(extract: Extractor, x: Tensor) -> Tensor:
    return torch.cat([extract(part) for part in x.split(BATCH)]).double()


def _figures(fake: Tensor, real: Tensor, data: Dataset, seed: int) -> Figures:
    """Every figure of one set of features against the held-out ones."""
    spread = manifold(fake, real)
    sliced = sliced_wasserstein(fake, real, seed=seed)
    sides: Figures = {"precision": spread.precision, "recall": spread.recall}
    if data.form.is_image:
        distances: Figures = {"frechet": frechet(fake, real), "kernel": kernel_distance(fake, real)}
        return {**distances, "sliced": sliced, **sides, "density": spread.density, "coverage": spread.coverage}
    figures: Figures = {"energy": energy_distance(fake, real)}
    if data.form.shape[0] > 2:
        figures["frechet"] = frechet(fake, real)
    return {**figures, "sliced": sliced, **sides, **_mode_figures(fake, data)}


def _mode_figures(points: Tensor, data: Dataset) -> Figures:
    """How many known modes have at least a tenth of their due within 3 sd, and the share of points so close."""
    centres, sd = toy.modes(data.source), toy.sd(data.source)
    if centres is None or sd is None:
        return {}
    placed = torch.as_tensor(data.form.to_data(points), dtype=torch.float64)
    near = torch.cdist(placed, centres.double()) <= 3 * sd
    covered = near.double().mean(0) >= 1 / (10 * len(centres))
    return {"modes": float(covered.sum()), "high_quality": near.any(1).double().mean().item()}


def _row(name: str, value: float | Estimate, floor: float | Estimate) -> Row:
    error = value.error if isinstance(value, Estimate) else None
    value = value.value if isinstance(value, Estimate) else value
    floor = floor.value if isinstance(floor, Estimate) else floor
    return Row(name, value, floor, LOWER_IS_BETTER[name], error)


def _protocol(data: Dataset, split: str, extract: Extractor, count: int) -> str:
    other = "other training samples" if split == "train" else "training samples"
    sentences = [
        f"{count:,} samples against {count:,} of the {split} split, all chosen by the seed; the floor is the same "
        f"for {count:,} {other}.",
        extract.about,
        "Precision, recall, density and coverage use the 5 nearest neighbours; the sliced distance is the root of "
        "the mean squared W2 over 512 directions.",
    ]
    if data.form.is_image:
        sentences.append("Images are rounded to 256 levels first. The kernel distance is the unbiased cubic MMD^2.")
    else:
        sentences.append("The energy distance is unbiased, so it may be a little below zero.")
    if isinstance(extract, Classifier):
        sentences.append("Class shares are the classifier's verdicts, on samples and on real data alike.")
    centres = toy.modes(data.source)
    if centres is not None:
        sentences.append(
            f"A mode (of {len(centres)}) counts when 3 standard deviations around it hold a tenth of its due share "
            "of samples; high quality is the share of samples that close to any."
        )
    return " ".join(sentences)
