"""Objectives against each other and against closed forms; engines against each other."""

import shutil

import pytest
import torch

from wasserflow.nn.potential import Potential, build_energy
from wasserflow.path import Linear
from wasserflow.potential import ENGINES, OBJECTIVES, draw, gradient

EXACT_ENGINES = ["double-backward", "func", "jvp"]


def potential(shape, network, head, path=None, dtype=torch.float64):
    torch.manual_seed(0)
    path = path or Linear()
    model = Potential(build_energy(network, head, shape, 4, 2, scale=3.0), shape, path).to(dtype)
    model.standardise(torch.randn(50, *shape, dtype=dtype) * 0.5 + 0.3)
    return model


def points(shape, path=None, n=6, dtype=torch.float64, **settings):
    rng = torch.Generator().manual_seed(1)
    x1, eps = torch.randn(2, n, *shape, generator=rng, dtype=dtype)
    t = torch.linspace(0.1, 0.9, n, dtype=dtype)
    return draw(path or Linear(), x1, eps, t, **settings)


def weight_gradients(engine, model, d, objective):
    model.zero_grad()
    value, losses = ENGINES[engine](model, d, OBJECTIVES[objective])
    for loss in losses:
        loss.backward()
    return value, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


CASES = [((2, 7, 6), "encoder", "scalar"), ((3,), "mlp", "autoencoder"), ((3,), "mlp", "dot")]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("shape", "network", "head"), CASES)
def test_engines_agree(objective, shape, network, head):
    model, d = potential(shape, network, head), points(shape, weight="s")
    value, expected = weight_gradients("double-backward", model, d, objective)
    for engine in EXACT_ENGINES[1:]:
        same, found = weight_gradients(engine, model, d, objective)
        torch.testing.assert_close(same, value, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
    same, found = weight_gradients("finite-difference", model, d, objective)
    torch.testing.assert_close(same, value, rtol=1e-10, atol=1e-10)
    assert (found - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_equals_eager():
    objective = "vapo-tmlr"  # which needs psi and both its slopes
    model, d = potential((3,), "mlp", "scalar", dtype=torch.float32), points((3,), dtype=torch.float32)
    value, expected = weight_gradients("double-backward", model, d, objective)
    same, found = weight_gradients("compiled", model, d, objective)
    torch.testing.assert_close(same, value, rtol=1e-5, atol=1e-6)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_gradient_is_the_slope_without_a_graph():
    model, d = potential((3,), "mlp", "scalar"), points((3,))
    psi, g = gradient(model, d.x, d.t)
    assert not psi.requires_grad
    assert not g.requires_grad
    step = 1e-6 * torch.ones_like(d.x)
    slope = (model(d.x + step, d.t) - model(d.x - step, d.t)) / 2e-6
    torch.testing.assert_close(g.sum(1), slope.detach(), rtol=1e-6, atol=1e-6)
