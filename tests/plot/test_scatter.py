"""Scatter plots: they open, the axes follow the data, and what cannot be drawn is said."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wasserflow._core.errors import UserError
from wasserflow.plot import save_scatter

POINTS = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))


def test_pictures(tmp_path: Path):
    save_scatter(POINTS, tmp_path / "one.png")
    save_scatter(POINTS, tmp_path / "two.png", reference=POINTS)
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert two.size == (2 * one.width, one.height)
        pixels = np.asarray(two.convert("RGB")).astype(int)
    blue = pixels[..., 2] > pixels[..., 0] + 60
    half = blue.shape[1] // 2
    assert blue[:, half:].sum() > 1000
    assert not blue[:, :half].any()
    save_scatter(POINTS, tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_what_cannot_be_drawn(tmp_path: Path):
    for points, sentence in (
        (torch.zeros(5, 3), r"points \(N, 2\)"),
        (torch.full((5, 2), torch.nan), "none of the points is finite"),
        (torch.zeros(0, 2), "none of the points"),
    ):
        with pytest.raises(UserError, match=sentence):
            save_scatter(points, tmp_path / "a.png")
    with pytest.raises(UserError, match="unknown picture format"):
        save_scatter(POINTS, tmp_path / "a.xyz")
    some = POINTS.clone()
    some[0] = torch.inf
    save_scatter(some, tmp_path / "a.png", reference=some)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
