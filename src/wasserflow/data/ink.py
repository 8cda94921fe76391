"""A picture as a cloud of points, distributed as its ink."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wasserflow._core.errors import UserError
from wasserflow.data.image import BadImage, decode

__all__ = ["ink_points"]


def ink_points(path: Path, n: int, rng: np.random.Generator) -> np.ndarray:
    """Points distributed as the ink of a picture: dark on light, or light on dark if most of the picture is dark.

    Args:
        path: The picture.
        n: Number of points.
        rng: Random number generator.

    Returns:
        float32 ``(n, 2)``: x to the right, y up, the picture's centre at 0 and its longer side of length 2.

    Raises:
        UserError: If it is not a picture, or has one colour only.
    """
    try:
        pixels = decode(path.read_bytes(), None)
    except BadImage as error:
        raise UserError(f"{path} {error}.") from error
    grey = pixels.astype(np.float64).mean(2) if pixels.ndim == 3 else pixels.astype(np.float64)
    low, high = grey.min(), grey.max()
    if low == high:
        raise UserError(f"{path} has one colour only: there is no shape in it.")
    light = (grey - low) / (high - low)
    ink = (1 - light if light.mean() > 0.5 else light).ravel()
    ink[ink < 0.05] = 0  # noise of a compressed background
    height, width = grey.shape
    # Systematic sampling: each region has points in proportion to its ink, within one.
    level = (np.arange(n) + rng.random()) / n * ink.sum()
    chosen = np.minimum(np.searchsorted(np.cumsum(ink), level, "right"), ink.size - 1)
    row, column = np.divmod(chosen, width)
    x, y = column + rng.random(n) - width / 2, height / 2 - row - rng.random(n)
    return (np.stack([x, y], 1) * (2 / max(height, width))).astype(np.float32)
