"""Pictures of samples: grids of images, clouds of points, animations. Every file is written whole or not at all."""

from wasserflow.plot.animation import save_gif
from wasserflow.plot.grid import image_grid, save_grid, save_image
from wasserflow.plot.samples import draw_samples
from wasserflow.plot.scatter import cloud_frames, save_scatter

__all__ = ["cloud_frames", "draw_samples", "image_grid", "save_gif", "save_grid", "save_image", "save_scatter"]
