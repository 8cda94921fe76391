"""One shape flows into another: two black-and-white pictures as clouds of points, and the sliced energy between them.

``wasserflow flow --source heart.png --target star.png --field sliced --out moved.npy --gif morph.gif`` does the same
with any two pictures. The energy distance alone decides where points go; points of the two shapes are not paired. The
last ones arrive slowly: the pull on the points outside is proportional to their share.

Source: Generative Sliced MMD Flows with Riesz Kernels (Hertrich et al., 2024), arXiv 2305.11463.
"""

from math import cos, pi, sin
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import cli, cloud_panels, make_folder, save
from PIL import Image, ImageDraw
from torch import Tensor

import wasserflow as wf
from wasserflow._core.errors import check_seed
from wasserflow.data.ink import ink_points
from wasserflow.metric import energy_distance
from wasserflow.plot import cloud_frames, save_gif, save_image

__all__ = ["SHAPES", "main"]

FRAMES = 48


def _heart(angle: float) -> tuple[float, float]:
    x = 16 * sin(angle) ** 3
    y = 13 * cos(angle) - 5 * cos(2 * angle) - 2 * cos(3 * angle) - cos(4 * angle)
    return x / 18, (y + 2) / 18


def _star(angle: float) -> tuple[float, float]:
    corner = round(angle / (2 * pi) * 10)
    radius = 0.95 if corner % 2 == 0 else 0.38
    return radius * sin(corner * pi / 5), radius * cos(corner * pi / 5)


SHAPES = {
    "heart": [_heart(2 * pi * i / 200) for i in range(200)],
    "star": [_star(2 * pi * i / 10) for i in range(10)],
}
"""Outlines, within the square of side 2 around 0."""


def main(out: Path = Path("morphing"), points: int = 3000, steps: int = 1200, seed: int = 0) -> dict[str, Any]:
    """Draw two shapes, let one flow into the other, and film it.

    Args:
        out: Folder for the pictures, the animation and the numbers.
        points: Points in each shape.
        steps: Steps of the flow.
        seed: Random seed of the points and of the slices.
    """
    if min(points, steps) < 2:
        raise wf.UserError(f"--points and --steps must be at least 2, not {points} and {steps}")
    check_seed(seed)
    make_folder(out)
    clouds: dict[str, Tensor] = {}
    for name, outline in SHAPES.items():
        picture = Image.new("L", (240, 240), 255)
        ImageDraw.Draw(picture).polygon([(120 + 115 * x, 120 - 115 * y) for x, y in outline], fill=0)
        save_image(picture, out / f"{name}.png")
        clouds[name] = torch.from_numpy(ink_points(out / f"{name}.png", points, np.random.default_rng(seed)))
    history: list[Tensor] = []
    field = wf.SlicedField(clouds["star"], slices=32, seed=seed)
    end = wf.flow(clouds["heart"], field, steps=steps, step_size=0.15, callback=lambda k, x: history.append(x))
    numbers = {
        "points": points,
        "steps": steps,
        "energy distance to the star": {
            "heart": energy_distance(clouds["heart"], clouds["star"]),
            "moved": energy_distance(end, clouds["star"]),
        },
    }
    for name, value in numbers.items():
        print(f"{name}: {value}")
    columns = [0, steps // 120, steps // 30, steps // 6, steps]
    panels = cloud_panels({"": [history[k] for k in columns]}, None, [f"step {k}" for k in columns])
    save(panels, numbers, out, "morphing")
    early = sorted({round((len(history) - 1) * (i / FRAMES) ** 2) for i in range(FRAMES + 1)})  # most happens there
    frames = cloud_frames([history[k] for k in early], around=torch.cat([history[0], end]))
    save_gif([frame.reduce(2) for frame in frames], out / "morphing.gif", seconds=3)
    print(out / "morphing.gif")
    return numbers


if __name__ == "__main__":
    cli(main)
