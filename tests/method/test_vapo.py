"""VAPO learns the potential of a mixture, samples as it is told, and says what it cannot tell."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import wasserflow as wf
from benchmarks.mixture import Mixture
from wasserflow._core.errors import UserError
from wasserflow.method import VAPO
from wasserflow.method.vapo.sampler import latent_noise
from wasserflow.nn.unet import SeededDropout, UNet
from wasserflow.path import Linear

SMALL: dict[str, Any] = {"width": 8, "depth": 1, "batch": 16}


class _Data:
    """Batches of anything that can be drawn."""

    def __init__(self, draw, batch, label=None):
        self.draw, self.batch, self.seen, self.label = draw, batch, 0, label
        self.rng = torch.Generator().manual_seed(0)

    def look(self, n):
        return self.draw(n, torch.Generator().manual_seed(1))

    def next(self):
        self.seen += self.batch
        return parts(x=self.draw(self.batch, self.rng), label=self.label)


parts: Any = SimpleNamespace
Data: Any = _Data  # stands in for the data of a step


class Fit:
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def minimise(self, losses):
        self.optimizer.zero_grad()
        for loss in losses:
            loss.backward()
        self.optimizer.step()


def trained(model, data, steps):
    fit = parts(potential=Fit(model.optimizers()["potential"]))
    logs = []
    for step in range(steps):
        logs.append(model.step(data, fit, torch.Generator().manual_seed(step)))
    assert all(torch.isfinite(value) for log in logs for value in log.values())
    return model.eval(), logs


def images(n, rng):
    return torch.rand(n, 1, 6, 7, generator=rng) * 2 - 1


@pytest.fixture(scope="module")
def learned():
    """A potential of three Gaussians in the plane, after some seconds."""
    means = torch.tensor([[1.2, 0.0], [-0.8, 0.9], [-0.5, -1.1]])
    known = Mixture(Linear(), means, 0.3)
    model = VAPO.for_shape((2,), width=64, depth=2, batch=256, lr=3e-3, time_score=0.1, time_scale=10.0)
    return trained(model, Data(known.sample, 256), 500)[0], known


def test_learns_the_potential_of_a_mixture(learned):
    """Errors are held against what the best linear field, from which the network starts, leaves unexplained.

    Over the times together the velocity's error must be below 0.15 of that. The speed ratio ``E g.v / E |v|^2`` departs
    from 1 by at most the root of the relative error (Cauchy-Schwarz). The error of ``log p_t = (psi - a|x|^2/2)/b`` is
    psi's over b, which is 1 at t = 1/2 and 1/4 at 0.8: a tenth of the log-density's deviation there, and half of it.
    """
    model, known = learned
    rng = torch.Generator().manual_seed(7)
    left = missed = 0.0
    for time, allowed in ((0.2, 0.1), (0.5, 0.1), (0.8, 0.5)):
        t = torch.full((4000,), time)
        x = known.path.at(known.sample(4000, rng), torch.randn(4000, 2, generator=rng), t)
        v, g = known.velocity(x, t), model.velocity(x, time)
        affine = torch.cat([x, torch.ones(4000, 1)], 1)
        left += (affine @ torch.linalg.lstsq(affine, v).solution - v).square().sum(1).mean()
        error = (g - v).square().sum(1).mean()
        missed += error
        speed = (g * v).sum() / v.square().sum()
        assert abs(speed - 1) <= (error / v.square().sum(1).mean()).sqrt() + 1e-4
        with torch.no_grad():
            found = model.path.log_density(model.potential(x, t), x, t)
        expected = known.log_density(x, t)
        assert (found - expected).std() < allowed * expected.std()
        ranks = [value.argsort().argsort().double() for value in (found, expected)]
        assert torch.corrcoef(torch.stack(ranks))[0, 1] > 1 - allowed / 2
        if time <= 0.5:  # the time score has fixed the constant to that of noise
            assert (found - np.log(2 * np.pi) - expected).mean().abs() < 0.15
    assert missed < 0.15 * left


def test_samples_and_likelihoods_of_the_flow(learned):
    model, known = learned
    x = model.sample(3000, steps=40)
    nearest = torch.cdist(x, known.means).min(1)
    assert nearest.values.square().mean().sqrt() < 1.4 * 0.3 * 2**0.5
    shares = torch.bincount(nearest.indices, minlength=3) / 3000
    assert ((shares - 1 / 3).abs() < 0.05).all()
    data = known.sample(300, torch.Generator().manual_seed(3))
    found = model.log_density(data, kind="likelihood", steps=30, probes=4)
    expected = known.log_density(data, torch.ones(300))
    assert abs((found - expected).mean()) < 0.25
    assert (found > model.log_density(data + 4, kind="likelihood", steps=30)).float().mean() > 0.99


@pytest.mark.parametrize("how", [{}, {"solver": "rk4", "steps": 3}, {"solver": "dopri5"}, {"corrections": 1}])
def test_fewer_samples_are_a_prefix_of_more_whatever_the_batch(learned, how):
    model, _ = learned
    many = model.sample(20, seed=3, **how)
    close = 1e-3 if "dopri5" in how.values() else 1e-5  # rounding moves adaptive steps
    torch.testing.assert_close(model.sample(7, seed=3, batch=4, **how), many[:7], rtol=0, atol=close)
    assert torch.equal(model.sample(20, seed=3, **how), many)
    assert not torch.allclose(model.sample(20, seed=4, **how), many)


def test_evaluations_are_counted(learned):
    model, _ = learned
    counted = []
    real = model.potential.forward

    def counting(x, t, label=None):
        counted.append(len(x))
        return real(x, t, label)

    model.potential.forward = counting
    try:
        for how in ({"steps": 5}, {"solver": "rk4", "steps": 3}, {"solver": "dopri5"}, {"steps": 5, "corrections": 2}):
            counted.clear()
            drawn = list(model.stream(10, batch=4, **how))
            assert sum(counted) == pytest.approx(sum(len(part.x) * part.evaluations for part in drawn))
    finally:
        del model.potential.forward


def test_solvers_agree_and_the_end_can_lie_past_one(learned):
    model, _ = learned
    fine = model.sample(10, solver="rk4", steps=100)
    torch.testing.assert_close(model.sample(10, solver="dopri5", tolerance=1e-5), fine, rtol=0, atol=2e-3)
    torch.testing.assert_close(model.sample(10, steps=200), fine, rtol=0, atol=2e-3)
    further = model.sample(10, solver="rk4", steps=100, end=1.2)
    expected = fine.clone()
    for _ in range(200):
        expected = expected + 0.001 * model.velocity(expected, 1.0)
    torch.testing.assert_close(further, expected, rtol=0, atol=2e-2)


def test_from_given_samples(learned):
    model, known = learned
    data = known.sample(500, torch.Generator().manual_seed(3))
    again = model.sample(500, start=data, begin=0.9)
    assert (again - data).norm(dim=1).mean() < (model.sample(500, start=data, begin=0.3) - data).norm(dim=1).mean()
    assert (torch.cdist(again, known.means).argmin(1) == torch.cdist(data, known.means).argmin(1)).float().mean() > 0.95
    refined = model.sample(500, start=data, begin=1.0, end=1.05, steps=20)
    torch.testing.assert_close(refined, data + 0.05 * model.velocity(data, 1.0), rtol=0, atol=0.02)
    with pytest.raises(UserError, match="`start`"):
        model.sample(2, begin=0.5)


def normal(centre, sd):
    """A model whose potential is that of a Gaussian in two dimensions."""
    model = VAPO.for_shape((2,), width=4, depth=1)
    model.potential.standardise(centre + sd * torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0)))
    torch.nn.init.zeros_(model.potential.get_parameter("energy.head.layer.weight"))
    return model.eval()


def test_blending_is_the_product_of_powers():
    """Two Gaussians with one variance: the blend is the Gaussian between them."""
    models = [normal(-1.0, 0.5), normal(1.0, 0.5)]
    models[0].blend(models[1], 0.25)
    x = models[0].sample(4000, steps=50)
    torch.testing.assert_close(x.mean(0), torch.full((2,), -0.5), rtol=0, atol=0.05)
    torch.testing.assert_close(x.std(0), torch.full((2,), 0.5), rtol=0, atol=0.05)
    with pytest.raises(UserError, match="shape"):
        models[0].blend(VAPO.for_shape((3,)), 0.5)


@pytest.mark.parametrize("corrections", [0, 10])
def test_corrections_bring_a_blend_to_the_product(corrections):
    """Variances 1 and 1/4: the sum of both flows ends at the geometric mean, and the product has 2/5."""
    model, how = normal(0.0, 1.0), {"steps": 50, "corrections": corrections, "snr": 0.3}
    assert model.sample(3_000, **how).var().item() == pytest.approx(1, abs=0.05)
    model.blend(normal(0.0, 0.5), 0.5)
    expected = 0.42 if corrections else 0.5
    assert model.sample(3_000, **how).var().item() == pytest.approx(expected, abs=0.02)


def test_masks_keep_what_is_known(tmp_path):
    model = VAPO.for_shape((1, 6, 7), **SMALL).eval()
    start = images(3, torch.Generator().manual_seed(0))
    kept = np.zeros((6, 7), np.uint8)
    kept[2:4] = 255
    np.save(tmp_path / "mask.npy", kept)
    Image.fromarray(kept).save(tmp_path / "mask.png")
    drawn = [model.sample(3, start=start, mask=str(tmp_path / f"mask.{kind}"), steps=4) for kind in ("npy", "png")]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0][:, :, 2:4], start[:, :, 2:4])
    assert not torch.isclose(drawn[0][:, :, [0, 1, 4, 5]], start[:, :, [0, 1, 4, 5]]).all()
    for part, rows in {"top": slice(0, 3), "bottom": slice(3, 6)}.items():
        drawn = model.sample(3, start=start, mask=part, solver="dopri5")
        assert torch.equal(drawn[:, :, rows], start[:, :, rows])
    with pytest.raises(UserError, match="unknown mask"):
        model.sample(3, start=start, mask="middle")
    np.save(tmp_path / "mask.npy", kept[1:])
    with pytest.raises(UserError, match="shape"):
        model.sample(3, start=start, mask=str(tmp_path / "mask.npy"))


def test_interpolation_goes_along_the_sphere():
    rows = latent_noise(range(10), 0, (1000,), 5)
    ends = latent_noise(range(4), 0, (1000,), 0)
    torch.testing.assert_close(rows[[0, 4, 5, 9]], ends)
    lengths = rows.norm(dim=1)
    assert (lengths - 1000**0.5).abs().max() < 3
    steps = torch.nn.functional.cosine_similarity(rows[:4], rows[1:5])
    torch.testing.assert_close(steps, steps[:1].expand(4))
    torch.testing.assert_close(latent_noise(range(3, 7), 0, (1000,), 5), rows[3:7])


def test_labels_and_guidance():
    """Two labels at (-1, 0) and (1, 0): each potential draws its own, and guidance goes further."""
    labels = torch.arange(128) % 2

    def draw(n, rng):
        x = 0.2 * torch.randn(n, 2, generator=rng)
        x[:, 0] += 2.0 * (torch.arange(n) % 2) - 1
        return x

    model = VAPO.for_shape((2,), width=32, depth=2, batch=128, lr=3e-3, classes=2, time_scale=10.0)
    model, _ = trained(model, Data(draw, 128, labels), 250)
    sides = [model.sample(200, label=label)[:, 0] for label in (0, 1)]
    assert (sides[0] < 0).float().mean() > 0.95
    assert (sides[1] > 0).float().mean() > 0.95
    both = (model.sample(200)[:, 0] > 0).float().mean()
    assert 0.35 < both < 0.65
    assert model.sample(200, label=1, guidance=1.0)[:, 0].mean() > sides[1].mean()
    with pytest.raises(UserError, match="`classes`"):
        model.sample(2, label=2)
    for label in (None, labels):
        with pytest.raises(UserError, match="labels"):
            VAPO.for_shape((2,), classes=1).step(Data(draw, 8, label), parts(), torch.Generator())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"objective": "vapo-tmlr"}, "another potential"),
        ({"pairing": "ot"}, "depends on the data"),
        ({"timed": False, "preconditioned": False}, "`timed=False`"),
    ],
)
def test_densities_are_refused_where_there_are_none(settings, reason):
    model = VAPO.for_shape((2,), width=8, **settings)
    x = torch.zeros(3, 2)
    with pytest.raises(UserError, match=reason):
        model.log_density(x)
    with pytest.raises(UserError, match=reason):
        model.sample(3, corrections=1)
    assert model.log_density(x, kind="potential").shape == (3,)
    assert model.log_density(x, kind="likelihood", steps=2).isfinite().all()


def test_the_likelihood_of_a_flow_trained_with_pairs_by_optimal_transport():
    """Noise is N(0, I) on the whole, so the change of variables holds whatever the pairing."""
    known = Mixture(Linear(), torch.tensor([[1.0, 0.0]]), 0.5)
    model = VAPO.for_shape((2,), width=32, depth=2, batch=128, lr=3e-3, time_scale=10.0, pairing="ot")
    model, _ = trained(model, Data(known.sample, 128), 100)
    data = known.sample(300, torch.Generator().manual_seed(3))
    found = model.log_density(data, kind="likelihood", steps=30, probes=4)
    assert abs((found - known.log_density(data, torch.ones(300))).mean()) < 0.1


def test_flips_turn_half_of_the_images():
    model = VAPO.for_shape((1, 6, 7), flips=True, **SMALL)
    x = images(400, torch.Generator().manual_seed(0))
    flipped = model.flipped(x, torch.Generator().manual_seed(1))
    turned = (flipped == x.flip(3)).flatten(1).all(1)
    assert ((flipped == x).flatten(1).all(1) ^ turned).all()
    assert 0.4 < turned.float().mean() < 0.6
    plain = VAPO.for_shape((1, 6, 7), **SMALL)
    assert plain.flipped(x, torch.Generator()) is x
    with pytest.raises(UserError, match="`flips` is for images"):
        VAPO.for_shape((2,), flips=True)


def test_the_gradients_norm_is_clipped():
    """A step of plain Adam on the gradient scaled down to the norm."""
    models = [VAPO.for_shape((2,), width=8, depth=1, clip=clip) for clip in (0.0, 0.5)]
    plain, clipped = (model.optimizers()["potential"] for model in models)
    rng = torch.Generator().manual_seed(0)
    gradients = [torch.randn(p.shape, generator=rng) for p in models[0].potential.parameters()]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    for model, factor in zip(models, (0.5 / norm, 1.0), strict=True):
        for p, g in zip(model.potential.parameters(), gradients, strict=True):
            p.grad = factor * g
    plain.step()
    clipped.step()
    for p, q in zip(models[0].potential.parameters(), models[1].potential.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_energy_matching_averages_and_clips_as_published():
    config = VAPO.recipe("energy-matching", (1, 28, 28))
    assert 0.5 ** (config.batch / config.optimiser.ema) == pytest.approx(0.999, abs=1e-5)
    assert (config.optimiser.clip, config.optimiser.lr, config.optimiser.betas) == (1.0, 1e-4, (0.9, 0.95))


def test_the_literal_covariance_has_one_time_per_batch():
    rng = torch.Generator().manual_seed(0)
    times = VAPO.for_shape((2,), objective="vapo", literal=True).times(50, rng)
    assert (times == times[0]).all()
    assert VAPO.for_shape((2,)).times(50, rng).diff().min() > 0


def test_the_contrastive_phase_makes_the_end_a_density():
    """At its own temperature psi's chains gather where the data are, and the gap between the energies is logged."""
    settings = {"timed": False, "preconditioned": False, "pairing": "ot", "contrast": 0.05, "contrast_after": 64 * 30}
    model = VAPO.for_shape((2,), width=32, depth=2, batch=64, temperature=0.1, chain_steps=20, **settings)
    with pytest.raises(UserError, match="depends on the data"):
        model.log_density(torch.zeros(2, 2))
    known = Mixture(Linear(), torch.tensor([[1.0, 0.0]]), 0.3)
    model, logs = trained(model, Data(known.sample, 64), 40)
    assert "energy_gap" not in logs[29]
    assert "energy_gap" in logs[30]
    x = torch.zeros(2, 2)
    torch.testing.assert_close(model.log_density(x, time=1.0), model.log_density(x, kind="potential", time=1.0) / 0.1)


