"""What VGrow and MonoFlow share beside the logit: a generator that draws the particles."""

from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar

import torch
from torch import Tensor

from wasserflow._core.noise import sample_noise
from wasserflow._core.settings import Count, Milestones, Positive, Whole, settings
from wasserflow.method.base import Drawn, Recipe, Sampling
from wasserflow.method.logit import Networks, Optimiser, RatioConfig, RatioMethod, evaluated
from wasserflow.nn import build_pair

__all__ = ["DEFAULT", "Pair", "PairConfig", "PairNetworks"]

FOR_VECTORS: Mapping[str, object] = {
    "batch": 500,
    "latent": 8,
    "network": "mlp",
    "width": 128,
    "lr_logit": 6e-4,
    "lr_generator": 6e-4,
    "betas": (0.5, 0.9),
    "halve_lr_at": (),
    "penalty": 0.1,
    "penalty_every": 4,
}

DEFAULT = Recipe(
    "the best quality per CPU minute that was measured", images=lambda shape: {}, vectors=lambda shape: FOR_VECTORS
)
"""The recipe ``default`` of both methods: for images it is the fields' defaults."""


@settings
class PairNetworks(Networks):
    """The networks.

    Args:
        latent: Dimension of the generator's noise z.
        prior: Distribution of z: N(0, I), or uniform on [-1, 1].
    """

    latent: Count = 64
    prior: Literal["normal", "uniform"] = "normal"


@settings
class PairOptimiser(Optimiser):
    """How the weights are updated.

    Args:
        lr_generator: Learning rate of the generator.
        ema: Half-life, in samples seen, of the generator's EMA weights, from which samples are drawn; at most a
            twentieth of the samples seen; 0 for none.
    """

    halve_lr_at: Milestones = (200_000, 400_000, 800_000)
    lr_generator: Positive = 2e-3
    ema: Whole = 10_000


@settings
class PairConfig(RatioConfig):
    """Settings of a method with a generator beside the logit, in groups."""

    networks: PairNetworks = PairNetworks()
    optimiser: PairOptimiser = PairOptimiser()


Settings = TypeVar("Settings", bound=PairConfig)


class Pair(RatioMethod[Settings]):
    """A generator ``G(z)`` and a logit ``d(x)`` for samples of one shape."""

    def build(self) -> None:
        """Make the generator and the logit."""
        c = self.config.networks
        self.generator, self.logit = build_pair(c.network, self.shape, c.latent, c.width)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One optimiser per network, by the network's name."""
        c = self.config.optimiser
        return {
            "logit": self.optimizer(self.logit, c.lr_logit),
            "generator": self.optimizer(self.generator, c.lr_generator),
        }

    def averages(self, seen: int = 0) -> dict[str, int]:
        """Networks that have EMA weights, with the half-life of the average in samples seen."""
        return {"generator": self.config.optimiser.ema} if self.config.optimiser.ema else {}

    def latents(self, n: int, rng: torch.Generator) -> Tensor:
        """``n`` draws of z, with shape (n, l), on the generator's device."""
        c = self.config.networks
        draw = torch.randn if c.prior == "normal" else _uniform
        return draw(n, c.latent, generator=rng, device=rng.device)

    def draw(self, n: int, seed: int, batch: int, how: Sampling, start: Tensor | None) -> Iterator[Drawn]:
        """``G(z)`` for ``n`` draws of z, in batches."""
        c, device = self.config.networks, next(self.parameters()).device
        for i in range(0, n, batch):
            z = sample_noise(seed, i, min(i + batch, n), (c.latent,), uniform=c.prior == "uniform")
            yield Drawn(evaluated(self.generator, z.to(device)))


def _uniform(n: int, dim: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(n, dim, generator=generator, device=device).mul_(2).sub_(1)
