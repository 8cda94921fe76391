"""One picture as a cloud of points: where its ink is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.data.image import BadImage, decode

__all__ = ["ink_points"]


def ink_points(path: Path, n: int, rng: np.random.Generator) -> np.ndarray:
    """Points spread over a picture as its ink is: dark on light, or light on dark where most of the picture is dark.

    Args:
        path: The picture.
        n: How many points.
        rng: Gives them.

    Returns:
        float32 ``(n, 2)``: x to the right, y up, the picture's centre at 0 and its longer side of length 2.

    Raises:
        UserError: It is not a picture, or of one colour.
    """
    try:
        pixels = decode(path.read_bytes(), None)
    except BadImage as error:
        raise UserError(f"{path} {error}.") from error
    grey = pixels.astype(np.float64).mean(2) if pixels.ndim == 3 else pixels.astype(np.float64)
    low, high = grey.min(), grey.max()
    if low == high:
        raise UserError(f"{path} is of one colour throughout: there is no shape in it.")
    light = (grey - low) / (high - low)
    ink = (1 - light if light.mean() > 0.5 else light).ravel()
    ink[ink < 0.05] = 0  # what is left of a compressed ground
    height, width = grey.shape
    # Systematic sampling: as many points in each region as its ink asks for, give or take one.
    level = (np.arange(n) + rng.random()) / n * ink.sum()
    chosen = np.minimum(np.searchsorted(np.cumsum(ink), level, "right"), ink.size - 1)
    row, column = np.divmod(chosen, width)
    x, y = column + rng.random(n) - width / 2, height / 2 - row - rng.random(n)
    return (np.stack([x, y], 1) * (2 / max(height, width))).astype(np.float32)
