"""How samples are drawn from a potential: noise is carried along its gradient, with corrections and inpainting."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wasserflow._core.autograd import value_and_gradient
from wasserflow._core.errors import UserError
from wasserflow._core.noise import derive_seed, sample_noise
from wasserflow.flows import SOLVERS, flow
from wasserflow.method.base import Drawn
from wasserflow.method.vapo.mask import free_pixels
from wasserflow.method.vapo.settings import VAPOSampling
from wasserflow.path import over
from wasserflow.solver import dormand_prince

if TYPE_CHECKING:
    from wasserflow.method.vapo.model import VAPO

__all__ = ["Sampler", "latent_noise"]

COST = {"euler": 1, "heun": 2, "rk4": 4}
LATEST = 0.99  # the last time at which the score, a quotient that vanishes at 1, is evaluated


class Sampler:
    """Carries noise, or given samples, along ``dx/dt = grad psi(x, t)``.

    Args:
        model: Potential, path and shape; what it is blended with.
        how: The settings.
        seed: Random seed of the noise.

    Raises:
        UserError: If the model cannot sample in this way.
    """

    def __init__(self, model: "VAPO", how: VAPOSampling, seed: int) -> None:
        self.model, self.how, self.seed = model, how, seed
        self.path, self.device = model.path, model.potential.std.device
        classes = model.config.energy.classes
        if how.label >= 0 and how.label >= classes:
            raise UserError(f"`label` {how.label} needs a run trained with `classes` above it, not {classes}")
        if how.corrections:
            model.check_density("`corrections` need the score")
        self.free = free_pixels(how.mask, model.shape).to(self.device) if how.mask else None

    def draw(self, rows: range, start: Tensor | None) -> Drawn:
        """The samples with these numbers, and the gradients of the potential that each took.

        Args:
            rows: Numbers of the samples.
            start: Samples to start from, (N, *shape), or None.
        """
        how, path = self.how, self.path
        noise = latent_noise(rows, self.seed, self.model.shape, how.interpolate).to(self.device)
        begin = torch.tensor(how.begin, device=self.device)
        if start is None and (how.mask or how.begin):
            raise UserError("`mask` and `begin` need samples to start from: give `start`")
        if start is None:
            x1, x = noise, over(path.s(begin), noise) * noise
        else:
            x1 = start.to(self.device)
            x = path.at(x1, noise, begin) if how.begin < 1 else x1

        def velocity(x: Tensor, t: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
            v = self.velocity(x, t)
            if self.free is None:
                return v
            known = path.velocity(x1[rows], noise[rows], t) * over((t < 1).to(x), x)
            return torch.where(self.free, v, known)  # known pixels follow their own path to their values

        if how.solver == "dopri5":
            x, cost = dormand_prince(
                x, velocity, start=how.begin, end=how.end, tolerance=how.tolerance, control=how.control
            )
            evaluations = cost.float().mean().item()
        else:
            x, evaluations = self._fixed(x, velocity, rows)
        return Drawn(x if self.free is None else torch.where(self.free, x, x1), evaluations)

    def psi(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The potential that is followed: guided, and blended with others."""
        guidance, others = self.how.guidance, self.model.blended
        ours = 1 - sum(share for _, share in others)
        value = (1 + guidance) * self.model.potential(x, t, label)
        if guidance:
            value = value - guidance * self.model.potential(x, t)
        for other, share in others:
            value = value + share / ours * other(x, t)
        return ours * value

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """``grad psi(x, t)`` for points (N, *) and times (N,), that of t = 1 past it."""
        label = torch.full((len(x),), self.how.label, device=x.device) if self.how.label >= 0 else None
        return value_and_gradient(self.psi, x, t.clamp(max=1), label)[1]

    def _fixed(self, x: Tensor, velocity: Callable[[Tensor, Tensor], Tensor], rows: range) -> tuple[Tensor, float]:
        """Steps of one length, each followed by its corrections."""
        how = self.how
        assert how.solver != "dopri5"
        steps = max(1, round(how.steps * (how.end - how.begin)))
        step_size = (how.end - how.begin) / steps

        def field(x: Tensor, t: float) -> Tensor:
            return velocity(x, x.new_full((len(x),), how.begin + t))

        if not how.corrections:
            return flow(x, field, steps=steps, step_size=step_size, solver=how.solver), steps * COST[how.solver]
        evaluations = 0
        for k in range(steps):
            x = SOLVERS[how.solver](x, field, k * step_size, step_size)
            evaluations += COST[how.solver]
            t = how.begin + (k + 1) * step_size
            for j in range(how.corrections if t <= LATEST else 0):
                z = sample_noise(derive_seed("langevin", self.seed, k, j), rows.start, rows.stop, self.model.shape)
                moved = self._langevin(x, velocity, t, z.to(x))
                x = moved if self.free is None else torch.where(self.free, moved, x)
                evaluations += 1
        if not x.isfinite().all():
            raise UserError(f"the samples are no longer finite: try more `steps` than {how.steps}, or a lower `snr`")
        return x, evaluations

    def _langevin(self, x: Tensor, velocity: Callable[[Tensor, Tensor], Tensor], t: float, z: Tensor) -> Tensor:
        """A step of annealed Langevin dynamics (Song & Ermon, 2019, arXiv 1907.05600)."""
        times = x.new_full((len(x),), t)
        score = self.path.score_from_velocity(velocity(x, times), x, times)
        size = over(2 * (self.how.snr * self.path.s(times)).square(), x)
        return x + size * score + (2 * size).sqrt() * z


def latent_noise(rows: range, seed: int, shape: tuple[int, ...], row_length: int) -> Tensor:
    """N(0, I) of the samples with these numbers; or points on great circles between two draws each.

    Args:
        rows: Numbers of the samples.
        seed: Random seed.
        shape: Of one sample.
        row_length: Points per great circle; 0: independent draws.
    """
    if not row_length:
        return sample_noise(seed, rows.start, rows.stop, shape)
    first, last = rows.start // row_length, (rows.stop - 1) // row_length
    ends = sample_noise(seed, 2 * first, 2 * last + 2, shape)
    number = torch.tensor(list(rows))
    a, b = (ends[2 * (number // row_length - first) + side].flatten(1) for side in (0, 1))
    share = (number % row_length).to(a)[:, None] / (row_length - 1)
    lengths = [value.norm(dim=1, keepdim=True) for value in (a, b)]
    angle = ((a * b).sum(1, keepdim=True) / (lengths[0] * lengths[1])).clamp(-1, 1).acos()
    weights = [((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()]
    unit = weights[0] * a / lengths[0] + weights[1] * b / lengths[1]
    return (unit * (lengths[0] * (1 - share) + lengths[1] * share)).view(-1, *shape)
