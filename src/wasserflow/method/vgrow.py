r"""VGrow: an f-divergence flow learned through a density ratio, drawn by a generator.

A pool of particles ``x = G(z)`` alternates between learning ``d = log p/q`` by classification and moving along
``x <- x + eta s(d) grad d``, the Euler step of the Wasserstein gradient flow of ``D_f(q|p)``; then the generator is
fitted to where its particles have gone. With one step of each kind it is the GAN with generator loss ``-E h(d)``.

References:
    Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow._core.settings import settings
from wasserflow.divergence import named
from wasserflow.method.base import milestones, positive
from wasserflow.method.logit import shuffled
from wasserflow.method.pair import FOR_VECTORS, Pair, PairConfig
from wasserflow.nn.pg import Growing

__all__ = ["VGrow", "VGrowConfig"]


@settings
class VGrowConfig(PairConfig):
    """Settings of VGrow.

    Args:
        divergence: kl, js, logd, jeffreys, forward-kl, chi2, pearson, hellinger, alpha:A, or any map of MonoFlow,
            without a shift.
        pool: How many batches of particles are moved together.
        inner_steps: Particle steps per pool.
        ratio_steps: Steps of the logit before each particle step.
        step_size: eta, the length of a particle step; with one step of each kind it scales the generator's loss alone,
            which Adam and RMSprop undo (down to about 0.01: below, float32 rounds the move away).
        fit_epochs: Passes of the generator's fit over the pool; several values follow the schedule.
        fit_epochs_at: Images seen at which the next value of fit_epochs begins.
        clamp: Keep the particles in [-1, 1] (images).
        phase: Images per phase in which the networks called pg grow: a size alone, then the next one fading in, up to
            the full one; 0: full size from the start.
    """

    divergence: str = "logd"
    pool: int = 1
    inner_steps: int = 1
    ratio_steps: int = 1
    step_size: float = 1.0
    fit_epochs: tuple[int, ...] = (1,)
    fit_epochs_at: tuple[int, ...] = ()
    clamp: bool = False
    phase: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        named(self.divergence)
        positive(self, "pool", "inner_steps", "ratio_steps", "step_size")
        milestones(self, "fit_epochs_at")
        if len(self.fit_epochs) != len(self.fit_epochs_at) + 1 or min(self.fit_epochs, default=0) < 1:
            raise UserError("--fit-epochs needs positive numbers, one more of them than --fit-epochs-at has")
        if self.phase < 0:
            raise UserError(f"--phase must be 0, or images per phase of --network pg, which grows, not {self.phase}")
        if self.phase and self.network != "pg":
            raise UserError(f"--phase {self.phase} needs --network pg, which grows, not {self.network}")


class VGrow(Pair[VGrowConfig]):
    """A generator fitted to particles of the flow; see the module's docstring."""

    Config: ClassVar = VGrowConfig

    def __init__(self, config: VGrowConfig, shape: Sequence[int], seed: int = 0) -> None:
        if config.clamp and len(shape) == 1:
            raise UserError("--clamp keeps the values of images in [-1, 1], which vectors may leave: leave it out")
        super().__init__(config, shape, seed)
        self.map = named(config.divergence)

    @classmethod
    def recipe(cls, name: str, shape: Sequence[int]) -> VGrowConfig:
        """The settings called ``default``, ``paper``, ``ept`` or ``pg`` for samples of this shape.

        ``default`` is the best quality per CPU minute that was measured (docs/results.md): one step of each kind, which
        makes it the GAN with loss ``-E h(d)``, with a gradient penalty and, for images, learning rates that halve with
        the images seen. ``paper`` takes, for images, the authors' residual networks and schedules (grey: MNIST's,
        colour: CIFAR-10's), at the data's own size (``--size 32`` is theirs), and draws the pool with the batch
        statistics of the fit rather than running ones; on Fashion-MNIST they halve a third time (``--halve-lr-at 512000
        1024000 1536000``); for vectors, the 2-D settings of the progressive-growing authors with a latent of the data's
        dimension, at least 2. ``ept`` (images) is the variant with a least-squares ratio, Pearson's chi-square, no
        normalisation, 20 epochs of the fit throughout, and the learning rates of ``paper`` by its own, longer outer
        loops (Gao et al., 2020, arXiv 2012.06094). ``pg`` (images) takes the networks of the progressive-growing
        authors, at full size from the start, with their penalty, optimiser and average.
        """
        image = len(shape) == 3
        if name == "paper" and image:
            loop = 20 * 64  # images of one outer loop
            colour = shape[0] > 1  # grey: the schedule for MNIST, colour: the one for CIFAR-10
            return VGrowConfig(
                batch=64,
                latent=128,
                network="resnet",
                width=128,
                optimizer="rmsprop",
                lr_logit=1e-4,
                lr_generator=1e-4,
                halve_lr_at=tuple(loop * o for o in ((800, 1600, 2400) if colour else (400, 800))),
                penalty=0.0,
                ema=0,
                pool=20,
                inner_steps=20,
                step_size=0.5,
                fit_epochs=(5, 10, 15, 20),
                fit_epochs_at=tuple(loop * o for o in ((600, 2000, 3000) if colour else (200, 1000, 1500))),
                clamp=True,
            )
        if name == "paper":
            return VGrowConfig(
                batch=1000,
                latent=max(2, shape[0]),
                prior="uniform",
                network="shallow",
                width=256,
                lr_logit=1e-3,
                lr_generator=1e-3,
                halve_lr_at=(),
                penalty=0.0,
                step_size=1.0,
                ema=69_000,  # 0.99 per step of 1,000
            )
        if name == "default":
            return VGrowConfig(**({} if image else FOR_VECTORS))
        if name == "ept" and image:
            return replace(
                cls.recipe("paper", shape),
                divergence="pearson",
                ratio_loss="least-squares",
                network="resnet-plain",
                batch=100,
                pool=10,
                halve_lr_at=tuple(20 * 100 * o for o in ((800, 1600, 2400) if shape[0] > 1 else (400, 800))),
                fit_epochs=(20,),
                fit_epochs_at=(),
            )
        if name == "pg" and image:
            return VGrowConfig(
                batch=64,
                latent=512,
                network="pg",
                width=256,
                lr_logit=1e-3,
                lr_generator=1e-3,
                betas=(0.0, 0.99),
                halve_lr_at=(),
                penalty=1.0,
                penalty_kind="one-centred",
                penalty_every=1,
                ema=4_400,  # 0.99 per step of 64
            )
        if name in ("ept", "pg"):
            raise UserError(f"the recipe {name} is for images, and these are vectors: take paper or leave out --recipe")
        raise unknown("recipe", name, ("default", "paper", "ept", "pg"))

    def cost_changes(self) -> tuple[int, ...]:
        """Where the fit's epochs change, and where a size begins to fade in."""
        c = self.config
        sizes = range(self.logit.last) if isinstance(self.logit, Growing) and c.phase else ()
        return tuple(sorted({*c.fit_epochs_at, *(c.phase * (2 * size + 1) for size in sizes)}))

    def step(self, data: Any, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One outer loop of VGrow (Gao et al., 2019, Algorithm 1)."""
        c = self.config
        epochs = c.fit_epochs[bisect_right(c.fit_epochs_at, data.seen)]
        log: dict[str, Tensor] = {}
        if c.phase:
            self.grow(data.seen / c.phase)
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
        """Bring both networks to where they are after so many phases."""
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
