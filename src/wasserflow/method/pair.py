"""What VGrow and MonoFlow share: a generator that draws the particles, and a logit that learns ``log p/q``."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from wasserflow.divergence import Map
from wasserflow.errors import UserError, unknown
from wasserflow.field import RatioField
from wasserflow.nn import build_pair
from wasserflow.noise import sample_noise
from wasserflow.ratio import gradient_penalty, logistic_loss

__all__ = ["FOR_VECTORS", "Pair", "PairConfig", "milestones", "pick", "positive", "shuffled"]

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


def positive(config: object, *names: str) -> None:
    """Raise a `UserError` unless each of these fields of a config is above zero and finite."""
    for name in names:
        value = getattr(config, name)
        if not 0 < value < inf:
            raise UserError(f"--{name.replace('_', '-')} must be a finite number above 0, not {value}")


def milestones(config: object, name: str) -> None:
    """Raise a `UserError` unless this field of a config holds growing numbers of images."""
    value = getattr(config, name)
    if any(a >= b for a, b in pairwise((0, *value))):
        raise UserError(f"--{name.replace('_', '-')} must be growing numbers of images above 0, not {value}")


@dataclass(frozen=True)
class PairConfig:
    """Networks and optimisers of a generator and a logit.

    Args:
        batch: Real images per ratio step, over all processes together.
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

    batch: int = 64
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
        positive(self, "batch", "latent", "width", "lr_logit", "lr_generator", "penalty_every")
        for name in ("penalty", "ema"):
            if not 0 <= getattr(self, name) < inf:
                raise UserError(f"--{name} must be 0 or a finite number above, not {getattr(self, name)}")
        milestones(self, "halve_lr_at")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"--betas must lie in [0, 1), not {self.betas}")


class Pair(nn.Module, ABC):
    """A generator ``G(z)`` and a logit ``d(x)`` for samples of one shape.

    Args:
        config: The method's settings.
        shape: One sample in model space: ``(C, H, W)`` in [-1, 1], or ``(d,)``.
        seed: Of the initial weights.
    """

    Config: ClassVar[type[PairConfig]]
    map: Map  # how the flow weighs the gradient of the log ratio

    def __init__(self, config: PairConfig, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.shape = tuple(shape)
        self.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.generator, self.logit = build_pair(config.network, self.shape, config.latent, config.width)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @classmethod
    @abstractmethod
    def recipe(cls, name: str, shape: Sequence[int]) -> PairConfig:
        """The settings called ``default`` or ``paper`` for samples of this shape."""

    @abstractmethod
    def step(self, data: Any, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One training step.

        Args:
            data: Its ``next().x`` is a batch in model space, ``seen`` counts what has been drawn.
            fit: ``fit.logit.minimise(loss)`` and ``fit.generator.minimise(loss)`` take optimiser steps.
            rng: The step's random numbers, on the device.

        Returns:
            Scalars to log, on the device.
        """

    @classmethod
    def for_shape(cls, shape: Sequence[int], *, recipe: str = "default", seed: int = 0, **overrides: Any) -> Self:
        """A freshly initialised model for samples of this shape.

        Args:
            shape: ``(C, H, W)`` or ``(d,)``.
            recipe: ``default``, or ``paper`` for the authors' settings.
            seed: Of the initial weights.
            overrides: Fields of the config that differ from the recipe.

        Raises:
            UserError: If a setting is unknown or out of range.
        """
        config = cls.recipe(recipe, shape)
        for name in overrides:
            if not hasattr(config, name):
                raise unknown("setting", name, vars(config))
        return cls(replace(config, **overrides), shape, seed)

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
        """The samples of `sample`, in batches."""
        device = next(self.parameters()).device
        uniform = self.config.prior == "uniform"
        for start in range(0, n, batch):
            z = sample_noise(seed, start, min(start + batch, n), (self.config.latent,), uniform=uniform)
            yield _evaluated(self.generator, z.to(device))

    def sample(self, n: int, *, seed: int = 0, batch: int = 1000) -> Tensor:
        """``G(z)`` for ``n`` draws of z.

        Sample i depends on ``(seed, i)`` alone: fewer samples are a prefix of more.

        Returns:
            Float samples in model space, with shape (n, *shape).
        """
        if n < 1 or batch < 1:
            raise UserError(f"the number of samples and the batch must be at least 1, not {n} and {batch}")
        return torch.cat(list(self.stream(n, seed=seed, batch=batch)))

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
