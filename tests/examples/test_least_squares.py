"""Gradient descent and the particle flow are Euler schemes: first order towards their closed forms."""

from importlib import import_module

import pytest
import torch

example = import_module("least_squares")


@pytest.mark.parametrize("problem", [example.Regression(), example.Gaussians(n=50)], ids=["least squares", "KL flow"])
def test_first_order(problem):
    """Halving a small step halves the error."""
    errors = [entry["error"] for entry in example.order(problem, (160, 320, 640))]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.02)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize("problem", [example.Regression(), example.Gaussians(n=50)], ids=["least squares", "KL flow"])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_closed_form_solves_the_equation(problem, t):
    """Its derivative, by central differences, is the field along it; and it begins at the start."""
    h = 1e-5
    slope = (problem.closed_form(t + h) - problem.closed_form(t - h)) / (2 * h)
    torch.testing.assert_close(slope, problem.field(problem.closed_form(t)), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(problem.closed_form(0.0), problem.start)


def test_singular_least_squares_ends_in_the_least_norm_solution():
    problem = example.Regression()
    assert torch.linalg.matrix_rank(problem.x.T @ problem.x) == 2
    end = example.wf.flow(problem.start, problem.field, steps=500, step_size=0.5)[0]
    torch.testing.assert_close(end, torch.linalg.lstsq(problem.x, problem.y, driver="gelsd").solution)


def test_particles_carry_the_law():
    problem = example.Gaussians(n=50)
    x = problem.closed_form(0.7)
    mean, covariance = problem.moments(0.7)
    torch.testing.assert_close(x.mean(0), mean)
    torch.testing.assert_close(x.T.cov(correction=0), covariance)


def test_pictures_and_numbers(tmp_path):
    numbers = example.main(tmp_path)
    assert numbers["null coordinate of beta"] < 1e-12
    assert (tmp_path / "least_squares.png").stat().st_size < 300_000
