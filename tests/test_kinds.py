"""Arrays, DataFrames and tensors go in, the same come out; the examples of the public base classes run."""

import re
import sys
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import wasserflow as wf
from wasserflow._core.errors import UserError
from wasserflow._core.points import as_points
from wasserflow.field import make_field
from wasserflow.field.by_name import FIELDS

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 2)), RNG.standard_normal((30, 2)) + 2
FRAME = pd.DataFrame(X, columns=["height", "weight"], index=np.arange(100, 140))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_an_array_flows_as_an_array(kind):
    before = X.astype(kind)
    kept = before.copy()
    moved = wf.flow(before, wf.MMDField(Y), steps=5)
    assert isinstance(moved, np.ndarray)
    assert moved.dtype == kind
    tensor = wf.flow(torch.from_numpy(before), wf.MMDField(torch.from_numpy(Y)), steps=5)
    np.testing.assert_array_equal(moved, tensor.numpy())
    np.testing.assert_array_equal(before, kept)


def test_a_frame_flows_as_a_frame():
    target = pd.DataFrame({"a": Y[:, 0], "b": Y[:, 1]})
    seen = []
    moved = wf.flow(FRAME, wf.SlicedField(target), steps=5, callback=lambda k, x: seen.append(x))
    assert isinstance(moved, pd.DataFrame)
    assert list(moved.columns) == ["height", "weight"]
    assert moved.index.equals(FRAME.index)
    np.testing.assert_array_equal(moved.to_numpy(), wf.flow(X, wf.SlicedField(Y), steps=5))
    pd.testing.assert_frame_equal(seen[0], FRAME)
    assert wf.flow(FRAME.astype(np.float32), wf.SlicedField(Y), steps=5).dtypes.eq(np.float32).all()


def test_whole_numbers_of_a_frame_flow_as_floats():
    counts = pd.DataFrame({"a": [1, 2, 3], "b": pd.array([0.5, 1.5, 2.5], dtype="Float64")})
    assert wf.flow(counts, wf.SlicedField(Y), steps=1).dtypes.eq(np.float64).all()


@pytest.mark.parametrize("name", FIELDS)
def test_fields_answer_in_kind(name):
    target = Y if FIELDS[name].target == "points" else torch.neg
    made: list[Any] = [make_field(name, target) for _ in range(3)]
    expected = made[0](torch.from_numpy(X)).numpy()
    np.testing.assert_array_equal(made[1](X), expected)
    frame = made[2](FRAME)
    np.testing.assert_array_equal(frame.to_numpy(), expected)
    assert list(frame.columns) == ["height", "weight"]
    assert made[1].stable_step(X) == made[2].stable_step(FRAME) == made[0].stable_step(torch.from_numpy(X))


def test_two_samples_of_any_kind():
    frame = pd.DataFrame(Y)
    for function in (wf.mmd_squared, wf.energy_distance, wf.kale):
        assert function(FRAME, frame).value == function(X, torch.from_numpy(Y)).value


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (pd.DataFrame({"a": ["x", "y"], "b": [0.0, 1.0]}), "column 'a' of the array of particles holds"),
        (pd.DataFrame({"a": [0.0, None], "b": [0.0, 1.0]}), "not finite in row 1"),
        (np.array([["a"], ["b"]]), "not numbers"),
        (np.array([[1j], [2.0]]), "complex"),
        (np.zeros((2, 2), int), "must be a float32 or float64 tensor"),
    ],
)
def test_what_cannot_flow_is_said(points, message):
    with pytest.raises(UserError, match=message):
        wf.flow(points, wf.SlicedField(Y), steps=1)


def test_arrays_of_every_layout():
    for array in (X[::-1], np.asfortranarray(X), X.astype(">f8"), np.broadcast_to(X[:1], X.shape)):
        np.testing.assert_array_equal(as_points(array, "it").numpy(), array.astype(float))


def test_pandas_need_not_be_there(monkeypatch):
    monkeypatch.delitem(sys.modules, "pandas")
    assert wf.flow(X, wf.SlicedField(Y), steps=1).shape == X.shape


@pytest.mark.parametrize("base", [wf.Field, wf.Kernel])
def test_the_example_of_a_base_class_runs(base):
    code = dedent(re.split(r"code-block:: python\n", base.__doc__ or "")[1])
    x, y = torch.from_numpy(X) / 4, torch.from_numpy(Y) / 4
    names = {"wf": wf, "torch": torch, "Tensor": torch.Tensor, "Callable": Callable, "x": x, "y": y, "centres": y[:3]}
    exec(code, names)
    assert torch.isfinite(names["moved"]).all()
    assert not torch.equal(names["moved"], x)
