"""Moving pictures: a looping GIF that anything can show."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing

__all__ = ["evenly", "save_gif"]

SHORTEST = 0.04
"""Seconds a frame stays at least; viewers slow down what is much quicker."""

HOLD = 1.5
"""Seconds the last frame stays before the loop starts again."""


def save_gif(frames: Sequence[Image.Image], path: str | os.PathLike[str], *, seconds: float = 4.0) -> None:
    """Write frames of one size as a GIF that loops and rests on the last frame.

    Frames beyond 25 a second are left out evenly, never the first or the last. One palette, taken from frames
    all along, serves every frame, so that colours do not flicker.

    Args:
        frames: The pictures, first to last.
        path: Where to, ``.gif``.
        seconds: How long the motion takes, without the rest on the last frame.
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
    """At most ``most`` of ``range(count)``, evenly, with both ends."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _indexed(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """The frames with one common palette; 32 levels do for grey ones and make the file a third as large."""
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
