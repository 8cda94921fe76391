r"""VGrow: an f-divergence flow learned through a density ratio, drawn by a generator.

A pool of particles ``x = G(z)`` alternates between learning ``d = log p/q`` by classification and moving along
``x <- x + eta s(d) grad d``, the Euler step of the Wasserstein gradient flow of ``D_f(q|p)``; then the generator is
fitted to where its particles have gone. With one step of each kind it is the GAN with generator loss ``-E h(d)``.

References:
    Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.settings import Count, Milestones, Positive, Whole, settings
from wasserflow.divergence import named
from wasserflow.method.base import Data, Fits, Recipe
from wasserflow.method.logit import MapName, shuffled
from wasserflow.method.pair import DEFAULT, Pair, PairConfig, PairNetworks
from wasserflow.nn.pg import Growing

__all__ = ["VGrow", "VGrowConfig"]


@settings
class VGrowNetworks(PairNetworks):
    """The networks.

    Args:
        phase: Images per phase in which the networks called pg grow: one size alone, then the next one fading in, up to
            the full size; 0: full size from the start.
    """

    phase: Whole = 0

    def __post_init__(self) -> None:
        if self.phase and self.network != "pg":
            raise UserError(f"`phase={self.phase}` needs `network='pg'`, which grows, not {self.network}")


@settings
class VGrowSettings:
    """The flow, and the fit of the generator to it.

    Args:
        divergence: f-divergence whose flow the particles follow, or a monotone map in its place.
        pool: Batches of particles that are moved together.
        inner_steps: Particle steps per pool.
        ratio_steps: Steps of the logit before each particle step.
        step_size: eta, the length of a particle step; with one step of each kind it only scales the generator's loss,
            which Adam and RMSprop undo (down to about 0.01; below, float32 rounds the move away).
        fit_epochs: Passes of the generator's fit over the pool; several values follow the schedule.
        fit_epochs_at: Samples seen at which the next value of fit_epochs begins.
        clamp: Keep the particles in [-1, 1] (images).
    """

    divergence: MapName = "logd"
    pool: Count = 1
    inner_steps: Count = 1
    ratio_steps: Count = 1
    step_size: Positive = 1.0
    fit_epochs: tuple[Count, ...] = (1,)
    fit_epochs_at: Milestones = ()
    clamp: bool = False

    def __post_init__(self) -> None:
        if len(self.fit_epochs) != len(self.fit_epochs_at) + 1:
            raise UserError("`fit_epochs` needs positive numbers, one more of them than `fit_epochs_at` has")


@settings
class VGrowConfig(PairConfig):
    """Settings of VGrow, in groups."""

    networks: VGrowNetworks = VGrowNetworks()
    flow: VGrowSettings = VGrowSettings()


LOOP = 20 * 64
"""Images of one outer loop of the authors: their schedules count these."""


def _paper_images(shape: Sequence[int]) -> Mapping[str, object]:
    """The authors' residual networks and schedules (grey: MNIST's, colour: CIFAR-10's), at the data's own size.

    Theirs is 32 pixels a side. On Fashion-MNIST they halve a third time (``halve_lr_at=(512000, 1024000, 1536000)``).
    The pool is drawn with the batch statistics of the fit rather than running ones.
    """
    colour = shape[0] > 1
    return {
        "batch": 64,
        "latent": 128,
        "network": "resnet",
        "width": 128,
        "optimizer": "rmsprop",
        "lr_logit": 1e-4,
        "lr_generator": 1e-4,
        "halve_lr_at": tuple(LOOP * o for o in ((800, 1600, 2400) if colour else (400, 800))),
        "penalty": 0.0,
        "ema": 0,
        "pool": 20,
        "inner_steps": 20,
        "step_size": 0.5,
        "fit_epochs": (5, 10, 15, 20),
        "fit_epochs_at": tuple(LOOP * o for o in ((600, 2000, 3000) if colour else (200, 1000, 1500))),
        "clamp": True,
    }


def _paper_vectors(shape: Sequence[int]) -> Mapping[str, object]:
    """The 2-D settings of the progressive-growing authors, with a latent of the data's dimension, at least 2."""
    return {
        "batch": 1000,
        "latent": max(2, shape[0]),
        "prior": "uniform",
        "network": "shallow",
        "width": 256,
        "lr_logit": 1e-3,
        "lr_generator": 1e-3,
        "halve_lr_at": (),
        "penalty": 0.0,
        "step_size": 1.0,
        "ema": 69_000,  # 0.99 per step of 1,000
    }


def _ept(shape: Sequence[int]) -> Mapping[str, object]:
    """A least-squares ratio, Pearson's chi-square, no normalisation, 20 epochs of the fit throughout.

    The learning rates are those of ``paper``, counted in its own, longer outer loops.
    """
    return {
        **_paper_images(shape),
        "divergence": "pearson",
        "ratio_loss": "least-squares",
        "network": "resnet-plain",
        "batch": 100,
        "pool": 10,
        "halve_lr_at": tuple(20 * 100 * o for o in ((800, 1600, 2400) if shape[0] > 1 else (400, 800))),
        "fit_epochs": (20,),
        "fit_epochs_at": (),
    }


