r"""VAPO: a potential whose gradient carries noise to data, and which is an energy afterwards.

Along a path ``x = mu(t) x1 + s(t) eps`` from noise to data a scalar ``psi(x, t)`` is learned such that
``dx/dt = grad psi`` carries the path's density. Samples are noise carried along; ``psi`` gives score and log-density at
every time.

References:
    | Variational Potential Flow: A Novel Probabilistic Framework for Energy-Based Generative Modelling
      (Loo et al., 2024), arXiv 2407.15238
    | Learning Energy-Based Generative Models via Potential Flow: A Variational Principle Approach to Probability
      Density Homotopy Matching (Loo et al., 2025), arXiv 2504.16262
    | Energy Matching: Unifying Flow Matching and Energy-Based Models (Balcerak et al., 2025), arXiv 2504.10612; the
      contrastive phase
"""

from collections.abc import Sequence
from itertools import chain
from math import inf
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from wasserflow._core.autograd import value_and_gradient
from wasserflow._core.errors import UserError, unknown
from wasserflow._core.settings import settings
from wasserflow.method.base import MethodConfig, positive
from wasserflow.method.vapo.clipped_adam import ClippedAdam
from wasserflow.method.vapo.potential_flow import PotentialFlow
from wasserflow.nn.potential import HEADS, NETWORKS, Potential, build_energy
from wasserflow.nn.unet import SeededDropout
from wasserflow.path import path_named
from wasserflow.potential.engine import ENGINES
from wasserflow.potential.objective import OBJECTIVES, contrast, draw, ends, pair, time_scored

__all__ = ["VAPO", "VAPOConfig"]

LOOK = 2000  # samples from which the data's mean and variance are taken
LEAST_CONTRAST = 0.05  # where the contrastive loss stops pulling
LABEL_DROP = 0.2  # the share of labels left out, so that the potential is learned without them too


@settings
class VAPOConfig(MethodConfig):
    """Settings of VAPO.

    Args:
        objective: fm (flow matching, the least variance), vapo (the published energy loss), action-matching, or
            vapo-tmlr (the loss of the authors' second code, which has another minimiser).
        path: From noise to data: linear, vp (variance preserving) or log-homotopy.
        prior_width: Standard deviation of the noise of log-homotopy.
        likelihood_width: About the standard deviation of the noise that log-homotopy leaves in the data.
        margin: Times are drawn between margin and 1 - margin.
        weight: Of the times: one, or s for the path's noise level, which tames vapo where a path ends without noise.
        literal: Centre the innovation over the batch, as published, instead of in closed form; a batch then has one
            time, because over many the loss has no minimum: nothing holds psi's constants per time.
        pairing: Of noise and data: independent, or ot (optimal transport in the batch: straighter paths, no densities).
        time_score: Weight of the time derivative of the log-density against the innovation, which fixes how high the
            density of one mode is against another's; 0 for none.
        network: encoder (images: a classifier's shape), unet or unet-paper (images), or mlp (anything).
        width: Channels at the finest size (images), or units per layer (mlp).
        depth: Layers or residual blocks per size (images), or hidden layers (mlp).
        dropout: Of the U-Nets.
        potential: scalar (encoder, mlp), autoencoder or dot (unet, mlp).
        timed: Whether the network knows the time.
        time_scale: What times are multiplied with before they are embedded.
        preconditioned: Leave to the network what a Gaussian with the data's mean and variance does not explain.
        classes: Learn the potential of each of so many labels of the data, and that of all; 0 for the latter alone.
        engine: How second derivatives are computed: double-backward, func, compiled, jvp or finite-difference.
        optimizer: Adam, or clipped-adam: every gradient within 3 of its own standard deviations, and 0.1.
        lr: Learning rate.
        betas: Decay rates of Adam's first and second moment.
        warmup: Images over which the learning rate grows to lr.
        ema: Half-life, in images, of the average that samples are drawn from, but never more than a twentieth of the
            images seen; 0 for none.
        contrast: Weight of the contrastive phase, after which exp(psi / temperature) is the data's density; 0 for none.
        contrast_after: Images after which it begins.
        temperature: Of that density, and of the Langevin chains that the phase learns from.
        chain_steps: Steps of a chain.
        chain_step_size: Their length.
    """

    batch: int = 32
    decay: float = 0.3
    objective: str = "fm"
    path: Literal["linear", "vp", "log-homotopy"] = "linear"
    prior_width: float = 1.0
    likelihood_width: float = 0.01
    margin: float = 1e-3
    weight: Literal["one", "s"] = "one"
    literal: bool = False
    pairing: Literal["independent", "ot"] = "independent"
    time_score: float = 0.0
    network: str = "encoder"
    width: int = 32
    depth: int = 2
    dropout: float = 0.0
    potential: str = "scalar"
    timed: bool = True
    time_scale: float = 1000.0
    preconditioned: bool = True
    classes: int = 0
    engine: str = "double-backward"
    optimizer: Literal["adam", "clipped-adam"] = "adam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 0
    ema: int = 20_000
    contrast: float = 0.0
    contrast_after: int = 0
    temperature: float = 0.1
    chain_steps: int = 75
    chain_step_size: float = 0.025

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "width", "depth", "time_scale", "lr", "temperature", "chain_steps", "chain_step_size")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        path_named(self.path, self.prior_width, self.likelihood_width)
        if not 0 < self.margin < 0.5:
            raise UserError(f"--margin must lie between 0 and 0.5, not {self.margin}")
        if not 0 <= self.dropout < 1 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"--dropout and --betas must lie in [0, 1), not {self.dropout} and {self.betas}")
        for name in ("warmup", "ema", "time_score", "contrast", "contrast_after", "classes"):
            if not 0 <= getattr(self, name) < inf:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} must be 0 or a finite number above, not {getattr(self, name)}")
        if self.pairing == "ot" and self.objective not in ("fm", "action-matching"):
            raise UserError(f"--pairing ot is for fm and action-matching: {self.objective} needs independent noise")
        if self.time_score and (self.pairing == "ot" or not self.timed):
            raise UserError("--time-score needs independent noise and a network that knows the time")
        if self.contrast and (self.timed or self.preconditioned or self.path != "linear"):
            raise UserError("--contrast needs one potential for all times: --no-timed --no-preconditioned")
        if self.dropout and self.network not in WITH_DROPOUT:
            raise UserError(
                f"--dropout is for --network {' and '.join(WITH_DROPOUT)}: {self.network} has none, take --dropout 0"
            )
        if self.engine == "compiled" and self.dropout:
            raise UserError("the compiled engine has no dropout: take another --engine, or --dropout 0")


