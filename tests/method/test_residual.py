"""The flow of residual maps: its maps are kept, compose, and carry new noise where they carried the pool."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

import wasserflow as wf
from wasserflow._core.errors import UserError
from wasserflow._core.noise import sample_noise
from wasserflow.field.known_ratio import RatioField
from wasserflow.method import ResidualFlow

SMALL = {"network": "mlp", "width": 16, "batch": 16, "maps": 3, "map_steps": 2, "ratio_steps": 4, "pool": 2}


@dataclass
class Batch:
    x: torch.Tensor
    label: None = None


class _Data:
    """Points around (2, 0)."""

    batch = 16

    def __init__(self):
        self.seen, self.rng = 0, torch.Generator().manual_seed(0)

    def next(self) -> Batch:
        self.seen += self.batch
        return Batch(self.look(self.batch))

    def look(self, n: int) -> torch.Tensor:
        return torch.randn(n, 2, generator=self.rng) + torch.tensor([2.0, 0.0])


Data: Any = _Data  # stands in for the data of a step


class Fit:
    """Plain gradient steps."""

    def __init__(self, network):
        self.optimizer = torch.optim.SGD(network.parameters(), 0.1)

    def minimise(self, losses):
        self.optimizer.zero_grad()
        losses.backward(inputs=self.optimizer.param_groups[0]["params"])
        self.optimizer.step()


class Still:
    """A fit that learns nothing."""

    def minimise(self, losses):
        pass


class Fits:
    """The fit of the logit, the only network."""

    def __init__(self, fit):
        self.fit = fit

    def __getattr__(self, name: str) -> Fit:
        return self.fit


def trained(steps, **settings):
    model = ResidualFlow.for_shape((2,), **SMALL | settings)
    data, fit = Data(), Fits(Fit(model.logit))
    pools = [model.pool.clone()]
    for step in range(steps):
        log = model.step(data, fit, torch.Generator().manual_seed(step))
        pools.append(model.pool.clone())
        assert torch.isfinite(log["field_norm"])
    return model, pools


@pytest.mark.parametrize("network", ["mlp", "shallow"])
def test_a_map_is_its_euler_steps(network):
    model, _ = trained(1, network=network)
    x = torch.randn(5, 2)
    field = RatioField(model.logit, model.map)  # the last map's logit is the logit as it stands
    expected = x
    for _ in range(2):
        expected = expected + model.config.flow.step_size * field(expected)
    torch.testing.assert_close(model.residual_map(0, x), expected)


def test_the_pool_went_through_the_maps_that_are_kept():
    model, pools = trained(3)
    start = torch.empty_like(model.pool).normal_(generator=torch.Generator().manual_seed(0))
    x = start
    for k in range(3):
        x = model.residual_map(k, x)
        torch.testing.assert_close(x, pools[k + 1])


def test_a_preview_is_the_same_noise_through_the_maps_so_far():
    model, _ = trained(1)
    early = model.preview(5)
    torch.testing.assert_close(early, model.residual_map(0, sample_noise(0, 0, 5, (2,))))
    later, _ = trained(3)
    assert (later.preview(500) - model.preview(500)).norm(dim=1).max() < 2  # it moved on; noise drawn anew lies farther


def test_field_and_log_ratio_are_those_of_the_last_map():
    """Wherever training stopped: here the logit holds the first map's weights, of a second pass."""
    model, _ = trained(4)
    assert int(model.learned) == 3
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(2))
    moved = x
    for _ in range(2):
        moved = moved + model.config.flow.step_size * model.field(moved)
    torch.testing.assert_close(moved, model.residual_map(2, x))
    kept = model.maps[2]
    torch.testing.assert_close(model.log_ratio(x), model.log_ratio(x))
    assert torch.equal(model._weights(), kept)


def test_a_process_moves_its_own_share_of_the_pool():
    """With two processes each draws half a batch, and half as many particles are its own."""
    model = ResidualFlow.for_shape((2,), **SMALL)
    data = Data()
    data.batch = 8
    before = model.pool.clone()
    model.step(data, Fits(Fit(model.logit)), torch.Generator().manual_seed(0))
    assert torch.equal(model.pool[16:], before[16:])
    assert not (model.pool[:16] == before[:16]).any()


def test_samples_are_new_noise_through_every_map():
    from wasserflow._core.noise import sample_noise

    model, _ = trained(2)
    x = sample_noise(5, 0, 7, (2,))
    torch.testing.assert_close(model.sample(7, seed=5), model.residual_map(1, model.residual_map(0, x)))
    torch.testing.assert_close(model.sample(7, seed=5, batch=2), model.sample(20, seed=5)[:7])
    assert next(model.stream(7)).evaluations == 2 * 2


def test_without_a_map_samples_are_noise():
    from wasserflow._core.noise import sample_noise

    model = ResidualFlow.for_shape((1, 8, 8))
    assert torch.equal(model.sample(4, seed=1), sample_noise(1, 0, 4, (1, 8, 8)))
    assert next(model.stream(4)).evaluations == 0


def test_a_second_pass_goes_on_from_the_kept_maps_with_a_new_pool():
    """With a logit that learns nothing, the second pass leaves every map as it was; the pool starts anew."""
    model, _ = trained(3)
    maps = model.maps.clone()
    data = Data()
    data.seen = 3 * 4 * 16
    still = Fits(Still())
    for step in range(3):
        model.step(data, still, torch.Generator().manual_seed(50 + step))
    assert torch.equal(model.maps, maps)
    assert int(model.learned) == 3
    x = torch.empty_like(model.pool).normal_(generator=torch.Generator().manual_seed(50))
    for k in range(3):
        x = model.residual_map(k, x)
    torch.testing.assert_close(model.pool, x)


@pytest.mark.parametrize("network", ["strided", "dcgan", "resnet"])
def test_maps_keep_all_that_an_image_network_needs(network):
    """A kept map is the network as it was, batch statistics and spectral norms included."""
    model = ResidualFlow.for_shape((1, 8, 8), network=network, width=4, maps=2, map_steps=1)
    x = torch.randn(16, 1, 8, 8)
    with torch.no_grad():
        model.logit.train()(x)
        model.maps[1] = model._weights()
    expected = x + model.config.flow.step_size * RatioField(model.logit.eval(), model.map)(x)
    torch.nn.init.normal_(next(iter(model.logit.parameters())))
    torch.testing.assert_close(model.residual_map(1, x), expected)


def test_particles_reach_the_data():
    """Points of N(0, I) flow onto N((2, 0), I) in time 4: the mean of the flow of KL is 2 (1 - e^-4)."""
    model, _ = trained(20, maps=20, ratio_steps=20, step_size=0.1, pool=16)
    mean = model.sample(4000).mean(0)
    torch.testing.assert_close(mean, torch.tensor([2.0, 0.0]), rtol=0, atol=0.35)


@pytest.mark.parametrize(("name", "value"), [("maps", 0), ("map_steps", -1), ("ratio_steps", 0), ("pool", 0)])
def test_bad_settings(name, value):
    with pytest.raises(UserError, match=f"`{name}`"):
        wf.ResidualFlow.for_shape((2,), **{name: value})
