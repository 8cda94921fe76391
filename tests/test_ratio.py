"""Every loss learns log p/q, and every penalty has its closed form on a linear logit."""

import math
from typing import Any

import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.divergence import CATALOGUE, D_MAX, named
from wasserflow.ratio import LOGISTIC, LOSSES, PENALTIES, RatioLoss, define_loss, f_gan, loss_named

F64: dict[str, Any] = {"dtype": torch.float64}
EVERY = [*dict.fromkeys(LOSSES.values()), *(f_gan(row) for row in CATALOGUE if row.f), f_gan(named("alpha:0.3"))]
losses = pytest.mark.parametrize("loss", EVERY, ids=lambda loss: loss.name)


def slope(function, logit):
    logit = logit.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(logit).sum(), logit)
    return first


# The lemma


@losses
def test_pointwise_the_optimal_logit_is_the_log_ratio(loss):
    """``p data'(l) + q particles'(l) = 0`` at ``p/q = e^l``, and the derivative there grows: a strict minimum."""
    logit = torch.linspace(-4, 4, 81, **F64)
    data, particles = slope(loss.data, logit), slope(loss.particles, logit)
    assert (data < 0).all()
    torch.testing.assert_close(-particles / data, logit.exp(), rtol=1e-9, atol=0)


@losses
def test_loss_is_least_at_the_log_ratio(loss):
    """On points drawn 8:2 from p and 3:7 from q the gradient vanishes at d = log p/q, and nowhere near it."""
    d = torch.tensor([0.8 / 0.3, 0.2 / 0.7], **F64).log().requires_grad_()
    p, q = torch.tensor([0] * 8 + [1] * 2), torch.tensor([0] * 3 + [1] * 7)
    (gradient,) = torch.autograd.grad(loss(d[p], d[q]), d)
    torch.testing.assert_close(gradient, torch.zeros(2, **F64), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(loss(d[p] + 0.5, d[q] + 0.5), d)
    assert (gradient > 0.01).all()


@losses
def test_equilibrium_is_the_value_of_an_undecided_logit(loss):
    assert loss(torch.zeros(5, **F64), torch.zeros(3, **F64)).item() == pytest.approx(loss.equilibrium)


def test_logistic_equilibrium_is_two_log_two():
    assert LOGISTIC.equilibrium == pytest.approx(2 * math.log(2))


@losses
def test_finite_and_pulling_back_from_the_extremes(loss):
    logit = torch.tensor([-200.0, -20.0, 20.0, 200.0])
    for function in (loss.data, loss.particles):
        assert torch.isfinite(function(logit)).all()
        assert torch.isfinite(slope(function, logit)).all()
    if not loss.name.startswith("lsgan"):  # whose bounded critic saturates
        assert slope(loss.data, logit)[0] < -0.01


@pytest.mark.parametrize(
    ("name", "phi", "psi", "critic"),
    [
        ("logistic", torch.nn.functional.logsigmoid, lambda v: torch.nn.functional.logsigmoid(-v), lambda u: u),
        ("lsgan", lambda v: -((v - 1) ** 2), lambda v: -(v**2), torch.sigmoid),
        ("least-squares", lambda v: -(v**2) / 2, lambda v: v, lambda u: torch.exp(-u)),
        ("b-gan", lambda v: 2 * v, lambda v: 1 - v**2, torch.exp),
        ("gebm", lambda v: -(v + 0.7), lambda v: -torch.exp(-v - 0.7), lambda u: -u - 0.7),
        ("f-gan:kl", lambda v: v, lambda v: 1 + torch.log(-v), lambda u: -torch.exp(-u)),
        ("f-gan:hellinger", lambda v: v, lambda v: v / (v - 1), lambda u: 1 - torch.exp(-u / 2)),
    ],
)
def test_named_pairs_are_those_of_their_papers(name, phi, psi, critic):
    """-E_p phi(D(l)) - E_q psi(D(l)) up to a constant; psi = -g* for the f-GANs."""
    ours, theirs = loss_named(name), define_loss("theirs", phi, psi, critic)
    logit = torch.linspace(-D_MAX, D_MAX, 41, **F64)
    for a, b in ((ours.data, theirs.data), (ours.particles, theirs.particles)):
        difference = a(logit) - b(logit)
        torch.testing.assert_close(difference, difference[:1].expand(41), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("row", [row for row in CATALOGUE if row.f], ids=lambda row: row.name)
def test_f_gan_value_is_the_divergence(row):
    """At the true ratio of two Gaussians the negative loss, less its equilibrium, is E_q g(p/q) - g(1)."""
    x = torch.linspace(-12, 12, 20001, **F64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.0, 0.7))
    d = (p / q).log()
    loss = f_gan(row)
    value = torch.trapezoid(p * loss.data(d) + q * loss.particles(d), x)
    exact = torch.trapezoid(p * row.f(q / p), x)
    # linear terms of f are free in the f-GAN's value, and logd has one
    linear = row.f(torch.ones(1, **F64)).item()
    assert (loss.equilibrium - value).item() == pytest.approx(exact.item() - linear, abs=2e-4)


def test_user_pairs_are_checked_and_found_by_name():
    loss = define_loss("mine", lambda v: v, lambda v: -torch.exp(v), lambda u: u)
    assert loss_named("mine") is loss
    assert isinstance(loss, RatioLoss)
    assert loss.equilibrium == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("phi", "psi", "critic", "message"),
    [
        (lambda v: v, lambda v: -v, lambda u: u, r"must be e\^l"),
        (lambda v: -v, lambda v: torch.exp(v), lambda u: u, "above 0"),
        (lambda v: v.item(), lambda v: v, lambda u: u, "differentiable functions of tensors"),
    ],
)
def test_pairs_that_do_not_learn_the_log_ratio_are_refused(phi, psi, critic, message):
    with pytest.raises(UserError, match=message):
        define_loss("wrong", phi, psi, critic)
    with pytest.raises(UserError, match="unknown ratio loss"):
        loss_named("wrong")


