r"""Residual flow: an f-divergence flow without a generator, its maps kept so that new noise can be pushed through them.

A pool of particles starts as noise. Per map, a logit learns ``d = log p/q`` between data and pool, its weights are
kept, and the pool moves by the residual map ``T_k = (Id + eta s(d_k) grad d_k)^M``. After the last map a new pool
starts, and every map goes on learning from where it stood. Samples are new noise pushed through ``T_K o ... o T_1``,
the Euler scheme of the Wasserstein gradient flow of ``D_f(q|p)``.

References:
    | Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469
    | Deep Generative Learning via Euler Particle Transport (Gao et al., 2020), arXiv 2012.06094
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from wasserflow._core.noise import sample_noise
from wasserflow._core.settings import Count, Positive, settings
from wasserflow.divergence import named
from wasserflow.field.known_ratio import RatioField
from wasserflow.method.base import Data, Drawn, Fits, Recipe, Sampling
from wasserflow.method.logit import MapName, RatioConfig, RatioMethod
from wasserflow.nn import build_pair

__all__ = ["ResidualFlow", "ResidualFlowConfig"]


@settings
class ResidualFlowSettings:
    """The flow; a sample costs maps x map_steps gradients of the logit.

    Args:
        divergence: f-divergence whose flow the particles follow, or a monotone map in its place.
        maps: K, the number of maps; each holds the weights of one logit.
        map_steps: M, particle steps per map.
        ratio_steps: Steps of the logit per map and pass.
        step_size: eta, the length of a particle step.
        pool: Batches of particles that are moved together.
    """

    divergence: MapName = "kl"
    maps: Count = 50
    map_steps: Count = 5
    ratio_steps: Count = 20
    step_size: Positive = 0.3
    pool: Count = 20


@settings
class ResidualFlowConfig(RatioConfig):
    """Settings of the residual flow, in groups."""

    flow: ResidualFlowSettings = ResidualFlowSettings()


FOR_IMAGES: Mapping[str, object] = {"penalty": 1.0, "map_steps": 10}
FOR_VECTORS: Mapping[str, object] = {
    "batch": 500,
    "network": "mlp",
    "width": 64,
    "lr_logit": 1e-3,
    "betas": (0.5, 0.9),
    "penalty": 0.1,
    "penalty_every": 4,
    "map_steps": 10,
    "step_size": 0.01,
}


class ResidualFlow(RatioMethod[ResidualFlowConfig]):
    """An f-divergence flow without a generator: a chain of residual maps that carries noise to data.

    Each map ``T_k = (Id + eta s(d_k) grad d_k)^M`` keeps the classifier ``d_k`` of its moment, so that new noise can be
    pushed through all of them. For points, tables and small images; a sample costs maps x map_steps gradients of the
    classifier. Each of several processes moves its share of the pool; a checkpoint keeps the first one's.

    Example:
        >>> model = wf.ResidualFlow.for_shape((2,), maps=20)
        >>> wf.train(model, "ring", budget=wf.Budget(minutes=2), out="runs/ring")

    References:
        | Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469
        | Deep Generative Learning via Euler Particle Transport (Gao et al., 2020), arXiv 2012.06094
    """

    Config: ClassVar = ResidualFlowConfig
    recipes: ClassVar = {
        "default": Recipe("our settings", images=lambda shape: FOR_IMAGES, vectors=lambda shape: FOR_VECTORS)
    }
    maps: Tensor
    learned: Tensor
    pool: Tensor

    def __init__(self, config: ResidualFlowConfig, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(config, shape, seed)
        self.map = named(config.flow.divergence)

    def build(self) -> None:
        """Make the logit, room for the weights of every map, and the pool."""
        c, networks = self.config.flow, self.config.networks
        _, self.logit = build_pair(networks.network, self.shape, 1, networks.width)
        self._names = [name for name, value in self.logit.state_dict().items() if value.is_floating_point()]
        self.register_buffer("maps", torch.zeros(c.maps, len(self._weights())))
        self.register_buffer("learned", torch.zeros((), dtype=torch.int64))
        self.register_buffer("pool", torch.randn(c.pool * self.config.batch, *self.shape))

    @property
    def field(self) -> RatioField:
        """What moves the particles in the last map that has been learned: ``s(d_K) grad d_K``."""
        return self._field(max(int(self.learned) - 1, 0))

    def log_ratio(self, x: Tensor | np.ndarray, *, batch: int = 1000) -> Tensor:
        """``d_K(x)`` of the last map that has been learned, as `RatioMethod.log_ratio`."""
        if self.learned:
            self.logit.load_state_dict(self._split(self.maps[self.learned - 1]), strict=False)
        return super().log_ratio(x, batch=batch)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The logit's."""
        return {"logit": self.optimizer(self.logit, self.config.optimiser.lr_logit)}

    def step(self, data: Data, fit: Fits, rng: torch.Generator) -> dict[str, Tensor]:
        """Learn one map and move the pool through it."""
        c = self.config.flow
        turn, k = divmod(data.seen // (self.config.batch * c.ratio_steps), c.maps)
        log: dict[str, Tensor] = {}
        pool = self.pool[: c.pool * data.batch]  # this process's share
        if k == 0:
            pool.normal_(generator=rng)
        if turn:
            self.logit.load_state_dict(self._split(self.maps[k]), strict=False)
        for _ in range(c.ratio_steps):
            log |= self.learn_ratio(data, pool, fit, rng)
        self.maps[k] = self._weights()
        self.learned.clamp_(min=k + 1)
        moved = torch.cat([self.residual_map(k, x) for x in pool.split(data.batch)])
        log["field_norm"] = (moved - pool).flatten(1).norm(dim=1).mean() / (c.map_steps * c.step_size)
        pool.copy_(moved)
        return log

    def remarks(self) -> list[str]:
        """Which maps the training has never reached."""
        learned, maps = int(self.learned), self.config.flow.maps
        if learned == maps:
            return []
        return [
            f"{learned} of {maps} maps were reached: samples stop part of the way from noise to data; train longer, or "
            "with fewer `maps`"
        ]

    def residual_map(self, k: int, x: Tensor) -> Tensor:
        """``T_k(x)``: M steps ``x <- x + eta s(d_k) grad d_k`` with the k-th map's logit, for points (N, *shape)."""
        c, field = self.config.flow, self._field(k)
        training = self.logit.training
        self.logit.eval()
        for _ in range(c.map_steps):
            x = x + c.step_size * field(x)
        self.logit.train(training)
        return x

    def _field(self, k: int) -> RatioField:
        weights = self._split(self.maps[k])
        return RatioField(lambda x: functional_call(self.logit, weights, (x,)), self.map)

    @torch.no_grad()
    def draw(self, n: int, seed: int, batch: int, how: Sampling, start: Tensor | None) -> Iterator[Drawn]:
        """``n`` draws of noise pushed through the maps learned so far, in batches."""
        cost = int(self.learned) * self.config.flow.map_steps
        for i in range(0, n, batch):
            x = sample_noise(seed, i, min(i + batch, n), self.shape).to(self.maps.device)
            for k in range(int(self.learned)):
                x = self.residual_map(k, x)
            yield Drawn(x, cost)

    def _weights(self) -> Tensor:
        """All floating-point weights of the logit in one vector."""
        state = self.logit.state_dict()
        return torch.cat([state[name].reshape(-1) for name in self._names])

    def _split(self, weights: Tensor) -> dict[str, Tensor]:
        """The inverse of `_weights`, by name."""
        state = self.logit.state_dict()
        parts = weights.split([state[name].numel() for name in self._names])
        return {name: part.view(state[name].shape) for name, part in zip(self._names, parts, strict=True)}
