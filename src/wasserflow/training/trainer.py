"""A model in training: everything that changes from step to step, and the step."""

import dataclasses
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from wasserflow._core.device import Precision
from wasserflow._core.errors import UserError
from wasserflow._core.noise import derive_seed
from wasserflow.data import Batches, Dataset
from wasserflow.method import Method
from wasserflow.method.capability import ComparesWithData, Reference
from wasserflow.training.budget import Progress
from wasserflow.training.fit import Average, Fit, Fits
from wasserflow.training.processes import processes
from wasserflow.training.state import load_optimizer, load_weights, optimizer_tensors, prefixed, select

__all__ = ["Trainer"]


class Trainer:
    """What a method's step is handed, and what a checkpoint holds.

    Args:
        model: A method's model.
        data: What it is trained on.
        seed: Random seed of the data's order and of every step.
        device: Device to compute on.
        precision: Numerical precision of the networks.

    Raises:
        UserError: If the model and the data, or the batch and the processes, do not fit.
    """

    def __init__(self, model: Method, data: Dataset, *, seed: int, device: torch.device, precision: Precision) -> None:
        if model.shape != data.form.shape:
            raise UserError(f"the model takes samples of shape {model.shape}, the data have shape {data.form.shape}")
        group = processes()
        if model.config.batch % group.num_processes:
            raise UserError(f"`batch={model.config.batch}` does not divide among {group.num_processes} processes")
        self.model = model.to(device).train()
        if isinstance(self.model, ComparesWithData):
            self.model.reference = Reference(lambda n: data.clean(n).to(device))
        self.shown = deepcopy(model)  # what samples are drawn from: averages where there are any
        self.averages = {
            name: Average(model.get_submodule(name), self.shown.get_submodule(name), half_life)
            for name, half_life in model.averages().items()
        }
        self.optimizers = model.optimizers()
        self.fits = {name: Fit(model.get_submodule(name), opt, group) for name, opt in self.optimizers.items()}
        self.data = Batches(
            data.train,
            data.form,
            batch=model.config.batch,
            seed=seed,
            device=device,
            rank=group.process_index,
            processes=group.num_processes,
        )
        self.seed = seed
        self.precision = precision
        self.rank = group.process_index
        self.rng = torch.Generator(device)
        self.progress = Progress()

    def step(self, used: float = 0.0) -> dict[str, Tensor]:
        """One step of the method, seeded by where it stands; returns the scalars to log, on the device.

        Args:
            used: Share of the budget that is used up.
        """
        seen = self.data.seen
        self.rng.manual_seed(derive_seed("step", self.seed, self.rank, seen))
        decay = self.model.config.decay
        factor = self.model.lr_factor(seen) * (min(1.0, (1 - used) / decay) if decay else 1.0)
        for fit in self.fits.values():
            fit.scale_rate(factor)
        # A step changes weights more than once, so casts of them must not be kept.
        low = self.precision == "bf16"
        with torch.autocast(self.rng.device.type, torch.bfloat16, enabled=low, cache_enabled=False):
            log = self.model.step(self.data, Fits(self.fits), self.rng)
        self.progress.images = self.data.seen
        self.progress.steps += 1
        for name, half_life in self.model.averages(self.data.seen).items():
            self.averages[name].half_life = half_life
            self.averages[name].update(self.data.seen - seen, self.data.seen)
        return log

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint holds."""
        tensors = prefixed("model", self.model.state_dict())
        for name, average in self.averages.items():
            tensors |= prefixed(f"average/{name}", average.network.state_dict())
        for name, optimizer in self.optimizers.items():
            tensors |= prefixed(f"optimizer/{name}", optimizer_tensors(optimizer))
        return tensors

    def load(self, tensors: Mapping[str, Tensor], progress: Progress, where: Path) -> None:
        """Go back to a checkpoint, read from ``where``."""
        load_weights(self.model, select("model", tensors), where)
        for name, average in self.averages.items():
            load_weights(average.network, select(f"average/{name}", tensors), where)
        for name, optimizer in self.optimizers.items():
            load_optimizer(optimizer, select(f"optimizer/{name}", tensors), where)
        self.progress = dataclasses.replace(progress)
        self.data.seen = progress.images

    def is_finite(self) -> bool:
        """Whether all that a checkpoint would hold is; waits for the device."""
        values = [value for value in self.tensors().values() if value.is_floating_point()]
        return bool(torch.stack([value.isfinite().all().to(self.rng.device) for value in values]).all())

    def sampler(self) -> Method:
        """The model that samples are drawn from, up to date."""
        weights = self.model.state_dict()
        for name in self.averages:
            weights |= {f"{name}.{key}": value for key, value in self.averages[name].network.state_dict().items()}
        self.shown.load_state_dict(weights)
        if isinstance(self.shown, ComparesWithData):
            self.shown.reference.known.clear()
        return self.shown.eval()
