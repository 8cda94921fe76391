"""Endless batches of a split on the device, in an order computed from the seed, so that a run resumes exactly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wasserflow._core.noise import derive_seed
from wasserflow.data.dataset import Form, Split

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True)
class Batch:
    """A batch in model space: ``x`` (B, *shape) float32, and labels (B,) where the data have them."""

    x: Tensor
    label: Tensor | None


class Batches:
    """Batches of a split in an order derived from ``(seed, epoch)``; batches may span epochs.

    Args:
        split: The split to draw from; it is moved to the device as stored (uint8 images).
        form: The map to model space.
        batch: Samples per batch, over all processes together.
        seed: Random seed of the order.
        device: Device of the batches.
        rank: Index of this process.
        processes: Number of processes; each takes its part of every batch.
        seen: Samples already drawn by all processes.
    """

    def __init__(
        self,
        split: Split,
        form: Form,
        *,
        batch: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
        seen: int = 0,
    ) -> None:
        self.x = split.x.to(device)
        self.label = None if split.label is None else split.label.to(device)
        self.form = form
        self.batch = batch // processes
        self.total = batch
        self.seed = seed
        self.rank = rank
        self.seen = seen
        self._orders: dict[int, Tensor] = {}

    def next(self) -> Batch:
        """This process's part of the next batch; counts the whole batch as seen."""
        start = self.seen + self.rank * self.batch
        rows = self._rows(start, start + self.batch)
        self.seen += self.total
        label = None if self.label is None else self.label[rows]
        return Batch(self.form.to_model(self.x[rows]), label)

    def look(self, n: int) -> Tensor:
        """The first ``n`` samples of the order, or all, the same in every process; they do not count as seen."""
        return self.form.to_model(self.x[self._order(0)[:n]])

    def _rows(self, start: int, stop: int) -> Tensor:
        """Indices of the samples at the positions ``start..stop-1`` of the endless sequence."""
        n = len(self.x)
        parts = []
        while start < stop:
            epoch, offset = divmod(start, n)
            taken = min(stop - start, n - offset)
            parts.append(self._order(epoch)[offset : offset + taken])
            start += taken
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            rng = torch.Generator().manual_seed(derive_seed("order", self.seed, epoch))
            order = torch.randperm(len(self.x), generator=rng).to(self.x.device)
            self._orders = {k: v for k, v in self._orders.items() if k == epoch - 1} | {epoch: order}
        return self._orders[epoch]
