"""Pictures in the plane: paths, fields and densities."""

import matplotlib.collections
import numpy as np
import pytest

from wasserflow.plot import densities, field, kernel_density, paths
from wasserflow.plot.figure import limits

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(2000, 2)) * [2, 1] + [5, -1]


def lines_of(figure) -> matplotlib.collections.LineCollection:
    collections = figure.axes[0].collections
    (found,) = [c for c in collections if isinstance(c, matplotlib.collections.LineCollection)]
    return found


@pytest.mark.parametrize("count", [7, 100])
def test_paths_go_from_the_first_place_to_the_last_through_every_moment(count: int):
    moments = RNG.normal(size=(6, count, 2)) * 9
    figure = paths(moments, DATA, ("0 points", "5,000 points"))
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[-2:] == ["first (0 points)", "last (5,000 points)"]
    shown = min(count, 30)
    segments = np.array(lines_of(figure).get_segments()).reshape(5, shown, 2, 2)
    assert np.allclose(segments[:, :, 0], moments[:-1, :shown])
    assert np.allclose(segments[:, :, 1], moments[1:, :shown])
    offsets = [np.asarray(c.get_offsets()) for c in figure.axes[0].collections]
    assert any(np.array_equal(o, moments[0, :shown]) for o in offsets)
    assert any(np.array_equal(o, moments[-1, :shown]) for o in offsets)


def test_axes_are_those_of_the_data_or_of_where_the_samples_ended():
    moments = np.stack([DATA * 100, DATA * 0.5])
    for drawn, known in ((paths(moments, DATA), DATA), (paths(moments), moments[-1])):
        axes = drawn.axes[0]
        assert np.array([axes.get_xlim(), axes.get_ylim()]) == pytest.approx(limits(known))


def test_names_of_the_axes():
    for figure in (paths(np.stack([DATA, DATA]), DATA, names=("a", "b")), densities(DATA, DATA, ("a", "b"))):
        assert figure.axes[0].get_xlabel() == "a"
        assert figure.axes[0].get_ylabel() == "b"


def test_streamlines_follow_the_field():
    asked = []

    def right(points: np.ndarray) -> np.ndarray:
        asked.append(points)
        return np.tile([3.0, 0.0], (len(points), 1))

    figure = field(right, DATA, DATA)
    steps = np.diff(np.array(lines_of(figure).get_segments()), axis=1)
    assert (steps[..., 0] >= 0).all()
    assert np.abs(steps[..., 1]).max() < 1e-9
    low, high = limits(DATA).T
    assert asked[0].min(0) == pytest.approx(low)
    assert asked[0].max(0) == pytest.approx(high)
    assert lines_of(figure).get_clim() == (0, pytest.approx(3))


def test_a_field_that_vanishes_is_drawn():
    field(np.zeros_like, DATA)


@pytest.mark.parametrize("cells", [50, 200])
def test_densities_integrate_to_the_share_of_points_on_their_grid(cells: int):
    bounds = limits(DATA)
    inside = ((bounds[:, 0] < DATA) & (bounds[:, 1] > DATA)).all(1)
    far = np.concatenate([DATA, DATA[:1000] + 1e6])
    for cloud, share in ((DATA, inside.mean()), (DATA[:1], 1), (far, inside.sum() / 3000)):
        cell = np.prod(np.ptp(bounds, axis=1)) / cells**2
        density = kernel_density(cloud, bounds, cells)
        assert density.shape == (cells, cells)
        assert density.min() >= 0
        assert density.sum() * cell == pytest.approx(share, abs=0.003)
    assert kernel_density(DATA + 1e6, limits(DATA)).sum() == 0


def test_rows_are_y_and_columns_are_x():
    density = kernel_density(np.array([[0.25, 7.5]]), np.array([[0, 1], [0, 10]]), cells=100)
    row, column = np.unravel_index(density.argmax(), density.shape)
    assert (row, column) in {(74, 24), (74, 25), (75, 24), (75, 25)}


def test_the_density_of_a_gaussian():
    cloud = RNG.normal(size=(200_000, 2))
    bounds = np.array([[-4.0, 4.0], [-4.0, 4.0]])
    centres = np.linspace(-3.92, 3.92, 50)
    spread = 1 + (2 * 8 / 50) ** 2  # variance of the cloud and of the kernel
    truth = np.exp(-(centres[:, None] ** 2 + centres**2) / (2 * spread)) / (2 * np.pi * spread)
    assert kernel_density(cloud, bounds, cells=50) == pytest.approx(truth, abs=0.004)


def test_densities_share_axes_and_colours():
    figure = densities(DATA * 1.1, DATA)
    of_data, of_samples = figure.axes[:2]
    assert of_data.images[0].get_clim() == of_samples.images[0].get_clim()
    assert of_data.images[0].get_clim() == (0, kernel_density(DATA, limits(DATA)).max())
    assert of_data.images[0].get_extent() == of_samples.images[0].get_extent()
    assert of_data.get_xlim() == of_samples.get_xlim()
    assert of_samples.get_title().startswith("samples (2,000, ")
    assert figure.axes[2].get_ylabel() == "density"
