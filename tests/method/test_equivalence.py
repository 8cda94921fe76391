"""VGrow with one step of each kind is the GAN whose generator loss is -E h(d)."""

from types import SimpleNamespace

import pytest
import torch

from wasserflow.divergence import CATALOGUE
from wasserflow.method import MonoFlow, VGrow

SHAPE = (1, 8, 8)
SETTINGS = {"network": "mlp", "latent": 4, "width": 16, "batch": 32}


class Data:
    """One batch, again and again."""

    def __init__(self, x):
        self.x, self.batch, self.seen = x, len(x), 0

    def next(self):
        self.seen += self.batch
        return SimpleNamespace(x=self.x, label=None)


class Recorder:
    """A fit that keeps the gradient instead of stepping."""

    def __init__(self, network, take_steps):
        self.parameters, self.take_steps, self.gradient = list(network.parameters()), take_steps, None

    def minimise(self, loss):
        gradient = torch.autograd.grad(loss, self.parameters)
        self.gradient = torch.cat([g.flatten() for g in gradient])
        if self.take_steps:
            with torch.no_grad():
                for p, g in zip(self.parameters, gradient, strict=True):
                    p -= 0.1 * g


def generator_step(model):
    """The gradient of the generator in one step, and the length of the field that the step logs."""
    data = Data(torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(7), dtype=torch.float64))
    model = model.double()
    fit = SimpleNamespace(logit=Recorder(model.logit, True), generator=Recorder(model.generator, False))
    model.latents = lambda n, rng: torch.randn(n, 4, generator=rng, dtype=torch.float64)
    log = model.step(data, fit, torch.Generator().manual_seed(3))
    return fit.generator.gradient, log["field_norm"]


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
@pytest.mark.parametrize("step_size", [0.5, 2.0])
def test_vgrow_with_one_step_of_each_kind_is_the_gan(row, step_size):
    gan = MonoFlow.for_shape(SHAPE, divergence=row.name, **SETTINGS)
    flow = VGrow.for_shape(
        SHAPE, divergence=row.name, pool=1, inner_steps=1, step_size=step_size, clamp=False, **SETTINGS
    )
    flow.load_state_dict(gan.state_dict())
    expected, length = generator_step(gan)
    gradient, field_norm = generator_step(flow)
    assert expected.norm() > 0
    torch.testing.assert_close(gradient / step_size, expected, rtol=1e-5, atol=1e-10)
    torch.testing.assert_close(field_norm, length)


def test_two_particle_steps_are_no_longer_the_gan():
    gan = MonoFlow.for_shape(SHAPE, divergence="logd", **SETTINGS)
    flow = VGrow.for_shape(SHAPE, divergence="logd", pool=1, inner_steps=2, step_size=1.0, clamp=False, **SETTINGS)
    flow.load_state_dict(gan.state_dict())
    assert not torch.allclose(generator_step(flow)[0], generator_step(gan)[0], rtol=1e-2)
