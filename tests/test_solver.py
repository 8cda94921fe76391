"""The adaptive solver: exact solutions, tolerances, samples on their own, and what it costs."""

import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.solver import dormand_prince


def turning(x, t, rows):
    """Rotation whose speed grows with the radius, and a drift in time: stiff for some points, slow for others."""
    speed = x.square().sum(1, keepdim=True)
    return speed * torch.stack([-x[:, 1], x[:, 0]], 1)


def exact(x, time):
    angle = time * x.square().sum(1)
    c, s = angle.cos(), angle.sin()
    return torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], 1)


POINTS = torch.tensor([[0.1, 0.0], [1.0, 0.5], [1.2, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize("control", ["sample", "batch"])
def test_error_follows_the_tolerance(control):
    errors = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        moved, _ = dormand_prince(POINTS, turning, end=1.3, tolerance=tolerance, control=control)
        errors.append((moved - exact(POINTS, 1.3)).abs().max().item())
        assert errors[-1] < 100 * tolerance
    assert errors[2] < errors[1] < errors[0]


def test_back_and_forth():
    there, _ = dormand_prince(POINTS, turning, end=1.0, tolerance=1e-8)
    back, _ = dormand_prince(there, turning, start=1.0, end=0.0, tolerance=1e-8)
    torch.testing.assert_close(back, POINTS, rtol=0, atol=1e-6)


def test_samples_keep_to_themselves_and_pay_for_themselves():
    together, cost = dormand_prince(POINTS, turning, end=1.0)
    for i in range(3):
        alone, alone_cost = dormand_prince(POINTS[i : i + 1], turning, end=1.0)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-12)
        assert alone_cost[0] == cost[i]
    assert cost[0] < cost[2]
    _, equal = dormand_prince(POINTS, turning, end=1.0, control="batch")
    assert (equal == equal[0]).all()


def test_time_reaches_the_field():
    moved, _ = dormand_prince(torch.zeros(2, 1), lambda x, t, rows: 3 * t[:, None] ** 2, start=1.0, end=2.0)
    torch.testing.assert_close(moved, torch.full((2, 1), 7.0), rtol=1e-4, atol=1e-4)


def test_what_is_not_finite_is_refused():
    with pytest.raises(UserError, match="finite"):
        dormand_prince(torch.ones(1, 1), lambda x, t, rows: x * torch.nan)
