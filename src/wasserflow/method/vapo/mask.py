"""Masks for inpainting: which pixels are kept, and which are drawn."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown

__all__ = ["free_pixels"]

PARTS = ("left", "right", "top", "bottom", "border", "checkerboard")


def free_pixels(mask: str, shape: tuple[int, ...]) -> Tensor:
    """Which pixels are to be drawn, (H, W).

    Args:
        mask: The pixels to keep: a name in `PARTS`, or a .png or .npy file whose non-zero pixels are kept.
        shape: ``(C, H, W)`` of the images.

    Raises:
        UserError: If there is no such mask, or it does not fit the images.
    """
    if len(shape) != 3:
        raise UserError("`mask` is for images")
    height, width = shape[1:]
    if mask in PARTS:
        return ~_part(mask, height, width)
    path = Path(mask)
    if path.suffix.lower() not in (".png", ".npy"):
        raise unknown("mask", mask, (*PARTS, "FILE.png", "FILE.npy"))
    kept = _read(path)
    if kept.shape != (height, width) or kept.dtype.kind not in "biuf":
        raise UserError(f"the mask {path} has shape {kept.shape}, and the images {(height, width)}")
    return torch.from_numpy(kept == 0)


def _part(name: str, height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return {
        "left": x < width // 2,
        "right": x >= width // 2,
        "top": y < height // 2,
        "bottom": y >= height // 2,
        "border": (torch.minimum(x, width - 1 - x) < width // 4) | (torch.minimum(y, height - 1 - y) < height // 4),
        "checkerboard": (x + y) % 2 == 0,
    }[name]


def _read(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        from PIL import Image

        with Image.open(path, formats=["PNG"]) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UserError(f"{path} cannot be read as a mask: {getattr(error, 'strerror', None) or error}") from error
