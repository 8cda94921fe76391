"""How DMMD's particles are drawn: what sampling takes from the data at each noise level, and the descent."""

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.noise import derive_seed, sample_noise
from wasserflow.discrepancy.mmd import Witness
from wasserflow.method.dmmd.settings import DMMDSampling

if TYPE_CHECKING:
    from wasserflow.method.dmmd.model import DMMD

__all__ = ["Level", "Sampler"]

FROM_CLEAN = 1.5  # for slope 1: on the arc to the next level W falls more slowly than particles move
TOGETHER, ALONE = 2.0, 1.4  # interacting particles slow down as they arrive
SLOPES = 256  # noised data at which the mean slope is measured
FAR, NEAR, FEW = 3.0, 0.3, 50
"""Spreads, relative to the data's, beyond which samples are refused, and the fewest particles that are judged."""


class Level(NamedTuple):
    """What sampling needs of the data at a noise level t.

    Args:
        target: ``phi(x_r, t)`` of data at the level r that t is compared with, (M, D); for the linear kernel their
            mean, (1, D), on which alone its witness depends.
        noised: ``phi(x_t, t)``, the same of data at level t.
        reach: Factor that turns the gradient of the witness between the two into the way from x_t to x_r. With slope 0
            this is the mean displacement ``E[x_t - x_r | x_t]``, of which the loss makes the gradient a known multiple;
            with another slope the distance W(t) at the mean slope.
        distance: W(t), mean of ``|x_t - x_r|``.
        spread: Standard deviation of clean data, over all dimensions together.
    """

    target: Tensor
    noised: Tensor
    reach: Tensor
    distance: Tensor
    spread: Tensor


