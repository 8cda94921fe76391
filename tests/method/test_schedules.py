"""How often each part of a step runs, and what the settings do to it."""

from types import SimpleNamespace

import pytest
import torch

from wasserflow.method import MonoFlow, VGrow
from wasserflow.method.logit import pick
from wasserflow.ratio import PENALTIES

SHAPE = (1, 8, 8)
SMALL = {"network": "mlp", "latent": 4, "width": 16, "batch": 8}


class Data:
    """Random batches."""

    batch = 8

    def __init__(self, seen=0):
        self.seen, self.rng = seen, torch.Generator().manual_seed(0)

    def next(self):
        self.seen += self.batch
        return SimpleNamespace(x=torch.rand(self.batch, *SHAPE, generator=self.rng) * 2 - 1)


class Counter:
    """Keeps the losses of its steps, and takes none."""

    def __init__(self):
        self.losses = []

    def minimise(self, loss):
        self.losses.append(loss.item())


def run(model, seen=0):
    fit = SimpleNamespace(logit=Counter(), generator=Counter())
    data = Data(seen)
    log = model.step(data, fit, torch.Generator().manual_seed(1))
    return SimpleNamespace(logit=fit.logit.losses, generator=fit.generator.losses, data=data, log=log)


def test_vgrow_takes_the_steps_of_algorithm_1():
    model = VGrow.for_shape(SHAPE, pool=3, inner_steps=4, ratio_steps=2, fit_epochs=(5,), **SMALL)
    done = run(model)
    assert len(done.logit) == 4 * 2
    assert len(done.generator) == 5 * 3
    assert done.data.seen == 4 * 2 * 8


@pytest.mark.parametrize(("seen", "epochs"), [(0, 1), (799, 1), (800, 2), (1599, 2), (1600, 3), (10_000, 3)])
def test_fit_epochs_follow_their_schedule(seen, epochs):
    model = VGrow.for_shape(SHAPE, fit_epochs=(1, 2, 3), fit_epochs_at=(800, 1600), **SMALL)
    assert len(run(model, seen).generator) == epochs


@pytest.mark.parametrize(("seen", "factor"), [(0, 1.0), (99, 1.0), (100, 0.5), (250, 0.25)])
def test_learning_rates_halve_at_their_milestones(seen, factor):
    assert MonoFlow.for_shape(SHAPE, halve_lr_at=(100, 250), **SMALL).lr_factor(seen) == factor


def test_clamped_particles_stay_within_the_colours():
    free, clamped = (
        run(VGrow.for_shape(SHAPE, clamp=clamp, step_size=1e4, **SMALL)).log["fit_loss"] for clamp in (False, True)
    )
    model = VGrow.for_shape(SHAPE, **SMALL)
    farthest = 0.5 * 64 * (1 + model.sample(64).abs().max()) ** 2
    assert clamped <= farthest
    assert free > 10 * farthest


def test_the_penalty_is_paid_in_its_turn_and_in_proportion(monkeypatch):
    monkeypatch.setitem(PENALTIES, "r1", lambda logit, p, q, loss, rng: torch.tensor(10.0))
    model = MonoFlow.for_shape(SHAPE, penalty=0.5, penalty_every=4, **SMALL)
    extra = []
    for step in range(8):
        done = run(model, seen=8 * step)
        extra.append(done.logit[0] - done.log["ratio_loss"].item())
    assert extra == pytest.approx([20, 0, 0, 0, 20, 0, 0, 0], abs=1e-5)


def test_pick_draws_without_repetition_from_the_whole_pool():
    pool = torch.arange(40)
    drawn = torch.cat([pick(pool, 10, torch.Generator().manual_seed(seed)) for seed in range(20)])
    assert all(len(part.unique()) == 10 for part in drawn.split(10))
    assert len(drawn.unique()) > 35
    assert torch.equal(pick(pool, 40, torch.Generator()), pool)


def test_optimizers_are_the_named_ones():
    paper = VGrow.for_shape((3, 32, 32), recipe="paper").optimizers()
    assert all(type(optimizer) is torch.optim.RMSprop for optimizer in paper.values())
    ours = MonoFlow.for_shape(SHAPE, lr_logit=1e-3, lr_generator=2e-3, **SMALL).optimizers()
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in ours.items()}
    assert rates == {"logit": 1e-3, "generator": 2e-3}
