"""A field that learns the density ratio while the particles move: a flow between clouds without a generator."""

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor, nn

from wasserflow._core.errors import UserError, check_seed
from wasserflow._core.points import Points, as_points, check_finite, flat
from wasserflow.divergence import Map, named
from wasserflow.field.base import Field, Velocity
from wasserflow.field.known_ratio import RatioField
from wasserflow.field.target import Samples
from wasserflow.nn.mlp import mlp
from wasserflow.ratio import loss_named

__all__ = ["LearnedRatioField"]

STEP = 0.005
"""Stable step for a target of variance 1: the classifier must keep up with the particles."""

DRAWN = 1000
"""Points from which the step size is computed if a function draws the target."""


class LearnedRatioField(Field):
    r"""``v(x) = s(d(x)) grad d(x)``, with ``d = log p/q`` learned between the target and the particles as they are.

    Binding it to particles takes ``ratio_steps`` optimiser steps of a classifier, whose weights give the velocity. So
    ``wf.flow(x, wf.LearnedRatioField(y), steps=2500, step_size=1e-3)`` is the generator-free particle flow of
    "MonoFlow" (Yi, Zhu & Liu, 2023, arXiv 2302.01075); the authors have 512 units in the first layer, and both rates
    decay by 0.9998 per step. The field changes at every evaluation: use it with the ``euler`` solver, which asks for it
    once per step.

    Args:
        target: Samples (M, *) of p, a tensor, an array or a DataFrame; or a function that draws n fresh ones,
            ``target(n) -> (n, *)``.
        divergence: Row of `wasserflow.divergence`, or its name: it fixes ``s``.
        logit: A module that gives ``d(x)``, shape (N,), for points (N, *). By default a network with two hidden layers
            of 256 leaky ReLU units, for vectors.
        ratio_loss: What it minimises, as in `wasserflow.ratio`.
        ratio_steps: Optimiser steps per binding.
        batch: Points of each side per optimiser step, at most all of them; by default as many as there are particles.
        lr: Learning rate of Adam.
        seed: Random seed of the weights and of the choice of points.

    Raises:
        UserError: If a setting is out of range, the target holds no points or a number that is not finite, or it, the
            particles and the logit do not fit together.
    """

    def __init__(
        self,
        target: Points | Callable[[int], Points],
        divergence: Map | str = "kl",
        *,
        logit: nn.Module | None = None,
        ratio_loss: str = "logistic",
        ratio_steps: int = 1,
        batch: int | None = None,
        lr: float = 1e-3,
        seed: int = 0,
    ) -> None:
        check_seed(seed)
        if ratio_steps < 1 or not 0 < lr < inf or (batch is not None and batch < 1):
            raise UserError(
                f"ratio_steps and batch must be at least 1 and lr above 0, not {ratio_steps}, {batch}, {lr}"
            )
        if logit is not None and not (isinstance(logit, nn.Module) and list(logit.parameters())):
            raise UserError(f"the logit must be a torch.nn.Module with parameters to learn, not {logit!r}")
        self.target = target if callable(target) else Samples(target, seed=seed)
        self.divergence = named(divergence) if isinstance(divergence, str) else divergence
        self.loss = loss_named(ratio_loss)
        self.ratio_steps, self.batch, self.lr, self.seed = ratio_steps, batch, lr, seed
        self.logit = logit
        self._rng: torch.Generator | None = None
        self.ratio_value = torch.tensor(torch.nan)
        """The classifier's loss at its last step, nan before; 2 log 2 (logistic) where it tells nothing apart."""

    def at(self, particles: Tensor, t: float | None = None) -> Velocity:
        """Learn from the particles, with shape (N, *), and give the velocity, which can be evaluated anywhere."""
        if self._rng is None:
            self._start(particles)
        assert self._rng is not None
        assert self.logit is not None
        q_all = particles.detach()
        if (kind := _kind(q_all)) != self._learned_from:
            raise UserError(f"this field has learned from particles of {self._learned_from}: make one for {kind}")
        n = self.batch or len(q_all)
        for _ in range(self.ratio_steps):
            chosen = torch.randperm(len(q_all), generator=self._rng, device=q_all.device)[:n]
            q = q_all[chosen] if n < len(q_all) else q_all
            p = self._draw_target(n, q)
            with torch.enable_grad():
                d_p, d_q = self.logit(p), self.logit(q)
                if d_p.shape != (len(p),):
                    raise UserError(f"the logit must give one number for each point, ({len(p)},), not {(*d_p.shape,)}")
                value = self.loss(d_p, d_q)
                self._optimizer.zero_grad()
                value.backward()
            self._optimizer.step()
            self.ratio_value = value.detach()
        return RatioField(self.logit, self.divergence).at(q_all, t)

    def stable_step(self, particles: Tensor) -> float:
        """0.005 of the target's mean variance: the published flow's time, 2.5 for a variance of 1, in 500 steps."""
        points = (
            as_points(self.target(DRAWN), "target") if callable(self.target) else self.target.sketch(flat(particles))[0]
        )
        return STEP * points.var(0).mean().item()

    def _draw_target(self, n: int, like: Tensor) -> Tensor:
        """``n`` points of the target, fresh ones or without repetition, in the form of ``like``."""
        if isinstance(self.target, Samples):
            self.target.batch = n if n < len(self.target) else None
            vectors = flat(like)
            points = torch.cat([part for part, _ in self.target.draw(vectors).blocks(vectors)])
            return points.view(-1, *like.shape[1:])
        p = as_points(self.target(n), f"target({n})")
        if p.shape != (n, *like.shape[1:]):
            raise UserError(f"target({n}) must give points of shape {(n, *like.shape[1:])}, not {tuple(p.shape)}")
        check_finite(p, f"target({n})")
        return p.to(like)

    def _start(self, particles: Tensor) -> None:
        shape = particles.shape[1:]
        if isinstance(self.target, Samples) and (there := self.target.points.shape[1:]) != shape:
            raise UserError(f"particles of shape {tuple(shape)} cannot flow onto a target of shape {tuple(there)}")
        if self.logit is None:
            if len(shape) != 1:
                raise UserError(f"particles of shape {tuple(shape)} need a logit of their own: give logit=...")
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(self.seed)
                network = nn.Sequential(mlp(shape[0], 1, 256, 2, nn.LeakyReLU(0.2)), nn.Flatten(0))
            self.logit = network.to(particles)
        self._optimizer = torch.optim.Adam(self.logit.parameters(), self.lr, fused=True)
        self._rng = torch.Generator(particles.device).manual_seed(self.seed)
        self._learned_from = _kind(particles)


def _kind(particles: Tensor) -> str:
    """What a logit that learns from particles (N, *) is bound to."""
    return f"shape {tuple(particles.shape[1:])}, {str(particles.dtype).removeprefix('torch.')}, on {particles.device}"
