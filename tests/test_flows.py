"""Integrators have the order they claim, and bad input is refused."""

import math

import numpy as np
import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.field.base import Field
from wasserflow.field.learned_ratio import LearnedRatioField
from wasserflow.field.of_samples import DrMMDField, KALEField, MMDField, SlicedField
from wasserflow.flows import CHECK_EVERY, Diverged, flow
from wasserflow.kernel.radial import Gaussian

X_WITH_NAN = torch.tensor([[0.0, 1.0], [math.nan, 2.0]])


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
    assert flow(x0, lambda x, t: x, steps=0, step_size=0.1) is x0


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
        flow(torch.zeros(1, 1), lambda x, t: x, **{"step_size": 0.1, **arguments})


@pytest.mark.parametrize(
    "x", [np.zeros((3, 2), np.int32), torch.zeros(3, 2).int(), torch.zeros(3, 2).half(), torch.zeros(3), [[0.0]]]
)
def test_particles_are_a_tensor_of_numbers(x):
    with pytest.raises(UserError, match="float32 or float64 tensor"):
        flow(x, lambda x, t: x, steps=1, step_size=0.1)


@pytest.mark.parametrize(("x", "message"), [(torch.zeros(0, 2), "no particles"), (X_WITH_NAN, "not finite in row 1")])
def test_particles_that_cannot_move(x, message):
    with pytest.raises(UserError, match=message):
        flow(x, MMDField(torch.zeros(3, 2)), steps=1)


@pytest.mark.parametrize("field", [MMDField, SlicedField, KALEField, DrMMDField, LearnedRatioField])
@pytest.mark.parametrize("batch", [None, 2])
def test_particles_and_target_of_other_lengths(field, batch):
    with pytest.raises(UserError, match="cannot flow onto"):
        flow(torch.zeros(4, 2), field(torch.randn(3, 5), batch=batch), steps=1)


@pytest.mark.parametrize("field", [MMDField, SlicedField, KALEField, DrMMDField])
def test_target_points_of_weight_zero_are_as_none(field):
    x, y = torch.randn(20, 2, generator=torch.manual_seed(0)).double(), torch.randn(15, 2).double() + 1
    weights = torch.arange(15) % 3
    moved, alone = (
        flow(x, field(a, weights=w), steps=5) for a, w in ((y, weights), (y[weights > 0], weights[weights > 0]))
    )
    torch.testing.assert_close(moved, alone)


def test_exploding_particles_are_reported():
    with pytest.raises(UserError, match="no longer finite"):
        flow(torch.ones(2, 2), lambda x, t: x**3, steps=60, step_size=1.0)


class Growing(Field):
    """An energy that falls and then grows for ever, without a number that is not finite."""

    def __init__(self, turn):
        self.turn = turn

    def at(self, particles, t=None):
        return torch.ones_like

    def energy(self, particles, t=None):
        return (particles.mean() - self.turn) ** 2


def test_persistently_growing_energy_ends_a_flow_with_the_best_particles():
    logged = []
    with pytest.raises(Diverged, match="the energy has grown from") as caught:
        flow(torch.zeros(3, 1), Growing(10.0), steps=10_000, step_size=0.1, log=lambda k, e: logged.append((k, e)))
    assert caught.value.step == 100
    torch.testing.assert_close(caught.value.particles, torch.full((3, 1), 10.0))
    assert [k for k, _ in logged] == list(range(0, logged[-1][0] + 1, CHECK_EVERY))
    assert logged[-1][1] > logged[0][1]


def test_an_energy_that_wavers_below_its_start_ends_nothing():
    class Wavering(Growing):
        def energy(self, particles, t=None):
            assert t is not None
            return torch.tensor(1 / (1 + t) + 0.4 * math.sin(0.05 * t) ** 2)

    flow(torch.zeros(3, 1), Wavering(0), steps=2000, step_size=0.1)


