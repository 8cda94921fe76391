"""KALE: primal equals dual, limits, envelope gradients."""

from typing import Any

import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.discrepancy.kale import kale
from wasserflow.discrepancy.mmd import mmd_squared
from wasserflow.kernel.base import Linear
from wasserflow.kernel.radial import Energy, Gaussian, InverseMultiquadric

F64: dict[str, Any] = {"dtype": torch.float64}


def cloud(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **F64) + shift


def test_primal_is_dual():
    """The linear kernel's primal (d = 3 <= M) against the dual of the same kernel written as Gram sums of a mixture."""
    x, y = cloud(14, 3, 0), cloud(11, 3, 1, 0.4)
    z = cloud(6, 3, 2)
    for lam in (1e-2, 1.0, 100.0):
        primal = kale(x, y, Linear(), lam)
        dual = kale(x, y, 0.5 * Linear() + 0.5 * Linear(), lam)
        assert primal.solution.shape == (3,)
        assert dual.solution.shape == (11,)
        torch.testing.assert_close(primal.value, dual.value, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(primal.ratio, dual.ratio, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(primal.witness(z), dual.witness(z), rtol=1e-4, atol=1e-5)


def test_dual_where_features_outnumber_targets():
    """With d > M the linear kernel goes through the dual; padding by zeros changes nothing else."""
    x, y = cloud(14, 3, 0), cloud(11, 3, 1, 0.4)
    wide_x, wide_y = (torch.cat([p, torch.zeros(len(p), 20, **F64)], 1) for p in (x, y))
    padded = kale(wide_x, wide_y, Linear(), 0.3)
    assert padded.solution.shape == (11,)
    torch.testing.assert_close(padded.value, kale(x, y, Linear(), 0.3).value)


@pytest.mark.parametrize("lam", [1e-3, 0.1, 10.0])
def test_the_dual_value_is_reached_by_its_witness(lam):
    """The primal objective at h equals the dual's value: no duality gap, so both are optimal. |h|^2 by the Gram."""
    x, y, kernel = cloud(20, 2, 0), cloud(25, 2, 1, 0.7), Gaussian(0.6)
    result = kale(x, y, kernel, lam)
    a, q = result.solution, torch.full((20,), 1 / 20, **F64)
    support, coefficients = torch.cat([x, y]), torch.cat([q, -a]) / lam
    gram = kernel(support, support)
    h, norm = gram @ coefficients, coefficients @ gram @ coefficients
    primal = (1 + lam) * (1 + h[:20].mean() - h[20:].exp().mean() - lam / 2 * norm)
    torch.testing.assert_close(result.value, primal, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(result.ratio, h[20:].exp(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(result.witness(support), (1 + lam) * h, rtol=1e-6, atol=1e-8)


def test_limits():
    x, y, kernel = cloud(30, 2, 0), cloud(20, 2, 1, 0.7), Gaussian(0.8)
    half = mmd_squared(x, y, kernel) / 2
    assert kale(x, y, kernel, 1e5).value.item() == pytest.approx(half.item(), rel=1e-4)
    # Two points that kernel and counts tell apart completely: KALE tends to sum q log(q / p).
    sites = torch.tensor([[0.0], [50.0]], **F64)
    q, p = sites[[0, 0, 0, 1]], sites[[0, 1, 1, 1, 1]]
    kl = 0.75 * torch.tensor(0.75 / 0.2).log() + 0.25 * torch.tensor(0.25 / 0.8).log()
    assert kale(q, p, Gaussian(1.0), 1e-7).value.item() == pytest.approx(kl.item(), rel=1e-5)


@pytest.mark.parametrize("kernel", [Linear(), Gaussian(0.8), InverseMultiquadric(1.0)], ids=["linear", "gauss", "imq"])
def test_gradients_are_those_of_the_value(kernel):
    """Autograd (witness held fixed) against finite differences of the whole solve, in particles and in targets."""
    x, y, lam = cloud(7, 2, 0).requires_grad_(), cloud(6, 2, 1, 0.5).requires_grad_(), 0.2
    result = kale(x, y, kernel, lam, tolerance=1e-14)
    by_x, by_y = torch.autograd.grad(result.value, (x, y))
    z = x.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(result.witness(z).sum(), z)
    torch.testing.assert_close(by_x, slope / 7, rtol=1e-5, atol=1e-8)
    for points, gradient in ((x, by_x), (y, by_y)):
        direction = cloud(len(points), 2, 5)
        moved = [points.detach() + sign * 1e-4 * direction for sign in (1, -1)]
        values = [kale(*((m, y) if points is x else (x, m)), kernel, lam, tolerance=1e-14).value.item() for m in moved]
        assert (values[0] - values[1]) / 2e-4 == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


def test_warm_start_and_weights():
    x, y = cloud(30, 2, 0), cloud(4, 2, 1, 0.7)
    repeated, weights = y[[0, 0, 1, 2, 2, 2, 3]], torch.tensor([2, 1, 3, 1], **F64) / 7
    for kernel in (Gaussian(1.0), Linear()):
        cold = kale(x, y, kernel, 0.1, weights=weights)
        torch.testing.assert_close(kale(x, repeated, kernel, 0.1).value, cold.value, rtol=1e-7, atol=1e-9)
        warm = kale(x, y, kernel, 0.1, weights=weights, start=cold.solution)
        torch.testing.assert_close(warm.value, cold.value, rtol=1e-8, atol=1e-10)


def test_far_samples_and_single_precision():
    """A ratio of e^-500 and less at the target, and float32 samples."""
    x, y = cloud(30, 2, 0, 20.0).float(), cloud(40, 2, 1).float()
    result = kale(x, y, Gaussian(1.0), 1e-3)
    assert result.value.dtype == torch.float32
    assert result.value.isfinite()
    far = kale(x, y, Linear(), 1e-3)
    assert far.value.isfinite()
    assert far.ratio.isfinite().all()


@pytest.mark.parametrize("kernel", [Gaussian(1.0), Linear()], ids=["dual", "primal"])
def test_the_stopping_rule_is_relative(kernel):
    """Samples so close that the value is far below 1, where it grows like the square of the shift."""
    x = cloud(40, 2, 0)
    values = {shift: kale(x, x + shift, kernel, 0.1).value.item() for shift in (1e-2, 1e-4, 1e-5, 3e-6)}
    assert all(value == pytest.approx(values[1e-4] * (shift / 1e-4) ** 2, rel=5e-3) for shift, value in values.items())
    for shift in (1e-2, 1e-4):
        exact = kale(x, x + shift, kernel, 0.1, tolerance=0.0).value.item()
        assert values[shift] == pytest.approx(exact, rel=1e-7)


def test_features_of_one_direction_and_a_huge_scale():
    """Rounding makes Newton's matrix indefinite. Across the target's direction w the optimum is mean/lam."""
    w = torch.nn.functional.normalize(cloud(1, 60, 0), dim=1)[0]
    x, y, lam = cloud(100, 60, 1), 1e9 * cloud(200, 1, 2) * w, 1.0
    across = x.mean(0) - (x.mean(0) @ w) * w
    along = kale((x @ w)[:, None], (y @ w)[:, None], Linear(), lam).value
    value = kale(x, y, Linear(), lam).value
    torch.testing.assert_close(value, along + (1 + lam) / (2 * lam) * across @ across, rtol=1e-6, atol=0)


def test_bad_settings():
    x = cloud(5, 2, 0)
    with pytest.raises(UserError, match="positive definite"):
        kale(x, x, Energy(), 1.0)
    with pytest.raises(UserError, match="lambda"):
        kale(x, x, Gaussian(1.0), 0.0)
