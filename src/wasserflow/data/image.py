"""Pictures as uint8 arrays: axes, channels, centre crop and resize."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["BadImage", "channels_first", "decode", "resize"]

SMALLEST, LARGEST = 4, 8192  # pixels a side
CHANNELS = (1, 3, 4)
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B"}
TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}


class BadImage(Exception):
    """A picture that cannot be used; its name and the message make a sentence."""


def channels_first(array: np.ndarray) -> tuple[np.ndarray, str] | None:
    """A view of images with their channels first, and the name of their layout.

    If four axes can be read both ways, channels are last.

    Args:
        array: ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)`` with C in {1, 3, 4}.

    Returns:
        The view ``(N, C, H, W)`` and ``NHW``, ``NHWC`` or ``NCHW``; None if the axes fit none of them.
    """
    if array.ndim == 3:
        return array[:, None], "NHW"
    if array.ndim != 4:
        return None
    _, first, second, last = array.shape
    # A "height" of one or three pixels is a channel axis: (N, 1, 4, 4) is not four channels of 1 x 4.
    if last in CHANNELS and (first not in CHANNELS or min(first, second) >= SMALLEST):
        return array.transpose(0, 3, 1, 2), "NHWC"
    return (array, "NCHW") if first in CHANNELS else None


def decode(
    encoded: bytes, size: int | None, *, side: int | None = None, expected: tuple[int, int] | None = None
) -> np.ndarray:
    """The pixels of a picture file, rotated as its EXIF data say, with transparent parts on white.

    Args:
        encoded: The file's bytes.
        size: Side of the square to crop and resize it to; None to keep its size.
        side: Side in pixels of the crop from the centre; None for the shorter side.
        expected: Width and height that it must have.

    Returns:
        uint8, ``(H, W)`` for a grey picture and ``(H, W, 3)`` for one in colour.

    Raises:
        BadImage: If it is corrupt, truncated, too large, not of the expected size, or has no meaning in 8 bits.
    """
    import io

    from PIL import Image, ImageOps, UnidentifiedImageError

    if not encoded:
        raise BadImage("is empty")
    try:
        picture = Image.open(io.BytesIO(encoded))
        if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
            raise Image.DecompressionBombError
        if expected is not None and picture.size != expected:
            wide, high = expected
            raise BadImage(f"has {picture.width}x{picture.height} pixels instead of {wide}x{high}")
        if size is not None and side is None:  # a JPEG can be decoded at an eighth of its size: enough for a thumbnail
            picture.draft(None, (2 * size, 2 * size))
        ImageOps.exif_transpose(picture, in_place=True)
        picture = _eight_bits(picture)
        if size is not None:
            picture = _square(picture, size, side)
        return np.asarray(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("has more pixels than any photograph: make it smaller first") from error
    except BadImage:
        raise
    except Exception as error:  # Pillow's decoders raise any error on a corrupt file, as its manual says
        # Pillow's message for an unidentified file is the address of our buffer.
        reason = "of no known kind" if isinstance(error, UnidentifiedImageError) else str(error).partition("\n")[0]
        raise BadImage(f"is not a readable image ({reason or type(error).__name__})") from error


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Centre crop and antialiased resize of images ``(N, C, H, W)`` to ``(N, C, size, size)``, uint8."""
    from PIL import Image

    out = np.empty((*images.shape[:2], size, size), np.uint8)
    for n, image in enumerate(images):
        for c, channel in enumerate(image):
            out[n, c] = np.asarray(_square(Image.fromarray(np.ascontiguousarray(channel)), size))
    return out


def _square(picture: Image.Image, size: int, side: int | None = None) -> Image.Image:
    from PIL.Image import Resampling

    side = side or min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    # Not resize(box=...): its filter would reach over the edge of the box.
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Resampling.LANCZOS)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """The picture in mode L or RGB."""
    from PIL import Image

    mode = "L" if picture.mode in GREY else "RGB"
    if picture.mode == "F":
        raise BadImage("holds floating-point values, which have no agreed range: save it with 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16 bits; older writers leave them in 32
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage("holds values outside 0..65535: save it with 8 or 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if picture.mode in TRANSPARENT or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert(mode)
    return picture if picture.mode == mode else picture.convert(mode)
