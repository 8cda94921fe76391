r"""VAPO: a potential whose gradient carries noise to data, and which is an energy afterwards.

Along a path ``x = mu(t) x1 + s(t) eps`` from noise to data a scalar ``psi(x, t)`` is learned such that
``dx/dt = grad psi`` carries the path's density. Samples are noise carried along; ``psi`` gives score and log-density at
every time.

References:
    | Variational Potential Flow: A Novel Probabilistic Framework for Energy-Based Generative Modelling
      (Loo et al., 2024), arXiv 2407.15238
    | Learning Energy-Based Generative Models via Potential Flow: A Variational Principle Approach to Probability
      Density Homotopy Matching (Loo et al., 2025), arXiv 2504.16262
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from wasserflow.errors import UserError, unknown
from wasserflow.flow import SOLVERS, flow
from wasserflow.method.method import Method, MethodConfig, Sampling, positive
from wasserflow.nn.potential import Potential, build_energy
from wasserflow.noise import sample_noise
from wasserflow.path import Linear, LogHomotopy, Path, VariancePreserving
from wasserflow.potential import ENGINES, OBJECTIVES, draw, gradient

__all__ = ["VAPO", "VAPOConfig", "VAPOSampling"]

PATHS = ("linear", "vp", "log-homotopy")
LOOK = 2000  # samples from which the data's mean and variance are taken


@dataclass(frozen=True)
class VAPOConfig(MethodConfig):
    """Settings of VAPO.

    Args:
        objective: fm (flow matching, the least variance), vapo (the published energy loss), action-matching, or
            vapo-tmlr (the loss of the authors' second code, which has another minimiser).
        path: From noise to data: linear, vp (variance preserving) or log-homotopy.
        prior_width: Standard deviation of the noise of log-homotopy.
        likelihood_width: About the standard deviation of the noise it leaves in the data.
        margin: Times are drawn between margin and 1 - margin.
        weight: Of the times: one, or s for the path's noise level, which vapo needs on a path that ends without noise.
        literal: Centre the innovation over the batch, as published, instead of in closed form.
        network: encoder (images: a classifier's shape) or mlp (anything).
        width: Channels at the finest size (images), or units per layer (mlp).
        potential: scalar (any network), autoencoder or dot (mlp, unet).
        timed: Whether the network knows the time.
        time_scale: What times are multiplied with before they are embedded.
        preconditioned: Leave to the network what a Gaussian with the data's mean and variance does not explain.
        engine: How second derivatives are computed: double-backward, func, compiled, jvp or finite-difference.
        lr: Learning rate of Adam.
        betas: Decay rates of Adam's first and second moment.
        warmup: Images over which the learning rate grows to lr.
        ema: Half-life, in images, of the average that samples are drawn from; 0 for none.
    """

    batch: int = 128
    objective: str = "fm"
    path: Literal["linear", "vp", "log-homotopy"] = "linear"
    prior_width: float = 1.0
    likelihood_width: float = 0.01
    margin: float = 1e-3
    weight: Literal["one", "s"] = "one"
    literal: bool = False
    network: str = "encoder"
    width: int = 32
    potential: str = "scalar"
    timed: bool = True
    time_scale: float = 1000.0
    preconditioned: bool = True
    engine: str = "double-backward"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 0
    ema: int = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "prior_width", "likelihood_width", "width", "time_scale", "lr")
        if self.objective not in OBJECTIVES:
            raise unknown("objective", self.objective, OBJECTIVES)
        if self.path not in PATHS:
            raise unknown("path", self.path, PATHS)
        if self.weight not in ("one", "s"):
            raise unknown("weight", self.weight, ("one", "s"))
        if self.engine not in ENGINES:
            raise unknown("engine", self.engine, ENGINES)
        if not 0 < self.margin < 0.5:
            raise UserError(f"--margin must lie between 0 and 0.5, not {self.margin}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"--betas must lie in [0, 1), not {self.betas}")
        for name in ("warmup", "ema"):
            if not 0 <= getattr(self, name) < inf:
                raise UserError(f"--{name} must be 0 or a finite number above, not {getattr(self, name)}")


@dataclass(frozen=True)
class VAPOSampling(Sampling):
    """How noise is carried to data.

    Args:
        solver: euler, heun or rk4, with fixed steps of one, two or four gradients of the potential.
        steps: How many.
        end: The time to stop at; past 1 the field is held as it is at 1.
    """

    solver: str = "heun"
    steps: int = 20
    end: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "steps", "end")
        if self.solver not in SOLVERS:
            raise unknown("solver", self.solver, SOLVERS)


class VAPO(Method[VAPOConfig]):
    """A potential flow; see the module's docstring."""

    Config: ClassVar = VAPOConfig
    Sampling: ClassVar = VAPOSampling

    @classmethod
    def recipe(cls, name: str, shape: Sequence[int]) -> VAPOConfig:
        """The settings called ``default`` for samples of this shape."""
        if name == "default":
            return VAPOConfig(**({} if len(shape) == 3 else FOR_VECTORS))
        raise unknown("recipe", name, ("default",))

    def build(self) -> None:
        """Make the path and the potential."""
        c = self.config
        self.path = _path(c)
        self.objective = OBJECTIVES[c.objective]
        energy = build_energy(c.network, c.potential, self.shape, c.width, c.time_scale)
        self.potential = Potential(energy, self.shape, self.path, timed=c.timed, preconditioned=c.preconditioned)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The potential's."""
        return {
            "potential": torch.optim.Adam(self.potential.parameters(), self.config.lr, self.config.betas, fused=True)
        }

    def averages(self) -> dict[str, int]:
        """The potential, of which a moving average is kept, with its half-life in images."""
        return {"potential": self.config.ema} if self.config.ema else {}

    def lr_factor(self, seen: int) -> float:
        """What the learning rate is multiplied with once ``seen`` images have been seen."""
        return min(1.0, (seen + self.config.batch) / self.config.warmup) if self.config.warmup else 1.0

    def step(self, data: Any, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the potential (section 3 of the paper)."""
        c = self.config
        if data.seen == 0 and c.preconditioned:
            self.potential.standardise(data.look(LOOK))
        x1 = data.next().x
        eps = torch.randn(x1.shape, generator=rng, device=x1.device)
        t = self.times(len(x1), rng)
        points = draw(self.path, x1, eps, t, weight=c.weight, literal=c.literal)
        loss, losses = ENGINES[c.engine](self.potential, points, self.objective)
        fit.potential.minimise(losses)
        return {"potential_loss": loss}

    def times(self, n: int, rng: torch.Generator) -> Tensor:
        """``n`` times, one in each n-th of the interval from margin to 1 - margin."""
        u = torch.rand(n, generator=rng, device=rng.device).add(torch.arange(n, device=rng.device)) / n
        return self.config.margin + (1 - 2 * self.config.margin) * u

    def velocity(self, x: Tensor, t: float | Tensor) -> Tensor:
        """``grad psi(x, t)``, with the shape of x (N, *); the time is held at 1 past it."""
        times = torch.as_tensor(t, device=x.device, dtype=x.dtype).clamp(max=1).expand(len(x))
        return gradient(self.potential, x, times)[1]

    def draw(self, n: int, seed: int, batch: int, how: Any, start: Tensor | None) -> Iterator[Tensor]:
        """``n`` draws of noise carried along the field, in batches."""
        device = next(self.parameters()).device
        self.evaluations = how.steps * {"euler": 1, "heun": 2, "rk4": 4}[how.solver]
        for i in range(0, n, batch):
            x = self.path.s(torch.zeros(())) * sample_noise(seed, i, min(i + batch, n), self.shape)
            x = x.to(device)
            yield flow(x, self.velocity, steps=how.steps, step_size=how.end / how.steps, solver=how.solver)


FOR_VECTORS: dict[str, Any] = {"batch": 500, "network": "mlp", "width": 128}
"""Where the default recipe for vectors differs from the one for images, whose values are the fields' defaults."""


def _path(c: VAPOConfig) -> Path:
    if c.path == "log-homotopy":
        return LogHomotopy(c.prior_width, c.likelihood_width)
    return VariancePreserving() if c.path == "vp" else Linear()