def test_bad_names():
    with pytest.raises(UserError, match="Did you mean logistic"):
        loss_named("logistics")
    with pytest.raises(UserError, match="no f-divergence"):
        loss_named("f-gan:arcsinh")
    with pytest.raises(UserError, match="taken"):
        define_loss("lsgan", lambda v: v, lambda v: -torch.exp(v), lambda u: u)


# Penalties


class Linear(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return x @ self.weight


P, Q = torch.randn(2, 7, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "value", "slope"), [("r1", 12.5, 1.0), ("one-centred", 8.0, 0.8)])
def test_penalty_of_a_linear_logit(kind, value, slope):
    """|grad d| = 5: half the square is 12.5 with gradient w; (5 - 1)^2 / 2 is 8 with gradient (1 - 1/5) w."""
    logit = Linear([3.0, -4.0])
    penalty = PENALTIES[kind](logit, P, Q, LOGISTIC, torch.Generator().manual_seed(0))
    assert penalty.item() == pytest.approx(value)
    penalty.backward()
    torch.testing.assert_close(logit.weight.grad, slope * logit.weight.detach())


def test_the_one_centred_penalty_is_taken_between_data_and_particles():
    """|grad d(x)| = |x| for d = |x|^2 / 2, and x = 1 + 2u between 1 and 3: E (2u)^2 / 2 = 2/3; 2 at the data alone."""

    class Square(torch.nn.Module):
        def forward(self, x):
            return 0.5 * x.square().sum(1)

    p, q = torch.tensor([3.0, 0.0]).expand(20_000, 2), torch.tensor([1.0, 0.0]).expand(20_000, 2)
    penalty = PENALTIES["one-centred"](Square(), p, q, LOGISTIC, torch.Generator().manual_seed(0))
    assert penalty.item() == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.parametrize(
    ("name", "weight"),
    [("logistic", lambda d: torch.sigmoid(-d)), ("least-squares", lambda d: torch.exp(-2 * d))],
)
def test_weighted_penalty_is_the_one_of_euler_particle_transport(name, weight):
    """Logistic: sigma(-d); least squares: R^2, which makes it |grad R|^2 / 2 for R = e^-d."""
    logit = Linear([0.3, -0.4])
    d = P @ logit.weight.detach()
    penalty = PENALTIES["weighted"](logit, P, Q, loss_named(name), torch.Generator())
    assert penalty.item() == pytest.approx(0.125 * weight(d).mean().item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, logit.weight)
    assert torch.isfinite(gradient).all()


@losses
def test_weight_is_the_curvature_of_the_loss_at_its_optimum(loss):
    """p data'' + q particles'' = -p data' where p/q = e^l."""
    logit = torch.linspace(-3, 3, 13, **F64).requires_grad_()
    first = [torch.autograd.grad(f(logit).sum(), logit, create_graph=True)[0] for f in (loss.data, loss.particles)]
    first = [part + 0 * logit for part in first]  # constant slopes have no graph of their own
    data, particles = (torch.autograd.grad(part.sum(), logit, retain_graph=True)[0] for part in first)
    torch.testing.assert_close(data + (-logit).exp() * particles, -first[0], rtol=1e-6, atol=1e-12)
