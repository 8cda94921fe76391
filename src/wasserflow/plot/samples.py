"""A picture of samples: a grid of images, or a scatter plot of points."""

from pathlib import Path

from torch import Tensor

from wasserflow.plot.grid import save_grid
from wasserflow.plot.scatter import save_scatter

__all__ = ["draw_samples"]


def draw_samples(samples: Tensor, path: str | Path, reference: Tensor | None = None) -> bool:
    """Draw images (N, C, H, W) as a grid, and points (N, 2) as a scatter plot over the reference.

    Returns:
        Whether a picture was drawn; there is none of other vectors.

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
