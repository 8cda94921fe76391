"""Sample i depends on the seed and on i alone."""

import torch

from wasserflow._core.noise import BLOCK, derive_seed, sample_noise


def test_a_prefix_is_a_prefix():
    long = sample_noise(3, 0, 3 * BLOCK + 7, (5,))
    assert torch.equal(sample_noise(3, 0, 10, (5,)), long[:10])
    assert torch.equal(sample_noise(3, BLOCK - 2, BLOCK + 2, (5,)), long[BLOCK - 2 : BLOCK + 2])
    assert len(sample_noise(3, 4, 4, (5,))) == 0


def test_seeds_differ():
    assert not torch.equal(sample_noise(0, 0, 4, (2,)), sample_noise(1, 0, 4, (2,)))
    seeds = {derive_seed("step", a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert derive_seed(1, 23) != derive_seed(12, 3)


def test_laws():
    normal, uniform = sample_noise(0, 0, 50_000, (2,)), sample_noise(0, 0, 50_000, (2,), uniform=True)
    assert abs(normal.mean()) < 0.02
    assert abs(normal.var() - 1) < 0.02
    assert uniform.min() >= -1
    assert uniform.max() <= 1
    assert abs(uniform.var() - 1 / 3) < 0.01
