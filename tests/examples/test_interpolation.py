"""Both walks end where they should; the great circle keeps its radius and its speed, the chord is shorter."""

from importlib import import_module

import pytest
import torch

import wasserflow as wf

example = import_module("interpolation")

A, B = torch.nn.functional.normalize(torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(0)), dim=2)
T = torch.linspace(0, 1, 9)


@pytest.mark.parametrize("path", example.PATHS.values(), ids=example.PATHS)
def test_ends(path):
    z = path(A, 2 * B, T)
    torch.testing.assert_close(z[:, 0], A)
    torch.testing.assert_close(z[:, -1], 2 * B)


def test_great_circle():
    z = example.spherical(A, B, T)
    torch.testing.assert_close(z.norm(dim=2), torch.ones(20, 9))
    chords = z.diff(dim=1).norm(dim=2)
    torch.testing.assert_close(chords, chords[:, :1].expand(20, 8), rtol=1e-4, atol=1e-6)


def test_straight_line_in_the_middle():
    middle = example.linear(A, B, T)[:, 4].norm(dim=1)
    torch.testing.assert_close(middle, ((1 + (A * B).sum(1)) / 2).sqrt())


def test_walks_of_a_run(tmp_path):
    model = wf.VGrow.for_shape((1, 8, 8), width=4)
    wf.train(model, "digits", budget=wf.Budget(images=512), out=tmp_path / "run")
    numbers = example.main(tmp_path / "run", tmp_path, columns=5)
    assert numbers["linear"]["norm / sqrt(l)"][2] == pytest.approx(0.5**0.5, abs=0.02)
    assert numbers["spherical"]["norm / sqrt(l)"] == pytest.approx([1] * 5, abs=0.02)
    assert numbers["linear"]["log p/q"][0] == pytest.approx(numbers["spherical"]["log p/q"][0], abs=1e-5)
    assert (tmp_path / "interpolation.png").exists()


def test_vectors_are_refused(tmp_path):
    wf.train(wf.VGrow.for_shape((2,)), "two-moons", budget=wf.Budget(images=500), out=tmp_path / "run")
    with pytest.raises(wf.UserError, match="on images"):
        example.main(tmp_path / "run", tmp_path)
