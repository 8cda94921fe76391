"""What is timed side by side computes the same, and what is fitted is what was measured."""

from importlib import import_module

import torch

particles = import_module("benchmarks.particles")


def test_rivals_compute_our_field():
    assert max(particles.errors().values()) < 1e-6


def test_probe_measures_one_step():
    figures = particles.probe("sliced,500,3,1")
    assert figures["cpu_seconds"] > 0
    assert 50 < figures["before_mb"] <= figures["peak_mb"]


def test_accuracy_of_more_slices_is_higher():
    rows = particles.accuracy(d=8, n=60)
    assert rows[-1]["orthogonal"] < rows[-1]["independent"] < rows[0]["independent"]
    torch.testing.assert_close(torch.tensor(rows[0]["guide"]), torch.tensor((8 / 16) ** 0.5))
