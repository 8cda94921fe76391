"""The noise-adaptive MMD flow: its estimators, its training step, its samplers and their guards."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import wasserflow as wf
from wasserflow._core.errors import UserError
from wasserflow._core.noise import derive_seed, sample_noise
from wasserflow.discrepancy.mmd import mmd_squared, paired_mmd_squared, witness
from wasserflow.kernel.base import Linear
from wasserflow.kernel.radial import Energy, Gaussian, RationalQuadratic
from wasserflow.method.capability import Reference
from wasserflow.method.dmmd.model import noised
from wasserflow.method.dmmd.sampler import Level, Sampler

SMALL: dict[str, Any] = {"width": 16, "batch": 16, "levels": 4}
PUBLISHED: dict[str, Any] = {"gap": 1.0, "slope": 1.0, "standardised": False}
KERNELS = {"linear": Linear(), "energy": Energy(), "gaussian": Gaussian(1.3), "rq": RationalQuadratic()}


def points(n, shift=0.0, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=rng, dtype=torch.float64) * 0.3 + shift


def make(shape=(2,), data=None, **settings):
    model = wf.DMMD.for_shape(shape, **SMALL | settings)
    data = points(400, 1.0).float() if data is None else data
    model.reference = Reference(lambda n: data[:n])
    return model.eval()


def sampler(model, batch=500, **settings):
    return Sampler(model, model.Sampling(**settings), batch)


class _Data:
    """Points around (1, 1)."""

    batch = 16

    def __init__(self):
        self.seen = 0

    def next(self):
        self.seen += self.batch
        return parts(x=points(self.batch, 1.0, seed=self.seen).float())

    def look(self, n):
        return points(n, 1.0).float()


parts: Any = SimpleNamespace
Data: Any = _Data  # stands in for the data of a step


class Fit:
    """Plain gradient steps, on losses one after the other."""

    def __init__(self, network, lr=1e-3):
        self.optimizer = torch.optim.Adam(network.parameters(), lr)

    def minimise(self, losses):
        self.optimizer.zero_grad()
        for loss in losses:
            loss.backward()
        self.gradients = [p.grad.clone() for p in self.optimizer.param_groups[0]["params"]]
        self.optimizer.step()


# The discrepancy of pairs


@pytest.mark.parametrize(
    "settings", [{"kernel": kernel} for kernel in ("linear", "energy", "gaussian", "rq")] + [{"bound": "kale"}], ids=str
)
def test_bfloat16_compares_features_exactly(settings):
    """Neighbours differ by less than bfloat16 sees; the networks alone may compute in it."""
    model = make(**settings)
    model.phi = lambda x, t: torch.cat([x, x.square(), x * t[:, None]], 1)  # nothing that autocast would round
    x, eps = points(16, 1.0).float(), torch.randn(4, 16, 2)
    found = []
    for low in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            model.loss(x, torch.tensor([0.02, 0.1, 0.5, 0.9]), eps, torch.full((4, 16), 0.5), logs := [])
        found.append(logs[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_pairs_against_the_sum_over_pairs(kernel):
    u, v = points(7), points(7, 0.5, seed=1)
    total = 0.0
    for i in range(7):
        for j in range(7):
            if i != j:
                a, b, c, d = u[i : i + 1], u[j : j + 1], v[i : i + 1], v[j : j + 1]
                total += (kernel(a, b) + kernel(c, d) - kernel(a, d) - kernel(c, b)).item()
    assert paired_mmd_squared(u, v, kernel).item() == pytest.approx(total / 42, abs=1e-12)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_pairs_estimate_the_same_and_vary_less(kernel):
    """Over many small batches of (x + small noise, x): one mean with the unpaired estimate, a far smaller deviation."""
    x = points(4000, 1.0).view(500, 8, 2)
    y = x + 0.1 * points(4000, seed=3).view(500, 8, 2) + 0.05
    paired = torch.stack([paired_mmd_squared(u, v, kernel) for u, v in zip(y, x, strict=True)])
    unpaired = torch.stack([mmd_squared(u, v, kernel, unbiased=True) for u, v in zip(y, x.roll(1, 0), strict=True)])
    error = (unpaired.var() / len(unpaired)).sqrt()
    assert abs(paired.mean() - unpaired.mean()) < 4 * error
    assert paired.std() < 0.3 * unpaired.std()


def test_noise_keeps_the_variance_and_ends_as_noise():
    x, eps = points(5), points(5, seed=1)
    torch.testing.assert_close(noised(x, eps, torch.tensor(0.0).double()), x)
    torch.testing.assert_close(noised(x, eps, torch.tensor(1.0).double()), eps)
    a, b = (
        noised(torch.eye(2), torch.zeros(2, 2), torch.tensor([0.3, 0.3])),
        noised(torch.zeros(2, 2), torch.eye(2), torch.tensor([0.3, 0.3])),
    )
    torch.testing.assert_close(a.square() + b.square(), torch.eye(2))


# The training step


@pytest.mark.parametrize(
    "settings",
    [{"kernel": kernel} for kernel in ("rq", "linear", "energy", "gaussian")] + [{"kernel": "linear", "bound": "kale"}],
)
def test_levels_one_after_the_other_are_the_joint_step(settings):
    gradients = []
    for together in (4, 1):
        model = make(together=together, **settings).double()
        fit = Fit(model.features)
        data = Data()
        rng = torch.Generator().manual_seed(3)
        x = data.next().x.double()
        torch.set_default_dtype(torch.float64)
        try:
            data = parts(next=lambda x=x: parts(x=x), look=lambda n, x=x: x, seen=0)
            model.step(data, parts(features=fit), rng)
        finally:
            torch.set_default_dtype(torch.float32)
        gradients.append(fit.gradients)
    for joint, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(joint, summed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("settings", [PUBLISHED, {"gap": 0.3, "slope": 0.0, "standardised": True}], ids=str)
def test_the_loss_from_its_definition(settings):
    """Recomputed from Gram matrices and finite differences of the witness, at one level; the first is the paper's."""
    model = make(kernel="rq", weighting="equal", penalty=0.7, feature_penalty=0.2, **settings).double()
    mean, std = torch.zeros(2).double(), torch.ones(()).double()
    if settings["standardised"]:
        mean, std = torch.tensor([1.1, 0.7]).double(), torch.tensor(0.4).double()
        model.mean.copy_(mean)
        model.std.copy_(std)
    x, eps = points(4, 1.0), points(4, seed=1)[None]
    t, between = torch.tensor([0.4]).double(), torch.tensor([[0.1, 0.5, 0.7, 0.9]]).double()
    found = model.loss(x, t, eps, between, []).item()

    alpha, beta = torch.cos(torch.pi * t / 2), torch.sin(torch.pi * t / 2)
    x_t = mean + alpha * (x - mean) + beta * std * eps[0]
    r = (t - settings["gap"]).clamp(min=0)
    x_r = mean + torch.cos(torch.pi * r / 2) * (x - mean) + torch.sin(torch.pi * r / 2) * std * eps[0]
    phi = lambda z: model.features((z - mean) / std, t.expand(len(z)))  # noqa: E731
    u, v = phi(x_t), phi(x_r)
    mmd = paired_mmd_squared(u, v, KERNELS["rq"])
    w = lambda z: KERNELS["rq"](phi(z), u).mean(1) - KERNELS["rq"](phi(z), v).mean(1)  # noqa: E731
    middle = between[0, :, None] * x_r + (1 - between[0, :, None]) * x_t
    h = 1e-5
    slope = torch.stack([(w(middle + h * e) - w(middle - h * e)) / (2 * h) for e in torch.eye(2).double()], 1).norm(
        dim=1
    )
    norm = u.square().sum(1).mean() + v.square().sum(1).mean()
    assert found == pytest.approx(
        (-mmd + 0.7 * (slope - settings["slope"]).square().mean() + 0.2 * norm).item(), abs=1e-7
    )


