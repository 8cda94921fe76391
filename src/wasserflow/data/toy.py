"""Distributions in the plane: any number of points, and a shape that the eye can check.

`TOYS` is the table of their parameters. Units are the toy's own; ``standardise`` says whether model space has mean 0
and variance 1, or those units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import log

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import check_seed, unknown
from wasserflow.data.raw import Part, Raw

__all__ = [
    "TOYS",
    "Toy",
    "checkerboard",
    "circles",
    "funnel",
    "log_density",
    "modes",
    "read_toy",
    "ring",
    "ring_centres",
    "s_curve",
    "sample",
    "sd",
    "swiss_roll",
    "two_moons",
]

Rng = np.random.Generator
TRAIN, TEST = 50_000, 10_000


def ring_centres(modes: int = 8, radius: float = 1.0) -> np.ndarray:
    """Centres of the Gaussians of `ring`, ``(modes, 2)``, counter-clockwise from the x axis."""
    angle = 2 * np.pi * np.arange(modes) / modes
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def ring(n: int, rng: Rng, *, modes: int = 8, radius: float = 1.0, sd: float = 0.02) -> np.ndarray:
    """Equal round Gaussians evenly spaced on a circle: ``(n, 2)``."""
    return ring_centres(modes, radius)[rng.integers(modes, size=n)] + sd * rng.standard_normal((n, 2))


def circles(
    n: int, rng: Rng, *, radii: tuple[float, float] = (15.0, 5.0), weight: float = 0.67, sd: float = 0.5
) -> np.ndarray:
    """Two noisy circles around the origin, the first with the given weight: ``(n, 2)``."""
    radius = np.where(rng.random(n) < weight, *radii)
    angle = 2 * np.pi * rng.random(n)
    return _pair(radius * np.cos(angle), radius * np.sin(angle)) + sd * rng.standard_normal((n, 2))


def checkerboard(n: int, rng: Rng, *, cells: int = 4, half_width: float = 4.0) -> np.ndarray:
    """Uniform on the cells of one colour of a board around the origin, bottom left included: ``(n, 2)``."""
    chosen = [(i, j) for i in range(cells) for j in range(cells) if (i + j) % 2 == 0]
    corner = np.array(chosen)[rng.integers(len(chosen), size=n)]
    return (corner + rng.random((n, 2))) * (2 * half_width / cells) - half_width


def two_moons(n: int, rng: Rng, *, sd: float = 0.05) -> np.ndarray:
    """Two interleaved half circles of radius 1, as in scikit-learn's ``make_moons``: ``(n, 2)``."""
    angle, upper = np.pi * rng.random(n), rng.random(n) < 0.5
    x, y = np.cos(angle), np.sin(angle)
    return _pair(np.where(upper, x, 1 - x), np.where(upper, y, 0.5 - y)) + sd * rng.standard_normal((n, 2))


def s_curve(n: int, rng: Rng, *, sd: float = 0.12, scale: float = 0.5) -> np.ndarray:
    """The first and third axis of scikit-learn's ``make_s_curve``, scaled: ``(n, 2)``."""
    t = 3 * np.pi * (rng.random(n) - 0.5)
    return scale * (_pair(np.sin(t), np.sign(t) * (np.cos(t) - 1)) + sd * rng.standard_normal((n, 2)))


def swiss_roll(n: int, rng: Rng, *, sd: float = 0.5) -> np.ndarray:
    """The first and third axis of scikit-learn's ``make_swiss_roll``: ``(n, 2)``."""
    t = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return _pair(t * np.cos(t), t * np.sin(t)) + sd * rng.standard_normal((n, 2))


def funnel(n: int, rng: Rng, *, scale: float = 0.1) -> np.ndarray:
    """Neal's funnel, x given y ~ N(0, (scale e^y)^2) and y ~ N(0, 1), in the order (x, y): ``(n, 2)``."""
    y = rng.standard_normal(n)
    return _pair(scale * np.exp(y) * rng.standard_normal(n), y)


def _mixture_density(x: Tensor, centres: np.ndarray, sd: float) -> Tensor:
    """Log density of equal round Gaussians."""
    squared = (x[:, None] - torch.from_numpy(centres).to(x)).square().sum(2)
    return torch.logsumexp(-squared / (2 * sd**2), 1) - log(len(centres) * 2 * np.pi * sd**2)


