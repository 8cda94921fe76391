"""Noise is said to lie outside the data, whatever precision says; real data and a trained model's samples are not."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from wasserflow.data import Dataset, load
from wasserflow.method import VGrow
from wasserflow.metric import evaluate
from wasserflow.metric.outside import outside, roughness
from wasserflow.training.budget import Budget
from wasserflow.training.loop import loop
from wasserflow.training.trainer import Trainer

RNG = torch.Generator().manual_seed(0)


def said(samples: Tensor, data: Dataset, split: str = "test", features: str = "pixels") -> str:
    report = evaluate(samples, data, split=split, features=features)
    return " ".join(one for one in report.warnings if "outside the data" in one)


@pytest.fixture(scope="module")
def photographs() -> Dataset:
    """Smooth colour images of all degrees of contrast, as photographs are."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(700, 16, 16, 3)), (0, 2, 2, 0))
    contrast = rng.lognormal(4, 0.7, (700, 1, 1, 1))
    return load((128 + 4 * contrast * smooth).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("strength", [0.05, 0.2, 0.5, 1.0])
def test_noise_has_full_precision_among_photographs_and_is_told(photographs: Dataset, strength: float):
    noise = strength * torch.randn(70, 3, 16, 16, generator=RNG)
    report = evaluate(noise, photographs)
    if strength <= 0.2:  # what the warning is for
        assert report["precision"].value > 0.9
        assert report["memorised"].value > 0.9
    (warning,) = [one for one in report.warnings if "outside the data" in one]
    assert warning.startswith("100% of the samples lie outside the data: they are farther from the training images")
    for split in ("validation", "train"):
        assert said(noise, photographs, split=split)


def test_noise_among_digits_is_told_with_any_features(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    digits = load("digits")
    for noise in (torch.randn(150, 1, 8, 8, generator=RNG), 2 * torch.rand(150, 1, 8, 8, generator=RNG) - 1):
        for features in ("pixels", "classifier"):
            assert said(noise, digits, features=features)


@pytest.mark.parametrize("name", ["digits", "ring", "two-moons", "funnel"])
def test_real_data_are_not_outside(name: str):
    data = load(name)
    samples = data.form.to_model(data.validation.x[:1000])
    assert not said(samples, data)
    unseen = data.form.to_model(data.test.x[:500])
    assert outside(samples[:500], unseen, data.clean(10_000)).double().mean() < 0.05


def test_real_photographs_are_not_outside(photographs: Dataset):
    samples = photographs.form.to_model(photographs.validation.x)
    assert not said(samples, photographs)
    assert not said(samples + 0.02 * torch.randn(samples.shape, generator=RNG), photographs)


def test_far_points_and_rows_are_told():
    points = load("two-moons")
    assert "farther from the training points than 99% of held-out points" in said(
        100 * torch.randn(300, 2, generator=RNG), points
    )
    assert not said(torch.cat([points.test.x[:600], 100 * torch.randn(300, 2, generator=RNG)]), points)


def test_samples_of_a_trained_model_are_not_outside():
    data = load("digits")
    trainer = Trainer(VGrow.for_shape((1, 8, 8), width=16), data, seed=0, device=torch.device("cpu"), precision="fp32")
    before = trainer.sampler().sample(150)
    loop(trainer, Budget(images=10_000))
    assert not said(trainer.sampler().sample(150), data)
    assert said(before, data)


def test_roughness():
    noise = torch.randn(8, 3, 64, 64, generator=RNG)
    assert roughness(noise).tolist() == pytest.approx([1.0] * 8, abs=0.05)
    torch.testing.assert_close(roughness(5 * noise - 2), roughness(noise), atol=1e-6, rtol=0)
    assert roughness(torch.zeros(2, 1, 4, 4)).tolist() == [0, 0]
    stripes = torch.tensor([-1.0, 1.0]).repeat(4).expand(1, 1, 8, 8)
    assert roughness(stripes).item() == pytest.approx(1.0)  # 2^2 across, 0 down, over 4 times 1
