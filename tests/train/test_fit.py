"""Fits touch their own network alone, averages are what they say, and a step never waits for the device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wasserflow.data import load as load_data
from wasserflow.errors import UserError
from wasserflow.method import METHODS, VGrow
from wasserflow.train.budget import Budget, Progress
from wasserflow.train.device import processes, resolve_device, use_precision
from wasserflow.train.fit import Average, Fit
from wasserflow.train.ledger import Ledger
from wasserflow.train.trainer import Trainer


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


def test_bfloat16_networks_take_and_give_float32():
    network = torch.nn.Linear(4, 3)
    exact = network(torch.ones(2, 4))
    use_precision(network, "bf16", torch.device("cpu"))
    rounded = network(torch.ones(2, 4))
    assert rounded.dtype == torch.float32
    assert network.weight.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)


class NoWaiting(TorchDispatchMode):
    """Fails on what would make a GPU's host wait: reading a scalar, or copying to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "the step reads a scalar from the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_step_reads_nothing_back_from_the_device(method):
    model = method.for_shape((1, 8, 8), width=4, penalty=0.1)
    trainer = Trainer(model, load_data("digits"), seed=0, device=torch.device("cpu"), precision="fp32")
    trainer.step()
    with NoWaiting():
        log = trainer.step()
    assert all(value.ndim == 0 and not value.requires_grad for value in log.values())


def test_data_stay_on_the_device_as_they_are_stored():
    trainer = Trainer(
        VGrow.for_shape((1, 8, 8), width=4), load_data("digits"), seed=0, device=torch.device("cpu"), precision="fp32"
    )
    assert trainer.data.x.dtype == torch.uint8


def test_ledger_averages_over_steps():
    progress = Progress()
    ledger = Ledger(progress)
    for value in (1.0, 2.0, 6.0):
        ledger.add({"loss": torch.tensor(value)})
    progress.images, progress.seconds = 300, 2.0
    line = ledger.line(progress, Budget(images=600))
    assert line["loss"] == pytest.approx(3.0)
    assert line["images_per_second"] == pytest.approx(150)
    assert line["seconds_left"] == pytest.approx(2.0)


def test_budgets():
    assert Budget(images=100).done(Progress(images=50)) == 0.5
    assert Budget(images=100, minutes=1).done(Progress(images=50, seconds=45)) == 0.75
    assert Budget(cpu_minutes=2).done(Progress(cpu_seconds=60)) == 0.5
    with pytest.raises(UserError, match="needs a budget"):
        Budget()
    with pytest.raises(UserError, match="--minutes must be"):
        Budget(minutes=-1)


def test_an_absent_device_is_named():
    with pytest.raises(UserError, match="no device 'cuda:99'"):
        resolve_device("cuda:99")
