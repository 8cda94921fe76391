r"""Noise-adaptive MMD flow (DMMD): a kernel learned without an adversary carries noise to data, without a generator.

Data are noised to a level, from 0 (clean) to 1 (noise): ``x_t = alpha x_0 + beta eps`` with ``alpha = cos(pi t / 2)``
and ``beta = sin(pi t / 2)``. Features ``phi(x, t)`` learn, at all levels, to tell data noised to t from data noised to
a lower level r (as published: 0, clean data) by the MMD of the kernel ``k(phi(x, t), phi(y, t))``. With ``w_t`` its
witness, the loss of a level is

    ``L = -MMD^2(x_t, x_r) + lambda E (|grad w_t| - s)^2 + mu E |phi|^2``.

Samples are particles that start as noise and descend the witness between themselves and data at r, from level 1 to 0:
``z <- z - eta grad w_t(z)``. With ``bound="kale"`` a lower bound of the KL divergence takes the place of the MMD.

The published loss is ``kernel="linear", gap=1, standardised=False, penalty=1, slope=1, feature_penalty=0.1,
weighting="equal"``; the published sampler ``step_unit="absolute", step_size=0.1, particles=200``. The paper's noise
schedule is not known to us: ours is the cosine one above.

References:
    Deep MMD Gradient Flow without adversarial training (Galashov, De Bortoli and Gretton, 2025), arXiv 2405.06780
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow.discrepancy.kale import kale
from wasserflow.discrepancy.mmd import Witness, paired_mmd_squared, witness
from wasserflow.kernel import make_kernel
from wasserflow.method.base import Data, Drawn, Fits, Method
from wasserflow.method.capability import ComparesWithData, Reference
from wasserflow.method.dmmd.sampler import Sampler
from wasserflow.method.dmmd.settings import RECIPES, DMMDConfig, DMMDSampling
from wasserflow.nn import build_encoder
from wasserflow.nn.unet import UNet
from wasserflow.path import VariancePreserving, mean_and_deviation, over

__all__ = ["DMMD", "noised"]

LOOK = 2000  # samples from which the data's mean and variance are taken


class DMMD(Method[DMMDConfig], ComparesWithData):
    """Features ``phi(x, t)`` that are conditional on the noise level, and particles that descend their witness.

    The features learn to tell data noised to a level t from data at a slightly lower level; samples start as noise and
    move down the gradient of the learned witness, level by level. There is no generator and no adversary. Made by
    ``DMMD.for_shape``, with `DMMDConfig` as settings and `DMMDSampling` as settings of ``sample``.

    References:
        Deep MMD Gradient Flow without adversarial training (Galashov, De Bortoli and Gretton, 2025), arXiv 2405.06780
    """

    mean: Tensor
    std: Tensor

    Config: ClassVar = DMMDConfig
    Sampling: ClassVar = DMMDSampling
    recipes: ClassVar = RECIPES
    watched: ClassVar = ("discrepancy", "slope")
    from_samples: ClassVar = True

    def build(self) -> None:
        """Make the features, and the denoiser if one is wanted."""
        c = self.config
        if c.denoising.denoiser:
            if len(self.shape) != 3:
                raise UserError(f"`denoiser` is for images, not for samples of shape {self.shape}")
            self.denoiser = UNet(self.shape, c.denoising.denoiser, (1, 2, 2), blocks=1)
        self.reference = Reference()
        self.features = build_encoder(c.features.network, self.shape, c.features.width, c.features.depth)
        self.kernel = make_kernel(c.discrepancy.kernel)
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
        return self.noised(x, eps, (t - self.config.noise.gap).clamp(min=0))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One per network."""
        c, networks = self.config.optimiser, self.named_children()
        return {name: torch.optim.Adam(net.parameters(), c.lr, c.betas, fused=True) for name, net in networks}

    def averages(self, seen: int = 0) -> dict[str, int]:
        """Every network has EMA weights."""
        half_life = self.config.optimiser.ema
        return {name: half_life for name, _ in self.named_children()} if half_life else {}

    def step(self, data: Data, fit: Fits, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the features on a batch of data, noised to several levels."""
        c = self.config.noise
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
        return log | (self.learn_to_denoise(x, fit, rng) if self.config.denoising.denoiser else {})

    def learn_to_denoise(self, x: Tensor, fit: Fits, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the denoiser, ``x_t + D(x_t, t)`` towards x at levels up to the highest that it learns."""
        t = self.config.denoising.denoiser_level * torch.rand(len(x), generator=rng, device=x.device)
        x_t = self.noised(x, torch.randn(x.shape, generator=rng, device=x.device), t)
        loss = (x_t + self.denoiser(x_t, t) - x).square().flatten(1).sum(1).mean()
        fit.denoiser.minimise(loss)
        return {"denoise_loss": loss.detach()}

    def loss(self, x: Tensor, t: Tensor, eps: Tensor, between: Tensor, logs: list[dict[str, Tensor]]) -> Tensor:
        """The mean over levels t (L,) of the loss, for data x (B, *shape) and noise eps (L, B, *shape).

        The slope is taken at ``between x_r + (1 - between) x_t``, with between (L, B); what to log goes to ``logs``.
        """
        c, levels, b = self.config.penalties, len(t), len(x)
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
        if self.config.discrepancy.bound == "kale":
            found = kale(u, v, self.kernel, self.config.discrepancy.lam)
            return found.value, found.witness
        kernel = self.kernel.bind(u.detach(), v.detach())
        return paired_mmd_squared(u, v, kernel), witness(u, v, kernel)

    def witness(self, u: Tensor, v: Tensor) -> Witness:
        """The witness between features u of particles and v of data."""
        if self.config.discrepancy.bound == "kale":
            return kale(u, v, self.kernel, self.config.discrepancy.lam).witness
        return witness(u, v, self.kernel)

    def study(self) -> None:
        """Study the data at the levels that samples go through by default."""
        sampler = Sampler(self, self.sampling)
        for t in sampler.levels:
            sampler.level(t)

    def preview(self, n: int) -> Tensor:
        """``n`` samples of few steps by particles that move alone, which few references cannot make diverge."""
        how = replace(self.sampling, sampler="approximate", steps=2, references=500)
        return torch.cat(list(Sampler(self, how, n).groups(n, 0)))

    def draw(self, n: int, seed: int, batch: int, how: DMMDSampling, start: Tensor | None) -> Iterator[Drawn]:
        """``n`` particles that went from noise, or from ``start``, down the witness."""
        sampler = Sampler(self, how, batch)
        for i, z in enumerate(sampler.groups(n, seed, start)):
            sampler.check(z)
            yield from (Drawn(part, sampler.cost) for part in z[: n - i * len(z)].split(batch))


def noised(x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """``cos(pi t / 2) x + sin(pi t / 2) eps`` at levels t, one for each sample (N, *shape) or one for all."""
    return VariancePreserving().at(x, eps, 1 - t)
