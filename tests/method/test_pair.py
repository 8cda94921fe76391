"""Models can be made for any shape, sampled reproducibly, and refuse what they cannot do."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from wasserflow._core.errors import UserError
from wasserflow.method import DMMD, METHODS, MonoFlow, VGrow
from wasserflow.method.capability import GivesLogDensity
from wasserflow.nn import PAIRS
from wasserflow.nn.pg import Growing

ALONE = {name: method for name, method in METHODS.items() if method is not DMMD}  # which needs data to sample
methods = pytest.mark.parametrize("method", ALONE.values(), ids=ALONE)
pairs = pytest.mark.parametrize("method", [VGrow, MonoFlow])


@methods
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 20, 33), (2,), (7,)], ids=str)
def test_default_recipe_fits_any_shape(method, shape):
    model = method.for_shape(shape)
    samples = model.sample(3)
    assert samples.shape == (3, *shape)
    judge = model.log_density if isinstance(model, GivesLogDensity) else model.log_ratio
    assert judge(samples).shape == (3,)


@pytest.mark.parametrize("network", PAIRS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 64, 64), (1, 9, 5)], ids=str)
def test_every_network_takes_images_of_any_size(network, shape):
    model = VGrow.for_shape(shape, network=network, width=4, latent=3)
    assert model.log_ratio(model.sample(2)).shape == (2,)


def test_paper_networks_have_their_published_sizes():
    model = VGrow.for_shape((3, 32, 32), recipe="paper")
    sizes = [sum(p.numel() for p in net.parameters()) for net in (model.generator, model.logit)]
    assert [round(size / 1e6, 2) for size in sizes] == [1.2, 1.05]


@pairs
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)], ids=str)
def test_paper_recipe_makes_a_model(method, shape):
    assert method.for_shape(shape, recipe="paper").sample(2).shape == (2, *shape)


def test_paper_recipe_on_vectors():
    assert VGrow.for_shape((5,), recipe="paper").config.networks.latent == 5
    with pytest.raises(UserError, match="the recipe paper is for images"):
        MonoFlow.for_shape((5,), recipe="paper")
    for name in ("ept", "pg"):
        with pytest.raises(UserError, match="is for images"):
            VGrow.for_shape((5,), recipe=name)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_of_no_generator(seed):
    with pytest.raises(UserError, match="seed"):
        VGrow.for_shape((2,), seed=seed)


@pytest.mark.parametrize("shape", [(), (0,), (28, 28), (1, 0, 8)])
def test_shapes_of_no_sample(shape):
    with pytest.raises(UserError, match=r"\(d,\) or \(C, H, W\)"):
        VGrow.for_shape(shape)


def test_ept_recipe_is_the_least_squares_flow_without_normalisation():
    model = VGrow.for_shape((3, 32, 32), recipe="ept")
    assert model.ratio_loss.name == "least-squares"
    assert not any("norm" in name or "parametrizations" in name for name in model.state_dict())
    assert model.config.flow.pool * model.config.batch == 1000


def test_pg_recipe_penalises_between_data_and_particles():
    model = VGrow.for_shape((1, 28, 28), recipe="pg", width=8)
    assert model.config.ratio.penalty_kind == "one-centred"
    assert model.sample(2).shape == (2, 1, 28, 28)


@pytest.mark.parametrize("recipe", ["default", "paper", "pg"])
def test_each_particle_has_a_velocity_of_its_own(recipe):
    """Whatever the batch it is in, and the logit goes on in training mode."""
    model = VGrow.for_shape((1, 16, 16), recipe=recipe, width=8, latent=8)
    model.logit(2 * torch.randn(16, 1, 16, 16))
    x = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    together = model.velocity(x, 6)
    torch.testing.assert_close(model.velocity(x, 1), together, rtol=1e-4, atol=1e-6)
    assert model.logit.training


def test_networks_grow_by_a_size_alone_and_then_the_next_one_fading_in():
    model = VGrow.for_shape((1, 16, 16), network="pg", width=4, phase=100)
    for phases, finest in ((0, (0, 1)), (0.99, (0, 1)), (1.25, (1, 0.25)), (2.5, (1, 1)), (3.5, (2, 0.5)), (9, (2, 1))):
        model.grow(phases)
        for network in (model.generator, model.logit):
            assert isinstance(network, Growing)
            assert network.finest() == finest


@methods
def test_samples_are_a_prefix_whatever_the_batch(method):
    model = method.for_shape((1, 12, 12), width=8)
    many = model.sample(50, seed=4)
    torch.testing.assert_close(model.sample(20, seed=4, batch=7), many[:20], rtol=0, atol=1e-5)
    assert torch.equal(model.sample(50, seed=4), many)
    assert not torch.allclose(model.sample(20, seed=5), many[:20])


@pairs
def test_sampling_leaves_the_mode_and_the_running_statistics(method):
    model = method.for_shape((1, 8, 8)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.sample(5)
    assert model.generator.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_same_seed_same_weights_and_no_global_effect():
    state = torch.get_rng_state()
    a, b, c = (VGrow.for_shape((1, 8, 8), seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "`batch` must be"),
        ({"penalty": float("nan")}, "`penalty`"),
        ({"lr_generator": float("inf")}, "`lr_generator`"),
        ({"halve_lr_at": (200, 100)}, "`halve_lr_at` must be growing"),
        ({"halve_lr_at": (-1,)}, "`halve_lr_at` must be growing"),
        ({"latent": -3}, "`latent`"),
        ({"lr_logit": 0.0}, "`lr_logit`"),
        ({"step_size": -1.0}, "`step_size`"),
        ({"penalty": -1.0}, "`penalty`"),
        ({"ema": -1}, "`ema`"),
        ({"betas": (0.5, 1.0)}, "`betas`"),
        ({"fit_epochs": ()}, "`fit_epochs`"),
        ({"fit_epochs": (1, 2)}, "`fit_epochs`"),
        ({"divergence": "jeffrey"}, "Did you mean jeffreys"),
        ({"network": "resnt"}, "Did you mean resnet"),
        ({"stepsize": 1.0}, "Did you mean step_size"),
        ({"recipe": "papr"}, "Did you mean paper"),
        ({"ratio_loss": "logistc"}, "Did you mean logistic"),
        ({"penalty_kind": "r2"}, "unknown penalty kind"),
        ({"divergence": "alpha:q"}, "needs a number"),
        ({"phase": 100}, "needs `network='pg'`"),
        ({"phase": -1, "network": "pg"}, "`phase`"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=message):
        VGrow.for_shape((1, 8, 8), **settings)


def test_bad_h():
    with pytest.raises(UserError, match="Did you mean arcsinh"):
        MonoFlow.for_shape((2,), divergence="arcsin")


def test_bad_shift():
    for wrong in (math.nan, math.inf, 1e38, -21.0):
        with pytest.raises(UserError, match="`shift` must lie between -20 and 20"):
            MonoFlow.for_shape((2,), shift=wrong)


def test_vectors_are_not_clamped():
    with pytest.raises(UserError, match="`clamp` keeps the values of images"):
        VGrow.for_shape((2,), clamp=True)
    VGrow.for_shape((1, 4, 4), clamp=True, width=4)


def test_whole_numbers_are_rates_too():
    assert VGrow.for_shape((2,), betas=(0, 0.9)).config.optimiser.betas == (0.0, 0.9)
    model = MonoFlow.for_shape((2,), betas=(0, 0.9), lr_logit=1)
    assert {type(beta) for beta in model.config.optimiser.betas} == {float}
    model.optimizers()


def test_image_networks_refuse_vectors():
    with pytest.raises(UserError, match="`network='mlp'`"):
        VGrow.for_shape((2,), network="dcgan")


def test_log_ratio_refuses_other_shapes():
    with pytest.raises(UserError, match="log_ratio needs"):
        VGrow.for_shape((2,)).log_ratio(torch.zeros(4, 3))


def test_log_ratio_learns_the_density_ratio():
    """Two Gaussians a distance 1 apart have log p/q linear: the logistic loss finds it."""
    from wasserflow.ratio import LOGISTIC

    rng = torch.Generator().manual_seed(0)
    model = VGrow.for_shape((1,), network="mlp", width=32)
    optimizer = torch.optim.Adam(model.logit.parameters(), 3e-3)
    for _ in range(600):
        p, q = torch.randn(2, 500, 1, generator=rng)
        optimizer.zero_grad()
        LOGISTIC(model.logit(p + 0.5), model.logit(q - 0.5)).backward()
        optimizer.step()
    x = torch.linspace(-1.5, 1.5, 13)[:, None]
    torch.testing.assert_close(model.log_ratio(x), x[:, 0], rtol=0, atol=0.2)


def test_particles_flow_along_the_field_of_a_model():
    """Along a short enough step of the field, log p/q rises for every particle."""
    import wasserflow as wf

    for model in (VGrow.for_shape((2,), divergence="jeffreys"), MonoFlow.for_shape((2,), divergence="arcsinh")):
        x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
        moved = wf.flow(x, model.field, steps=5, step_size=1e-2)
        assert (model.log_ratio(moved) > model.log_ratio(x)).all()


def test_log_ratio_takes_what_holds_samples_and_says_what_does_not():
    model = MonoFlow.for_shape((2,), width=8)
    x = np.random.default_rng(0).normal(size=(5, 2))
    torch.testing.assert_close(model.log_ratio(x), model.log_ratio(torch.tensor(x).float()))
    for wrong in (x.astype(np.uint8), x[:0], x[:, :1]):
        with pytest.raises(UserError, match="needs floats of shape \\(N, 2\\)"):
            model.log_ratio(wrong)


def test_counts_and_shapes_are_whole_numbers():
    wrong: list[Any] = [784, (2.0,), (1, 8), (), "28", (0,), None]
    for shape in wrong:
        with pytest.raises(UserError, match="samples have the shape"):
            VGrow.for_shape(shape)
    model = MonoFlow.for_shape((2,), width=8)
    counts: list[Any] = [2.5, 0, None, "3"]
    for n in counts:
        with pytest.raises(UserError, match="whole numbers above 0"):
            model.sample(n)
    three: Any = np.int64(3)
    assert len(model.sample(three)) == 3
    with pytest.raises(UserError, match=r"'foo'\. There is none here"):
        model.sample(3, foo=1)