def _circles_density(x: Tensor, radii: tuple[float, float], weight: float, sd: float) -> Tensor:
    """Log density of noisy circles; integrating the noise around a circle gives a Bessel function."""
    r = x.square().sum(1).clamp(min=1e-12).sqrt()
    rings = [
        log(w) - (r - radius).square() / (2 * sd**2) + torch.special.i0e(r * radius / sd**2).log()
        for w, radius in zip((weight, 1 - weight), radii, strict=True)
    ]
    return torch.logaddexp(*rings) - log(2 * np.pi * sd**2)


def _funnel_density(x: Tensor, scale: float) -> Tensor:
    """Log density of the funnel."""
    z = x[:, 0] * (-x[:, 1]).exp() / scale
    return -0.5 * z.square() - x[:, 1] - 0.5 * x[:, 1].square() - log(2 * np.pi * scale)


@dataclass(frozen=True)
class Toy:
    """One row of the table.

    Args:
        draw: ``draw(n, rng)``, points ``(n, 2)`` in the toy's units.
        standardise: Whether model space has mean 0 and variance 1 rather than those units.
        modes: Centres ``(K, 2)``, for a mixture of equal round Gaussians.
        sd: Their standard deviation.
        log_density: ``log p`` of points ``(n, 2)`` in the toy's units, ``(n,)``, if it has a closed form.
    """

    draw: Callable[[int, Rng], np.ndarray]
    standardise: bool
    modes: np.ndarray | None = None
    sd: float | None = None
    log_density: Callable[[Tensor], Tensor] | None = None


def _ring(count: int, radius: float, sd: float) -> Toy:
    centres = ring_centres(count, radius)
    density = partial(_mixture_density, centres=centres, sd=sd)
    return Toy(partial(ring, modes=count, radius=radius, sd=sd), False, centres, sd, density)


TOYS = {
    "ring": _ring(8, 1.0, 0.02),
    "wide-ring": _ring(8, 10.0, 1.0),
    "circles": Toy(
        partial(circles, radii=(15.0, 5.0), weight=0.67, sd=0.5),
        True,
        log_density=partial(_circles_density, radii=(15.0, 5.0), weight=0.67, sd=0.5),
    ),
    "checkerboard": Toy(partial(checkerboard, cells=4, half_width=4.0), True),
    "two-moons": Toy(partial(two_moons, sd=0.05), True),
    "s-curve": Toy(partial(s_curve, sd=0.12, scale=0.5), False),
    "funnel": Toy(partial(funnel, scale=0.1), False, log_density=partial(_funnel_density, scale=0.1)),
    "swiss-roll": Toy(partial(swiss_roll, sd=0.5), True),
}


def sample(name: str, n: int, seed: int | Rng = 0) -> Tensor:
    """Points of a toy in its own units.

    Args:
        name: A key of `TOYS`.
        n: Number of points.
        seed: A random seed, or a generator to continue.

    Returns:
        float32 ``(n, 2)``.

    Raises:
        UserError: If there is no such toy.
    """
    if name not in TOYS:
        raise unknown("toy", name, TOYS)
    if isinstance(seed, int):
        check_seed(seed)
    return torch.from_numpy(TOYS[name].draw(n, np.random.default_rng(seed)).astype(np.float32))


def modes(name: str) -> Tensor | None:
    """Centres of a toy's modes in its own units, float32 ``(K, 2)``; None for a set without known modes."""
    centres = TOYS[name].modes if name in TOYS else None
    return None if centres is None else torch.from_numpy(centres.astype(np.float32))


def sd(name: str) -> float | None:
    """Standard deviation of each of a toy's modes in its own units; None for a set without known modes."""
    return TOYS[name].sd if name in TOYS else None


def log_density(name: str) -> Callable[[Tensor], Tensor]:
    """``log p`` of a toy at points (n, 2) in its own units, with shape (n,); differentiable.

    Raises:
        UserError: If there is no such toy, or its density has no closed form.
    """
    known = {toy: row.log_density for toy, row in TOYS.items() if row.log_density}
    if name not in known:
        raise unknown("toy with a density", name, known)
    return known[name]


def read_toy(name: str) -> Raw:
    """A toy as a data set: 50,000 points for training and validation, 10,000 for testing, always the same."""
    train = Part(sample(name, TRAIN, 0).numpy())
    test = Part(sample(name, TEST, 1).numpy())
    return Raw(name, train, "ND", ("float32",), test, standardise=TOYS[name].standardise)


def _pair(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x, y], 1)
