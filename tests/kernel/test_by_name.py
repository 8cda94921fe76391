"""Kernels by name, and what of the package is public."""

import pytest

import wasserflow as wf
from wasserflow._core.errors import UserError
from wasserflow.kernel.by_name import KERNELS, make_kernel


@pytest.mark.parametrize("name", KERNELS)
def test_every_name_makes_a_kernel(name):
    made = make_kernel(name)
    assert type(made) is KERNELS[name].make
    assert repr(made) == repr(KERNELS[name].make())


def test_settings():
    assert repr(make_kernel("gaussian", bandwidth=[1.0, 2.0])) == "Gaussian(bandwidth=[2.0, 1.0])"
    assert repr(make_kernel("laplace", bandwidth="optimal")) == "Laplace(bandwidth='optimal')"
    assert repr(make_kernel("energy", r=1.5)) == "Energy(r=1.5)"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gauss", {}, "Did you mean gaussian"),
        ("rq", {"bandwidth": 1.0}, "no `bandwidth`: leave it out, or take one of: gaussian, laplace, imq"),
        ("gaussian", {"r": 1.5}, "take one of: energy"),
        ("imq", {"bandwidth": [1.0, 2.0]}, "one bandwidth, not 2"),
    ],
)
def test_what_a_kernel_does_not_take_is_said(name, settings, message):
    with pytest.raises(UserError, match=message):
        make_kernel(name, **settings)


def test_the_package_shows_kernels_alone():
    shown = dir(wf.kernel)
    assert shown == sorted(shown)
    kernels = [name for name in shown if isinstance(getattr(wf.kernel, name), type)]
    assert [name for name in shown if name not in kernels] == ["make_kernel"]
    assert all(issubclass(getattr(wf.kernel, name), wf.Kernel) for name in kernels)