@pytest.mark.parametrize("s", [0.0, 1.0])
@pytest.mark.parametrize("weighting", ["equal", "distance"])
def test_the_slope_settles_where_the_scale_law_says(weighting, s):
    """A critic whose scale is free is stationary where MMD^2 / c = 2 lambda E[|grad w| (|grad w| - s)]; c = 1 or W."""
    lam = 0.5
    settings = {"weighting": weighting, "penalty": lam, "feature_penalty": 0.0, "batch": 128, "least_level": 0.98}
    model = make(kernel="linear", **settings | PUBLISHED | {"slope": s})
    fit, data, rng = parts(features=Fit(model.features, 3e-3)), Data(), torch.Generator()
    data.batch = 128
    logs = [model.step(data, fit, rng.manual_seed(step)) for step in range(250)]
    distance = (points(10_000, 1.0) - points(10_000, seed=1) / 0.3).norm(dim=1).mean().item()
    gain = torch.stack([log["discrepancy"] for log in logs[-100:]]).mean().item()
    slope = torch.stack([log["slope"] for log in logs[-100:]])
    assert slope.mean() > s + 0.5
    share = gain / distance if weighting == "distance" else gain
    assert share == pytest.approx((2 * lam * slope * (slope - s)).mean().item(), rel=0.2)


