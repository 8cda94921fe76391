"""The picture that fits samples: a grid of images, or a scatter of points."""

from pathlib import Path

from torch import Tensor

from wasserflow.plot.grid import save_grid
from wasserflow.plot.scatter import save_scatter

__all__ = ["draw_samples"]


def draw_samples(samples: Tensor, path: str | Path, reference: Tensor | None = None) -> bool:
    """Draw images (N, C, H, W) as a grid, points (N, 2) as a scatter over the reference; other vectors not at all.

    Returns:
        Whether there was a picture to draw.

    Raises:
        UserError: If the file cannot be written.
    """
    if samples.ndim == 4:
        save_grid(samples, path)
    elif samples.shape[1] == 2:
        save_scatter(samples, path, reference)
    else:
        return False
    return True
