"""Images side by side, large enough to be judged by eye."""

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
"""Pixels a grid aims at when it may choose its own magnification."""

SMALL = 16
"""Below this side pixels as squares hide the shape: such images are enlarged smoothly (bicubic)."""

SEPARATOR = 224
"""Light grey, visible between dark images and between light ones."""


def image_grid(samples: Tensor, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Lay images out row by row, with thin light lines between them.

    Args:
        samples: Images in model space, shape ``(N, C, H, W)`` in [-1, 1] (values beyond are clamped, those that
            are not numbers drawn mid-grey), C = 1 (grey), 3 (RGB) or 4 (RGBA).
        columns: Images in a row; by default the grid is about square.
        scale: Whole factor by which images are enlarged, pixels repeated, or smoothly below 16 pixels a side; by
            default small images grow until the grid is about 700 pixels wide.

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
    """Write `image_grid` of the samples to a file, whole or not at all.

    Args:
        samples: Images in model space, shape ``(N, C, H, W)``.
        path: Where to; the suffix sets the format.
        columns: Images in a row.
    """
    save_image(image_grid(samples, columns), path)


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write one picture, whole or not at all.

    Args:
        image: The picture.
        path: Where to; the suffix sets the format.
    """
    suffix = Path(path).suffix.lower()
    Image.init()
    known = [extension for extension, name in Image.registered_extensions().items() if name in Image.SAVE]
    if suffix not in known:
        raise unknown("image format", suffix, [".png", ".jpg", ".webp", ".gif"])
    with whole_or_nothing(path) as part:
        image.save(part)
