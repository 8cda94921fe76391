r"""VAPO: a potential whose gradient carries noise to data, and which is an energy afterwards.

Along a path ``x = mu(t) x1 + s(t) eps`` from noise to data a scalar ``psi(x, t)`` is learned such that
``dx/dt = grad psi`` carries the path's density. Samples are noise carried along the gradient; ``psi`` gives score and
log-density at every time.

References:
    | Variational Potential Flow: A Novel Probabilistic Framework for Energy-Based Generative Modelling
      (Loo et al., 2024), arXiv 2407.15238
    | Learning Energy-Based Generative Models via Potential Flow: A Variational Principle Approach to Probability
      Density Homotopy Matching (Loo et al., 2025), arXiv 2504.16262
    | Energy Matching: Unifying Flow Matching and Energy-Based Models (Balcerak et al., 2025), arXiv 2504.10612; the
      contrastive phase
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor

from wasserflow._core.autograd import value_and_gradient
from wasserflow._core.errors import UserError
from wasserflow.method.base import Batch, Data, Drawn, Fits, Method
from wasserflow.method.capability import GivesLogDensity
from wasserflow.method.vapo.clipped import ClippedAdam
from wasserflow.method.vapo.readout import check_density, check_readable, likelihood, read
from wasserflow.method.vapo.sampler import Sampler
from wasserflow.method.vapo.settings import RECIPES, VAPOConfig, VAPOSampling
from wasserflow.nn.potential import Potential, build_energy
from wasserflow.nn.unet import SeededDropout
from wasserflow.path import path_named
from wasserflow.potential.density import READ_AT
from wasserflow.potential.engine import ENGINES
from wasserflow.potential.objective import OBJECTIVES, contrast, draw, ends, pair, time_scored

__all__ = ["VAPO"]

LOOK = 2000  # samples from which the data's mean and variance are taken
LEAST_CONTRAST = 0.05  # where the contrastive loss stops pulling
LABEL_DROP = 0.2  # the share of labels left out, so that the potential is learned without them too


class VAPO(Method[VAPOConfig], GivesLogDensity):
    """A potential ``psi(x, t)`` whose gradient carries noise to data, and from which log-densities can be read.

    The default objective is flow matching by a gradient field; others are the published energy loss and Action
    Matching. Samples are drawn by solving ``dx/dt = grad psi`` from noise (t = 0) to data (t = 1), 40 gradients per
    sample by default. Made by ``VAPO.for_shape``, with `VAPOConfig` as settings and `VAPOSampling` as settings of
    ``sample``.

    References:
        Learning Energy-Based Generative Models via Potential Flow (Loo et al., 2025), arXiv 2504.16262
    """

    Config: ClassVar = VAPOConfig
    Sampling: ClassVar = VAPOSampling
    recipes: ClassVar = RECIPES
    watched: ClassVar = ("potential_loss", "energy_gap")
    from_samples: ClassVar = True
    contrasted: Tensor  # whether a contrastive phase has begun, after which psi is an energy by itself

    def __init__(self, config: VAPOConfig, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(config, shape, seed)
        self.register_buffer("contrasted", torch.tensor(False))
        self.blended: list[tuple[Potential, float]] = []

    def build(self) -> None:
        """Make the path and the potential."""
        noise, e = self.config.noise, self.config.energy
        if self.config.flips and len(self.shape) != 3:
            raise UserError(f"`flips` is for images, not for samples of shape {self.shape}")
        self.path = path_named(noise.path, noise.prior_width, noise.likelihood_width)
        self.objective = OBJECTIVES[self.config.matching.objective]
        if self.config.matching.time_score:
            self.objective = time_scored(self.objective, self.config.matching.time_score)
        energy = build_energy(e.network, e.potential, self.shape, e.width, e.depth, e.time_scale, e.classes, e.dropout)
        self.potential = Potential(energy, self.shape, self.path, timed=e.timed, preconditioned=e.preconditioned)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The potential's."""
        c, weights = self.config.optimiser, self.potential.parameters()
        by_entry = c.optimizer == "clipped-adam"
        if by_entry or c.clip:
            return {"potential": ClippedAdam(weights, c.lr, c.betas, c.clip, by_entry)}
        return {"potential": torch.optim.Adam(weights, c.lr, c.betas, fused=True)}

    def averages(self, seen: int = 0) -> dict[str, int]:
        """The potential has EMA weights."""
        phase, half_life = self.config.phase, self.config.optimiser.ema
        if phase.contrast and phase.contrast_ema and seen > phase.contrast_after:
            half_life = phase.contrast_ema
        return {"potential": half_life} if half_life else {}

    def cost_changes(self) -> tuple[int, ...]:
        """When the contrastive phase begins."""
        phase = self.config.phase
        return (phase.contrast_after,) if phase.contrast and phase.contrast_after else ()

    def lr_factor(self, seen: int) -> float:
        """The factor on the learning rate once ``seen`` images have been seen."""
        warmup = self.config.optimiser.warmup
        return min(1.0, (seen + self.config.batch) / warmup) if warmup else 1.0

    def step(self, data: Data, fit: Fits, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the potential along the path."""
        if data.seen == 0:
            self.prepare(data)
        c, margin, phase = self.config.matching, self.config.noise.margin, self.config.phase
        contrasts = phase.contrast > 0 and data.seen >= phase.contrast_after
        batch = data.next()
        x1, label = self.flipped(batch.x, rng), self.labels(batch, rng)
        eps = torch.randn(x1.shape, generator=rng, device=x1.device)
        eps = pair(x1, eps) if c.pairing == "ot" else eps
        t = self.times(len(x1), rng)
        points = draw(self.path, x1, eps, t, weight=c.weight, literal=c.literal, label=label)
        self.seed_dropout(rng)
        loss, losses = ENGINES[self.config.optimiser.engine](self.potential, points, self.objective)
        log, more = {"potential_loss": loss}, []
        if self.objective.ends:
            more.append(ends(self.potential, self.path, x1, eps, margin=margin, weight=c.weight, label=label))
            log["potential_loss"] = loss + more[0].detach()
        if contrasts:
            gap = contrast(self.potential, x1, self.chains(x1, label, rng), label)
            more.append((phase.contrast * gap).clamp(min=-LEAST_CONTRAST))
            log["energy_gap"] = gap.detach()
            self.contrasted.fill_(True)
        fit.potential.minimise(chain(losses, more))
        return log

    def prepare(self, data: Data) -> None:
        """Take the data's mean and variance, and check that there are as many labels as are learned."""
        classes = self.config.energy.classes
        if self.config.energy.preconditioned:
            self.potential.standardise(data.look(LOOK))
        if classes and (data.label is None or int(data.label.max()) >= classes):
            has = "no labels" if data.label is None else f"{int(data.label.max()) + 1} labels"
            raise UserError(f"`classes={classes}` is the number of labels to learn, and the data have {has}")

    def flipped(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Images of which a random half is flipped left to right, if the settings say so."""
        if not self.config.flips:
            return x
        chosen = torch.rand(len(x), generator=rng, device=rng.device) < 0.5
        return torch.where(chosen.view(-1, 1, 1, 1), x.flip(3), x)

    def labels(self, batch: Batch, rng: torch.Generator) -> Tensor | None:
        """The labels of a batch (N,), some left out as -1; None if they are not learned."""
        if not self.config.energy.classes or batch.label is None:
            return None
        left_out = torch.rand(len(batch.label), generator=rng, device=rng.device) < LABEL_DROP
        return batch.label.long().masked_fill(left_out, -1)

    def times(self, n: int, rng: torch.Generator) -> Tensor:
        """``n`` times between margin and 1 - margin, one in each n-th of the way; all the same if ``literal``."""
        u = torch.rand(n, generator=rng, device=rng.device).add(torch.arange(n, device=rng.device)) / n
        if self.config.matching.literal:
            u = torch.rand(1, generator=rng, device=rng.device).expand(n)
        margin = self.config.noise.margin
        return margin + (1 - 2 * margin) * u

    def seed_dropout(self, rng: torch.Generator) -> None:
        """Give every pass of this step the same dropout masks."""
        for module in self.potential.modules() if self.config.energy.dropout else ():
            if isinstance(module, SeededDropout):
                module.seed = rng.initial_seed()

    def chains(self, x1: Tensor, label: Tensor | None, rng: torch.Generator) -> Tensor:
        """Ends of Langevin chains at the temperature, half from data and half from noise carried to t = 1 first."""
        c = self.config.phase
        x = x1.clone()
        half = len(x) // 2
        x[:half] = torch.randn(x[:half].shape, generator=rng, device=x.device)
        clock = torch.ones(len(x), device=x.device)
        clock[:half] = 0
        for _ in range(c.chain_steps):
            heat = (2 * c.chain_step_size * c.temperature * (clock >= 1)).sqrt().view(-1, *[1] * (x.ndim - 1))
            z = torch.randn(x.shape, generator=rng, device=x.device)
            x = x + c.chain_step_size * value_and_gradient(self.potential, x, clock.clamp(max=1), label)[1] + heat * z
            clock = clock + c.chain_step_size
        return x.clamp(-1, 1) if len(self.shape) == 3 else x

    def preview(self, n: int) -> Tensor:
        """Samples of few steps, to look at during training."""
        return self.sample(n, solver="euler", steps=16)

    def draw(self, n: int, seed: int, batch: int, how: VAPOSampling, start: Tensor | None) -> Iterator[Drawn]:
        """``n`` draws of noise, or the samples ``start``, carried along the field, in batches."""
        sampler = Sampler(self, how, seed)
        for i in range(0, n, batch):
            rows = range(i, min(i + batch, n))
            yield sampler.draw(rows, None if start is None else start[rows.start : rows.stop])

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """``grad psi(x, t)``, with the shape of the points x (N, *shape); that of t = 1 past it."""
        return value_and_gradient(self.potential, x, x.new_full((len(x),), min(t, 1.0)))[1]

    def log_density(
        self,
        x: Tensor,
        *,
        kind: str = "density",
        time: float = READ_AT,
        label: int = -1,
        batch: int = 500,
        steps: int = 50,
        probes: int | None = 1,
        seed: int = 0,
    ) -> Tensor:
        """One number per point, (N,): the higher, the more like the data.

        Args:
            x: Points, (N, *shape), in model space.
            kind: ``density``: log-density of the data blurred by ``s/mu``, up to one constant, read off psi at
                ``time``; after a contrastive phase psi over the temperature. ``likelihood``: log-likelihood of the
                flow, normalised (`wasserflow.potential.density.flow_log_likelihood`). ``potential``: psi itself at
                ``time``. ``published``: ``log(4 psi - |x|^2)`` at t = 1, from the code of Density Homotopy Matching.
            time: Time at which psi is read, strictly between 0 and 1 for a density: the later, the less blurred, and
                the less exact.
            label: Label of the potential; -1 for that without label.
            batch: Points at a time.
            steps: Steps of a likelihood's solver.
            probes: Probes of a likelihood's divergence; None for the exact one.
            seed: Random seed of the probes.

        Raises:
            UserError: If the kind cannot be read from the run's potential.
        """
        check_readable(self, x, kind, time, label)
        if kind == "likelihood":
            return likelihood(self, x, label=label, batch=batch, steps=steps, probes=probes, seed=seed)
        return read(self, x, kind=kind, time=time, label=label, batch=batch)

    def check_density(self, what: str) -> None:
        """Raise a `UserError` if psi is not that of the path's density; ``what`` says what needs it."""
        check_density(self, what)

    def blend(self, other: GivesLogDensity, share: float) -> None:
        """Draw from ``p^(1 - share) p_other^share``, normalised, from now on: the potentials' weighted sum.

        Raises:
            UserError: If the two do not fit, or one has no density.
        """
        if other.shape != self.shape or other.path != self.path:
            raise UserError("only runs on samples of one shape and along one path can be blended")
        for model in (self, other):
            model.check_density("blending adds log-densities")
        if not 0 < share < 1:
            raise UserError(f"the share of the other run must lie strictly between 0 and 1, not {share}")
        self.blended.append((other.potential.eval(), share))
