"""MMD against its definition, its witness against its gradient, far samples and closed forms."""

import math
from typing import Any

import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.discrepancy.mmd import mmd_squared, witness
from wasserflow.kernel.base import Custom, Linear
from wasserflow.kernel.radial import Energy, Gaussian, Laplace, RationalQuadratic

F64: dict[str, Any] = {"dtype": torch.float64}
KERNELS = {
    "gaussian": Gaussian([0.5, 1.5]),
    "rq": RationalQuadratic(),
    "laplace": Laplace(1.0),
    "energy": Energy(),
    "linear": Linear(),
    "custom": Custom(lambda x, y: (x @ y.T + 1) ** 2),
    "mixture": RationalQuadratic() + 0.5 * Linear(),
}
every = pytest.mark.parametrize("name", KERNELS)


def cloud(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **F64) + shift


@every
@pytest.mark.parametrize("unbiased", [False, True])
def test_value_is_the_definition(name, unbiased):
    kernel = KERNELS[name]
    x, y = cloud(13, 3, 0), cloud(9, 3, 1, 0.5)
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    if unbiased:
        means = [(gram.sum() - gram.trace()) / (len(gram) * (len(gram) - 1)) for gram in (xx, yy)]
    else:
        means = [xx.mean(), yy.mean()]
    torch.testing.assert_close(mmd_squared(x, y, kernel, unbiased), means[0] + means[1] - 2 * xy.mean())


@every
def test_witness_is_the_gradient_of_half_the_square(name):
    """grad w(x_i) = N d(1/2 MMD_V^2)/dx_i, for unequal counts and a weighted target."""
    kernel = KERNELS[name]
    x, y = cloud(13, 3, 0).requires_grad_(), cloud(9, 3, 1, 0.5)
    weights = torch.rand(9, generator=torch.Generator().manual_seed(2), **F64)
    weights /= weights.sum()
    (expected,) = torch.autograd.grad(len(x) / 2 * mmd_squared(x, y, kernel, weights=weights), x)
    z = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(witness(x.detach(), y, kernel, weights)(z).sum(), z)
    torch.testing.assert_close(gradient, expected)


def test_weights_are_multiplicities():
    x, y = cloud(13, 3, 0), cloud(3, 3, 1, 0.5)
    repeated, weights = y[[0, 0, 0, 1, 2, 2]], torch.tensor([3, 1, 2], **F64) / 6
    for kernel in (Gaussian(1.0), Energy()):
        torch.testing.assert_close(mmd_squared(x, repeated, kernel), mmd_squared(x, y, kernel, weights=weights))
        z = cloud(4, 3, 2)
        torch.testing.assert_close(
            witness(x, repeated, kernel)(z), witness(x, y, kernel, weights)(z), atol=1e-12, rtol=0
        )


def test_linear_kernel_keeps_its_digits_far_from_the_origin():
    """In float32 and at 1e3 from the origin, means that differ by 0.01 have a squared distance of d 1e-4."""
    shared = cloud(4000, 16, 0, 1000.0).float()
    x, y = shared, shared + 2**-7  # exact in float32
    assert mmd_squared(x, y, Linear()).item() == pytest.approx(16 * 2**-14, rel=1e-2)


def test_gaussian_against_its_closed_form():
    """MMD^2 of N(0, s^2 I) and N(mu, s^2 I) under exp(-|.|^2 / 2 a^2), as the mean of many samples says too."""
    d, sigma, alpha, mu = 2, 0.5, 1.0, 1.5
    s = alpha**2 + 2 * sigma**2
    exact = 2 * (alpha**2 / s) ** (d / 2) * (1 - math.exp(-(mu**2) / (2 * s)))
    shift = torch.tensor([mu, 0.0], **F64)
    pairs = [(sigma * cloud(400, d, 2 * i), sigma * cloud(400, d, 2 * i + 1) + shift) for i in range(20)]
    values = torch.stack([mmd_squared(x, y, Gaussian(alpha), unbiased=True) for x, y in pairs])
    assert abs(values.mean().item() - exact) < 4 * values.std().item() / math.sqrt(20)


def test_bad_shapes():
    with pytest.raises(UserError, match="one d"):
        mmd_squared(cloud(3, 2, 0), cloud(3, 4, 0), Linear())
    with pytest.raises(UserError, match="at least 2"):
        mmd_squared(cloud(1, 2, 0), cloud(3, 2, 0), Linear(), unbiased=True)
