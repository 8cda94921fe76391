"""How a network is fitted: backward, averaging over processes, the optimiser's step, and the average of weights."""

from collections.abc import Iterable, Mapping

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from wasserflow.training.processes import mean_over_processes

__all__ = ["Average", "Fit", "Fits"]


class Fit:
    """One network and its optimiser."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, group: PartialState) -> None:
        self.optimizer = optimizer
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.processes = group.num_processes
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def minimise(self, losses: Tensor | Iterable[Tensor]) -> None:
        """One optimiser step down the sum of the losses; gradients are computed for this network alone.

        Several losses are accumulated one after the other, each graph freed before the next is asked for.
        """
        self.optimizer.zero_grad(set_to_none=True)
        for loss in [losses] if isinstance(losses, Tensor) else losses:
            loss.backward(inputs=self.parameters)
        if self.processes > 1:
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            mean = mean_over_processes(torch.cat([g.flatten() for g in gradients]))  # one message for all of them
            for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        self.optimizer.step()

    def scale_rate(self, factor: float) -> None:
        """Set the learning rates to ``factor`` times those the optimiser was made with."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = factor * rate


class Fits:
    """The fits of all networks that have an optimiser, as attributes of the networks' names."""

    def __init__(self, fits: Mapping[str, Fit]) -> None:
        self._fits = dict(fits)

    def __getattr__(self, name: str) -> Fit:
        if name not in self._fits:
            raise AttributeError(f"there is no optimiser of that name: {name}")
        return self._fits[name]


class Average:
    """An exponential moving average of a network's weights and buffers.

    The half-life is never more than a twentieth of the samples seen, so that the start is soon forgotten.

    Args:
        source: The network that is trained.
        network: A copy of it, which becomes the average.
        half_life: Half-life in samples seen.
    """

    def __init__(self, source: nn.Module, network: nn.Module, half_life: int) -> None:
        self.network = network.requires_grad_(False)
        self.half_life = half_life
        theirs = source.state_dict()
        averaged, copied = [], []
        for name, ours in network.state_dict().items():
            # the singular vectors of a spectral norm have no mean: they belong to the latest weights
            mean = ours.is_floating_point() and not name.endswith(("._u", "._v"))
            (averaged if mean else copied).append((ours, theirs[name]))
        self._ours, self._theirs = ([pair[i] for pair in averaged] for i in (0, 1))
        self._copied = copied

    @torch.no_grad()
    def update(self, images: int, seen: int) -> None:
        """Add the weights after a step of ``images`` samples, ``seen`` of them in total."""
        decay = 0.5 ** (images / max(min(self.half_life, seen / 20), 1e-9))
        get_ema_multi_avg_fn(decay)(self._ours, self._theirs, 0)
        for ours, theirs in self._copied:
            ours.copy_(theirs)
