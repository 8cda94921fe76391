"""Animations as looping GIFs."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing

__all__ = ["evenly", "save_gif"]

SHORTEST = 0.04
"""Least duration of a frame in seconds; viewers slow down shorter ones."""

HOLD = 1.5
"""Duration of the last frame in seconds."""


def save_gif(frames: Sequence[Image.Image], path: str | os.PathLike[str], *, seconds: float = 4.0) -> None:
    """Write frames of one size as a GIF that loops and pauses on the last frame.

    Frames beyond 25 a second are left out evenly, never the first or the last. All frames share one palette, so that
    colours do not flicker.

    Args:
        frames: The pictures, first to last.
        path: The file, ``.gif``.
        seconds: Duration without the pause on the last frame.
    """
    if not frames or seconds <= 0:
        raise ValueError("a GIF needs at least one frame and a positive duration")
    if Path(path).suffix.lower() != ".gif":
        raise UserError(f"an animation is written as .gif, not as {Path(path).name}.")
    most = max(2, int(seconds / SHORTEST))
    kept = [frames[index] for index in evenly(len(frames), most)]
    # GIF counts in hundredths of a second.
    pause = max(1, round(100 * seconds / max(1, len(kept) - 1))) * 10
    with whole_or_nothing(path) as part:
        first, *rest = _indexed(kept)
        first.save(
            part,
            save_all=True,
            append_images=rest,
            duration=[*[pause] * len(rest), round(1000 * HOLD)],
            loop=0,
        )


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of ``range(count)``, evenly spaced, including both ends."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _indexed(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """The frames with one palette; grey frames have 32 levels, which makes the file a third as large."""
    if all(frame.mode == "L" for frame in frames):
        return [frame.point([round(round(grey / 255 * 31) * 255 / 31) for grey in range(256)]) for frame in frames]
    colours = [frame.convert("RGB") for frame in frames]
    width, height = colours[0].size
    some = [colours[index] for index in evenly(len(colours), 8)]
    strip = Image.new("RGB", (width, height * len(some)))
    for index, frame in enumerate(some):
        strip.paste(frame, (0, index * height))
    palette = strip.quantize(256, method=Image.Quantize.FASTOCTREE)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in colours]
