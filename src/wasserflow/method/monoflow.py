r"""MonoFlow: the flow of any increasing map of the log density ratio; every divergence GAN is one.

The particles follow ``dx/dt = grad h(log p/q)`` for an increasing h. One gradient step of the generator on
``-E h(d(G(z)))``, with ``d = log p/q`` held fixed, draws one Euler step of that flow.

References:
    MonoFlow: Rethinking Divergence GANs via the Perspective of Wasserstein Gradient Flows
    (Yi, Zhu & Liu, 2023), arXiv 2302.01075
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from wasserflow._core.settings import settings
from wasserflow.divergence import CHECKED, named
from wasserflow.method.base import Data, Fits, Recipe
from wasserflow.method.logit import MapName
from wasserflow.method.pair import DEFAULT, Pair, PairConfig

__all__ = ["MonoFlow", "MonoFlowConfig"]


@settings
class MonoFlowSettings:
    """The flow.

    Args:
        divergence: Increasing map h, by its own name or by the name of a divergence.
        shift: C in h(d + C): vanilla with C = 3 or 5 does not vanish where samples are far from the data.
    """

    divergence: MapName = "ns"
    shift: Annotated[float, Interval(ge=-CHECKED, le=CHECKED)] = 0.0


@settings
class MonoFlowConfig(PairConfig):
    """Settings of MonoFlow, in groups."""

    flow: MonoFlowSettings = MonoFlowSettings()


def _paper(shape: Sequence[int]) -> Mapping[str, object]:
    """The authors' DCGAN experiments: 32 filters for MNIST, 64 for CIFAR-10."""
    return {
        "batch": 128,
        "latent": 100,
        "network": "dcgan",
        "width": 32 if shape[0] == 1 else 64,
        "lr_logit": 2e-4,
        "lr_generator": 1e-4,
        "betas": (0.5, 0.999),
        "halve_lr_at": (),
        "penalty": 0.0,
        "ema": 0,
    }


class MonoFlow(Pair[MonoFlowConfig]):
    """A one-step generator that follows the flow of an increasing map h of the log density ratio.

    A classifier learns ``d = log p/q`` between data and samples, and the generator takes a gradient step on
    ``-E h(d(G(z)))``, which is one Euler step of ``dx/dt = grad h(d)`` for its samples. Every divergence GAN is a case;
    at the default map ``ns`` it is the non-saturating GAN. For images and for tables or points; a sample costs one
    network evaluation.

    Example:
        >>> model = wf.MonoFlow.for_shape((1, 28, 28), divergence="arcsinh")
        >>> wf.train(model, "mnist", budget=wf.Budget(minutes=20), out="runs/mnist")

    References:
        MonoFlow: Rethinking Divergence GANs via the Perspective of Wasserstein Gradient Flows
        (Yi, Zhu & Liu, 2023), arXiv 2302.01075
    """

    Config: ClassVar = MonoFlowConfig
    recipes: ClassVar = {"default": DEFAULT, "paper": Recipe("the DCGAN of the authors' image experiments", _paper)}

    def __init__(self, config: MonoFlowConfig, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__(config, shape, seed)
        self.map = named(config.flow.divergence).shifted(config.flow.shift)

    def step(self, data: Data, fit: Fits, rng: torch.Generator) -> dict[str, Tensor]:
        """One step of the logit and one of the generator on the same batch of samples (section 3 of the paper)."""
        x = self.generator(self.latents(data.batch, rng))
        log = self.learn_ratio(data, x.detach(), fit, rng)
        generator_loss = -self.map.h(self.logit(x)).mean()
        log["generator_loss"] = generator_loss.detach()

        def measure(slope: Tensor) -> None:  # slope = -v / N; a reference to x here would never free its graph
            log["field_norm"] = len(slope) * slope.flatten(1).norm(dim=1).mean()

        x.register_hook(measure)
        fit.generator.minimise(generator_loss)
        return log
