"""Grids of images, enlarged so that the eye can judge them."""

import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from wasserflow._core.errors import UserError, unknown
from wasserflow._core.files import whole_or_nothing

__all__ = ["image_grid", "save_grid", "save_image"]

WIDTH = 700
"""Approximate width in pixels of a grid whose scale is not given."""

SMALL = 16
"""Side in pixels below which images are enlarged smoothly (bicubic), because square pixels would hide the shape."""

SEPARATOR = 224
"""Light grey, visible between dark and between light images."""


def image_grid(samples: Tensor, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Arrange images in rows, with thin light lines between them.

    Args:
        samples: Images in model space, shape ``(N, C, H, W)`` in [-1, 1] (other values are clamped, NaN is drawn
            mid-grey), C = 1 (grey), 3 (RGB) or 4 (RGBA).
        columns: Images in a row; by default the grid is about square.
        scale: Whole factor by which images are enlarged, by repeating pixels, or smoothly below 16 pixels a side; by
            default the grid becomes about 700 pixels wide.

    Returns:
        The picture, in mode ``L``, ``RGB`` or ``RGBA``.
    """
    if samples.ndim != 4 or samples.shape[1] not in (1, 3, 4) or not samples.numel():
        raise UserError(f"a grid needs images (N, C, H, W) with 1, 3 or 4 channels, not {tuple(samples.shape)}.")
    count, channels, height, width = samples.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    scale = scale or max(1, round(WIDTH / (columns * width)))
    line = 2 if scale > 1 else 1
    step_y, step_x = height * scale + line, width * scale + line

    images = samples.detach().float().cpu().nan_to_num(0.0, 1.0, -1.0).clamp(-1, 1)
    smooth = max(height, width) < SMALL
    images = interpolate(images, scale_factor=scale, mode="bicubic" if smooth else "nearest")
    pixels = images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    canvas = np.full((rows * step_y + line, columns * step_x + line, channels), SEPARATOR, np.uint8)
    if channels == 4:
        canvas[..., 3] = 255
    for index, image in enumerate(pixels):
        top, left = line + index // columns * step_y, line + index % columns * step_x
        canvas[top : top + height * scale, left : left + width * scale] = image
    return Image.fromarray(canvas[..., 0] if channels == 1 else canvas)


def save_grid(samples: Tensor, path: str | os.PathLike[str], columns: int | None = None) -> None:
    """Write an `image_grid` of the samples atomically.

    Args:
        samples: Images in model space, shape ``(N, C, H, W)``.
        path: The file; its suffix sets the format.
        columns: Images in a row.
    """
    save_image(image_grid(samples, columns), path)


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a picture atomically.

    Args:
        image: The picture.
        path: The file; its suffix sets the format.
    """
    suffix = Path(path).suffix.lower()
    Image.init()
    known = [extension for extension, name in Image.registered_extensions().items() if name in Image.SAVE]
    if suffix not in known:
        raise unknown("image format", suffix, [".png", ".jpg", ".webp", ".gif"])
    with whole_or_nothing(path) as part:
        image.save(part)