def test_particles_that_are_not_finite_are_given_back_as_they_were():
    with pytest.raises(Diverged) as caught:
        flow(torch.ones(2, 2), lambda x, t: x**3, steps=60, step_size=1.0)
    assert caught.value.step == 0
    assert torch.equal(caught.value.particles, torch.ones(2, 2))


def test_step_size_may_follow_the_step():
    seen = []
    flow(torch.zeros(1, 1), lambda x, t: seen.append(t) or torch.ones_like(x), steps=4, step_size=lambda k: 1.0 + k)
    assert seen == [0, 1, 3, 6]


def test_noise_moves_where_the_field_is_evaluated_and_nothing_else():
    """One step of v(x + beta u), with u from the seed; a beta of 0 is the plain step."""
    x, y = torch.randn(5, 2), torch.randn(7, 2) + 1
    field = MMDField(y, Gaussian(1.0))
    u = torch.randn(5, 2, generator=torch.Generator().manual_seed(4))
    moved = flow(x, field, steps=1, step_size=0.5, noise=0.3, seed=4)
    torch.testing.assert_close(moved, x + 0.5 * field.at(x)(x + 0.3 * u))
    torch.testing.assert_close(flow(x, field, steps=3, noise=lambda k: 0.0), flow(x, field, steps=3))


@pytest.mark.parametrize("arguments", [{"noise": -1.0}, {"noise": 0.1, "solver": "heun"}])
def test_bad_noise(arguments):
    with pytest.raises(UserError, match="noise"):
        flow(torch.zeros(2, 2), MMDField(torch.zeros(2, 2)), steps=1, **arguments)
    with pytest.raises(UserError, match=r"field\.at"):
        flow(torch.zeros(2, 2), lambda x, t: x, steps=1, step_size=0.1, noise=0.1)


class Steady(Field):
    """A field that says its step, which may change."""

    def at(self, particles, t=None):
        return torch.ones_like

    def stable_step(self, particles):
        return 0.5 if particles.mean() < 1 else 0.25


def test_a_flow_takes_the_stable_step():
    moved = flow(torch.zeros(2, 2), Steady(), steps=4)
    torch.testing.assert_close(moved, torch.full((2, 2), 2.0))
    changing = Steady()
    changing.adaptive = True
    torch.testing.assert_close(flow(torch.zeros(2, 2), changing, steps=4), torch.full((2, 2), 1.5))


def test_an_adaptive_lambda_takes_its_step_along():
    """At each step lambda / (2 (1 + lambda) L) with lambda as it is then."""
    x, y = torch.randn(30, 2, generator=torch.manual_seed(0)), torch.randn(20, 2) + 1
    fields = [DrMMDField(y, 0.1, Gaussian(1.0), adaptive=True) for _ in range(2)]
    lams = []

    def size(k):
        lams.append(fields[1].lam)
        return 0.5 * lams[-1] / (1 + lams[-1])

    assert torch.equal(flow(x, fields[0], steps=8), flow(x, fields[1], steps=8, step_size=size))
    assert len(set(lams)) > 3


def test_fields_without_a_stable_step_need_one():
    class Silent(Field):
        def at(self, particles, t=None):
            return torch.ones_like

    with pytest.raises(UserError, match="Silent does not say its stable step: give `step_size`"):
        flow(torch.zeros(2, 2), Silent(), steps=1)
    with pytest.raises(UserError, match="a plain function does not say which steps are stable: give `step_size`"):
        flow(torch.zeros(2, 2), lambda x, t: x, steps=1)
    with pytest.raises(UserError, match="no step size is known to be stable for the kernel Custom"):
        flow(torch.zeros(2, 2), MMDField(torch.ones(2, 2), lambda x, y: x @ y.T), steps=1)
    with pytest.raises(UserError, match="suggest no step size"):
        flow(torch.zeros(2, 2), SlicedField(torch.ones(2, 2)), steps=1)
