"""Axes that fit a cloud, and files."""

from pathlib import Path

import numpy as np
import pytest

from wasserflow._core.errors import UserError
from wasserflow.plot import curves, densities, save_figure
from wasserflow.plot.figure import limits, outside

FIGURE = {"images": [1.0, 2.0], "loss": [3.0, 4.0]}


def test_limits_ignore_outliers_and_their_share_is_told():
    cloud = np.concatenate([np.random.default_rng(0).uniform(-1, 1, (999, 2)), [[1e6, 0]]])
    bounds = limits(cloud)
    assert bounds == pytest.approx(np.array([[-1.25, 1.25], [-1.25, 1.25]]), abs=0.05)
    assert outside(cloud, bounds) == ", 0.1% outside"
    assert outside(cloud[:-1], bounds) == ""
    assert (np.diff(limits(np.ones((5, 2)))) > 0).all()
    assert outside(np.zeros((5000, 2)) + np.eye(5000, 2) * 9, np.array([[-1, 1], [-1, 8.0]])) == ", under 0.1% outside"


@pytest.mark.parametrize(("stretch", "aspect"), [(1, 1.0), (3, 1.0), (1e-3, "auto"), (1e4, "auto")])
def test_axes_have_one_scale_where_their_ranges_are_alike(stretch: float, aspect: float | str):
    cloud = np.random.default_rng(0).uniform(size=(500, 2)) * [stretch, 1]
    panels = densities(cloud, cloud).axes[:2]
    assert {panel.get_aspect() for panel in panels} == {aspect}
    wide, high = densities(cloud, cloud).get_size_inches()
    assert 1 < wide / high < 5


def test_files_are_whole_or_absent(tmp_path: Path):
    figure = curves(FIGURE, "images")
    for name in ("a.png", "a.pdf", "a.SVG"):
        save_figure(figure, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    for name, sentence in (("b.xyz", "unknown picture format '.xyz'"), ("no/b.png", "no folder")):
        with pytest.raises(UserError, match=sentence):
            save_figure(figure, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.SVG", "a.pdf", "a.png"]
