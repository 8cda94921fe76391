"""A field that learns the density ratio while the particles move: a flow between clouds without a generator."""

from collections.abc import Callable
from math import inf

import numpy as np
import torch
from torch import Tensor, nn

from wasserflow.divergence import Map, named
from wasserflow.errors import UserError, check_seed
from wasserflow.field import Field, RatioField
from wasserflow.nn.mlp import mlp
from wasserflow.ratio import loss_named
from wasserflow.target import Samples

__all__ = ["LearnedRatioField"]


class LearnedRatioField(Field):
    r"""``v(x) = s(d(x)) grad d(x)``, with ``d = log p/q`` learned between the target and the particles as they are.

    Binding it to particles takes ``ratio_steps`` optimiser steps of a classifier; the velocity is that of the
    classifier then. So ``wf.flow(x, wf.LearnedRatioField(y), steps=2500, step_size=1e-3)`` is the generator-free
    particle flow of "MonoFlow" (Yi, Zhu & Liu, 2023, arXiv 2302.01075); the authors have 512 units in the first layer,
    and both rates fall by 0.9998 per step. The field is a moving target: use it with the ``euler`` solver, which asks
    for it once per step.

    Args:
        target: Samples (M, *) of p, a tensor or an array; or a function that draws n fresh ones,
            ``target(n) -> (n, *)``.
        map: Row of `wasserflow.divergence`, or its name: it fixes ``s``.
        logit: Gives ``d(x)``, shape (N,), for points (N, *). By default a network with two hidden layers of 256 leaky
            ReLU units, for vectors.
        ratio_loss: What it minimises, as in `wasserflow.ratio`.
        ratio_steps: Optimiser steps per binding.
        batch: Points of each side per optimiser step; by default as many as there are particles.
        lr: Learning rate of Adam.
        seed: Of the weights and of the choice of points.

    Raises:
        UserError: If a setting is out of range, or the target holds no points or a number that is not finite.
    """

    def __init__(
        self,
        target: Tensor | np.ndarray | Callable[[int], Tensor],
        map: Map | str = "kl",
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
        self.target = target if callable(target) else torch.as_tensor(Samples(target).points)
        self.map = named(map) if isinstance(map, str) else map
        self.loss = loss_named(ratio_loss)
        self.ratio_steps, self.batch, self.lr, self.seed = ratio_steps, batch, lr, seed
        self.logit = logit
        self._rng: torch.Generator | None = None
        self.ratio_value = torch.tensor(torch.nan)
        """The classifier's loss at its last step, nan before; 2 log 2 (logistic) where it tells nothing apart."""

    def at(self, particles: Tensor, t: float | None = None) -> Callable[[Tensor], Tensor]:
        """Learn from the particles, with shape (N, *), and give the velocity, which can be evaluated anywhere."""
        if self._rng is None:
            self._start(particles)
        assert self._rng is not None
        assert self.logit is not None
        particles = particles.detach()
        n = min(self.batch or len(particles), len(particles))
        for _ in range(self.ratio_steps):
            q = particles if n == len(particles) else self._pick(particles, n)
            p = self.target(n) if callable(self.target) else self._pick(self.target, min(n, len(self.target)))
            with torch.enable_grad():
                value = self.loss(self.logit(p.to(q)), self.logit(q))
                self._optimizer.zero_grad()
                value.backward()
            self._optimizer.step()
            self.ratio_value = value.detach()
        return RatioField(self.logit, self.map).at(particles, t)

    def _start(self, particles: Tensor) -> None:
        shape = particles.shape[1:]
        there = shape if callable(self.target) else self.target.shape[1:]
        if there != shape:
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

    def _pick(self, x: Tensor, n: int) -> Tensor:
        assert self._rng is not None
        return x[torch.randperm(len(x), generator=self._rng, device=self._rng.device)[:n].to(x.device)]
