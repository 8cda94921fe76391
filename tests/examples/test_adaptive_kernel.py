"""The width that DMMD's loss would choose, and what becomes of particles that keep to another."""

from importlib import import_module

import pytest
import torch

import wasserflow as wf
from wasserflow.discrepancy.mmd import paired_mmd_squared, witness
from wasserflow.metric import energy_distance

example = import_module("adaptive_kernel")


def pairs(shift, n=400):
    rng = torch.Generator().manual_seed(0)
    data = 0.1 * torch.randn(n, 2, generator=rng)
    return (
        data + torch.tensor([shift, 0.0]) + 0.1 * torch.randn(n, 2, generator=rng),
        data,
        torch.rand(n, 1, generator=rng),
    )


def test_far_particles_get_a_wide_kernel_and_near_ones_a_narrow_one():
    near, far = (example.best_width(*pairs(shift)) for shift in (0.0, 1.0))
    assert near < far / 3


def test_the_width_has_the_lowest_loss_over_scales_too():
    """By brute force over scales s of the witness: -s M / W + E (s |grad w| - 1)^2, over every width."""
    noise, data, between = pairs(1.0)
    distance = (noise - data).norm(dim=1).mean()
    scales = torch.logspace(-3, 3, 4000)

    def loss(width):
        kernel = wf.kernel.Gaussian(width)
        slope = witness(noise, data, kernel).gradient(between * data + (1 - between) * noise).norm(dim=1)
        value = paired_mmd_squared(noise, data, kernel) / distance
        return (-scales * value + (scales[:, None] * slope - 1).square().mean(1)).min().item()

    best = min(example.WIDTHS, key=loss)
    assert example.best_width(noise, data, between) == pytest.approx(best)


def test_a_width_per_level_comes_closer(tmp_path, monkeypatch):
    monkeypatch.setattr(example, "energy_distance", lambda x, y: energy_distance(x, y[:2000]))
    numbers = example.main(tmp_path, particles=200, levels=3, steps=8)
    distances = numbers["energy distance"]
    assert distances["by level"] < min(distances[f"fixed {width:g}"] for width in (0.03, 0.1, 0.3))
    assert (tmp_path / "adaptive_kernel.png").exists()
