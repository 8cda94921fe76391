"""Grids of a training combined: rows below each other, or frames with a caption."""

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

__all__ = ["captioned", "strip", "top_row"]

INK = "#303030"
GAP = 8
"""Pixels between texts and pictures."""


def top_row(grid: Image.Image, rows: int) -> Image.Image:
    """The first row of an `image_grid` with ``rows`` rows, including its separators."""
    line = grid.height % rows  # rows of equal height, and one separator more than rows
    return grid.crop((0, 0, grid.width, grid.height // rows + line))


def strip(rows: Mapping[str, Image.Image], heading: str) -> Image.Image:
    """Arrange pictures of one size below each other, without resampling, with their names on the left.

    Args:
        rows: The pictures by name, first to last.
        heading: Heading of the names.
    """
    first = next(iter(rows.values()))
    font = _font(16)
    margin = round(max(font.getlength(text) for text in (heading, *rows))) + 2 * GAP
    top = 16 + 2 * GAP
    picture = Image.new(first.mode, (margin + first.width + GAP, top + len(rows) * (first.height + GAP)), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((margin - GAP, top / 2), heading, INK, font, anchor="rm")
    for index, (name, row) in enumerate(rows.items()):
        y = top + index * (first.height + GAP)
        picture.paste(row, (margin, y))
        draw.text((margin - GAP, y + first.height / 2), name, INK, font, anchor="rm")
    return picture


def captioned(picture: Image.Image, caption: str) -> Image.Image:
    """The picture with a line of text above it."""
    font = _font(14)
    top = 14 + GAP
    width = max(picture.width, round(font.getlength(caption)) + 2 * GAP)
    frame = Image.new(picture.mode, (width, top + picture.height), "white")
    frame.paste(picture, ((width - picture.width) // 2, top))
    ImageDraw.Draw(frame).text((GAP, top / 2), caption, INK, font, anchor="lm")
    return frame


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface of the figures."""
    from matplotlib import get_data_path

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
