"""Plots: image grids, clouds, curves, densities, fields, animations. Files are written atomically."""

from wasserflow.plot.animation import evenly, save_gif
from wasserflow.plot.curves import curves, overlaid
from wasserflow.plot.energies import energy_paths, histograms, potentials
from wasserflow.plot.figure import limits, save_figure
from wasserflow.plot.grid import image_grid, save_grid, save_image
from wasserflow.plot.marginal import MOST_COLUMNS, marginals
from wasserflow.plot.plane import densities, field, kernel_density, paths
from wasserflow.plot.samples import draw_samples
from wasserflow.plot.scatter import cloud_frames, save_scatter
from wasserflow.plot.strip import captioned, strip, top_row

__all__ = [
    "MOST_COLUMNS",
    "captioned",
    "cloud_frames",
    "curves",
    "densities",
    "draw_samples",
    "energy_paths",
    "evenly",
    "field",
    "histograms",
    "image_grid",
    "kernel_density",
    "limits",
    "marginals",
    "overlaid",
    "paths",
    "potentials",
    "save_figure",
    "save_gif",
    "save_grid",
    "save_image",
    "save_scatter",
    "strip",
    "top_row",
]
