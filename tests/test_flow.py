"""Integrators have the order they claim, and bad input is refused."""

import math

import pytest
import torch

from wasserflow.errors import UserError
from wasserflow.flow import flow


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_order_of_convergence(solver, order):
    """x' = x cos t, whose solution is x0 exp(sin t), to t = 2."""
    x0 = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    exact = x0 * math.exp(math.sin(2.0))

    def error(steps):
        moved = flow(x0, lambda x, t: x * math.cos(t), steps=steps, step_size=2.0 / steps, solver=solver)
        return (moved - exact).abs().max().item()

    measured = math.log2(error(64) / error(128))
    assert measured == pytest.approx(order, abs=0.15)


def test_callback_sees_every_state_and_input_stays():
    x0 = torch.zeros(2, 3)
    seen = []
    moved = flow(x0, lambda x, t: torch.ones_like(x), steps=4, step_size=0.5, callback=lambda k, x: seen.append((k, x)))
    assert [k for k, _ in seen] == [0, 1, 2, 3, 4]
    torch.testing.assert_close(moved, torch.full((2, 3), 2.0))
    assert x0.abs().sum() == 0


def test_no_steps_is_the_identity():
    x0 = torch.randn(3, 2)
    assert flow(x0, lambda x, t: x, steps=0) is x0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "steps"),
        ({"steps": 1, "step_size": 0.0}, "step_size"),
        ({"steps": 1, "solver": "eulr"}, "Did you mean euler"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(UserError, match=message):
        flow(torch.zeros(1, 1), lambda x, t: x, **arguments)


def test_exploding_particles_are_reported():
    with pytest.raises(UserError, match="no longer finite"):
        flow(torch.ones(2, 2), lambda x, t: x**3, steps=60, step_size=1.0)
