r"""MonoFlow: any increasing map of the log density ratio; every divergence GAN is one.

The particles follow ``dx/dt = grad h(log p/q)`` for an increasing h. One gradient step of the generator on
``-E h(d(G(z)))``, with ``d = log p/q`` held fixed, draws one Euler step of that flow.

References:
    MonoFlow: Rethinking Divergence GANs via the Perspective of Wasserstein Gradient Flows
    (Yi, Zhu & Liu, 2023), arXiv 2302.01075
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow._core.settings import settings
from wasserflow.divergence import CHECKED, named
from wasserflow.method.pair import FOR_VECTORS, Pair, PairConfig

__all__ = ["MonoFlow", "MonoFlowConfig"]


@settings
class MonoFlowConfig(PairConfig):
    """Settings of MonoFlow.

    Args:
        h: The increasing map: logit, ns (non-saturating), vanilla, arcsinh, mle, lsgan, alpha:A for (e^(A d) - 1)/A,
            any divergence of VGrow, or one that wasserflow.define_map has added.
        shift: C in h(d + C): vanilla with C = 3 or 5 does not vanish where the fakes are poor.
    """

    h: str = "ns"
    shift: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        named(self.h)
        if not abs(self.shift) <= CHECKED:
            raise UserError(f"--shift must lie between -{CHECKED:g} and {CHECKED:g}, not {self.shift}")


class MonoFlow(Pair[MonoFlowConfig]):
    """A generator that draws the flow of ``h``; see the module's docstring."""

    Config: ClassVar = MonoFlowConfig

    def __init__(self, config: MonoFlowConfig, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(config, shape, seed)
        self.map = named(config.h).shifted(config.shift)

    @classmethod
    def recipe(cls, name: str, shape: Sequence[int]) -> MonoFlowConfig:
        """The settings called ``default`` or ``paper`` for samples of this shape.

        ``default`` is the best quality per CPU minute that was measured (docs/results.md). ``paper`` is the DCGAN of
        the authors' image experiments, at the data's own size.
        """
        image = len(shape) == 3
        if name == "paper" and not image:
            raise UserError("the authors of MonoFlow train no generator on vectors: leave out --recipe paper")
        if name == "paper":  # the authors' DCGAN experiments: f = 32 for MNIST, 64 for CIFAR-10
            return MonoFlowConfig(
                batch=128,
                latent=100,
                network="dcgan",
                width=32 if shape[0] == 1 else 64,
                lr_logit=2e-4,
                lr_generator=1e-4,
                betas=(0.5, 0.999),
                halve_lr_at=(),
                penalty=0.0,
                ema=0,
            )
        if name == "default":
            return MonoFlowConfig(**({} if image else FOR_VECTORS))
        raise unknown("recipe", name, ("default", "paper"))

    def step(self, data: Any, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the logit and one of the generator on the same fake batch (section 3 of the paper)."""
        x = self.generator(self.latents(data.batch, rng))
        log = self.learn_ratio(data, x.detach(), fit, rng)
        generator_loss = -self.map.h(self.logit(x)).mean()
        log["generator_loss"] = generator_loss.detach()

        def measure(slope: Tensor) -> None:  # slope = -v / N; naming x here would keep its graph for ever
            log["field_norm"] = len(slope) * slope.flatten(1).norm(dim=1).mean()

        x.register_hook(measure)
        fit.generator.minimise(generator_loss)
        return log
