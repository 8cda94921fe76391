"""What VGrow, MonoFlow and the flow of residual maps share: a logit that learns ``log p/q``."""

from collections.abc import Sequence
from math import inf
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from wasserflow._core.errors import UserError
from wasserflow._core.settings import settings
from wasserflow.divergence import Map
from wasserflow.field.known_ratio import RatioField
from wasserflow.method.base import Method, MethodConfig, milestones, positive
from wasserflow.method.capability import GivesField, GivesLogRatio
from wasserflow.ratio import PENALTIES, loss_named

__all__ = ["RatioConfig", "RatioMethod", "evaluated", "pick", "shuffled"]


@settings
class RatioConfig(MethodConfig):
    """A logit, what it learns from and how.

    Args:
        network: Networks: strided, dcgan, resnet, resnet-plain or pg (images), mlp or shallow (anything).
        width: Channels at the finest size (images), or units per layer (mlp, shallow).
        optimizer: Adam, or RMSprop.
        lr_logit: Learning rate of the logit.
        betas: Decay rates of Adam's first and second moment.
        halve_lr_at: Images seen at which learning rates are halved.
        ratio_loss: What the logit minimises: logistic, least-squares, lsgan, b-gan, gebm, f-gan:DIVERGENCE.
        penalty: Weight of the gradient penalty; 0 for none.
        penalty_kind: r1: squared slope at the data; weighted: the same times the loss's curvature (EPT); one-centred:
            (slope - 1)^2 between data and particles (WGAN-GP).
        penalty_every: Ratio steps from one penalty to the next; its weight grows in proportion.
    """

    network: str = "strided"
    width: int = 16
    optimizer: Literal["adam", "rmsprop"] = "adam"
    lr_logit: float = 2e-3
    betas: tuple[float, float] = (0.0, 0.99)
    halve_lr_at: tuple[int, ...] = ()
    ratio_loss: str = "logistic"
    penalty: float = 3.0
    penalty_kind: Literal["r1", "weighted", "one-centred"] = "r1"
    penalty_every: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "width", "lr_logit", "penalty_every")
        if not 0 <= self.penalty < inf:
            raise UserError(f"--penalty must be 0 or a finite number above, not {self.penalty}")
        loss_named(self.ratio_loss)
        milestones(self, "halve_lr_at")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"--betas must lie in [0, 1), not {self.betas}")


Settings = TypeVar("Settings", bound=RatioConfig)


class RatioMethod(Method[Settings], GivesLogRatio, GivesField):
    """A logit ``d(x) = log p/q`` for samples of one shape, in ``self.logit``."""

    map: Map  # how the flow weighs the gradient of the log ratio
    logit: nn.Module

    def __init__(self, config: Settings, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(config, shape, seed)
        self.ratio_loss = loss_named(config.ratio_loss)

    @property
    def field(self) -> RatioField:
        """What moves the particles: ``s(d) grad d`` of the logit as it is."""
        return RatioField(self.logit, self.map)

    def optimizer(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimiser that the settings name."""
        if self.config.optimizer == "rmsprop":
            return torch.optim.RMSprop(network.parameters(), lr)
        return torch.optim.Adam(network.parameters(), lr, self.config.betas, fused=True)

    def lr_factor(self, seen: int) -> float:
        """What the learning rates are multiplied with once ``seen`` images have been seen."""
        return 0.5 ** sum(seen >= images for images in self.config.halve_lr_at)

    def learn_ratio(self, data: Any, x: Tensor, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the logit on a batch of data and as many of the particles ``x``, (N, *shape)."""
        c, seen, loss = self.config, data.seen, self.ratio_loss
        p = data.next().x
        q = pick(x, len(p), rng)
        d_p, d_q = self.logit(p), self.logit(q)
        total = ratio_loss = loss(d_p, d_q)
        if c.penalty and seen // c.batch % c.penalty_every == 0:
            total = ratio_loss + c.penalty * c.penalty_every * PENALTIES[c.penalty_kind](self.logit, p, q, loss, rng)
        fit.logit.minimise(total)
        d_p, d_q = d_p.detach(), d_q.detach()
        log = {"ratio_loss": ratio_loss.detach(), "logit_data": d_p.mean(), "logit_samples": d_q.mean()}
        return log | ({"divergence": self.map.estimate(d_p, d_q)} if self.map.estimate else {})

    def log_ratio(self, x: Tensor | np.ndarray, *, batch: int = 1000) -> Tensor:
        """``d(x) = log p(x)/q(x)`` of data over particles, with shape (N,), for ``x`` (N, *shape) in model space."""
        x = torch.as_tensor(x)
        if x.shape[1:] != self.shape or not len(x) or not x.is_floating_point():
            kind, wanted = str(x.dtype).removeprefix("torch."), ", ".join(map(str, ("N", *self.shape)))
            raise UserError(f"log_ratio needs floats of shape ({wanted}) in model space, not {kind} {tuple(x.shape)}")
        like = next(self.parameters())
        return torch.cat([evaluated(self.logit, x_b.to(like)) for x_b in x.split(batch)])


def shuffled(n: int, rng: torch.Generator) -> Tensor:
    """A permutation of 0..n-1 on the generator's device."""
    return torch.randperm(n, generator=rng, device=rng.device)


def pick(x: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """``n`` of the particles ``x``, without repetition; all of them in order where there are just n."""
    return x if n == len(x) else x[shuffled(len(x), rng)[:n]]


@torch.no_grad()
def evaluated(network: nn.Module, x: Tensor) -> Tensor:
    """``network(x)`` in evaluation mode, the mode restored afterwards."""
    training = network.training
    try:
        return network.eval()(x)
    finally:
        network.train(training)
