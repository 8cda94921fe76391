"""Fits touch their own network alone, averages are what they say, and a step never waits for the device."""

import gc
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wasserflow._core.device import resolve_device
from wasserflow._core.errors import UserError
from wasserflow.data import load as load_data
from wasserflow.method import DMMD, METHODS, VGrow
from wasserflow.training.budget import Budget, Progress
from wasserflow.training.fit import Average, Fit
from wasserflow.training.processes import processes
from wasserflow.training.trainer import Trainer


def fitted(network):
    return Fit(network, torch.optim.SGD(network.parameters(), 0.1), processes())


def test_minimise_steps_its_own_network_only():
    inner, outer = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    before = outer.weight.clone()
    fitted(inner).minimise(outer(inner(torch.ones(3, 2))).square().mean())
    assert all(p.grad is None for p in outer.parameters())
    assert torch.equal(outer.weight, before)
    assert inner.weight.grad is not None


def test_accumulated_losses_are_the_joint_loss():
    x, one, many = torch.randn(6, 2), torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    many.load_state_dict(one.state_dict())
    fitted(one).minimise(torch.stack([one(part).square().sum() for part in x.split(2)]).sum())
    fitted(many).minimise(many(part).square().sum() for part in x.split(2))
    torch.testing.assert_close(one.weight, many.weight)


def test_average_has_its_half_life_and_takes_buffers_along():
    source, copy = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    ours, theirs = copy.state_dict(), source.state_dict()
    average = Average(source, copy, half_life=100)
    expected = 1.0
    for step in range(1, 30):
        with torch.no_grad():
            source.weight.fill_(float(step))
            theirs["running_mean"].fill_(float(-step))
            theirs["num_batches_tracked"].fill_(step)
        average.update(50, seen=10_000 + 50 * step)
        expected = expected * 0.5**0.5 + step * (1 - 0.5**0.5)
    assert copy.weight.item() == pytest.approx(expected, rel=1e-5)
    assert ours["running_mean"].item() < -25
    assert ours["num_batches_tracked"].item() == 29


def test_average_soon_forgets_the_start():
    source, copy = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    average = Average(source, copy, half_life=1_000_000)
    with torch.no_grad():
        copy.weight.fill_(1000.0)
        source.weight.fill_(1.0)
    for step in range(1, 100):
        average.update(10, seen=10 * step)
    assert copy.weight.item() == pytest.approx(1.0, abs=1e-3)


def trained(precision, **settings):
    model = VGrow.for_shape((1, 8, 8), width=8, latent=8, batch=16, **settings)
    trainer = Trainer(model, load_data("digits"), seed=0, device=torch.device("cpu"), precision=precision)
    return model, trainer.step()


@pytest.mark.parametrize(("used", "share"), [(0.0, 1.0), (0.6, 1.0), (0.7, 0.75), (0.9, 0.25), (1.0, 0.0)])
def test_learning_rates_fall_over_the_last_part_of_the_budget(used, share):
    model = VGrow.for_shape((1, 8, 8), width=8, latent=8, batch=16, decay=0.4)
    trainer = Trainer(model, load_data("digits"), seed=0, device=torch.device("cpu"), precision="fp32")
    first = [group["lr"] for optimizer in trainer.optimizers.values() for group in optimizer.param_groups]
    trainer.step(used)
    now = [group["lr"] for optimizer in trainer.optimizers.values() for group in optimizer.param_groups]
    assert now == pytest.approx([share * rate for rate in first])


def test_bfloat16_leaves_logits_and_samples_exact():
    model, _ = trained("bf16")
    with torch.autocast("cpu", torch.bfloat16):
        for out in (model.generator(torch.randn(4, 8)), model.logit(torch.rand(4, 1, 8, 8))):
            assert out.dtype == torch.float32
            assert not torch.equal(out, out.bfloat16().float()), "the values have bfloat16's digits only"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3,)], ids=str)
def test_bfloat16_leaves_features_exact(shape):
    """Differences between neighbouring noise levels are small beside them."""
    model = DMMD.for_shape(shape, width=8)
    x = torch.randn(4, *shape)
    with torch.autocast("cpu", torch.bfloat16):
        out = model.phi(x, torch.rand(4))
    assert out.dtype == torch.float32
    assert not torch.equal(out, out.bfloat16().float()), "the values have bfloat16's digits only"


