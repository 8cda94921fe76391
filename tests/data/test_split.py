"""Splits are disjoint, cover everything, and never change; the fingerprint changes with any value."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from wasserflow.data import Form, load
from wasserflow.data.raw import Part, Raw
from wasserflow.data.split import finish, hold_out


@pytest.mark.parametrize("count", [20, 21, 99, 1797])
@pytest.mark.parametrize("stream", [0, 1])
def test_a_tenth_is_held_out(count, stream):
    rest, tenth = hold_out(count, stream)
    assert len(tenth) == count // 10
    assert sorted([*rest, *tenth]) == list(range(count))


def test_the_tenths_are_the_same_for_ever():
    assert hold_out(40, 0)[1].tolist() == [12, 16, 29, 33]
    assert hold_out(36, 1)[1].tolist() == [5, 12, 19]


def test_splits_are_disjoint_and_cover_everything():
    array = np.arange(200.0).reshape(-1, 1)
    dataset = load(array)
    parts = [
        dataset.form.to_data(s.x).round().ravel().tolist() for s in (dataset.train, dataset.validation, dataset.test)
    ]
    assert [len(p) for p in parts] == [162, 18, 20]
    assert sorted(value for part in parts for value in part) == array.ravel().tolist()
    assert dataset.split("validation") is dataset.validation


def test_loading_twice_is_loading_once():
    first, second = load("digits"), load("digits")
    assert first.fingerprint == second.fingerprint
    assert torch.equal(first.test.x, second.test.x)


def test_the_fingerprint_sees_a_pixel_a_label_a_unit_and_an_axis(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (40, 5, 5), dtype=np.uint8)
    labels = np.arange(40) % 3
    other = array.copy()
    other[17, 2, 2] ^= 1
    prints = [load(a).fingerprint for a in (array, other, array[..., None], array[:30])]
    for number, given in enumerate((labels, labels[::-1])):
        np.savez(tmp_path / f"{number}.npz", x=array, y=given)
        prints.append(load(tmp_path / f"{number}.npz").fingerprint)
    vectors = np.random.default_rng(0).normal(size=(40, 2))
    prints += [load(v).fingerprint for v in (vectors, vectors * 2, vectors.astype(np.float32))]
    assert len(set(prints)) == len(prints)
    assert load(array.copy()).fingerprint == prints[0]


def test_the_form_survives_json():
    import json

    for source in ("digits", "circles"):
        form = load(source).form
        assert Form.from_json(json.loads(json.dumps(form.to_json()))) == form


@pytest.mark.parametrize("seed", range(5))
def test_splits_of_a_fresh_array_are_those_of_a_copy_without_its_memory(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (1100, 3, 32, 32), dtype=np.uint8)
    label = rng.integers(0, 5, 1100)
    rows = rng.permutation(1100)  # the last hundred belong to no split
    raw = Raw("x", Part(x, label, rows[:800]), "NHWC", ("uint8",), Part(x, label, rows[800:1000]))
    copied = finish(raw, "x")
    tracemalloc.start()
    fresh = finish(replace(raw, fresh=True), "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fresh.fingerprint == copied.fingerprint
    for split in ("train", "validation", "test"):
        assert fresh.split(split).x.equal(copied.split(split).x)
        assert fresh.split(split).x.is_contiguous()
    assert peak < x.nbytes / 10
