"""Strips and captions: pictures stay as they are, pixel by pixel."""

import numpy as np
import pytest
import torch
from PIL import Image

from wasserflow.plot import captioned, image_grid, strip, top_row


def images(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand(100, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (4, 70, 90)])
def test_the_top_row_of_a_grid_is_the_grid_of_its_first_images(shape: tuple[int, ...]):
    samples = images(shape)
    grid = image_grid(samples)
    scale = max(1, round(700 / (10 * shape[2])))
    expected = np.asarray(image_grid(samples[:10], columns=10, scale=scale))
    row = np.asarray(top_row(grid, 10))
    assert row.shape == expected.shape
    assert (row == expected).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (4, 16, 16)])
def test_rows_stand_in_the_strip_as_they_are(shape: tuple[int, ...]):
    rows = {f"{1000 * i:,}": top_row(image_grid(images(shape, i)), 10) for i in range(4)}
    picture = strip(rows, "images seen")
    first = rows["0"]
    assert picture.mode == first.mode
    pixels = np.asarray(picture)
    left = picture.width - first.width - 8
    for index, row in enumerate(rows.values()):
        top = 32 + index * (first.height + 8)
        assert (pixels[top : top + first.height, left : left + first.width] == np.asarray(row)).all()
    margin = np.asarray(picture.convert("L"))[:, :left]
    for index in range(4):
        top = 32 + index * (first.height + 8)
        assert margin[top : top + first.height].min() < 128, "each row has its name"
    assert (margin[:, 0] == 255).all(), "no name is cut"


def test_captions_stand_above_the_picture():
    grid = Image.new("L", (300, 50), 128)
    frames = [captioned(grid, text) for text in ("0 images", "1,000,000 images")]
    assert frames[0].size == frames[1].size == (300, 72)
    for frame in frames:
        assert (np.asarray(frame)[22:] == 128).all()
        assert np.asarray(frame)[:22].min() < 128
    narrow = captioned(Image.new("RGB", (20, 20)), "1,000,000 images")
    assert narrow.width > 100