def test_noise_has_the_datas_mean_and_variance():
    """So that points have them at every level."""
    model, data = make((4,), data=points(800).view(-1, 4).float(), standardised=True), Data()
    data.look = lambda n: torch.randn(n, 4, generator=torch.Generator().manual_seed(0)) * 0.2 + torch.arange(4.0)
    data.next = lambda: parts(x=data.look(16))
    model.step(data, parts(features=Fit(model.features)), torch.Generator().manual_seed(0))
    x, eps = data.look(4000), torch.randn(4000, 4, generator=torch.Generator().manual_seed(1))
    for t in (0.3, 1.0):
        x_t = model.noised(x, eps, torch.tensor(t))
        torch.testing.assert_close(x_t.mean(0), torch.arange(4.0), atol=0.02, rtol=0)
        torch.testing.assert_close(x_t.std(0), torch.full((4,), 0.2), atol=0.02, rtol=0)
    torch.testing.assert_close(
        model.sample(500, **how(noise_level=1.0, step_size=1e-9)).mean(0), model.mean, atol=0.05, rtol=0
    )


@pytest.mark.parametrize("gap", [0.1, 0.25])
def test_levels_lie_on_a_quarter_of_a_circle(gap):
    """Between levels, standardised points in d dimensions go along chords of a circle of radius sqrt(d)."""
    d, rng = 400, torch.Generator().manual_seed(0)
    model = make((d,), data=torch.randn(2000, d, generator=rng), gap=gap, kernel="linear")
    levels = [1 - gap * k for k in range(round(1 / gap))]
    chord = 2 * torch.sin(torch.tensor(torch.pi * gap / 4)).item() * d**0.5
    found = [float(sampler(model, references=500).level(t).distance) for t in levels]
    assert found == pytest.approx([chord] * len(levels), rel=0.02)


class Quadratic(torch.nn.Module):
    """One feature, ``sum_i a_i x_i^2 / 2``, whose gradient is ``a x``."""

    def __init__(self, a):
        super().__init__()
        self.a = a

    def forward(self, x, t):
        return (self.a * x.square()).sum(1, keepdim=True) / 2


