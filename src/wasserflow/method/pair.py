"""What VGrow and MonoFlow share: a generator that draws the particles, and a logit that learns ``log p/q``."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from wasserflow.divergence import Map
from wasserflow.errors import UserError
from wasserflow.field import RatioField
from wasserflow.method.method import Method, MethodConfig, milestones, positive
from wasserflow.nn import build_pair
from wasserflow.noise import sample_noise
from wasserflow.ratio import gradient_penalty, logistic_loss

__all__ = ["FOR_VECTORS", "Pair", "PairConfig", "pick", "shuffled"]

FOR_VECTORS: dict[str, Any] = {
    "batch": 500,
    "latent": 8,
    "network": "mlp",
    "width": 128,
    "lr_logit": 6e-4,
    "lr_generator": 6e-4,
    "betas": (0.5, 0.9),
    "penalty": 0.1,
    "penalty_every": 4,
}
"""Where the default recipe for vectors differs from the one for images, whose values are the fields' defaults."""


@dataclass(frozen=True)
class PairConfig(MethodConfig):
    """Networks and optimisers of a generator and a logit.

    Args:
        latent: Dimension of the generator's noise z.
        prior: Law of z: N(0, I), or uniform on [-1, 1].
        network: Both networks: strided, dcgan or resnet (images), mlp or shallow (anything).
        width: Channels at the finest size (images), or units per layer (mlp, shallow).
        optimizer: Adam, or RMSprop.
        lr_logit: Learning rate of the logit.
        lr_generator: Learning rate of the generator.
        betas: Decay rates of Adam's first and second moment.
        halve_lr_at: Images seen at which both learning rates are halved.
        penalty: Weight of the squared gradient of the logit at the data (R1); 0 for none.
        penalty_every: Ratio steps from one penalty to the next; its weight grows in proportion.
        ema: Half-life, in images, of the generator average that samples are drawn from; 0 for none.
    """

    latent: int = 64
    prior: Literal["normal", "uniform"] = "normal"
    network: str = "strided"
    width: int = 16
    optimizer: Literal["adam", "rmsprop"] = "adam"
    lr_logit: float = 2e-3
    lr_generator: float = 2e-3
    betas: tuple[float, float] = (0.0, 0.99)
    halve_lr_at: tuple[int, ...] = ()
    penalty: float = 3.0
    penalty_every: int = 8
    ema: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "latent", "width", "lr_logit", "lr_generator", "penalty_every")
        for name in ("penalty", "ema"):
            if not 0 <= getattr(self, name) < inf:
                raise UserError(f"--{name} must be 0 or a finite number above, not {getattr(self, name)}")
        milestones(self, "halve_lr_at")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"--betas must lie in [0, 1), not {self.betas}")


Settings = TypeVar("Settings", bound=PairConfig)


class Pair(Method[Settings]):
    """A generator ``G(z)`` and a logit ``d(x)`` for samples of one shape."""

    map: Map  # how the flow weighs the gradient of the log ratio

    def build(self) -> None:
        """Make the generator and the logit."""
        c = self.config
        self.generator, self.logit = build_pair(c.network, self.shape, c.latent, c.width)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One optimiser per network, by the network's name."""
        c = self.config
        rates = {"logit": c.lr_logit, "generator": c.lr_generator}
        if c.optimizer == "rmsprop":
            return {name: torch.optim.RMSprop(getattr(self, name).parameters(), lr) for name, lr in rates.items()}
        return {
            name: torch.optim.Adam(getattr(self, name).parameters(), lr, c.betas, fused=True)
            for name, lr in rates.items()
        }

    def averages(self) -> dict[str, int]:
        """Networks of which a moving average is kept, with its half-life in images."""
        return {"generator": self.config.ema} if self.config.ema else {}

    def lr_factor(self, seen: int) -> float:
        """What the learning rates are multiplied with once ``seen`` images have been seen."""
        return 0.5 ** sum(seen >= images for images in self.config.halve_lr_at)

    @property
    def field(self) -> RatioField:
        """What moves the particles: ``s(d) grad d`` of the logit as it is."""
        return RatioField(self.logit, self.map)

    def latents(self, n: int, rng: torch.Generator) -> Tensor:
        """``n`` draws of z, with shape (n, l), on the generator's device."""
        draw = torch.randn if self.config.prior == "normal" else _uniform
        return draw(n, self.config.latent, generator=rng, device=rng.device)

    def learn_ratio(self, data: Any, x: Tensor, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the logit on a batch of data and as many of the particles ``x``, (N, *shape)."""
        c, seen = self.config, data.seen
        p = data.next().x
        d_p, d_q = self.logit(p), self.logit(pick(x, len(p), rng))
        loss = ratio_loss = logistic_loss(d_p, d_q)
        if c.penalty and seen // c.batch % c.penalty_every == 0:
            loss = ratio_loss + c.penalty * c.penalty_every * gradient_penalty(self.logit, p)
        fit.logit.minimise(loss)
        d_p, d_q = d_p.detach(), d_q.detach()
        log = {"ratio_loss": ratio_loss.detach(), "logit_data": d_p.mean(), "logit_fake": d_q.mean()}
        return log | ({"divergence": self.map.estimate(d_p, d_q)} if self.map.estimate else {})

    def stream(self, n: int, *, seed: int = 0, batch: int = 1000) -> Iterator[Tensor]:
        """``G(z)`` for ``n`` draws of z, in batches."""
        device = next(self.parameters()).device
        uniform = self.config.prior == "uniform"
        for start in range(0, n, batch):
            z = sample_noise(seed, start, min(start + batch, n), (self.config.latent,), uniform=uniform)
            yield _evaluated(self.generator, z.to(device))

    def log_ratio(self, x: Tensor, *, batch: int = 1000) -> Tensor:
        """``d(x) = log p(x)/q(x)`` of data over particles, with shape (N,), for ``x`` (N, *shape) in model space."""
        if x.shape[1:] != self.shape:
            raise UserError(
                f"log_ratio needs samples of shape (N, {', '.join(map(str, self.shape))}), not {tuple(x.shape)}"
            )
        device = next(self.parameters()).device
        return torch.cat([_evaluated(self.logit, x_b.to(device)) for x_b in x.split(batch)])


def shuffled(n: int, rng: torch.Generator) -> Tensor:
    """A permutation of 0..n-1 on the generator's device."""
    return torch.randperm(n, generator=rng, device=rng.device)


def pick(x: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """``n`` of the particles ``x``, without repetition; all of them in order where there are just n."""
    return x if n == len(x) else x[shuffled(len(x), rng)[:n]]


def _uniform(n: int, dim: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(n, dim, generator=generator, device=device).mul_(2).sub_(1)


@torch.no_grad()
def _evaluated(network: nn.Module, x: Tensor) -> Tensor:
    """``network(x)`` in evaluation mode, the mode restored afterwards."""
    training = network.training
    try:
        return network.eval()(x)
    finally:
        network.train(training)
