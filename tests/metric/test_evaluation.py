"""`evaluate`: real data reach their floor, faults show in the right figure, and bad input is told so."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow.data import Dataset, Form, Split, load
from wasserflow.metric import Row, evaluate
from wasserflow.metric.report import signs_of_collapse


def vectors(d: int, n: int = 300, source: str = "array", form: Form | None = None) -> Dataset:
    rng = torch.Generator().manual_seed(d)
    train, validation, test = (Split(torch.randn(m, d, generator=rng)) for m in (2 * n, n, n))
    return Dataset(source, form or Form((d,), "ND", ("float32",)), train, validation, test, "f" * 64)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def draw(data: Dataset, n: int) -> Tensor:
    """Real data as samples: the validation split, which no comparison below uses."""
    return data.form.to_model(data.validation.x[:n])


def test_real_images_reach_the_floor_and_noise_does_not(digits: Dataset):
    report = evaluate(draw(digits, 10**6), digits)
    assert [row.name for row in report.rows] == (
        ["frechet", "kernel", "sliced", "precision", "recall", "density", "coverage", "memorised"]
    )
    for row in report.rows:
        assert row.value == pytest.approx(row.reference, rel=0.35, abs=0.1)
    assert (
        report["memorised"].value == report["memorised"].reference
    )  # both are the validation split against the test split
    assert not any("collapse" in warning for warning in report.warnings)
    noise = evaluate(torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1, digits)
    for row in noise.rows:
        assert row.value > 3 * row.reference if row.lower_is_better else row.value < 0.3 * row.reference
    (warning,) = [warning for warning in noise.warnings if "collapse" in warning]
    assert "recall is 0," in warning
    assert "coverage is" in warning
    for row in report.rows:
        assert (row.interval is None) == (row.error is None) == (row.name not in ("kernel", "memorised"))
    low, high = report["kernel"].interval or (0, 0)
    assert (low + high) / 2 == pytest.approx(report["kernel"].value)
    assert high - low == pytest.approx(2 * 1.96 * (report["kernel"].error or 0))


@pytest.mark.parametrize(
    ("split", "unseen", "reference"),
    [("test", "test", "validation"), ("validation", "validation", "test"), ("train", "test", "validation")],
)
def test_memorised_tells_copies_from_new_data(digits: Dataset, split: str, unseen: str, reference: str):
    copies = evaluate(digits.form.to_model(digits.train.x[:100]), digits, split=split)["memorised"]
    assert copies.value > 0.99
    assert copies.lower_is_better is None
    new = evaluate(digits.form.to_model(digits.split(reference).x), digits, split=split)
    row = new["memorised"]
    assert abs(row.value - 0.5) < 4 * (row.error or 0)
    assert abs(row.reference - 0.5) < 4 * (row.error or 0)
    assert f"{len(digits.train):,} training samples than one of {new.count} of the {unseen} split" in new.protocol
    assert f"of the {reference} split" in new.protocol


def test_memorised_needs_two_held_out_splits():
    data = vectors(2)
    data = dataclasses.replace(data, validation=Split(data.validation.x[:9]))
    report = evaluate(data.test.x[:50], data)
    assert "memorised" not in [row.name for row in report.rows]
    assert any("No memorised" in warning for warning in report.warnings)
    assert "emorised" not in report.protocol


def test_a_missing_class_is_a_sign_of_collapse():
    row = Row("recall", 0.5, 0.9, lower_is_better=False)
    shares = {"cat": {"samples": 0.009, "real": 0.1}, "dog": {"samples": 0.011, "real": 0.1}}
    (said,) = signs_of_collapse((row,), shares)
    assert "cat has 0.9% of the samples, and 10.0% of real data" in said
    assert "dog" not in said
    assert "recall" not in said
    assert signs_of_collapse((row,), None) == []


def test_counts_are_equal_and_recorded(digits: Dataset):
    samples = draw(digits, 100)
    report = evaluate(samples, digits, split="train", seed=3)
    assert (report.count, report.split, report.seed, report.features) == (100, "train", 3, "pixels")
    sizes = {name: len(digits.split(name)) for name in ("train", "validation", "test")}
    assert report.available == {"samples": 100, **sizes}
    assert "2,000" in report.warnings[0]
    assert report.fingerprint == digits.fingerprint
    wide = load(np.random.default_rng(0).normal(size=(400, 600)).astype(np.float32))  # covariances need more
    assert "2,400" in evaluate(wide.form.to_model(wide.test.x), wide).warnings[0]
    # The floor takes the other half of the training samples: distances between a set and itself would be 0.
    assert report["frechet"].reference > 0.1
    assert "other training samples" in report.protocol
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert found["rows"][0] == dataclasses.asdict(report.rows[0])


def test_a_report_depends_on_its_seed_alone(digits: Dataset):
    samples = draw(digits, 100)
    first = evaluate(samples, digits, seed=1)
    torch.manual_seed(9)
    assert evaluate(samples, digits, seed=1).to_json() == first.to_json()
    assert evaluate(samples, digits, seed=2)["frechet"].reference != first["frechet"].reference
    assert torch.initial_seed() == 9


def test_images_are_judged_as_they_would_be_written(digits: Dataset):
    samples = draw(digits, 100)
    nudged = samples + 0.4 / 127.5
    beyond = torch.where(samples == 1, 5.0, samples)
    same = evaluate(samples, digits).to_json()
    assert evaluate(nudged, digits).to_json() == same
    assert evaluate(beyond, digits).to_json() == same


def test_a_shift_shows_in_every_distance_between_vectors():
    for d in (1, 2, 3):
        data = vectors(d)
        report = evaluate(data.validation.x + 5, data)
        wanted = ["energy", "log_chamfer"] if d == 2 else ["energy", "frechet"] if d > 2 else ["energy"]
        assert [row.name for row in report.rows] == [*wanted, "sliced", "precision", "recall", "memorised"]
        assert report["memorised"].value < 0.2
        assert evaluate(data.train.x[:300], data)["memorised"].value == 1
        assert report.features == "coordinates"
        assert report["sliced"].value == pytest.approx(5, rel=0.1)
        assert report["precision"].value < 0.2
        if d > 2:
            assert report["frechet"].value == pytest.approx(25 * d, rel=0.1)


def ring(n: int, covered: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * rng.integers(covered, size=n) / 8
    points = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.02 * rng.standard_normal((n, 2))
    return torch.from_numpy(points).float()


@pytest.mark.parametrize("scaled", [False, True])
def test_modes_of_the_ring_are_counted_in_data_units(scaled: bool):
    mean, std = ((0.3, -0.2), (2.0, 0.5)) if scaled else ((0.0, 0.0), (1.0, 1.0))
    form = Form((2,), "ND", ("float32",), mean, std)
    train, validation, test = (Split((ring(2000, 8, s) - torch.tensor(mean)) / torch.tensor(std)) for s in range(3))
    data = Dataset("ring", form, train, validation, test, "0" * 64)
    samples = (ring(2000, 5, 7) - torch.tensor(mean)) / torch.tensor(std)
    report = evaluate(samples, data)
    assert (report["modes"].value, report["modes"].reference) == (5, 8)
    # A Gaussian of the plane holds 1 - exp(-9/2) of its mass within three standard deviations.
    for share in (report["high_quality"].value, report["high_quality"].reference):
        assert share == pytest.approx(1 - math.exp(-4.5), abs=0.01)
    assert report.warnings == []


def test_a_mode_needs_a_tenth_of_its_due():
    train, validation, test = (Split(ring(2000, 8, s)) for s in range(3))
    data = Dataset("ring", Form((2,), "ND", ("float32",)), train, validation, test, "0" * 64)
    crumbs = torch.tensor([[-1.0, 0.0]])  # the fifth centre; its due tenth is 2000 / 80 = 25 points
    for count, modes in ((24, 4), (25, 5)):
        samples = torch.cat([ring(2000 - count, 4, 1), crumbs.expand(count, 2)])
        assert evaluate(samples, data)["modes"].value == modes


def test_bad_samples_get_one_sentence(digits: Dataset):
    good = draw(digits, 50)
    bad = good.clone()
    bad[3, 0, 0, 0] = math.nan
    bad[7] = math.inf
    cases = [
        (good[:, :, :7], {}, r"shape \(N, 1, 8, 8\), not float32 of \(50, 1, 7, 8\)"),
        (good.flatten(1), {}, r"not float32 of \(50, 64\)"),
        (good.to(torch.uint8), {}, "not uint8"),
        (torch.tensor(1.0), {}, r"shape \(N, 1, 8, 8\)"),
        (bad, {}, "2 of 50 samples hold values that are not finite"),
        (good[:3], {}, "at least 10"),
        (good[:0], {}, "at least 10"),
        (good, {"split": "tset"}, "Did you mean test"),
        (good, {"features": "pixel"}, "unknown feature extractor 'pixel'. Did you mean pixels"),
    ]
    for samples, options, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            evaluate(samples, digits, **options)