def _pg(shape: Sequence[int]) -> Mapping[str, object]:
    """The networks of the progressive-growing authors, at full size, with their penalty, optimiser and average."""
    return {
        "batch": 64,
        "latent": 512,
        "network": "pg",
        "width": 256,
        "lr_logit": 1e-3,
        "lr_generator": 1e-3,
        "betas": (0.0, 0.99),
        "halve_lr_at": (),
        "penalty": 1.0,
        "penalty_kind": "one-centred",
        "penalty_every": 1,
        "ema": 4_400,  # 0.99 per step of 64
    }


class VGrow(Pair[VGrowConfig]):
    """A one-step generator fitted to particles that follow the Wasserstein gradient flow of an f-divergence.

    A classifier learns ``d = log p/q`` between data and particles, the particles move by ``x <- x + eta s(d) grad d``,
    and the generator is fitted to where they have gone. For images and for tables or points; a sample costs one network
    evaluation. With one step of each kind, the default, it is the GAN with generator loss ``-E h(d)``.

    Example:
        >>> model = wf.VGrow.for_shape((1, 28, 28), divergence="kl")
        >>> wf.train(model, "mnist", budget=wf.Budget(minutes=20), out="runs/mnist")
        >>> model.sample(64, seed=0).shape
        torch.Size([64, 1, 28, 28])

    References:
        | Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469
        | Deep Generative Learning via Euler Particle Transport (Gao et al., 2020), arXiv 2012.06094 (recipe ``ept``)
    """

    Config: ClassVar = VGrowConfig
    recipes: ClassVar = {
        "default": DEFAULT,
        "paper": Recipe("the authors' settings", _paper_images, _paper_vectors),
        "ept": Recipe("Euler particle transport", _ept),
        "pg": Recipe("networks of the progressive-growing authors", _pg),
    }

    def __init__(self, config: VGrowConfig, shape: Sequence[int], seed: int = 0) -> None:
        if config.flow.clamp and len(shape) == 1:
            raise UserError("`clamp` keeps the values of images in [-1, 1], which vectors may leave: leave it out")
        super().__init__(config, shape, seed)
        self.map = named(config.flow.divergence)

    def cost_changes(self) -> tuple[int, ...]:
        """Where the fit's epochs change, and where a size begins to fade in."""
        phase = self.config.networks.phase
        sizes = range(self.logit.last) if isinstance(self.logit, Growing) and phase else ()
        return tuple(sorted({*self.config.flow.fit_epochs_at, *(phase * (2 * size + 1) for size in sizes)}))

    def step(self, data: Data, fit: Fits, rng: torch.Generator) -> dict[str, Tensor]:
        """One outer loop of VGrow (Gao et al., 2019, Algorithm 1)."""
        c, phase = self.config.flow, self.config.networks.phase
        epochs = c.fit_epochs[bisect_right(c.fit_epochs_at, data.seen)]
        log: dict[str, Tensor] = {}
        if phase:
            self.grow(data.seen / phase)
        z = self.latents(c.pool * data.batch, rng)
        x = self.push(z, data.batch)
        for _ in range(c.inner_steps):
            for _ in range(c.ratio_steps):
                log |= self.learn_ratio(data, x, fit, rng)
            v = self.velocity(x, data.batch)
            x = x + c.step_size * v
            x = x.clamp(-1, 1) if c.clamp else x
            log["field_norm"] = v.flatten(1).norm(dim=1).mean()
        for _ in range(epochs):
            for rows in shuffled(len(x), rng).split(data.batch):
                fit_loss = 0.5 * (self.generator(z[rows]) - x[rows]).square().flatten(1).sum(1).mean()
                fit.generator.minimise(fit_loss)
                log["fit_loss"] = fit_loss.detach()
        return log

    def grow(self, phases: float) -> None:
        """Set both networks to the size they have after so many phases."""
        size, part = divmod(phases, 2)
        for network in (self.generator, self.logit):
            assert isinstance(network, Growing)
            network.grow(size + max(0.0, part - 1))

    @torch.no_grad()
    def push(self, z: Tensor, batch: int) -> Tensor:
        """The particles ``G(z)``, in batches, normalised by the batch statistics that the fit will see."""
        return torch.cat([self.generator(z_b) for z_b in z.split(batch)])

    def velocity(self, x: Tensor, batch: int) -> Tensor:
        """``s(d) grad d`` of the whole pool, in batches; of each particle alone, so the logit is in evaluation mode."""
        self.logit.eval()
        v = torch.cat([self.field(x_b) for x_b in x.split(batch)])
        self.logit.train()
        return v
