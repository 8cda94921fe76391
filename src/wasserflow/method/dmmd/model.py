r"""Noise-adaptive MMD flow (DMMD): a kernel learned without an adversary carries noise to data, without a generator.

Data are noised to a level, from 0 (clean) to 1 (noise): ``x_t = alpha x_0 + beta eps`` with ``alpha = cos(pi t / 2)``
and ``beta = sin(pi t / 2)``. Features ``phi(x, t)`` learn, at all levels, to tell data noised to t from data noised to
a lower level r (as published: 0, from clean data) by the MMD of the kernel ``k(phi(x, t), phi(y, t))``; with ``w_t``
its witness, per level

    ``L = -MMD^2(x_t, x_r) + lambda E (|grad w_t| - s)^2 + mu E |phi|^2``.

Samples are particles that start as noise and go down the witness between themselves and data at r, from level 1 to 0:
``z <- z - eta grad w_t(z)``. With ``--bound kale`` a lower bound of the KL divergence takes the place of the MMD.

References:
    Deep MMD Gradient Flow without adversarial training (Galashov, De Bortoli and Gretton, 2025), arXiv 2405.06780
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, prod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow._core.noise import derive_seed, sample_noise
from wasserflow._core.settings import settings
from wasserflow.discrepancy.kale import kale
from wasserflow.discrepancy.mmd import Witness, paired_mmd_squared, witness
from wasserflow.kernel.base import Kernel, Linear
from wasserflow.kernel.radial import Energy, Gaussian, RationalQuadratic
from wasserflow.method.base import Drawn, Method, MethodConfig, positive
from wasserflow.method.capability import ComparesWithData, Reference
from wasserflow.method.dmmd.sampler import DMMDSampling, Level
from wasserflow.nn import build_encoder
from wasserflow.nn.unet import UNet
from wasserflow.path import VariancePreserving, mean_and_deviation, over

__all__ = ["DMMD", "DMMDConfig"]

KERNELS: dict[str, Kernel] = {
    "linear": Linear(),
    "energy": Energy(),
    "rbf": Gaussian("median"),
    "rq": RationalQuadratic(),
}


@settings
class DMMDConfig(MethodConfig):
    """Settings of DMMD.

    Args:
        network: encoder (images: a classifier's shape), unet (images) or mlp (vectors).
        width: Channels at the finest size (images), or units per layer (mlp).
        depth: Layers (encoder) or residual blocks (unet) per size, or hidden layers (mlp).
        kernel: Of the features: linear, energy (-|u - v|), rbf or rq (a mixture of rational quadratic kernels).
        bound: What the features maximise: the MMD, or KALE, a lower bound of the KL divergence (linear kernel only).
        lam: KALE's lambda: 0 is the KL divergence, infinity half the squared MMD.
        levels: Noise levels per batch.
        together: Levels that are computed at a time; gradients are summed, so this changes memory only.
        least_level: The smallest level, above 0.
        gap: How far below a level lies the one, r, that it is compared with and carried to; 1: clean data, as in the
            paper.
        standardised: Noise has the data's mean and variance, so that points at all levels have them; the network sees
            mean 0 and variance 1. Without it noise is N(0, I), as published.
        penalty: lambda, weight of the penalty on the witness's slope.
        slope: s, the slope that the penalty asks for: 1 as published; with 0 the witness may be flat where a point does
            not tell which way it came.
        feature_penalty: mu, weight of the squared norm of the features.
        weighting: distance: a level's MMD^2 counts by 1/W(t), W the mean distance from x_t to x_r, so that all levels
            get one slope, at most s + 1/(2 lambda); equal: as published, with a slope of about s + W/(2 lambda).
        lr: Adam's learning rate.
        betas: Decay rates of Adam's first and second moment.
        ema: Half-life, in images, of the average of the weights that samples are drawn from, but never more than a
            twentieth of the images seen; 0 for none.
        denoiser: Width of a U-Net that learns to take the last noise off images, beside the features; 0 for none.
        denoiser_level: The highest noise level that it learns.
    """

    batch: int = 32
    decay: float = 0.3
    network: str = "encoder"
    width: int = 32
    depth: int = 1
    kernel: Literal["linear", "energy", "rbf", "rq"] = "linear"
    bound: Literal["mmd", "kale"] = "mmd"
    lam: float = 1.0
    levels: int = 4
    together: int = 16
    least_level: float = 0.02
    gap: float = 0.1
    standardised: bool = True
    penalty: float = 0.5
    slope: float = 0.0
    feature_penalty: float = 0.0
    weighting: Literal["distance", "equal"] = "distance"
    lr: float = 7e-4
    betas: tuple[float, float] = (0.5, 0.99)
    ema: int = 5_000
    denoiser: int = 0
    denoiser_level: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "width", "depth", "lam", "levels", "together", "least_level", "gap", "penalty", "lr")
        if self.batch < 2:
            raise UserError(f"--batch must be at least 2, not {self.batch}: the MMD compares different images")
        if not self.least_level < 1:
            raise UserError(f"--least-level must lie between 0 and 1, not {self.least_level}")
        if self.gap > 1:
            raise UserError(f"--gap must lie above 0 and at most at 1, which is clean data, not {self.gap}")
        if self.bound == "kale" and self.kernel != "linear":
            raise UserError(
                f"--bound kale is for --kernel linear, not {self.kernel}: its witness is solved for in features"
            )
        if self.denoiser and not self.least_level < self.denoiser_level <= 1:
            raise UserError(f"--denoiser-level must lie between --least-level and 1, not {self.denoiser_level}")
        for name in ("slope", "feature_penalty", "ema", "denoiser"):
            if not 0 <= getattr(self, name) < inf:
                raise UserError(
                    f"--{name.replace('_', '-')} must be 0 or a finite number above, not {getattr(self, name)}"
                )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"--betas must lie in [0, 1), not {self.betas}")


class DMMD(Method[DMMDConfig], ComparesWithData):
    """Noise-adaptive features ``phi(x, t)``; see the module's docstring."""

    mean: Tensor
    std: Tensor

    Config: ClassVar = DMMDConfig
    Sampling: ClassVar = DMMDSampling
    from_samples: ClassVar = True

    @classmethod
    def recipe(cls, name: str, shape: Sequence[int]) -> DMMDConfig:
        """The settings called ``default`` or ``paper``."""
        image = len(shape) == 3
        if name == "default":
            small = image and max(shape[1:]) <= SMALL
            return DMMDConfig(**(FOR_SMALL_IMAGES if small else {} if image else FOR_VECTORS))
        if name == "paper" and image:
            return DMMDConfig(
                batch=64,
                network="unet",
                width=128,
                depth=2,
                levels=16,
                together=1,
                decay=0.0,
                least_level=1e-3,
                gap=1.0,
                standardised=False,
                penalty=1.0,
                slope=1.0,
                feature_penalty=0.1,
                weighting="equal",
                lr=1e-4,
                betas=(0.9, 0.999),
                ema=443_000,  # 0.9999 per step of 64
            )
        if name == "paper":
            raise UserError("the recipe paper is for images, and these are vectors: leave out --recipe")
        raise unknown("recipe", name, ("default", "paper"))

    def build(self) -> None:
        """Make the features, and the denoiser where one is wanted."""
        c = self.config
        if c.denoiser:
            if len(self.shape) != 3:
                raise UserError(f"--denoiser is for images, not for samples of shape {self.shape}")
            self.denoiser = UNet(self.shape, c.denoiser, (1, 2, 2), blocks=1)
        self.reference = Reference()
        self.features = build_encoder(c.network, self.shape, c.width, c.depth)
        self.kernel = KERNELS[c.kernel]
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("std", torch.ones(()))

    def phi(self, x: Tensor, t: Tensor) -> Tensor:
        """Features (N, D) of points (N, *shape) at levels (N,)."""
        return self.features((x - self.mean) / self.std, t)

    def noised(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Points x at levels t; the data's mean stays where it is, and noise has their variance, if standardised."""
        return self.mean + noised(x - self.mean, self.std * eps, t)

    def below(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_r, the same points with the same noise at the level that t is compared with."""
        return self.noised(x, eps, (t - self.config.gap).clamp(min=0))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One per network."""
        c = self.config
        networks = self.named_children()
        return {name: torch.optim.Adam(net.parameters(), c.lr, c.betas, fused=True) for name, net in networks}

    def averages(self) -> dict[str, int]:
        """Every network has a moving average."""
        return {name: self.config.ema for name, _ in self.named_children()} if self.config.ema else {}

    def step(self, data: Any, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the features on a batch of data, noised to several levels."""
        c = self.config
        if c.standardised and data.seen == 0:
            mean, std = mean_and_deviation(data.look(LOOK))
            self.mean.copy_(mean)
            self.std.copy_(std)
        x = data.next().x
        shares = torch.arange(c.levels, device=x.device) + torch.rand(c.levels, generator=rng, device=x.device)
        t = c.least_level + (1 - c.least_level) * shares / c.levels  # one in each part of (least_level, 1)
        eps = torch.randn(c.levels, *x.shape, generator=rng, device=x.device)
        between = torch.rand(c.levels, len(x), generator=rng, device=x.device)
        logs: list[dict[str, Tensor]] = []
        fit.features.minimise(
            len(t_l) / c.levels * self.loss(x, t_l, eps_l, between_l, logs)
            for t_l, eps_l, between_l in zip(*(part.split(c.together) for part in (t, eps, between)), strict=True)
        )
        shares = [len(t_l) / c.levels for t_l in t.split(c.together)]
        parts = {name: [share * log[name] for share, log in zip(shares, logs, strict=True)] for name in logs[0]}
        log = {name: torch.stack(part).sum() for name, part in parts.items()}
        return log | (self.learn_to_denoise(x, fit, rng) if c.denoiser else {})

    def learn_to_denoise(self, x: Tensor, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the denoiser, ``x_t + D(x_t, t)`` towards x at levels up to the highest that it learns."""
        t = self.config.denoiser_level * torch.rand(len(x), generator=rng, device=x.device)
        x_t = self.noised(x, torch.randn(x.shape, generator=rng, device=x.device), t)
        loss = (x_t + self.denoiser(x_t, t) - x).square().flatten(1).sum(1).mean()
        fit.denoiser.minimise(loss)
        return {"denoise_loss": loss.detach()}

    def loss(self, x: Tensor, t: Tensor, eps: Tensor, between: Tensor, logs: list[dict[str, Tensor]]) -> Tensor:
        """The mean over levels t (L,) of the loss, for data x (B, *shape) and noise eps (L, B, *shape).

        The slope is taken at ``between x_r + (1 - between) x_t``, with between (L, B); what to log goes to ``logs``.
        """
        c, levels, b = self.config, len(t), len(x)
        x, t = x.repeat(levels, *[1] * (x.ndim - 1)), t.repeat_interleave(b)
        eps, between = eps.flatten(0, 1), between.flatten()
        x_t, x_r = self.noised(x, eps, t), self.below(x, eps, t)
        u, v = self.phi(torch.cat([x_t, x_r]), torch.cat([t, t])).view(2, levels, b, -1)
        distance = (x_t - x_r).flatten(1).norm(dim=1).view(levels, b).mean(1)
        middle = (over(between, x) * x_r + over(1 - between, x) * x_t).requires_grad_()
        phi = self.phi(middle, t).view(levels, b, -1)
        with torch.autocast(x.device.type, enabled=False):  # features of neighbours differ by less than bfloat16 sees
            solved = [self.discrepancy(u_t, v_t) for u_t, v_t in zip(u, v, strict=True)]
            value = torch.stack([value for value, _ in solved])
            w = torch.stack([w_t(phi_t).sum() for (_, w_t), phi_t in zip(solved, phi, strict=True)]).sum()
            (gradient,) = torch.autograd.grad(w, middle, create_graph=True)
        slope = (gradient.flatten(1).square().sum(1) + 1e-12).sqrt().view(levels, b)

        gain = value / distance if c.weighting == "distance" else value
        penalty = (slope - c.slope).square().mean()
        norm = u.square().sum(2).mean() + v.square().sum(2).mean()
        logs.append({"discrepancy": value.detach().mean(), "slope": slope.detach().mean(), "norm": norm.detach()})
        return -gain.mean() + c.penalty * penalty + c.feature_penalty * norm

    def discrepancy(self, u: Tensor, v: Tensor) -> tuple[Tensor, Witness]:
        """Between features (B, D) of x_t and of x_r, pair by pair: the value to maximise, and the witness."""
        if self.config.bound == "kale":
            found = kale(u, v, self.kernel, self.config.lam)
            return found.value, found.witness
        kernel = self.kernel.bind(u.detach(), v.detach())
        return paired_mmd_squared(u, v, kernel), witness(u, v, kernel)

    def witness(self, u: Tensor, v: Tensor) -> Witness:
        """The witness between features u of particles and v of data."""
        if self.config.bound == "kale":
            return kale(u, v, self.kernel, self.config.lam).witness
        return witness(u, v, self.kernel)

    def study(self) -> None:
        """Study the data at the levels that samples go through unless told otherwise."""
        for t in self.noise_levels(self.sampling):
            self.level(t, self.sampling.references, BATCH)

    def preview(self, n: int) -> Tensor:
        """``n`` samples by few steps of particles alone, which so few and so roughly known data cannot make diverge."""
        how = replace(self.sampling, sampler="approximate", steps=2, references=500)
        return torch.cat(list(self.groups(n, 0, n, how, None)))

    def draw(self, n: int, seed: int, batch: int, how: DMMDSampling, start: Tensor | None) -> Iterator[Drawn]:
        """``n`` particles that went from noise, or from ``start``, down the witness."""
        steps = how.noise_levels - bool(how.denoise)
        cost = steps * how.steps + how.exact_steps
        for i, z in enumerate(self.groups(n, seed, batch, how, start)):
            self._check(z, self.level(self.noise_levels(how)[-1], how.references, batch).spread, how)
            yield from (Drawn(part, cost) for part in z[: n - i * len(z)].split(batch))

    @torch.no_grad()
    def groups(self, n: int, seed: int, batch: int, how: DMMDSampling, start: Tensor | None) -> Iterator[Tensor]:
        """The particles of `draw` in groups: those that interact, or else a batch."""
        exact = how.sampler == "exact"
        interact = exact or how.exact_steps > 0
        size = how.particles if interact else batch
        levels = self.noise_levels(how)
        known = [self.level(t, how.references, batch) for t in levels]
        ways = self.ways(levels, known, how)
        etas = [how.step_size * self.haste(exact) * way / how.steps for way in ways]
        for i in range(0, n, size):
            count = size if interact else min(size, n - i)
            z = self._group(i, count, seed, how, None if start is None else start[i : i + size])
            for eta, t, here in zip(etas, levels, known, strict=False):
                fixed = None if exact else self.witness(here.noised, here.target)
                for _ in range(how.steps):
                    z = z - eta * self.gradient(z, t, here.target, fixed, batch)
            for _ in range(how.exact_steps):
                eta = how.step_size * self.haste(exact=True) * ways[-1] / how.steps
                z = z - eta * self.gradient(z, levels[-1], known[-1].target, None, batch)
            yield self.denoised(z, levels[-1], batch) if how.denoise else z

    def haste(self, exact: bool) -> float:
        """How many of a level's `ways` particles go where the step size is 1."""
        return FROM_CLEAN if self.config.slope else TOGETHER if exact else ALONE

    def ways(self, levels: list[float], known: list[Level], how: DMMDSampling) -> list[Tensor]:
        """The multiples of ``grad w_t`` that carry data at each level to the next one, and from the last to its r.

        From the last none does where the denoiser does the rest.
        """
        gap = self.config.gap
        if gap < 1:
            ways = [here.reach * (a - b) / min(a, gap) for here, (a, b) in zip(known, pairwise(levels), strict=False)]
        else:
            ways = [a.reach * (a.distance - b.distance) / a.distance for a, b in pairwise(known)]
        return ways if how.denoise else [*ways, known[-1].reach]

    def noise_levels(self, how: DMMDSampling) -> list[float]:
        """The levels that particles go through, from high to low."""
        c, last = self.config, max(how.denoise, self.config.least_level)
        if how.noise_level < last:
            raise UserError(f"--noise-level {how.noise_level:g} is below {last:g}, the lowest that this model knows")
        if how.denoise and not c.denoiser:
            raise UserError("this model has no denoiser: train one beside it by --denoiser 16, or leave out --denoise")
        if how.denoise > c.denoiser_level:
            raise UserError(
                f"the denoiser has learned levels up to {c.denoiser_level}: --denoise {how.denoise} is above"
            )
        return torch.linspace(how.noise_level, last, how.noise_levels).tolist()

    def denoised(self, z: Tensor, t: float, batch: int) -> Tensor:
        """Particles of level t with their noise taken off."""
        return torch.cat([part + self.denoiser(part, _all(part, t)) for part in z.split(batch)])

    def gradient(self, z: Tensor, t: float, target: Tensor, w: Witness | None, batch: int) -> Tensor:
        """``grad w_t`` at particles z (N, *shape), of the given witness or else of theirs with features of x_r."""
        parts = z.split(batch)
        if w is None and len(parts) > 1:  # one particle's gradient needs the features of all
            w = self.witness(torch.cat([self.phi(part, _all(part, t)) for part in parts]), target)
        gradients = []
        for part in parts:
            part = part.detach().requires_grad_()
            with torch.enable_grad():
                u = self.phi(part, _all(part, t))
            pull = (w or self.witness(u.detach(), target)).gradient(u)
            gradients.append(torch.autograd.grad(u, part, pull)[0])
        return torch.cat(gradients)

    @torch.no_grad()
    def level(self, t: float, references: int, batch: int) -> Level:
        """What the data are at level t, computed once for these weights and kept in ``reference``."""
        known = self.reference.get(f"{t:.6f}/{references}", lambda: self._studied(t, references, batch)._asdict())
        return Level(**known)

    def _studied(self, t: float, references: int, batch: int) -> Level:
        x = self.reference.data(references)
        rng = torch.Generator(x.device).manual_seed(derive_seed("references", round(t * 1e6)))
        eps, level = torch.randn(x.shape, generator=rng, device=x.device), torch.tensor(t, device=x.device)
        x_t, x_r = self.noised(x, eps, level), self.below(x, eps, level)
        v, u = (torch.cat([self.phi(b, _all(b, t)) for b in part.split(batch)]) for part in (x_r, x_t))
        if self.config.kernel == "linear" and self.config.bound == "mmd":
            u, v = u.mean(0, keepdim=True), v.mean(0, keepdim=True)
        c, distance = self.config, (x_t - x_r).flatten(1).norm(dim=1).mean()
        reach = 2 * c.penalty * (distance if c.weighting == "distance" else torch.ones_like(distance))
        if c.slope:
            reach = (
                distance / self.gradient(x_t[:SLOPES], t, v, self.witness(u, v), batch).flatten(1).norm(dim=1).mean()
            )
        return Level(v, u, reach, distance, _spread(x))

    def _group(self, i: int, size: int, seed: int, how: DMMDSampling, start: Tensor | None) -> Tensor:
        """Particles i to i + size where they start; a group of given ones that is not full is filled with data."""
        device = next(self.parameters()).device
        noise = sample_noise(seed, i, i + size, self.shape).to(device)
        if start is None:
            return self.mean + self.std * noise
        start = start.to(device)
        if len(start) < size:
            start = torch.cat([start, self.reference.data(how.references)[: size - len(start)]])
        if how.no_noise:
            return start
        return self.noised(start, noise[: len(start)], torch.tensor(how.noise_level, device=device))

    def _check(self, z: Tensor, data: Tensor, how: DMMDSampling) -> None:
        """Raise a `UserError` where the particles have left the data's neighbourhood, or have fallen together."""
        own = _spread(z) if len(z) > 1 else data + 0 * z.sum()  # one alone has no spread, and need only be finite
        spread, usual, std = torch.stack([own, data, self.std]).tolist()
        usual = max(usual, 1e-12)  # data may all be one point
        ratio, noise = spread / usual, std * prod(self.shape) ** 0.5 / usual
        if not ratio < FAR * max(1, noise):
            raise UserError(
                f"the particles diverged: they are spread {ratio:.3g} times as wide as the data; "
                f"try a --step-size below {how.step_size:g}, or more --noise-levels"
            )
        if ratio < NEAR and len(z) >= FEW:
            raise UserError(
                f"the particles fell together: they are spread {ratio:.3g} times as wide as the data; "
                + (
                    "try --sampler exact"
                    if how.sampler == "approximate"
                    else f"try a --step-size below {how.step_size:g}"
                )
            )


BATCH = 500  # samples at a time, where nobody says
FROM_CLEAN = 1.5  # for slope 1: on the arc to the next level W falls more slowly than particles move
TOGETHER, ALONE = 2.0, 1.4  # interacting particles slow down as they arrive; features fall a little short of theory
LOOK = 2000  # samples from which the data's mean and variance are taken
SLOPES = 256  # noised data whose slope is measured
FAR, NEAR, FEW = 3.0, 0.3, 50
"""Spreads, relative to the data's, beyond which samples are refused, and particles below which they are not judged."""


def _all(x: Tensor, t: float) -> Tensor:
    return torch.full((len(x),), t, device=x.device)


def _spread(x: Tensor) -> Tensor:
    return x.flatten(1).var(0).sum().sqrt()


def noised(x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """``cos(pi t / 2) x + sin(pi t / 2) eps`` at levels t, one for each sample (N, *shape) or one for all."""
    return VariancePreserving().at(x, eps, 1 - t)


SMALL = 16  # pixels a side, up to which a network twice as wide costs little

FOR_SMALL_IMAGES: dict[str, Any] = {"width": 64}
FOR_VECTORS: dict[str, Any] = {
    "batch": 128,
    "network": "mlp",
    "width": 64,
    "depth": 3,
    "feature_penalty": 1e-4,
    "lr": 1e-3,
}
"""Where the default recipe for vectors differs from the one for images, whose values are the fields' defaults."""
