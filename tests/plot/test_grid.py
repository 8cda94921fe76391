"""Grids: geometry and pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wasserflow._core.errors import UserError
from wasserflow.plot import image_grid, save_grid


def test_every_pixel_is_where_it_belongs():
    samples = torch.rand(5, 1, 16, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    grid = np.asarray(image_grid(samples, columns=2, scale=3))
    assert grid.shape == (3 * (48 + 2) + 2, 2 * (60 + 2) + 2)
    for index in range(5):
        top, left = 2 + index // 2 * 50, 2 + index % 2 * 62
        cell = grid[top : top + 48, left : left + 60]
        truth = (samples[index, 0] + 1).mul(127.5).round().numpy().repeat(3, 0).repeat(3, 1)
        assert (cell == truth).all()
    lines = [*grid[:2].ravel(), *grid[:, :2].ravel(), *grid[50:52].ravel(), *grid[-50:, 64:].ravel()]
    assert set(lines) == {224}


def test_tiny_images_are_enlarged_smoothly():
    ramp = torch.linspace(-1, 1, 8).expand(1, 1, 8, 8)
    cell = np.asarray(image_grid(ramp, scale=10))[2:82, 2:82].astype(int)
    assert (np.diff(cell[:, 15:65], axis=1) <= 5).all(), "no steps where the image has none"
    assert (np.diff(cell, axis=0) == 0).all()
    assert abs(cell[0, 40] - 127.5) < 3


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_modes_and_clamping(channels: int, mode: str):
    samples = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0, torch.nan]).reshape(6, 1, 1, 1).expand(6, channels, 1, 1)
    grid = image_grid(samples, columns=6, scale=1)
    assert grid.mode == mode
    assert grid.size == (13, 3)
    row = np.asarray(grid).reshape(3, 13, channels)[1, 1::2]
    assert (row == np.array([0, 0, 128, 255, 255, 128])[:, None]).all()
    if channels == 4:
        assert grid.getpixel((0, 0)) == (224, 224, 224, 255)


@pytest.mark.parametrize(("side", "count"), [(8, 64), (28, 64), (28, 100), (32, 64), (64, 16), (8, 100)])
def test_the_usual_grids_are_a_good_size(side: int, count: int):
    width, height = image_grid(torch.zeros(count, 1, side, side)).size
    assert 500 <= width <= 900
    assert width == height


def test_no_more_columns_than_images():
    assert image_grid(torch.zeros(2, 1, 4, 4), columns=8, scale=1).size == (11, 6)


def test_files(tmp_path: Path):
    samples = torch.zeros(4, 3, 8, 8)
    for name in ("a.png", "a.JPG", "a.webp"):
        save_grid(samples, tmp_path / name, columns=4)
        with Image.open(tmp_path / name) as picture:
            assert picture.size == image_grid(samples, columns=4).size
    for name, sentence in (
        ("a.xyz", "unknown image format '.xyz'"),
        ("a", "unknown image format"),
        ("no/a.png", "no folder"),
    ):
        with pytest.raises(UserError, match=sentence):
            save_grid(samples, tmp_path / name)
    with pytest.raises(UserError, match="cannot write"):
        save_grid(torch.zeros(4, 4, 8, 8), tmp_path / "rgba.jpg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.JPG", "a.png", "a.webp"]


@pytest.mark.parametrize("shape", [(4, 2, 8, 8), (0, 1, 8, 8), (8, 8)])
def test_what_is_no_image(shape: tuple[int, ...]):
    with pytest.raises(UserError, match="a grid needs images"):
        image_grid(torch.zeros(shape))
