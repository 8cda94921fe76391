"""``wasserflow score`` and what ``sample`` and ``plot`` do with a potential."""

import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import wasserflow as wf
from wasserflow.data import load as load_data

SMALL: dict[str, Any] = {"width": 8, "depth": 1, "batch": 64}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "digits"
    model = wf.VAPO.for_shape((1, 8, 8), classes=10, **SMALL)
    wf.train(model, "digits", budget=wf.Budget(images=6400), out=run)
    return run


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "moons"
    model = wf.VAPO.for_shape((2,), width=16, depth=1, batch=64)
    wf.train(model, "two-moons", budget=wf.Budget(images=640), out=run)
    return run


def test_scores_are_written_and_tell_noise_apart(done, digits):
    rng = np.random.default_rng(0)
    np.save("noise.npy", rng.integers(0, 256, (300, 8, 8), dtype=np.uint8))
    words = done("density", digits, "--against", "noise.npy", "--out", "s.csv")
    assert "AUROC" in words
    scores = np.loadtxt("s.csv", delimiter=",", skiprows=1)
    test = load_data("digits").test.x
    assert len(scores) == len(test)
    np.testing.assert_allclose(scores, wf.log_density(digits), rtol=1e-5)
    told = json.loads((digits / "detection.json").read_text())["against"][0]
    assert told["count"] == [len(test), 300]
    assert told["auroc"]["density"] > 0.95
    assert told["auroc"]["constant"] == 0.5
    assert told["auroc"]["|x|^2, better sign"] >= 0.5


def test_units_of_the_data_count(done, moons):
    """A density per volume of the data's units: half the unit, twice two logarithms of two more."""
    model: Any = wf.load(moons)
    form = load_data("two-moons").form
    x = load_data("two-moons").test.x[:50]
    expected = model.log_density(x).double().numpy() - np.log(np.array(form.std, float)).sum()
    np.testing.assert_allclose(wf.log_density(moons, n=50), expected, rtol=1e-5)
    words = done("density", moons, "-n", 40, "--kind", "likelihood", "--steps", 5, "--out", "s.csv")
    assert "bits_per_dim" in words
    likelihood, bits = np.loadtxt("s.csv", delimiter=",", skiprows=1).T
    np.testing.assert_allclose(bits, -likelihood / (2 * log(2)), rtol=1e-5)


def test_likelihood_of_images_is_per_grey_level(digits):
    x = load_data("digits").test.x[:5]
    model: Any = wf.load(digits)
    form = load_data("digits").form
    expected = model.log_density(form.to_model(x), kind="likelihood", steps=4).double().numpy() - 64 * log(127.5)
    np.testing.assert_allclose(wf.log_density(digits, n=5, kind="likelihood", steps=4), expected, rtol=1e-6)


def test_samples_from_given_ones(done, digits):
    form = load_data("digits").form
    start = form.to_data(load_data("digits").split("test").x[:9].float() / 127.5 - 1)
    np.save("start.npy", start)
    done("sample", digits, "--from", "start.npy", "--mask", "top", "--out", "inpainted.npy", "--steps", 4)
    inpainted = np.load("inpainted.npy")
    assert (inpainted[:, :4] == start[:, :4]).all()
    assert (inpainted[:, 4:] != start[:, 4:]).any()
    words = done("sample", digits, "-n", 4, "--label", 3, "--guidance", 1, "--out", "x.npy", "--solver", "dopri5")
    assert "network evaluations per sample" in words
    done("sample", digits, "-n", 6, "--interpolate", 3, "--out", "x.png")


def test_blending(done, refused, digits, moons):
    done("sample", digits, "-n", 4, "--blend", digits, "--share", 0.3, "--steps", 3, "--out", "x.npy")
    assert "name that by --blend" in refused("sample", digits, "-n", 4, "--share", 0.3, "--out", "y.npy")
    assert "shape" in refused("sample", digits, "-n", 4, "--blend", moons, "--out", "y.npy")


def test_pictures(done, digits, moons):
    lines = done("plot", digits).splitlines()
    names = [Path(line.split(": ")[0]).name for line in lines]
    assert names == ["curves.png", "grids.png", "training.gif", "energy.png", "energies.png", "neighbours.png"]
    lines = done("plot", moons).splitlines()
    names = [Path(line.split(": ")[0]).name for line in lines]
    assert names[-4:] == ["density.png", "potential.png", "energy.png", "energies.png"]
    assert "field.png" not in names
    for run in (digits, moons):
        for file in (run / "plots").glob("*.png"):
            with Image.open(file) as picture:
                assert min(picture.size) > 100


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--out", "s.txt"), ".csv or .npy"),
        (("--data", "ring"), "shape"),
        (("--data", "nowhere.npy"), "no such file"),
        (("--time", "1.5"), "--time"),
        (("--time", "1"), "strictly"),
        (("--label", "10"), "--classes"),
        (("-n", "0"), "-n"),
        (("--kind", "likelihood", "--probes", "0"), "--probes"),
        (
            (
                "--kind",
                "energy",
            ),
            "kind",
        ),
        (("--against", "two-moons"), "shape"),
    ],
)
def test_bad_words(refused, digits, words, says):
    assert says in refused("density", digits, *words)
    assert not Path("s.csv").exists()


def test_a_method_without_a_potential(refused, runs):
    assert "potential" in refused("density", runs / "digits")
    assert "potential" in refused("sample", runs / "digits", "-n", 4, "--blend", runs / "digits", "--out", "x.npy")
