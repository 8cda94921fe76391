"""The toys have the moments and the support that their table states."""

import numpy as np
import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.data import load, toy

N = 40_000


def draw(name, n=N):
    return toy.sample(name, n, seed=3).double()


@pytest.mark.parametrize("name", toy.TOYS)
def test_each_toy_loads_always_the_same(name):
    dataset = load(name)
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [45_000, 5_000, 10_000]
    assert dataset.form.shape == (2,)
    assert (dataset.form.mean is not None) is toy.TOYS[name].standardise
    assert dataset.fingerprint == load(name).fingerprint
    assert dataset.train.x.isfinite().all()
    back = torch.from_numpy(dataset.form.to_data(dataset.train.x)).double()
    torch.testing.assert_close(back.std(0), draw(name).std(0), rtol=0.1 if name == "funnel" else 0.03, atol=0)
    assert not torch.equal(toy.sample(name, 5, 0), toy.sample(name, 5, 1))


def test_a_generator_goes_on():
    rng = np.random.default_rng(0)
    both = torch.cat([toy.sample("ring", 3, rng), toy.sample("ring", 3, rng)])
    assert len(both.unique(dim=0)) == 6


def test_ring_is_eight_equal_gaussians():
    x, centres, sd = draw("ring"), toy.modes("ring"), toy.sd("ring")
    assert centres is not None
    assert sd is not None
    centres = centres.double()
    assert centres.shape == (8, 2)
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(8).double())
    distance, nearest = torch.cdist(x, centres).min(1)
    assert sd == 0.02
    assert abs(distance.square().mean() / (2 * sd**2) - 1) < 0.03
    assert torch.bincount(nearest).min() > 0.9 * N / 8
    assert distance.max() < 6 * sd


def test_ring_takes_other_parameters():
    x = toy.ring(N, np.random.default_rng(0), modes=5, radius=10, sd=1)
    assert abs(np.square(x).sum(1).mean() - (100 + 2)) < 1
    assert toy.modes("circles") is None
    assert toy.sd("mnist") is None


def test_circles():
    radius = draw("circles").norm(dim=1)
    outer = radius > 10
    assert abs(outer.double().mean() - 0.67) < 0.01
    assert abs(radius[outer].mean() - 15) < 0.05
    assert abs(radius[~outer].mean() - 5) < 0.05
    assert abs(radius[outer].std() - 0.5) < 0.02


def test_checkerboard_fills_fields_of_one_colour():
    x = draw("checkerboard")
    assert x.abs().max() <= 4
    field = ((x + 4) / 2).floor().long().clamp(max=3)
    assert (field.sum(1) % 2 == 0).all()
    counts = torch.bincount(field[:, 0] * 4 + field[:, 1], minlength=16)
    assert counts[counts > 0].min() > 0.9 * N / 8
    assert (counts > 0).sum() == 8


def test_two_moons_are_half_circles():
    x = draw("two-moons")
    upper = (x.norm(dim=1) - 1).abs()
    lower = ((x - torch.tensor([1.0, 0.5])).norm(dim=1) - 1).abs()
    assert torch.minimum(upper, lower).max() < 6 * 0.05
    torch.testing.assert_close(x.mean(0), torch.tensor([0.5, 0.25]).double(), atol=0.02, rtol=0)


def test_rolls_and_curves_agree_with_scikit_learn():
    from sklearn import datasets

    for name, theirs in (
        ("s-curve", datasets.make_s_curve(N, noise=0.12, random_state=0)[0][:, [0, 2]] / 2),
        ("swiss-roll", datasets.make_swiss_roll(N, noise=0.5, random_state=0)[0][:, [0, 2]]),
        ("two-moons", datasets.make_moons(N, noise=0.05, random_state=0)[0]),
    ):
        x, y = draw(name), torch.from_numpy(theirs)
        scale = y.std()
        torch.testing.assert_close(x.mean(0) / scale, y.mean(0) / scale, atol=0.03, rtol=0)
        torch.testing.assert_close(x.T.cov() / scale**2, y.T.cov() / scale**2, atol=0.03, rtol=0)
        for axis in range(2):  # the whole distribution along each axis
            q = torch.linspace(0.05, 0.95, 19).double()
            difference = x[:, axis].quantile(q) - y[:, axis].quantile(q)
            assert difference.abs().max() < 0.06 * scale, name


def test_funnel_s_neck_and_mouth():
    x, y = draw("funnel").T
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02
    unit = x * 10 / y.exp()
    assert abs(unit.std() - 1) < 0.02
    assert abs(torch.stack([unit, y]).corrcoef()[0, 1]) < 0.02


def test_an_unknown_toy_is_named():
    with pytest.raises(UserError, match=r"unknown toy 'rings'\. Did you mean ring"):
        toy.sample("rings", 3)
