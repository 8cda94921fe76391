"""The flows of the examples, a few short steps of each: what they say they show is there already."""

from importlib import import_module
from math import pi

import pytest
import torch
from PIL import Image

from wasserflow.discrepancy.mmd import mmd_squared


def test_three_rings_are_circles_and_every_flow_comes_closer(tmp_path):
    example = import_module("three_rings")
    assert example.on_rings(example.three_rings(12)) == 1
    assert example.on_rings(torch.zeros(4, 2)) == 0
    assert example.covered(example.three_rings(12), example.three_rings(12)) == 1
    assert example.covered(example.three_rings(12)[:1], example.three_rings(12)) == pytest.approx(1 / 36)
    numbers = example.main(tmp_path, points=10, steps=60)
    distances = numbers["energy distance to the rings"]
    start = distances.pop("at the start")
    assert len(distances) == 4
    assert all(value < start for value in distances.values())
    assert (tmp_path / "three_rings.png").exists()


def test_the_students_error_is_the_discrepancy_of_its_neurons():
    example = import_module("student_teacher")
    rng = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(n, example.SIZE, generator=rng, dtype=torch.float64) for n in (7, 4))
    kernel = example.Neurons(rng).bind(student, teacher)
    kernel.inputs = kernel.inputs.double()
    error = (example.neuron(kernel.inputs, student).mean(0) - example.neuron(kernel.inputs, teacher).mean(0)).square()
    frozen = example.Neurons(rng, kernel.inputs)
    frozen.bind = lambda *_: frozen  # the same inputs for both
    torch.testing.assert_close(mmd_squared(student, teacher, frozen), error.mean())
    weights = torch.randn(4, generator=rng, dtype=torch.float64)
    z = student.clone().requires_grad_()
    (slope,) = torch.autograd.grad((frozen(z, teacher) @ weights).sum(), z)
    torch.testing.assert_close(frozen.gradient(student, teacher, weights), slope)


def test_student_learns(tmp_path):
    numbers = import_module("student_teacher").main(tmp_path, neurons=40, steps=200)
    assert numbers["mean squared error"]["injected noise"] < numbers["mean squared error at the start"]


def test_far_start(tmp_path):
    distances = import_module("far_start").main(tmp_path, particles=60, steps=200)["energy distance to the ring"]
    assert distances["energy"] < 0.1 * distances["at the start"]
    assert distances["energy"] < distances["Gaussian, median"] < distances["Gaussian"]


def test_morphing(tmp_path):
    example = import_module("morphing")
    # The star's area: ten triangles with two sides of 0.95 and 0.38 at 36 degrees.
    corners = torch.tensor(example.SHAPES["star"], dtype=torch.float64)
    x, y = corners.T
    area = (x * y.roll(-1) - x.roll(-1) * y).sum().abs() / 2
    assert area.item() == pytest.approx(5 * 0.95 * 0.38 * torch.sin(torch.tensor(pi / 5)).item(), rel=1e-6)
    numbers = example.main(tmp_path, points=300, steps=60)
    distances = numbers["energy distance to the star"]
    assert distances["moved"] < 0.3 * distances["heart"]
    with Image.open(tmp_path / "morphing.gif") as film:
        assert getattr(film, "n_frames", 1) > 10


def test_funnel(tmp_path):
    numbers = import_module("stein_funnel").main(tmp_path, particles=60, steps=300)
    distances = numbers["energy distance to the target"]
    assert distances["SVGD"] < 0.5 * distances["start"]
    assert numbers["squared kernel Stein discrepancy"]["SVGD"] < numbers["squared kernel Stein discrepancy"]["start"]
