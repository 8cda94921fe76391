"""What is timed side by side computes the same."""

from importlib import import_module

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from wasserflow.method import VGrow
from wasserflow.nn.fold import convolve_and_halve, enlarge_and_convolve

speed, plain = import_module("benchmarks.speed"), import_module("benchmarks.plain")


@pytest.mark.parametrize("divergence", ["kl", "logd"])
def test_plain_velocities_are_ours(divergence):
    model = VGrow.for_shape((3, 32, 32), recipe="paper", divergence=divergence, width=8, latent=4)
    speed.settle(model, passes=60)
    rival = plain.PlainVGrow(model, np.zeros((4, 32, 32, 3), np.uint8))
    errors = speed.relative_errors(model, rival, n=2)
    assert max(errors.values()) < 1e-4, errors


def test_images_one_by_one_are_those_of_model_space():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    expected = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    loaded = plain.Images(images)
    torch.testing.assert_close(torch.stack([loaded[i] for i in range(3)]), expected)


@pytest.mark.parametrize("backward", [False, True])
def test_folding_saves_five_in_nine(backward):
    """16 taps at a quarter of the places instead of 9 at all of them, in each of the three products."""
    x, weight = torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(4, 4, 3, 3, requires_grad=True)
    forms = {
        "halve": lambda: convolve_and_halve(x, weight),
        "literally": lambda: avg_pool2d(conv2d(x, weight, padding=1), 2),
        "enlarge": lambda: enlarge_and_convolve(x, weight, (16, 16)),
        "enlarge literally": lambda: conv2d(interpolate(x, (16, 16)), weight, padding=1),
    }
    counts = {
        name: speed.flops(lambda form=form: form().sum().backward() if backward else form())
        for name, form in forms.items()
    }
    assert counts["literally"] == (3 if backward else 1) * 2 * 2 * 64 * 9 * 4 * 4
    assert 9 * counts["halve"] == 4 * counts["literally"]
    assert 9 * counts["enlarge"] == 4 * counts["enlarge literally"]


def test_comparisons_are_of_neighbours_in_time():
    """A machine that is three times slower during one repeat changes no ratio."""
    assert speed.Comparison([1.0, 3.0, 1.0], [2.0, 6.0, 2.0]).ratio == 2