class Sampler:
    """Particles that descend a model's witness from noise to data, level by level: ``z <- z - eta grad w_t(z)``.

    Args:
        model: Features, denoiser and the data they are compared with (``model.reference``).
        how: The settings.
        batch: Samples that go through a network at a time.

    Raises:
        UserError: If the model cannot sample in this way.
    """

    def __init__(self, model: "DMMD", how: DMMDSampling, batch: int = 500) -> None:
        self.model, self.how, self.batch = model, how, batch
        self.exact = how.sampler == "exact"
        noise, denoising = model.config.noise, model.config.denoising
        last = max(how.denoise, noise.least_level)
        if how.noise_level < last:
            raise UserError(f"`noise_level` {how.noise_level:g} is below {last:g}, the lowest level of this model")
        if how.denoise and not denoising.denoiser:
            raise UserError("this model has no denoiser: train one with `denoiser=16`, or leave out `denoise`")
        if how.denoise > denoising.denoiser_level:
            raise UserError(
                f"the denoiser has learned levels up to {denoising.denoiser_level}: `denoise` {how.denoise} is above"
            )
        self.levels: list[float] = torch.linspace(how.noise_level, last, how.noise_levels).tolist()

    @property
    def cost(self) -> int:
        """Evaluations of the features per sample."""
        return (len(self.levels) - bool(self.how.denoise)) * self.how.steps + self.how.exact_steps

    @torch.no_grad()
    def groups(self, n: int, seed: int, start: Tensor | None = None) -> Iterator[Tensor]:
        """At least ``n`` samples in groups: those of particles that interact, or else a batch."""
        how, interact = self.how, self.exact or self.how.exact_steps > 0
        size = how.particles if interact else self.batch
        known = [self.level(t) for t in self.levels]
        etas, last = self.step_sizes(known)
        for i in range(0, n, size):
            count = size if interact else min(size, n - i)
            z = self._start(i, count, seed, None if start is None else start[i : i + size])
            for eta, t, here in zip(etas, self.levels, known, strict=False):
                fixed = None if self.exact else self.model.witness(here.noised, here.target)
                for _ in range(how.steps):
                    z = z - eta * self.gradient(z, t, here.target, fixed)
            for _ in range(how.exact_steps):
                z = z - last * self.gradient(z, self.levels[-1], known[-1].target)
            yield self.denoised(z) if how.denoise else z

    def step_sizes(self, known: list[Level]) -> tuple[list[float | Tensor], float | Tensor]:
        """Eta at each level, and of the exact steps at the end."""
        how = self.how
        if how.step_unit == "absolute":
            return [how.step_size] * (len(known) - bool(how.denoise)), how.step_size
        ways = self.ways(known)
        etas: list[float | Tensor] = [how.step_size * self.haste(self.exact) * way / how.steps for way in ways]
        return etas, how.step_size * self.haste(True) * ways[-1] / how.steps

    def haste(self, exact: bool) -> float:
        """How many of a level's `ways` the steps of the calibrated size add up to."""
        return FROM_CLEAN if self.model.config.penalties.slope else TOGETHER if exact else ALONE

    def ways(self, known: list[Level]) -> list[Tensor]:
        """The multiples of ``grad w_t`` that carry data at each level to the next one, and from the last to its r.

        There is none from the last level if the denoiser does the rest.
        """
        gap = self.model.config.noise.gap
        if gap < 1:
            steps = zip(known, pairwise(self.levels), strict=False)
            ways = [here.reach * (a - b) / min(a, gap) for here, (a, b) in steps]
        else:
            ways = [a.reach * (a.distance - b.distance) / a.distance for a, b in pairwise(known)]
        return ways if self.how.denoise else [*ways, known[-1].reach]

    def gradient(self, z: Tensor, t: float, target: Tensor, w: Witness | None = None) -> Tensor:
        """``grad w_t`` at particles z (N, *shape): of the witness w, or of that between their features and x_r's."""
        parts = z.split(self.batch)
        if w is None and len(parts) > 1:  # one particle's gradient needs the features of all
            w = self.model.witness(torch.cat([self.model.phi(part, _all(part, t)) for part in parts]), target)
        gradients = []
        for part in parts:
            part = part.detach().requires_grad_()
            with torch.enable_grad():
                u = self.model.phi(part, _all(part, t))
            pull = (w or self.model.witness(u.detach(), target)).gradient(u)
            gradients.append(torch.autograd.grad(u, part, pull)[0])
        return torch.cat(gradients)

    def denoised(self, z: Tensor) -> Tensor:
        """Particles of the last level with their noise removed."""
        t = self.levels[-1]
        return torch.cat([part + self.model.denoiser(part, _all(part, t)) for part in z.split(self.batch)])

    @torch.no_grad()
    def level(self, t: float) -> Level:
        """What the data are at level t, computed once for these weights and kept in ``model.reference``."""
        known = self.model.reference.get(f"{t:.6f}/{self.how.references}", lambda: self._studied(t)._asdict())
        return Level(**known)

    def _studied(self, t: float) -> Level:
        model, c = self.model, self.model.config
        x = model.reference.data(self.how.references)
        rng = torch.Generator(x.device).manual_seed(derive_seed("references", round(t * 1e6)))
        eps, level = torch.randn(x.shape, generator=rng, device=x.device), torch.tensor(t, device=x.device)
        x_t, x_r = model.noised(x, eps, level), model.below(x, eps, level)
        v, u = (torch.cat([model.phi(b, _all(b, t)) for b in part.split(self.batch)]) for part in (x_r, x_t))
        if c.discrepancy.kernel == "linear" and c.discrepancy.bound == "mmd":
            u, v = u.mean(0, keepdim=True), v.mean(0, keepdim=True)
        distance = (x_t - x_r).flatten(1).norm(dim=1).mean()
        weight = distance if c.penalties.weighting == "distance" else torch.ones_like(distance)
        reach = 2 * c.penalties.penalty * weight
        if c.penalties.slope:
            slopes = self.gradient(x_t[:SLOPES], t, v, model.witness(u, v)).flatten(1).norm(dim=1)
            reach = distance / slopes.mean()
        return Level(v, u, reach, distance, _spread(x))

    def _start(self, i: int, size: int, seed: int, start: Tensor | None) -> Tensor:
        """Particles i to i + size where they start; a group of given ones that is not full is filled with data."""
        model = self.model
        device = model.mean.device
        noise = sample_noise(seed, i, i + size, model.shape).to(device)
        if start is None:
            return model.mean + model.std * noise
        start = start.to(device)
        if len(start) < size:
            start = torch.cat([start, model.reference.data(self.how.references)[: size - len(start)]])
        if not self.how.noise:
            return start
        return model.noised(start, noise[: len(start)], torch.tensor(self.how.noise_level, device=device))

    def check(self, z: Tensor) -> None:
        """Raise a `UserError` if particles have left the neighbourhood of the data, or have collapsed."""
        data, how = self.level(self.levels[-1]).spread, self.how
        own = _spread(z) if len(z) > 1 else data + 0 * z.sum()  # one particle has no spread, and need only be finite
        spread, usual, std = torch.stack([own, data, self.model.std]).tolist()
        usual = max(usual, 1e-12)  # data may all be one point
        ratio, noise = spread / usual, std * prod(self.model.shape) ** 0.5 / usual
        shorter = f"try a `step_size` below {how.step_size:g}"
        if not ratio < FAR * max(1, noise):
            raise UserError(
                f"the particles diverged: they are spread {ratio:.3g} times as wide as the data; "
                f"{shorter}, or more `noise_levels`"
            )
        if ratio < NEAR and len(z) >= FEW:
            raise UserError(
                f"the particles fell together: they are spread {ratio:.3g} times as wide as the data; "
                + (shorter if self.exact else "try `sampler='exact'`")
            )


def _all(x: Tensor, t: float) -> Tensor:
    return torch.full((len(x),), t, device=x.device)


def _spread(x: Tensor) -> Tensor:
    return x.flatten(1).var(0).sum().sqrt()