@pytest.mark.parametrize("weighting", ["equal", "distance"])
@pytest.mark.parametrize("t", [0.3, 0.7])
def test_the_reach_turns_the_slope_into_the_mean_displacement(t, weighting):
    """For normal data ``E[x_t - x_r | x_t] = a x_t``: of all multiples of the feature with that gradient, the loss is
    least for the one whose witness has the gradient a x_t / reach."""
    s, gap = torch.tensor([0.1, 0.5, 2.0, 3.0]), 0.02
    (alpha, beta), (alpha_r, beta_r) = ((torch.cos(u), torch.sin(u)) for u in torch.pi / 2 * torch.tensor([t, t - gap]))
    a = ((alpha - alpha_r) * alpha * s**2 + (beta - beta_r) * beta) / (alpha**2 * s**2 + beta**2)
    n, rng = 100_000, torch.Generator().manual_seed(0)
    x, eps = s * torch.randn(n, 4, generator=rng), torch.randn(1, n, 4, generator=rng)
    model = make((4,), data=x, gap=gap, kernel="linear", weighting=weighting, feature_penalty=0.0, penalty=0.7)
    level, now = sampler(model, 50_000, references=20_000).level(t), torch.tensor(t)
    level_t, level_r = model.noised(x, eps[0], now), model.below(x, eps[0], now)
    u, v = (Quadratic(a)(part, None).mean() for part in (level_t, level_r))
    gains = torch.linspace(0.5, 1.5, 101)  # of the feature, in units of the one that is expected to be the best

    def loss(gain):
        model.features = Quadratic(gain / ((u - v) * level.reach).sqrt() * a)
        return model.loss(x, torch.tensor([t]), eps, torch.full((1, n), 0.5), []).item()

    assert min(gains.tolist(), key=loss) == pytest.approx(1, abs=0.05)


# Samples


@pytest.mark.parametrize("settings", [{"kernel": kernel} for kernel in ("linear", "energy", "rq", "gaussian")])
def test_particles_go_down_the_gradient_of_half_the_mmd(settings):
    """grad w(z_i) = N d(1/2 MMD_V^2)/dz_i, by autograd through features of all particles."""
    model = make(**settings).double()
    z, clean = points(6), model.features(points(9, 1.0), torch.full((9,), 0.3, dtype=torch.float64)).detach()
    z.requires_grad_()
    u = model.features(z, torch.full((6,), 0.3, dtype=torch.float64))
    (expected,) = torch.autograd.grad(6 * mmd_squared(u, clean, model.kernel) / 2, z)
    torch.set_default_dtype(torch.float64)
    try:
        whole, parts = (sampler(model, batch).gradient(z.detach(), 0.3, clean) for batch in (6, 2))
    finally:
        torch.set_default_dtype(torch.float32)
    if settings["kernel"] != "gaussian":  # whose bandwidth the autograd form differentiates too
        torch.testing.assert_close(whole, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)


def test_the_linear_kernel_needs_the_mean_features_alone():
    model = make(kernel="linear", **PUBLISHED)
    drawer = sampler(model, 50, references=100)
    level = drawer.level(0.5)
    x = model.reference.data(100)
    torch.testing.assert_close(level.target, model.features(x, torch.full((100,), 0.5)).mean(0, keepdim=True))
    z = points(5).float()
    whole = drawer.gradient(z, 0.5, model.features(x, torch.full((100,), 0.5)).detach())
    torch.testing.assert_close(drawer.gradient(z, 0.5, level.target), whole)


HOW: dict[str, Any] = {"particles": 8, "noise_levels": 3, "steps": 2, "step_size": 0.1, "references": 50}


def how(**changes: Any) -> Any:
    """Quick sampling, with changes."""
    return HOW | changes


def test_samples_are_prefixes_and_groups_do_not_meet():
    model = make()
    few, many = model.sample(5, seed=3, **HOW), model.sample(20, seed=3, **HOW)
    torch.testing.assert_close(few, many[:5])
    assert torch.equal(few, make().sample(5, seed=3, **HOW))
    assert [part.evaluations for part in model.stream(5, **HOW)] == [6]
    torch.testing.assert_close(many, model.sample(20, seed=3, batch=3, **HOW))
    assert not torch.allclose(many[:8], model.sample(8, seed=3, **how(particles=4)))


