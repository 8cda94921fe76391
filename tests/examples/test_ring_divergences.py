"""The figures of the 2-D study mean what they say, and a short training already goes towards the ring."""

from importlib import import_module
from math import exp

import pytest
import torch

import wasserflow as wf

example = import_module("ring_divergences")


@pytest.mark.parametrize(("name", "share"), [("ring", 1 - exp(-4.5)), ("circles", 0.9973)])
def test_high_quality_of_the_data(name, share):
    """Within 3 sd lie 1 - e^{-9/2} of a round Gaussian of the plane, and 0.9973 of one across a wide circle."""
    target = example.TARGETS[name]
    assert target.high_quality(target.points(40_000, 0)) == pytest.approx(share, abs=0.002)


def test_high_quality_of_what_lies_elsewhere():
    assert example.TARGETS["ring"].high_quality(torch.zeros(5, 2)) == 0
    assert example.TARGETS["circles"].high_quality(torch.tensor([[10.0, 0.0], [0.0, 15.2]])) == 0.5


def test_training_finds_the_first_modes():
    """Within 150 steps the samples, first all around the origin, have come to the ring."""
    samples, figures = example.learn(example.TARGETS["ring"], "logd", wf.Budget(images=150_000))
    assert [f["step"] for f in figures] == [50, 62, 78, 98, 122, 150]
    assert figures[0]["high_quality"] < 0.05 < 0.2 < figures[-1]["high_quality"]
    assert figures[-1]["log_chamfer"] < figures[0]["log_chamfer"] - 0.2
    assert samples.shape == (1000, 2)


def test_picture(tmp_path):
    numbers = example.main(tmp_path, cpu_minutes=0.02)
    assert set(numbers) == {"cpu_minutes", "ring", "circles"}
    assert numbers["ring"]["real"]["log_chamfer"] < numbers["ring"]["kl"][-1]["log_chamfer"]
    assert (tmp_path / "ring_divergences.png").exists()
