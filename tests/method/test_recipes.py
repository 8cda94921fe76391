"""Published recipes, setting by setting, in the units of their papers and codes: outer loops, batches, epochs."""

import pytest

from wasserflow._core.settings import leaves
from wasserflow.method import MonoFlow, VGrow

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def settings(method, name, shape, *names):
    config = leaves(method.recipe(name, shape))
    return tuple(config[field] for field in names)


def loops(config, field):
    """Milestones in outer loops: each sees a batch of data per step of the logit."""
    per_loop = config.batch * config.flow.inner_steps * config.flow.ratio_steps
    return [images / per_loop for images in leaves(config)[field]]


@pytest.mark.parametrize(("name", "batch", "pool"), [("paper", 64, 20), ("ept", 100, 10)])
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_vgrow_moves_a_pool_and_fits_it(name, batch, pool, shape):
    """Table A3 of EPT and VGrow's code: 1,280 and 1,000 particles, 20 steps of 0.5 with a step of the logit each."""
    shared = settings(VGrow, name, shape, "batch", "pool", "inner_steps", "ratio_steps", "step_size", "clamp", "ema")
    assert shared == (batch, pool, 20, 1, 0.5, True, 0)
    assert settings(VGrow, name, shape, "latent", "prior", "width", "penalty") == (128, "normal", 128, 0)
    assert settings(VGrow, name, shape, "optimizer", "lr_logit", "lr_generator") == ("rmsprop", 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("shape", "fit_at", "halved_at"),
    [(GREY, [200, 1000, 1500], [400, 800]), (COLOUR, [600, 2000, 3000], [800, 1600, 2400])],
)
def test_vgrow_has_the_schedule_meant_for_each_data_set(shape, fit_at, halved_at):
    """The authors' code gives CIFAR-10 the epochs of MNIST, by a condition that always holds; not so here."""
    paper, ept = (VGrow.recipe(name, shape) for name in ("paper", "ept"))
    assert paper.flow.fit_epochs == (5, 10, 15, 20)
    assert loops(paper, "fit_epochs_at") == fit_at
    assert loops(paper, "halve_lr_at") == halved_at
    assert (ept.flow.fit_epochs, ept.flow.fit_epochs_at) == ((20,), ())
    assert loops(ept, "halve_lr_at") == halved_at


def test_the_variants_differ_in_ratio_and_networks():
    names = ("network", "ratio_loss", "divergence")
    assert settings(VGrow, "paper", GREY, *names) == ("resnet", "logistic", "logd")
    assert settings(VGrow, "ept", GREY, *names) == ("resnet-plain", "least-squares", "pearson")


def test_vgrow_in_the_plane():
    """Batches of 1,000, one step of length 1 of each kind, uniform latents, one layer of 256 units, an average."""
    config = VGrow.recipe("paper", (2,))
    assert (config.batch, config.flow.pool, config.flow.inner_steps, config.flow.ratio_steps) == (1000, 1, 1, 1)
    assert config.flow.fit_epochs == (1,)
    assert (config.networks.latent, config.networks.prior, config.networks.network, config.networks.width) == (
        2,
        "uniform",
        "shallow",
        256,
    )
    assert (
        config.optimiser.optimizer,
        config.optimiser.lr_logit,
        config.optimiser.lr_generator,
        config.optimiser.betas,
    ) == ("adam", 1e-3, 1e-3, (0.0, 0.99))
    assert (config.ratio.penalty, config.flow.step_size, config.optimiser.halve_lr_at) == (0, 1, ())
    assert 0.5 ** (config.batch / config.optimiser.ema) == pytest.approx(0.99, abs=1e-3)


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_progressive_growing(shape):
    """At 32 pixels: batches of 64, 512 latents, Adam (0, 0.99) at 1e-3, the one-centred penalty, 0.99 per step."""
    config = VGrow.recipe("pg", shape)
    assert (
        config.batch,
        config.networks.latent,
        config.networks.prior,
        config.networks.network,
        config.networks.width,
    ) == (64, 512, "normal", "pg", 256)
    assert (config.flow.pool, config.flow.inner_steps, config.flow.ratio_steps, config.flow.fit_epochs) == (
        1,
        1,
        1,
        (1,),
    )
    assert (
        config.optimiser.optimizer,
        config.optimiser.lr_logit,
        config.optimiser.lr_generator,
        config.optimiser.betas,
    ) == ("adam", 1e-3, 1e-3, (0.0, 0.99))
    assert (config.ratio.penalty_kind, config.ratio.penalty, config.ratio.penalty_every) == ("one-centred", 1, 1)
    assert (config.flow.step_size, config.flow.clamp, config.optimiser.halve_lr_at) == (1, False, ())
    assert 0.5 ** (config.batch / config.optimiser.ema) == pytest.approx(0.99, abs=1e-3)


@pytest.mark.parametrize("method", [VGrow, MonoFlow])
def test_the_default_learns_ever_more_slowly_from_images(method):
    """At constant rates the classifier gives up once samples are good (docs/results.md)."""
    assert settings(method, "default", GREY, "halve_lr_at") == ((200_000, 400_000, 800_000),)
    assert settings(method, "default", (2,), "halve_lr_at") == ((),)


@pytest.mark.parametrize(("shape", "width"), [(GREY, 32), (COLOUR, 64)])
def test_monoflow_is_the_authors_dcgan(shape, width):
    names = ("batch", "latent", "prior", "network", "width", "penalty", "ema", "ratio_loss")
    assert settings(MonoFlow, "paper", shape, *names) == (128, 100, "normal", "dcgan", width, 0, 0, "logistic")
    names = ("optimizer", "lr_logit", "lr_generator", "betas", "halve_lr_at")
    assert settings(MonoFlow, "paper", shape, *names) == ("adam", 2e-4, 1e-4, (0.5, 0.999), ())