@pytest.mark.parametrize("network", ["encoder", "unet"])
@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 64, 64), (1, 9, 5), (1, 2, 2), (2, 1, 3)], ids=str
)
def test_every_network_takes_images_of_any_size(network, shape):
    rng = torch.Generator().manual_seed(0)
    model = make(shape, torch.randn(10, *shape, generator=rng), network=network, width=4)
    quick = how(particles=2, noise_levels=2, steps=1, references=10)
    assert model.sample(2, **quick).shape == (2, *shape)


def test_a_particle_alone_moves_between_stored_means():
    """a-DMMD: whatever else is drawn with it, and without data once the levels are known."""
    model = make(kernel="linear")
    chosen = how(sampler="approximate")
    ten = model.sample(10, seed=1, **chosen)
    model.reference = Reference(known=model.reference.known)
    torch.testing.assert_close(ten[:1], model.sample(1, seed=1, **chosen))
    with pytest.raises(UserError, match="compares its particles with data"):
        model.sample(1, **chosen | {"noise_levels": 4})


@pytest.mark.parametrize("kind", ["exact", "approximate"])
@pytest.mark.parametrize("settings", [PUBLISHED, {}], ids=["published", "default"])
def test_the_length_of_a_step(settings, kind):
    """One level, one step: so many times what the level's steps add up to, along the gradient."""
    model = make(kernel="linear", **settings)
    chosen = {"particles": 8, "noise_levels": 1, "steps": 1, "references": 50, "noise_level": 0.6, "step_size": 10.0}
    start = points(8, 1.0, seed=5).float()
    drawer = sampler(model, 8, sampler=kind, noise=False, **chosen)
    (moved,) = drawer.groups(8, 0, start)
    level = drawer.level(0.6)
    assert isinstance(level, Level)
    w = witness(level.noised, level.target, Linear())
    g = drawer.gradient(start, 0.6, level.target, w if kind == "approximate" else None)
    times = 1.5 if settings else {"exact": 2.0, "approximate": 1.4}[kind]
    torch.testing.assert_close(start - moved, 10 * times * level.reach * g, rtol=1e-3, atol=1e-6)
    assert (start - moved).norm(dim=1).min() > 1e-4
    if settings:  # at noised data that is the distance W, on the mean
        rng = torch.Generator().manual_seed(derive_seed("references", 600_000))
        x_t = model.noised(model.reference.data(50), torch.randn(50, 2, generator=rng), torch.tensor(0.6))
        slope = drawer.gradient(x_t, 0.6, level.target, w).norm(dim=1).mean()
        torch.testing.assert_close(level.reach, level.distance / slope)
    absolute = sampler(model, 8, sampler=kind, noise=False, step_unit="absolute", **chosen)
    (moved,) = absolute.groups(8, 0, start)
    torch.testing.assert_close(start - moved, 10 * g, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["exact", "approximate"])
def test_the_published_sampler(kind):
    """Step by step: T levels from noise down, N_s steps each with one eta, against features of clean data."""
    model = make(kernel="linear", **PUBLISHED, least_level=0.1)
    chosen = {"particles": 6, "noise_levels": 3, "steps": 2, "references": 50, "step_size": 0.1}
    found = model.sample(6, seed=4, sampler=kind, step_unit="absolute", exact_steps=1, **chosen)
    z, x = sample_noise(4, 0, 6, (2,)), model.reference.data(50)

    def step(z, t, alone):
        z = z.requires_grad_()
        level = torch.full((50,), t)
        x_t = noised(x, torch.randn(50, 2, generator=torch.Generator().manual_seed(derived(t))), torch.tensor(t))
        u = model.features(z, level[:6])
        now = model.features(x_t, level) if alone else u
        pull = (now.mean(0) - model.features(x, level).mean(0)).detach()
        return (z - 0.1 * torch.autograd.grad((u @ pull).sum(), z)[0]).detach()

    def derived(t):
        return derive_seed("references", round(t * 1e6))

    for t in torch.linspace(1.0, 0.1, 3).tolist():
        for _ in range(2):
            z = step(z, t, kind == "approximate")
    z = step(z, torch.linspace(1.0, 0.1, 3).tolist()[-1], False)
    torch.testing.assert_close(found, z, rtol=1e-4, atol=1e-5)


