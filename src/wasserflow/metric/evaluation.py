"""Samples against held-out data, with real data against the same held-out data beside every figure.

A distance between finite samples has no natural zero: its bias and scatter depend on counts, features and data.
So each figure stands beside its *floor*, the same figure for as many real training samples, which is what a
perfect generator would be expected to reach. Training samples are copies of training data, so the floor of
``memorised`` comes from the other held-out split.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow.data import toy
from wasserflow.data.dataset import Dataset
from wasserflow.metric.distance import (
    Estimate,
    energy_distance,
    frechet,
    kernel_distance,
    log_chamfer,
    nearest,
    sliced_wasserstein,
)
from wasserflow.metric.feature import Classifier, Extractor, extractor
from wasserflow.metric.manifold import manifold
from wasserflow.metric.memorisation import mann_whitney
from wasserflow.metric.pretrained import levels
from wasserflow.metric.reference import BATCH, Reference, features_of
from wasserflow.metric.report import DUE, LOWER_IS_BETTER, Report, Row, signs_of_collapse

__all__ = ["evaluate"]

FEWEST = 10
ENOUGH = 2_000
PER_FEATURE = 4  # samples for each dimension of the features, whose covariances some figures compare
Figures = dict[str, float | Estimate]


def evaluate(
    samples: Tensor,
    data: Dataset,
    *,
    split: str = "test",
    features: str = "pixels",
    seed: int = 0,
    device: torch.device | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Compare samples with a held-out split at equal counts, each figure beside its real-against-real floor.

    Images are rounded to grey levels first, as they would be when written to a file. Their figures are Frechet,
    kernel and sliced distance, precision, recall, density, coverage and memorisation, all between features; with
    ``classifier`` features also the smallest and the largest share of a class. Vectors are compared in model space:
    energy and sliced distance, precision, recall and memorisation, in the plane the log Chamfer distance, for more
    dimensions the Frechet distance too, and for toys with known modes how many of them are covered and which share of
    samples lies close to one.

    Args:
        samples: In model space, shape ``(N, *shape)``.
        data: What they should look like.
        split: ``test``, ``validation`` or ``train`` (then the floor comes from the other half of the training
            samples, and memorisation, which needs data that were not trained on, from the test split).
        features: ``pixels``, ``classifier``, ``inception`` or ``dinov2``.
        seed: Chooses the samples on every side and the directions of the sliced distance. Extractors do not
            depend on it.
        device: Where to compute features and figures; by default where the samples are.
        say: Called with a sentence before a long computation.

    Returns:
        The figures and all that is needed to repeat them.

    Raises:
        UserError: The samples have the wrong shape, are not finite or too few, a name is unknown, or the features
            cannot be had.
    """
    if split not in ("train", "validation", "test"):
        raise unknown("split", split, ("train", "validation", "test"))
    _check(samples, data)
    device = samples.device if device is None else device
    if device.type == "mps":  # double precision is at the heart of every figure, and Apple's GPUs have none
        device = torch.device("cpu")
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
    chosen = samples.detach()[torch.randperm(len(samples), generator=rng)[:count].to(samples.device)]
    extract = extractor(features, data)
    reference = Reference(data, extract, device, say)
    fake = torch.cat([features_of(extract, _as_written(part.to(device), data)) for part in chosen.split(BATCH)])
    real, floor = reference.rows(split, order[:count]), reference.rows("train", rest[:count])

    found, ideal = (_figures(x.double(), real.double(), data, seed) for x in (fake, floor))
    warnings, unseen = [], _unseen(data, split, order, count, rng)
    if unseen:
        found["memorised"], ideal["memorised"] = _memorised(reference, fake, unseen)
    else:
        warnings.append(f"No memorised: it needs {FEWEST} samples or more in the test and in the validation split.")
    shares = None
    if isinstance(extract, Classifier):
        ours, theirs, training = (extract.shares(x) for x in (fake, real, floor))
        for figures, share in ((found, ours), (ideal, training)):
            figures |= {"smallest_class": min(share), "largest_class": max(share)}
        known = data.classes or ()
        names = known if len(known) == len(ours) else map(str, range(len(ours)))
        shares = {name: {"samples": a, "real": b} for name, a, b in zip(names, ours, theirs, strict=True)}
    rows = tuple(_row(name, found[name], ideal[name]) for name in found)
    dimension = real.shape[1]
    enough = max(ENOUGH, PER_FEATURE * dimension)
    if count < enough:
        warnings.append(
            f"Only {count:,} samples on each side: at fewer than {enough:,}, figures of {dimension:,} features carry "
            "a bias that depends on the count; compare them with the floor, not with figures from other counts."
        )
    return Report(
        rows=rows,
        data=data.source,
        fingerprint=data.fingerprint,
        split=split,
        features=extract.name,
        count=count,
        available={"samples": len(samples)} | {name: len(data.split(name)) for name in ("train", "validation", "test")},
        seed=seed,
        protocol=_protocol(data, split, extract, count, unseen),
        warnings=warnings + signs_of_collapse(rows, shares),
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


def _as_written(x: Tensor, data: Dataset) -> Tensor:
    """Samples as they would come back from a file."""
    return data.form.to_model(levels(x)) if data.form.is_image else x.float()


def _figures(fake: Tensor, real: Tensor, data: Dataset, seed: int) -> Figures:
    """Every figure of one set of features against the held-out ones."""
    spread = manifold(fake, real)
    sliced = sliced_wasserstein(fake, real, seed=seed)
    sides: Figures = {"precision": spread.precision, "recall": spread.recall}
    if data.form.is_image:
        distances: Figures = {"frechet": frechet(fake, real), "kernel": kernel_distance(fake, real)}
        return {**distances, "sliced": sliced, **sides, "density": spread.density, "coverage": spread.coverage}
    figures: Figures = {"energy": energy_distance(fake, real)}
    if data.form.shape[0] == 2:
        figures["log_chamfer"] = log_chamfer(fake, real)
    if data.form.shape[0] > 2:
        figures["frechet"] = frechet(fake, real)
    return {**figures, "sliced": sliced, **sides, **_mode_figures(fake, data)}


def _unseen(data: Dataset, split: str, order: Tensor, count: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Samples that were not trained on: those compared with and those of the floor; nothing where there are too few."""
    names = ("validation", "test") if split == "validation" else ("test", "validation")
    chosen = {
        name: (order if name == split else torch.randperm(len(data.split(name)), generator=rng))[:count]
        for name in names
    }
    return chosen if min(map(len, chosen.values())) >= FEWEST else {}


def _memorised(reference: Reference, fake: Tensor, unseen: dict[str, Tensor]) -> tuple[Estimate, Estimate]:
    """Whether samples, and the second of the unseen sets, lie nearer to the training samples than the first does."""
    sets = [fake, *(reference.rows(name, index) for name, index in unseen.items())]
    near = nearest(torch.cat(sets), reference.blocks("train"))
    near_fake, near_held, near_other = near.split([len(x) for x in sets])
    return mann_whitney(near_fake, near_held), mann_whitney(near_other, near_held)


def _mode_figures(points: Tensor, data: Dataset) -> Figures:
    """How many known modes have at least a tenth of their due within 3 sd, and the share of points so close."""
    centres, sd = toy.modes(data.source), toy.sd(data.source)
    if centres is None or sd is None:
        return {}
    placed = torch.as_tensor(data.form.to_data(points), dtype=torch.float64)
    near = torch.cdist(placed, centres.double()) <= 3 * sd
    covered = near.double().mean(0) >= DUE / len(centres)
    return {"modes": float(covered.sum()), "high_quality": near.any(1).double().mean().item()}


def _row(name: str, value: float | Estimate, floor: float | Estimate) -> Row:
    floor = floor.value if isinstance(floor, Estimate) else floor
    if isinstance(value, Estimate):
        return Row(name, value.value, floor, LOWER_IS_BETTER[name], value.error, value.interval)
    return Row(name, value, floor, LOWER_IS_BETTER[name])


def _protocol(data: Dataset, split: str, extract: Extractor, count: int, unseen: dict[str, Tensor]) -> str:
    other = "other training samples" if split == "train" else "training samples"
    sentences = [
        f"{count:,} samples against {count:,} of the {split} split, all chosen by the seed; the floor is the same "
        f"for {count:,} {other}.",
        extract.about,
        "Precision, recall, density and coverage use the 5 nearest neighbours; the sliced distance is the root of "
        "the mean squared W2 over 512 directions.",
    ]
    if unseen:
        (held, n), (floor, m) = ((name, len(index)) for name, index in unseen.items())
        sentences.append(
            "Memorised is the probability that a sample lies nearer to its nearest of all "
            f"{len(data.train):,} training samples than one of {n:,} of the {held} split to its own (0.5: no copying, "
            f"towards 1: copying), in the same features; its floor is the same for {m:,} of the {floor} split. "
            "Intervals are 95 %: 1.96 standard errors to each side."
        )
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