@pytest.mark.parametrize("network", ["encoder", "unet"])
@pytest.mark.parametrize("engine", ["double-backward", "finite-difference", "jvp", "func"])
def test_every_engine_trains_every_network_and_drops_the_same(network, engine):
    potential = "scalar" if network == "encoder" else "dot"
    dropout = 0.3 if network == "unet" else 0.0
    model = VAPO.for_shape((1, 6, 7), network=network, potential=potential, engine=engine, dropout=dropout, **SMALL)
    same = VAPO.for_shape((1, 6, 7), network=network, potential=potential, dropout=dropout, **SMALL)
    _, logs = trained(model, Data(images, 16), 2)
    _, expected = trained(same, Data(images, 16), 2)
    for a, b in zip(logs, expected, strict=True):
        torch.testing.assert_close(a["potential_loss"], b["potential_loss"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("objective", ["fm", "vapo", "action-matching", "vapo-tmlr"])
@pytest.mark.parametrize("path", ["linear", "vp", "log-homotopy"])
def test_every_objective_takes_steps_on_every_path(objective, path):
    model = VAPO.for_shape((3,), objective=objective, path=path, potential="autoencoder", **SMALL)
    trained(model, Data(lambda n, rng: torch.randn(n, 3, generator=rng), 16), 3)
    assert model.sample(5, steps=3).isfinite().all()


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [("default", (2,)), ("paper-v1", (2,)), ("paper-v1", (1, 8, 8)), ("energy-matching", (2,)), ("default", (3, 9, 9))],
)
def test_recipes_take_steps(recipe, shape):
    model = VAPO.for_shape(shape, recipe=recipe, batch=8, width=8)
    trained(model, Data(lambda n, rng: torch.randn(n, *shape, generator=rng), 8), 2)


def test_the_published_network_has_the_published_number_of_weights():
    with torch.device("meta"):
        count = sum(p.numel() for p in UNet((3, 32, 32), 128, (2, 2, 2), 4).parameters())
    assert count == 55_676_419
    config = VAPO.recipe("paper-tmlr", (3, 32, 32))
    energy = config.energy
    assert (energy.network, energy.width, energy.depth, energy.dropout) == ("unet-paper", 128, 4, 0.3)
    assert config.flips
    model = VAPO.for_shape((1, 8, 8), recipe="paper-tmlr", width=8, depth=1, batch=4)
    trained(model, Data(lambda n, rng: torch.randn(n, 1, 8, 8, generator=rng), 4), 3)


def test_dropout_follows_its_seed():
    layer = SeededDropout(0.5).train()
    x = torch.ones(1000)
    first = layer(x)
    assert torch.equal(layer(x), first)
    assert set(first.tolist()) == {0.0, 2.0}
    layer.seed = 1
    assert not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "flow"},
        {"path": "curve"},
        {"engine": "forward"},
        {"network": "vit"},
        {"margin": 0.7},
        {"pairing": "ot", "objective": "vapo"},
        {"contrast": 0.1},
        {"time_score": 1.0, "timed": False},
        {"engine": "compiled", "dropout": 0.1},
        {"network": "encoder", "dropout": 0.1},
        {"potential": "dot", "network": "encoder"},
        {"likelihood_width": 0.0, "path": "log-homotopy"},
        {"clip": -1.0},
    ],
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(UserError):
        VAPO.for_shape((1, 8, 8), **wrong)


def test_bad_samplings_are_refused(learned):
    model, _ = learned
    for wrong in ({"solver": "rk3"}, {"steps": 0}, {"begin": 1.5}, {"guidance": 1.0}, {"interpolate": 1}, {"color": 1}):
        with pytest.raises(UserError):
            model.sample(2, **wrong)
    with pytest.raises(UserError, match="shape"):
        model.log_density(torch.zeros(2, 3))
    with pytest.raises(UserError, match="kind"):
        model.log_density(torch.zeros(2, 2), kind="energy")


def test_is_public():
    assert wf.VAPO is VAPO
