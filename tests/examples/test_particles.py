"""The funnel's score, Langevin's step, and particles that come closer to where they flow."""

from importlib import import_module

import pytest
import torch
from PIL import Image

example = import_module("particles")


def test_score_of_the_funnel():
    """It is the gradient of log N(y; 0, 1) + log N(x; 0, (e^y / 10)^2)."""
    points = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    x, y = points.T
    normal = torch.distributions.Normal
    log_density = normal(0.0, 1.0).log_prob(y) + normal(0.0, 0.1 * y.exp()).log_prob(x)
    (score,) = torch.autograd.grad(log_density.sum(), points)
    torch.testing.assert_close(example.funnel_score(points.detach()), score)


def test_langevin_step():
    """One Euler step has the mean x + eta score and the variance 2 eta."""
    torch.manual_seed(0)
    x = torch.tensor([[0.05, 1.0]]).expand(40_000, 2)
    moved = x + example.STEP_SIZE * example.langevin(x)
    noise = (moved - x - example.STEP_SIZE * example.funnel_score(x)) / (2 * example.STEP_SIZE) ** 0.5
    torch.testing.assert_close(noise.mean(0), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(noise.T.cov(), torch.eye(2), atol=0.03, rtol=0)


@pytest.mark.parametrize(("target", "share"), [("s-curve", 0.5), ("funnel", 0.98)])
def test_particles_come_closer(tmp_path, target, share):
    numbers = example.main(tmp_path, target, particles=128, steps=100)
    distances = numbers["energy distance to the target"]
    assert distances["gradient flow"] < share * distances["at the start"]
    assert (tmp_path / f"{target}.png").exists()
    with Image.open(tmp_path / f"{target}.gif") as film:
        assert getattr(film, "n_frames", 1) > 10
