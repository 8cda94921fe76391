"""The losses a logit learns from have their closed forms."""

import math

import pytest
import torch

from wasserflow.ratio import gradient_penalty, logistic_loss


class Linear(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return x @ self.weight


def test_penalty_of_a_linear_logit_is_half_its_squared_slope():
    logit = Linear([3.0, -4.0])
    penalty = gradient_penalty(logit, torch.randn(7, 2))
    assert penalty.item() == pytest.approx(12.5)
    penalty.backward()
    torch.testing.assert_close(logit.weight.grad, logit.weight.detach())


def test_loss_of_an_undecided_logit_is_two_log_two():
    assert logistic_loss(torch.zeros(5), torch.zeros(3)).item() == pytest.approx(2 * math.log(2))


def test_loss_is_least_at_the_log_ratio():
    """On points drawn 8:2 from p and 3:7 from q the gradient vanishes at d = log p/q, and nowhere near it."""
    d = torch.tensor([0.8 / 0.3, 0.2 / 0.7]).log().requires_grad_()
    p, q = torch.tensor([0] * 8 + [1] * 2), torch.tensor([0] * 3 + [1] * 7)
    (gradient,) = torch.autograd.grad(logistic_loss(d[p], d[q]), d)
    torch.testing.assert_close(gradient, torch.zeros(2), rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad(logistic_loss(d[p] + 0.5, d[q] + 0.5), d)
    assert (gradient > 0.05).all()


def test_losses_stay_finite_for_sure_logits():
    d = torch.tensor([-200.0, 200.0])
    assert torch.isfinite(logistic_loss(d, d))
