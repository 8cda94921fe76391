"""What VGrow, MonoFlow and the residual flow share: a logit that learns ``log p/q``."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from wasserflow._core.errors import UserError
from wasserflow._core.settings import Count, Decay, Milestones, Name, NonNegative, Positive, settings
from wasserflow.divergence import ALPHA, NAMES, Map, named
from wasserflow.field.known_ratio import RatioField
from wasserflow.method.base import Data, Fits, Method, MethodConfig
from wasserflow.method.capability import GivesField, GivesLogRatio
from wasserflow.nn import PAIRS
from wasserflow.ratio import F_GAN, LOSSES, PENALTIES, loss_named

__all__ = ["MapName", "Networks", "Optimiser", "Ratio", "RatioConfig", "RatioMethod", "evaluated", "pick", "shuffled"]

MapName = Annotated[str, Name("divergence or map", (*NAMES, f"{ALPHA}A"), named)]
"""An f-divergence or a monotone map, or one that `wasserflow.define_map` has added."""


@settings
class Networks:
    """The networks.

    Args:
        network: Architecture; mlp and shallow take any data, the others images.
        width: Channels at the finest size (images), or units per layer (mlp, shallow).
    """

    network: Annotated[str, Name("network", PAIRS)] = "strided"
    width: Count = 16


@settings
class Optimiser:
    """How the weights are updated.

    Args:
        optimizer: Adam, or RMSprop.
        lr_logit: Learning rate of the logit.
        betas: Decay rates of Adam's first and second moment.
        halve_lr_at: Samples seen at which the learning rates are halved.
    """

    optimizer: Literal["adam", "rmsprop"] = "adam"
    lr_logit: Positive = 2e-3
    betas: tuple[Decay, Decay] = (0.0, 0.99)
    halve_lr_at: Milestones = ()


@settings
class Ratio:
    """What the logit minimises.

    Args:
        ratio_loss: Loss of the logit.
        penalty: Weight of the gradient penalty; 0 for none.
        penalty_kind: Squared gradient at the data (r1), the same times the loss's curvature (weighted, of EPT), or
            (norm of the gradient - 1)^2 between data and particles (one-centred, of WGAN-GP).
        penalty_every: Logit steps from one penalty to the next; its weight grows in proportion.
    """

    ratio_loss: Annotated[str, Name("ratio loss", (*LOSSES, f"{F_GAN}DIVERGENCE"), loss_named)] = "logistic"
    penalty: NonNegative = 3.0
    penalty_kind: Annotated[str, Name("penalty kind", PENALTIES)] = "r1"
    penalty_every: Count = 8


@settings
class RatioConfig(MethodConfig):
    """Settings of a method with a logit, in groups."""

    networks: Networks = Networks()
    optimiser: Optimiser = Optimiser()
    ratio: Ratio = Ratio()


Settings = TypeVar("Settings", bound=RatioConfig)


class RatioMethod(Method[Settings], GivesLogRatio, GivesField):
    """A logit ``d(x) = log p/q`` for samples of one shape, in ``self.logit``."""

    watched = ("ratio_loss", "field_norm")
    map: Map  # how the flow weighs the gradient of the log ratio
    logit: nn.Module

    def __init__(self, config: Settings, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(config, shape, seed)
        self.ratio_loss = loss_named(config.ratio.ratio_loss)

    @property
    def field(self) -> RatioField:
        """What moves the particles: ``s(d) grad d`` of the logit as it is."""
        return RatioField(self.logit, self.map)

    def optimizer(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        """The optimiser that the settings name."""
        c = self.config.optimiser
        if c.optimizer == "rmsprop":
            return torch.optim.RMSprop(network.parameters(), lr)
        return torch.optim.Adam(network.parameters(), lr, c.betas, fused=True)

    def lr_factor(self, seen: int) -> float:
        """The factor on the learning rates once ``seen`` samples have been seen."""
        return 0.5 ** sum(seen >= images for images in self.config.optimiser.halve_lr_at)

    def learn_ratio(self, data: Data, x: Tensor, fit: Fits, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the logit on a batch of data and as many of the particles ``x``, (N, *shape)."""
        c, seen, loss = self.config.ratio, data.seen, self.ratio_loss
        p = data.next().x
        q = pick(x, len(p), rng)
        d_p, d_q = self.logit(p), self.logit(q)
        total = ratio_loss = loss(d_p, d_q)
        if c.penalty and seen // self.config.batch % c.penalty_every == 0:
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
    """``n`` of the particles ``x``, without repetition; all of them, in order, if there are exactly ``n``."""
    return x if n == len(x) else x[shuffled(len(x), rng)[:n]]


@torch.no_grad()
def evaluated(network: nn.Module, x: Tensor) -> Tensor:
    """``network(x)`` in evaluation mode, the mode restored afterwards."""
    training = network.training
    try:
        return network.eval()(x)
    finally:
        network.train(training)
