"""Fields by name: the table is the classes, and says who takes what."""

import math

import pytest
import torch

import wasserflow as wf
from wasserflow._core.errors import UserError
from wasserflow.field import make_field
from wasserflow.field.by_name import FIELDS, default_of, takers
from wasserflow.kernel import Energy, Gaussian, InverseMultiquadric, Laplace

X, Y = (torch.randn(n, 2, generator=torch.Generator().manual_seed(n)) + shift for n, shift in ((40, 0.0), (30, 2.0)))
CLASSES = {
    "energy": lambda: wf.MMDField(Y, Energy()),
    "sliced": lambda: wf.SlicedField(Y),
    "mmd": lambda: wf.MMDField(Y),
    "kale": lambda: wf.KALEField(Y),
    "drmmd": lambda: wf.DrMMDField(Y),
    "ratio": lambda: wf.LearnedRatioField(Y),
    "svgd": lambda: wf.SVGDField(torch.neg),
    "ksd": lambda: wf.KSDField(torch.neg),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_name_stands_for_its_class(name):
    field, same = make_field(name, Y if FIELDS[name].target == "points" else torch.neg), CLASSES[name]()
    assert type(field) is type(same)
    assert torch.equal(field(X), same(X))
    step = field.stable_step(X)
    assert 0 < step < math.inf
    assert step == same.stable_step(X)
    assert torch.equal(wf.flow(X, field, steps=5), wf.flow(X, same, steps=5, step_size=step))
    assert repr(field.kernel_at(X)) == repr(same.kernel_at(X))


def test_settings_reach_the_field():
    assert torch.equal(make_field("energy", Y, r=1.5)(X), wf.MMDField(Y, Energy(1.5))(X))
    assert torch.equal(make_field("mmd", Y, kernel="energy", r=1.5)(X), wf.MMDField(Y, Energy(1.5))(X))
    assert torch.equal(make_field("mmd", Y, kernel="imq")(X), wf.MMDField(Y, InverseMultiquadric("median"))(X))
    assert torch.equal(make_field("kale", Y, lam=0.1)(X), wf.KALEField(Y, 0.1)(X))
    svgd = make_field("svgd", torch.neg, kernel="laplace")
    assert torch.equal(svgd(X), wf.SVGDField(torch.neg, Laplace("median-log"))(X))
    assert torch.equal(make_field("mmd", Y, bandwidth=[1, 2])(X), wf.MMDField(Y, Gaussian([1, 2]))(X))
    assert make_field("drmmd", Y, adaptive=True).adaptive


def test_what_a_field_does_not_take_is_said():
    with pytest.raises(UserError, match="Did you mean sliced"):
        make_field("slice", Y)
    with pytest.raises(UserError, match="`lam` is for the field kale, drmmd, not for mmd"):
        make_field("mmd", Y, lam=1.0)
    with pytest.raises(UserError, match="kernel given by its name"):
        make_field("mmd", Y, kernel=Gaussian(1.0), bandwidth=2.0)
    assert takers("slices") == ["sliced"]
    assert {name: default_of(name) for name in ("r", "lam", "slices")} == {"r": 1.0, "lam": 1e-2, "slices": 64}
