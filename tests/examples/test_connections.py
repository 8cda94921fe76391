"""The kernel flow is Stein's, and the four consumers are compared on equal terms."""

from importlib import import_module
from typing import Any

import pytest
import torch

import wasserflow as wf

example = import_module("connections")

F64: dict[str, Any] = {"dtype": torch.float64}


def test_kernel_field_is_steins_direction():
    """With the exact ratio, mean_j k(x, x_j) grad log p/q (x_j) = mean_j [k(x, x_j) grad log p(x_j) + grad_{x_j} k].

    The particles are 20,000 quantiles of q = N(0.5, 0.6^2), so that means over them are integrals over q; p = N(0, 1).
    """
    mean, sd, bandwidth = 0.5, 0.6, 0.3
    levels = (torch.arange(20_000, **F64) + 0.5) / 20_000
    particles = torch.distributions.Normal(mean, sd).icdf(levels)[:, None]
    ratio = wf.RatioField(lambda x: (0.5 * ((x - mean) / sd).square() - 0.5 * x.square()).sum(1), "kl")
    points = torch.linspace(-1, 2, 7, **F64)[:, None]
    velocity = example.KernelField(ratio, bandwidth).at(particles)(points)
    kernel = (-(points - particles.T).square() / (2 * bandwidth**2)).exp()
    stein = kernel * -particles.T + kernel * (points - particles.T) / bandwidth**2
    torch.testing.assert_close(velocity, stein.mean(1, keepdim=True), rtol=0, atol=2e-4)
    assert velocity.abs().max() > 0.1


def test_kernel_of_no_width_leaves_the_field():
    """Distinct particles then see themselves alone: v(x_i) = u(x_i) / N."""
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), **F64)
    u = wf.RatioField(lambda x: x.square().sum(1), "kl")
    torch.testing.assert_close(example.KernelField(u, 1e-3)(x), u(x) / 30)


def test_table(tmp_path):
    numbers = example.main(tmp_path, cpu_minutes=0.02)
    assert numbers["GAN"]["evaluations per sample"] == numbers["amortised flow"]["evaluations per sample"] == 1
    assert numbers["GAN"]["steps"] > numbers["amortised flow"]["steps"]
    assert numbers["kernel flow"]["energy distance"] > numbers["reference"]
    assert (tmp_path / "connections.png").exists()


@pytest.mark.parametrize(("flag", "value"), [("data", "mnist"), ("cpu_minutes", 0.0)])
def test_mistakes(tmp_path, flag, value):
    with pytest.raises(wf.UserError):
        example.main(tmp_path, **{flag: value})
