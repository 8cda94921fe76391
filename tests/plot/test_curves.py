"""Curves: a panel for each scalar that there is, every value in sight, and the line that the ratio loss should meet."""

from math import log

import numpy as np
import pytest

from wasserflow._core.errors import UserError
from wasserflow.plot import curves, overlaid

RNG = np.random.default_rng(0)
SHORT = {
    "images": [64.0, 128.0, 192.0],
    "steps": [1.0, 2.0, 3.0],
    "seconds": [1.0, 2.0, 3.0],
    "memory_mb": [300.0, 300.0, 300.0],
    "images_per_second": [64.0, 64.0, 64.0],
    "ratio_loss": [1.0, 1.2, 1.3],
    "logit_samples": [-0.3, -0.2, -0.1],
    "logit_data": [0.3, 0.2, 0.1],
    "my_own_scalar": [5.0, 4.0, 3.0],
}


def panels(figure) -> dict:
    return {axes.get_title().split(",")[0]: axes for axes in figure.axes}


def levels(axes) -> list[float]:
    """Heights of the dashed lines across a panel."""
    return [float(line.get_ydata()[0]) for line in axes.lines if line.get_linestyle() == "--"]


def test_a_panel_for_each_scalar_and_none_for_clocks():
    titles = ["ratio loss (classifier)", "mean logit d = log p/q", "my own scalar", "images per second"]
    assert [axes.get_title() for axes in curves(SHORT, "images").axes] == titles


def test_units_follow_the_data():
    drawn = panels(curves(SHORT, "rows"))
    assert "rows per second" in drawn
    assert drawn["rows per second"].get_xlabel() == "rows seen"


def test_curves_go_through_every_value():
    drawn = panels(curves(SHORT, "images"))
    (line,) = drawn["my own scalar"].lines
    assert line.get_xdata().tolist() == SHORT["images"]
    assert line.get_ydata().tolist() == SHORT["my_own_scalar"]
    logits = {line.get_label(): list(line.get_ydata()) for line in drawn["mean logit d = log p/q"].lines}
    assert logits["data"] == SHORT["logit_data"]
    assert logits["samples"] == SHORT["logit_samples"]
    assert drawn["images per second"].get_ylim()[0] == 0


@pytest.mark.parametrize(("equilibrium", "says"), [(2 * log(2), "2 log 2"), (0.5, "0.5"), (0.0, "0")])
def test_equilibrium(equilibrium: float, says: str):
    axes = panels(curves(SHORT, "images", equilibrium))["ratio loss (classifier)"]
    assert levels(axes) == [equilibrium]
    (text,) = axes.get_legend().get_texts()
    assert text.get_text() == f"{says}, where p = q"
    low, high = axes.get_ylim()
    assert low < equilibrium < high


def test_the_default_equilibrium_is_that_of_the_logistic_loss():
    drawn = panels(curves(SHORT, "images"))
    assert levels(drawn["ratio loss (classifier)"]) == [2 * log(2)]
    assert levels(drawn["mean logit d = log p/q"]) == [0]
    assert levels(drawn["my own scalar"]) == []
    assert levels(panels(curves(SHORT, "images", None))["ratio loss (classifier)"]) == []


def test_half_a_pair_is_a_panel_of_its_own():
    drawn = panels(curves({"images": [1.0], "logit_data": [2.0], "witness_samples": [3.0]}, "images"))
    assert list(drawn) == ["logit data", "witness samples"]


def test_long_logs_keep_every_value_below_a_running_median():
    n = 1000
    noise, flat = RNG.normal(size=n), np.full(n, 3.0)
    flat[[100, 500]] = 1e3
    drawn = panels(curves({"images": np.arange(1.0, n + 1), "noise": noise, "flat": flat}, "images"))
    raw, median = drawn["noise"].lines
    assert raw.get_ydata().tolist() == noise.tolist()
    assert np.std(median.get_ydata()) < 0.4 * np.std(noise)
    raw, median = drawn["flat"].lines
    assert set(median.get_ydata()) == {3.0}, "single spikes do not move the median"


def test_a_few_values_do_not_flatten_the_others():
    n = 1000
    loss = 1 + 0.1 * RNG.normal(size=n)
    loss[[3, 400, 800]] = [50, 1e3, -20]
    (axes,) = curves({"images": np.arange(1.0, n + 1), "loss": loss}, "images").axes
    low, high = axes.get_ylim()
    assert axes.get_title() == f"loss, {((loss < low) | (loss > high)).sum()} values beyond"
    assert ((loss > low) & (loss < high)).mean() > 0.98
    assert high - low < 1
    assert np.asarray(axes.lines[0].get_ydata())[400] == 1e3


def test_missing_values_are_gaps():
    n = 200
    seldom = np.where(np.arange(n) % 10 == 0, 1.0, np.nan)
    never = np.full(n, np.inf)
    drawn = panels(
        curves({"images": np.arange(1.0, n + 1), "seldom": seldom, "never": never, "gone": [np.nan] * n}, "images")
    )
    _, median = drawn["seldom"].lines
    known = np.asarray(median.get_ydata(), float)
    assert set(known[np.isfinite(known)]) == {1.0}


def test_nothing_to_draw():
    with pytest.raises(UserError, match="no curves to draw"):
        curves({"images": [1.0], "steps": [1.0], "seconds": [1.0]}, "images")


def test_curves_of_several_trainings_share_panels():
    images, noise = np.arange(1, 601) * 10.0, RNG.normal(size=600)
    long = {"images": images, "ratio_loss": 1 + 1e-3 * noise, "field_norm": images}
    figure = overlaid({"short": SHORT, "long": long}, "points")
    drawn = panels(figure)
    assert list(drawn) == [
        "ratio loss (classifier)",
        "field norm",
        "logit samples",
        "logit data",
        "my own scalar",
        "points per second",
    ]
    assert {axes.get_xlabel() for axes in figure.axes[-3:]} == {"points seen"}
    short, smooth = drawn["ratio loss (classifier)"].lines
    assert short.get_ydata().tolist() == SHORT["ratio_loss"]
    assert np.ptp(smooth.get_ydata()) < np.ptp(long["ratio_loss"]) / 2
    assert [len(line.get_ydata()) for line in drawn["my own scalar"].lines] == [3, 0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["short", "long"]
    with pytest.raises(UserError, match="no scalars"):
        overlaid({"short": {"images": [1.0], "seconds": [1.0]}}, "points")