def test_one_particle_is_a_sample():
    """Alone, as a group, or as the rest of a batch."""
    model = make()
    for chosen in ({"particles": 1}, {"sampler": "approximate"}):
        few = model.sample(3, batch=2, **how(**chosen))
        assert few.isfinite().all()
    alone = model.sample(1, start=points(1, 1.0).float(), **how(sampler="approximate", noise_level=0.2))
    assert alone.shape == (1, 2)


@pytest.mark.parametrize("settings", [{"sampler": "approximate"}, {"sampler": "approximate", "exact_steps": 2}])
def test_samples_do_not_depend_on_the_batch(settings):
    model = make()
    torch.testing.assert_close(model.sample(10, batch=3, **how(**settings)), model.sample(10, **how(**settings)))
    if "exact_steps" in settings:
        assert not torch.allclose(
            model.sample(8, **how(**settings)), model.sample(8, **how(particles=4, **settings)), rtol=1e-6, atol=0
        )


def test_no_sample_costs_more_than_its_own_evaluations(monkeypatch):
    model, counted = make(), []
    model.study()  # levels of another sampling are not what is counted
    chosen = how(sampler="approximate")
    model.sample(1, **chosen)
    real = model.features.forward
    monkeypatch.setattr(model.features, "forward", lambda x, t: counted.append(len(x)) or real(x, t))
    drawn = list(model.stream(7, batch=4, **chosen))
    assert sum(counted) == sum(len(part.x) * part.evaluations for part in drawn)


def test_what_is_known_of_the_data_holds_no_graph():
    model = make()
    model.study()
    assert model.reference.known
    assert not any(value.requires_grad for value in model.reference.known.values())


def test_the_flow_is_left_at_the_denoisers_level():
    """Data are one grey level a, and the features know it: particles at level t are alpha(t) a and noise of beta(t)."""
    a = 0.7
    model = make((1, 8, 8), data=torch.full((400, 1, 8, 8), a), width=4, denoiser=8, standardised=False, gap=0.1)
    seen = []
    levels = {"noise_level": 1.0, "noise_levels": 9, "steps": 1, "references": 50, "particles": 200}
    drawer = sampler(model, denoise=0.2, **levels)

    def displacement(z, t, target, w=None):
        """``E[x_t - x_r | x_t] / reach`` for haste 1, in closed form: the noise is known."""
        now, before = torch.pi / 2 * torch.tensor([t, max(t - 0.1, 0.0)])
        eps = (z - now.cos() * a) / now.sin()
        return (z - before.cos() * a - before.sin() * eps) / drawer.level(t).reach

    drawer.gradient, drawer.haste = displacement, lambda exact: 1.0
    drawer.denoised = lambda z: seen.append(z) or z
    list(drawer.groups(200, 0))
    (z,) = seen
    assert drawer.levels[-1] == pytest.approx(0.2)
    noise = (z - z.mean((2, 3), keepdim=True)).std()
    assert noise == pytest.approx(torch.sin(torch.tensor(torch.pi * 0.1)).item(), rel=0.02)


def test_given_samples_are_noised_first_and_small_groups_filled_with_data():
    model = make(kernel="linear")
    start = points(3, 1.0, seed=5).float()
    groups = list(sampler(model, 1000, **how(noise_level=0.2, step_size=1e-9)).groups(3, 7, start))
    assert [len(group) for group in groups] == [8]
    expected = noised(torch.cat([start, model.reference.data(5)]), sample_noise(7, 0, 8, (2,)), torch.tensor(0.2))
    torch.testing.assert_close(groups[0], expected)
    kept = model.sample(3, start=start, noise=False, **how(noise_level=0.2, step_size=1e-9))
    torch.testing.assert_close(kept, start)


