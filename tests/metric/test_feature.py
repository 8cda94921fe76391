"""Extractors: principal components against linear algebra, the classifier against its labels and its cache."""

import dataclasses
from pathlib import Path

import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.data import Dataset, Form, Split, load
from wasserflow.metric import evaluate, extractor, feature
from wasserflow.metric.feature import Classifier, Pixels


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "wasserflow" / "features"


def test_sixty_four_components_of_sixty_four_pixels_are_a_rotation(digits: Dataset):
    extract = extractor("pixels", digits)
    assert isinstance(extract, Pixels)
    x = digits.form.to_model(digits.test.x)
    features = extract(x)
    torch.testing.assert_close(features @ extract.basis + extract.mean, x.flatten(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.norm(dim=1), (x.flatten(1) - extract.mean).norm(dim=1))


def test_components_are_the_leading_eigenvectors_of_the_training_covariance():
    rng = torch.Generator().manual_seed(0)
    loud = torch.linspace(1, 100, 144).flip(0)

    def part(n: int) -> Split:
        x = 127 + torch.randn(n, 144, generator=rng) * loud / 3
        return Split(x.clamp(0, 255).to(torch.uint8).reshape(n, 1, 12, 12))

    data = Dataset("array", Form((1, 12, 12), "NHW", ("uint8",)), part(3000), part(10), part(10), "0" * 64)
    extract = extractor("pixels", data)
    x = data.form.to_model(data.train.x).flatten(1).double()
    variance = torch.linalg.eigvalsh(torch.cov(x.T)).flip(0)
    features = extract(data.form.to_model(data.train.x)).double()
    assert features.shape == (3000, 64)
    covariance = torch.cov(features.T)
    torch.testing.assert_close(covariance.diagonal(), variance[:64], rtol=1e-3, atol=1e-6)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-3 * variance[0]


def test_vectors_are_their_own_features():
    part = Split(torch.randn(30, 5))
    data = Dataset("array", Form((5,), "ND", ("float32",)), part, part, part, "0" * 64)
    extract = extractor("pixels", data)
    assert extract.name == "coordinates"
    torch.testing.assert_close(extract(data.test.x), data.test.x)
    with pytest.raises(UserError, match="vectors"):
        extractor("classifier", data)


def test_the_classifier_learns_is_kept_and_repeats(digits: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feature, "LEAST_SEEN", 30_000)
    torch.manual_seed(3)
    extract = extractor("classifier", digits)
    assert torch.initial_seed() == 3
    assert isinstance(extract, Classifier)
    x = digits.form.to_model(digits.test.x)
    features = extract(x)
    assert features.shape == (len(x), 64)
    assert digits.test.label is not None
    right = extract.net(x).argmax(1) == digits.test.label
    assert right.double().mean() > 0.93
    (file,) = cache.iterdir()
    assert file.name.startswith(digits.fingerprint[:32])

    # A damaged file is made again, to the same bits: one that is cut off, and one whose last weights have changed.
    whole = file.read_bytes()
    for damaged in (whole[:1000], whole[:-8] + b"\xff\x7f" * 4):
        file.write_bytes(damaged)
        again = extractor("classifier", digits)
        torch.testing.assert_close(again(x), features, rtol=0, atol=0)
        assert again.about == extract.about
        assert len(file.read_bytes()) == len(whole)

    # A whole file is used without training.
    monkeypatch.setattr(feature, "_train", lambda *_: pytest.fail("trained again"))
    report = evaluate(digits.form.to_model(digits.validation.x), digits, features="classifier")
    assert report.class_shares is not None
    assert list(report.class_shares) == list("0123456789")
    for side in ("samples", "real"):
        assert sum(shares[side] for shares in report.class_shares.values()) == pytest.approx(1)
    assert report["smallest_class"].value == min(s["samples"] for s in report.class_shares.values())
    assert 0 < report["smallest_class"].reference < 0.1 < report["largest_class"].reference < 0.25
    zero = digits.train.x[digits.train.label == 0][:100]
    collapsed = evaluate(digits.form.to_model(zero), digits, features="classifier")
    assert collapsed["largest_class"].value > 0.98
    assert collapsed["recall"].value < 0.3


def test_a_cache_that_cannot_be_written_does_not_stop_an_evaluation(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(feature, "_train", lambda *_: None)
    assert extractor("classifier", digits).name == "classifier"


def test_the_classifier_says_what_it_needs(digits: Dataset):
    bare = dataclasses.replace(digits, train=Split(digits.train.x))
    with pytest.raises(UserError, match="labels, and these data have none"):
        extractor("classifier", bare)
    label = torch.zeros(len(digits.train.x), dtype=torch.int64)
    lone = dataclasses.replace(digits, train=Split(digits.train.x, label), classes=None)
    with pytest.raises(UserError, match="two classes"):
        extractor("classifier", lone)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 28, 28), (3, 64, 48)])
def test_networks_fit_any_image(shape: tuple[int, int, int]):
    net = feature._network(shape, 3)
    assert net(torch.zeros(2, *shape)).shape == (2, 3)
