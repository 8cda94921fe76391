"""GIFs: frames, their order, their timing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from wasserflow._core.errors import UserError
from wasserflow.plot import cloud_frames, save_gif


def read(path: Path) -> tuple[list[np.ndarray], list[int], int]:
    with Image.open(path) as gif:
        frames = [(np.asarray(f.convert("RGB")), int(f.info["duration"])) for f in ImageSequence.Iterator(gif)]
        return [f for f, _ in frames], [d for _, d in frames], int(gif.info["loop"])


def test_grey_frames_loop_and_rest_on_the_last(tmp_path: Path):
    save_gif([Image.new("L", (20, 10), 51 * i) for i in range(6)], tmp_path / "a.gif", seconds=1)
    frames, durations, loop = read(tmp_path / "a.gif")
    assert loop == 0
    assert durations == [200] * 5 + [1500]
    assert frames[0].shape == (10, 20, 3)
    levels = [int(frame[0, 0, 0]) for frame in frames]
    assert levels == pytest.approx([0, 51, 102, 153, 204, 255], abs=255 / 62)
    assert levels[0] == 0
    assert levels[-1] == 255


def test_colours_survive(tmp_path: Path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    save_gif([Image.new("RGB", (20, 10), c) for c in colours], tmp_path / "a.gif")
    frames, _, _ = read(tmp_path / "a.gif")
    assert [f[5, 5].tolist() for f in frames] == [pytest.approx(c, abs=8) for c in colours]


def test_too_many_frames_are_thinned_evenly_with_both_ends(tmp_path: Path):
    save_gif([Image.new("L", (4, 4), i) for i in range(0, 255, 1)], tmp_path / "a.gif", seconds=0.4)
    _, durations, _ = read(tmp_path / "a.gif")
    assert len(durations) <= 10
    assert sum(durations[:-1]) == pytest.approx(400, abs=50)


def test_one_frame_and_none(tmp_path: Path):
    save_gif([Image.new("RGB", (4, 4))], tmp_path / "a.gif")
    assert len(read(tmp_path / "a.gif")[0]) == 1
    with pytest.raises(ValueError, match="at least one frame"):
        save_gif([], tmp_path / "b.gif")
    with pytest.raises(UserError, match=r"\.gif"):
        save_gif([Image.new("L", (4, 4))], tmp_path / "b.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_clouds_become_frames_with_fixed_axes(tmp_path: Path):
    rng = torch.Generator().manual_seed(0)
    data = torch.randn(200, 2, generator=rng)
    far = torch.full((200, 2), 1e3)
    frames = cloud_frames([data, far, data], reference=data)
    assert {frame.size for frame in frames} == {(480, 480)}
    first, away, last = (np.asarray(frame) for frame in frames)
    assert (first == last).all()
    blue = [(f[..., 2] > f[..., 0].astype(int) + 60).sum() for f in (first, away)]
    assert blue[0] > 500
    assert blue[1] == 0
    assert cloud_frames([]) == []
    save_gif(frames, tmp_path / "a.gif")
    assert len(read(tmp_path / "a.gif")[0]) == 3


def test_only_points_and_title_change_from_frame_to_frame():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(300, 2))
    clouds = [np.zeros((5, 2)), np.full((5, 2), 2.0)]
    first, last = (np.asarray(f).astype(int) for f in cloud_frames(clouds, data, ["0 images", "12,345,678 images"]))
    changed = np.abs(first - last).max(2) > 8
    blue = [f[..., 2] > f[..., 0] + 40 for f in (first, last)]
    below = np.arange(480)[:, None] > 24
    assert changed[:24].any(), "the title"
    assert not (changed & below & ~blue[0] & ~blue[1]).any(axis=1)[24:].sum() > 30
    for points in blue:
        assert 0 < points.sum() < 400
    assert (first[440:] == last[440:]).all(), "the numbers of the axis"