def test_the_denoiser_takes_noise_off():
    """On images of one grey level each, whose mean is nearly all there is to know."""
    greys = torch.linspace(-1, 1, 400).view(400, 1, 1, 1).expand(400, 1, 8, 8)
    model = make((1, 8, 8), data=greys, width=4, denoiser=8, batch=32)
    fit = parts(denoiser=Fit(model.denoiser, 3e-3))
    fit.denoiser.minimise = lambda loss, fit=fit.denoiser: Fit.minimise(fit, [loss])
    rng = torch.Generator().manual_seed(0)
    for step in range(60):
        model.learn_to_denoise(greys[torch.randperm(400, generator=rng)[:32]], fit, rng.manual_seed(step))
    x, eps = greys[::4], torch.randn(100, 1, 8, 8, generator=rng)
    x_t = noised(x, eps, torch.tensor(0.2))
    with torch.no_grad():
        z = sampler(model, 50, denoise=0.2, noise_levels=9).denoised(x_t)
    assert (z - x).square().mean() < 0.3 * (x_t - x).square().mean()
    drawn = model.sample(4, **how(denoise=0.2))
    assert drawn.shape == (4, 1, 8, 8)
    with pytest.raises(UserError, match=r"levels up to 0\.3: `denoise` 0\.4"):
        model.sample(4, **how(denoise=0.4))


def test_a_model_without_a_denoiser_says_so():
    with pytest.raises(UserError, match="has no denoiser"):
        make().sample(4, **how(denoise=0.2))
    with pytest.raises(UserError, match=r"`noise_level` 0\.01 is below 0\.02"):
        make().sample(4, **how(noise_level=0.01))
    with pytest.raises(UserError, match="`denoiser` is for images"):
        make(denoiser=8)


def test_too_long_steps_are_said():
    with pytest.raises(UserError, match=r"diverged: .* `step_size` below 1e\+06"):
        make().sample(64, **how(particles=64, step_size=1e6))


def test_a_collapse_is_said():
    """Data far wider than the particles that are returned."""
    model = make(data=100 * points(400).float())
    with pytest.raises(UserError, match="fell together"):
        model.sample(64, start=torch.zeros(64, 2), noise=False, **how(particles=64, step_size=1e-6))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": "cubic"}, "cubic"),
        ({"batch": 1}, "`batch` must be a finite number of at least 2"),
        ({"least_level": 1.0}, "`least_level`"),
        ({"penalty": float("nan")}, "`penalty`"),
        ({"feature_penalty": -1.0}, "`feature_penalty`"),
        ({"gap": 2.0}, "`gap`"),
        ({"slope": -1.0}, "`slope`"),
        ({"decay": 1.5}, "`decay`"),
        ({"bound": "kale", "kernel": "rq"}, "`bound='kale'` is for `kernel='linear'`"),
        ({"network": "encoder"}, "`network='mlp'`"),
    ],
)
def test_bad_settings_are_said(settings, message):
    with pytest.raises(UserError, match=message):
        make(**settings)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"sampler": "fast"}, "fast"),
        ({"noise_level": 1.5}, "`noise_level`"),
        ({"step_size": 0.0}, "`step_size`"),
        ({"particles": 0}, "`particles`"),
        ({"exact_steps": -1}, "`exact_steps`"),
        ({"exact_steps": 1, "denoise": 0.1}, "`exact_steps` go down to clean data"),
        ({"pace": 1}, "pace"),
    ],
)
def test_bad_sampling_is_said(chosen, message):
    with pytest.raises(UserError, match=message):
        make().sample(4, **chosen)


def test_kale_goes_to_half_the_mmd():
    """D-KALE's witness for a large lambda is the MMD's, so particles go the same way."""
    model, other = make(kernel="linear"), make(kernel="linear", bound="kale", lam=1e6)
    other.load_state_dict(model.state_dict())
    z = points(6).float()
    v = model.features(points(50, 1.0).float(), torch.full((50,), 0.3)).detach()
    gradients = [sampler(which).gradient(z, 0.3, v) for which in (model, other)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)
