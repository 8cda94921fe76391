"""What VGrow and MonoFlow share beside the logit: a generator that draws the particles."""

from collections.abc import Iterator
from math import inf
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.noise import sample_noise
from wasserflow._core.settings import settings
from wasserflow.method.base import Drawn, positive
from wasserflow.method.logit import RatioConfig, RatioMethod, evaluated
from wasserflow.nn import build_pair

__all__ = ["FOR_VECTORS", "Pair", "PairConfig"]

FOR_VECTORS: dict[str, Any] = {
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
"""Where the default recipe for vectors differs from the one for images, whose values are the fields' defaults."""


@settings
class PairConfig(RatioConfig):
    """A generator beside the logit.

    Args:
        latent: Dimension of the generator's noise z.
        prior: Law of z: N(0, I), or uniform on [-1, 1].
        lr_generator: Learning rate of the generator.
        ema: Half-life, in images, of the generator average that samples are drawn from, but never more than a
            twentieth of the images seen; 0 for none.
    """

    latent: int = 64
    prior: Literal["normal", "uniform"] = "normal"
    lr_generator: float = 2e-3
    halve_lr_at: tuple[int, ...] = (200_000, 400_000, 800_000)
    ema: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "latent", "lr_generator")
        if not 0 <= self.ema < inf:
            raise UserError(f"--ema must be 0 or a finite number above, not {self.ema}")


Settings = TypeVar("Settings", bound=PairConfig)


class Pair(RatioMethod[Settings]):
    """A generator ``G(z)`` and a logit ``d(x)`` for samples of one shape."""

    def build(self) -> None:
        """Make the generator and the logit."""
        c = self.config
        self.generator, self.logit = build_pair(c.network, self.shape, c.latent, c.width)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One optimiser per network, by the network's name."""
        c = self.config
        return {
            "logit": self.optimizer(self.logit, c.lr_logit),
            "generator": self.optimizer(self.generator, c.lr_generator),
        }

    def averages(self) -> dict[str, int]:
        """Networks of which a moving average is kept, with its half-life in images."""
        return {"generator": self.config.ema} if self.config.ema else {}

    def latents(self, n: int, rng: torch.Generator) -> Tensor:
        """``n`` draws of z, with shape (n, l), on the generator's device."""
        draw = torch.randn if self.config.prior == "normal" else _uniform
        return draw(n, self.config.latent, generator=rng, device=rng.device)

    def draw(self, n: int, seed: int, batch: int, how: Any, start: Tensor | None) -> Iterator[Drawn]:
        """``G(z)`` for ``n`` draws of z, in batches."""
        device = next(self.parameters()).device
        uniform = self.config.prior == "uniform"
        for i in range(0, n, batch):
            z = sample_noise(seed, i, min(i + batch, n), (self.config.latent,), uniform=uniform)
            yield Drawn(evaluated(self.generator, z.to(device)))


def _uniform(n: int, dim: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(n, dim, generator=generator, device=device).mul_(2).sub_(1)