def test_bfloat16_sees_the_weights_as_they_are_now():
    """Within a step the logit learns four times; casts of its weights kept from the first would show."""
    settings = {"inner_steps": 4, "lr_logit": 0.02}
    exact, rounded = (trained(precision, **settings)[1]["ratio_loss"] for precision in ("fp32", "bf16"))
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0)


def test_a_copy_of_a_trained_model_draws_with_its_own_weights():
    copy = deepcopy(trained("bf16")[0])
    with torch.no_grad():
        for p in copy.generator.parameters():
            p.zero_()
    assert copy.sample(4).abs().max() == 0


def test_the_average_of_a_spectrally_normalised_network_is_normalised():
    source, copy = (torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(6, 6)) for _ in range(2))
    copy.load_state_dict(source.state_dict())
    average = Average(source, copy, half_life=1)
    with torch.no_grad():
        source.get_parameter("parametrizations.weight.original").mul_(-3).add_(torch.randn(6, 6))
    for _ in range(30):
        source(torch.randn(2, 6))  # a power iteration each
    average.update(1000, seen=1_000_000)
    torch.testing.assert_close(copy.eval().weight, source.eval().weight, rtol=1e-3, atol=1e-3)


WAITING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


class NoWaiting(TorchDispatchMode):
    """Fails on what makes the host of a GPU wait: reading a scalar, or a shape that depends on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in WAITING, f"the step waits for the device in {func}"
        return func(*args, **(kwargs or {}))


def small(method):
    """A model with all that its steps can do every step."""
    everything = {"penalty": 0.1, "classes": 10, "time_score": 0.1}
    known = vars(method.recipe("default", (1, 8, 8)))
    return method.for_shape((1, 8, 8), width=4, **{key: everything[key] for key in everything if key in known})


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_step_reads_nothing_back_from_the_device(method):
    model = small(method)
    trainer = Trainer(model, load_data("digits"), seed=0, device=torch.device("cpu"), precision="fp32")
    trainer.step()
    with NoWaiting():
        log = trainer.step()
    assert all(value.ndim == 0 and not value.requires_grad for value in log.values())


def live_tensors():
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_step_leaves_nothing_in_memory(method):
    trainer = Trainer(small(method), load_data("digits"), seed=0, device=torch.device("cpu"), precision="fp32")
    for _ in range(3):
        trainer.step()
    before = live_tensors()
    for _ in range(4):
        trainer.step()
    assert live_tensors() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_step_never_waits_for_a_gpu(method):
    model = small(method)
    trainer = Trainer(model, load_data("digits"), seed=0, device=torch.device("cuda"), precision="bf16")
    trainer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_data_stay_on_the_device_as_they_are_stored():
    trainer = Trainer(
        VGrow.for_shape((1, 8, 8), width=4), load_data("digits"), seed=0, device=torch.device("cpu"), precision="fp32"
    )
    assert trainer.data.x.dtype == torch.uint8


def test_budgets():
    assert Budget(images=100).done(Progress(images=50)) == 0.5
    assert Budget(images=100, minutes=1).done(Progress(images=50, seconds=45)) == 0.75
    assert Budget(cpu_minutes=2).done(Progress(cpu_seconds=60)) == 0.5
    with pytest.raises(UserError, match="needs a budget"):
        Budget()
    with pytest.raises(UserError, match="--minutes must be"):
        Budget(minutes=-1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Budget(images=1e5), "--images must be of type"),  # pyright: ignore[reportArgumentType]
        (lambda: Budget(images=np.int64(64)), "--images must be of type"),  # pyright: ignore[reportArgumentType]
        (lambda: VGrow.for_shape((2,), optimizer="sgd"), "unknown optimizer 'sgd'"),
        (lambda: VGrow.for_shape((2,), prior="gaussian"), "unknown prior 'gaussian'"),
        (lambda: VGrow.for_shape((2,), ema=1e4), "--ema must be of type int, not 10000.0"),
        (lambda: VGrow.for_shape((2,), betas=(0.5,)), "--betas must be of type"),
        (lambda: DMMD.for_shape((2,), weighting="equally"), "Did you mean equal"),
        (lambda: DMMD.for_shape((2,)).sample(4, particles=8.0), "--particles must be of type int"),
    ],
)
def test_settings_that_a_run_could_not_be_read_back_with_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_an_absent_device_is_named():
    with pytest.raises(UserError, match="no device 'cuda:99'"):
        resolve_device("cuda:99")