WITH_DROPOUT = ("unet", "unet-paper")
CHOICES = {
    "objective": tuple(OBJECTIVES),
    "network": NETWORKS,
    "potential": HEADS,
    "engine": tuple(ENGINES),
}


class VAPO(PotentialFlow[VAPOConfig]):
    """A potential flow; see the module's docstring."""

    Config: ClassVar = VAPOConfig

    @classmethod
    def recipe(cls, name: str, shape: Sequence[int]) -> VAPOConfig:
        """The settings called ``default``, ``paper-v1``, ``paper-tmlr`` or ``energy-matching`` for this shape.

        ``default`` is the best quality per CPU minute that was measured (docs/vapo.md). ``paper-tmlr`` (images) is what
        the code published with Density Homotopy Matching does on CIFAR-10. ``paper-v1`` is the energy loss of the first
        paper with its batch covariance, on the log-homotopy, with a potential that does not know the time; its network
        is the encoder here, as far as the paper's is not published. ``energy-matching`` has optimal transport first
        and a contrastive phase after it, at the settings that its authors have for MNIST but for the network.
        """
        image = len(shape) == 3
        small: dict[str, Any] = {} if image else FOR_VECTORS
        if name == "default":
            return VAPOConfig(**small)
        if name == "paper-v1":
            plain = {"timed": False, "preconditioned": False, "literal": True, "weight": "one", "decay": 0.0}
            return VAPOConfig(**{**small, **plain, "objective": "vapo", "path": "log-homotopy", "warmup": 0})
        if name == "paper-tmlr" and image:
            return VAPOConfig(
                batch=64,
                decay=0.0,
                objective="vapo-tmlr",
                margin=1e-5,
                network="unet-paper",
                width=128,
                depth=4,
                dropout=0.3,
                potential="autoencoder",
                time_scale=1.0,
                preconditioned=False,
                optimizer="clipped-adam",
                lr=1e-4,
                betas=(0.9, 0.999),
                warmup=5000 * 64,
                ema=443_000,  # 0.9999 per step of 64
            )
        if name == "energy-matching":
            later = {"contrast": 1e-3, "contrast_after": 50_000 * 128, "warmup": 10_000 * 128, "betas": (0.9, 0.95)}
            plain = {"timed": False, "preconditioned": False, "pairing": "ot", "lr": 1e-4, "decay": 0.0}
            return VAPOConfig(**{**small, **later, **plain, "batch": 128})
        if name == "paper-tmlr":
            raise UserError("the authors train their U-Net on images alone: leave out --recipe paper-tmlr for vectors")
        raise unknown("recipe", name, ("default", "paper-v1", "paper-tmlr", "energy-matching"))

    def build(self) -> None:
        """Make the path and the potential."""
        c = self.config
        self.path = path_named(c.path, c.prior_width, c.likelihood_width)
        self.objective = OBJECTIVES[c.objective]
        if c.time_score:
            self.objective = time_scored(self.objective, c.time_score)
        energy = build_energy(c.network, c.potential, self.shape, c.width, c.depth, c.time_scale, c.classes, c.dropout)
        self.potential = Potential(energy, self.shape, self.path, timed=c.timed, preconditioned=c.preconditioned)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The potential's."""
        c = self.config
        kind = ClippedAdam if c.optimizer == "clipped-adam" else torch.optim.Adam
        return {"potential": kind(self.potential.parameters(), c.lr, c.betas, fused=True)}

    def averages(self) -> dict[str, int]:
        """The potential, of which a moving average is kept, with its half-life in images."""
        return {"potential": self.config.ema} if self.config.ema else {}

    def cost_changes(self) -> tuple[int, ...]:
        """Where the contrast sets in."""
        return (self.config.contrast_after,) if self.config.contrast and self.config.contrast_after else ()

    def lr_factor(self, seen: int) -> float:
        """What the learning rate is multiplied with once ``seen`` images have been seen."""
        return min(1.0, (seen + self.config.batch) / self.config.warmup) if self.config.warmup else 1.0

    def step(self, data: Any, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the potential along the path."""
        c = self.config
        if data.seen == 0:
            self.prepare(data)
        contrasts = c.contrast > 0 and data.seen >= c.contrast_after
        batch = data.next()
        x1, label = batch.x, self.labels(batch, rng)
        eps = torch.randn(x1.shape, generator=rng, device=x1.device)
        eps = pair(x1, eps) if c.pairing == "ot" else eps
        t = self.times(len(x1), rng)
        points = draw(self.path, x1, eps, t, weight=c.weight, literal=c.literal, label=label)
        for module in self.potential.modules() if c.dropout else ():
            if isinstance(module, SeededDropout):
                module.seed = rng.initial_seed()
        loss, losses = ENGINES[c.engine](self.potential, points, self.objective)
        log, more = {"potential_loss": loss}, []
        if self.objective.ends:
            more.append(ends(self.potential, self.path, x1, eps, margin=c.margin, weight=c.weight, label=label))
            log["potential_loss"] = loss + more[0].detach()
        if contrasts:
            gap = contrast(self.potential, x1, self.chains(x1, label, rng), label)
            more.append((c.contrast * gap).clamp(min=-LEAST_CONTRAST))
            log["energy_gap"] = gap.detach()
            self.contrasted.fill_(True)
        fit.potential.minimise(chain(losses, more))
        return log

    def prepare(self, data: Any) -> None:
        """Take the data's mean and variance, and see whether there are as many labels as are learned."""
        c = self.config
        if c.preconditioned:
            self.potential.standardise(data.look(LOOK))
        if c.classes and (data.label is None or int(data.label.max()) >= c.classes):
            has = "no labels" if data.label is None else f"{int(data.label.max()) + 1} of them"
            raise UserError(f"--classes {c.classes} needs as many labels at most, and the data have {has}")

    def labels(self, batch: Any, rng: torch.Generator) -> Tensor | None:
        """The labels of a batch (N,), some left out as -1; None where they are not learned."""
        if not self.config.classes:
            return None
        left_out = torch.rand(len(batch.label), generator=rng, device=rng.device) < LABEL_DROP
        return batch.label.long().masked_fill(left_out, -1)

    def times(self, n: int, rng: torch.Generator) -> Tensor:
        """``n`` times between margin and 1 - margin, one in each n-th of the way; all the same if ``literal``."""
        u = torch.rand(n, generator=rng, device=rng.device).add(torch.arange(n, device=rng.device)) / n
        if self.config.literal:
            u = torch.rand(1, generator=rng, device=rng.device).expand(n)
        return self.config.margin + (1 - 2 * self.config.margin) * u

    def chains(self, x1: Tensor, label: Tensor | None, rng: torch.Generator) -> Tensor:
        """Ends of Langevin chains at the temperature, half from data and half from noise carried to t = 1 first."""
        c = self.config
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


FOR_VECTORS: dict[str, Any] = {
    "batch": 500,
    "network": "mlp",
    "width": 128,
    "depth": 3,
    "time_scale": 100.0,
    "lr": 2e-3,
}
"""Where the default recipe for vectors differs from the one for images, whose values are the fields' defaults."""
