"""Time-conditional networks, ``f(x, t) -> (N, features)`` for points (N, *) and times (N,).

They are smooth in x, t and their weights: second derivatives of every kind exist, and no layer mixes the points of a
batch. Features keep the digits of float32 whatever the layers before them compute in.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import gcd, log, prod

import torch
from torch import Tensor, nn

from wasserflow.nn.exact import exactly
from wasserflow.nn.sizes import ladder

__all__ = ["Condition", "Encoder", "Film", "TimedMLP", "group_norm"]

PERIOD = 10_000.0


class Condition(nn.Module):
    """An embedding of the time, and of a label if there are classes, which conditions a network.

    Args:
        size: Dimension of the embedding.
        scale: Factor on the time before its sinusoids, whose angular frequencies go from 1 to 1/10,000.
        classes: Number of labels; each, and no label, has its own row.
        frequencies: Number of sines, and of cosines; by default a quarter of the size.
    """

    frequencies: Tensor

    def __init__(self, size: int, scale: float = 1000.0, classes: int = 0, frequencies: int | None = None) -> None:
        super().__init__()
        half = max(1, size // 4 if frequencies is None else frequencies)
        self.register_buffer("frequencies", scale * (-log(PERIOD) * torch.arange(half) / half).exp(), persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * half, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())
        self.labels = nn.Embedding(classes + 1, size) if classes else None

    def forward(self, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Times (N,), and labels (N,) with -1 for none, to (N, size)."""
        angle = t[:, None] * self.frequencies
        embedding = self.layers(torch.cat([angle.sin(), angle.cos()], 1))
        if self.labels is None:
            return embedding
        row = torch.zeros_like(t, dtype=torch.int64) if label is None else label + 1
        return embedding + self.labels(row)


class Film(nn.Module):
    """``h (1 + scale) + shift``, both linear in the embedding, over the channels of h."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, 2 * channels)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """(N, C, *) and (N, size) to (N, C, *)."""
        scale, shift = self.layer(embedding).view(*h.shape[:1], -1, *[1] * (h.ndim - 2)).chunk(2, 1)
        return h * (1 + scale) + shift


def group_norm(channels: int, groups: int = 8) -> nn.GroupNorm:
    """Normalisation of each point alone, in at most ``groups`` groups of channels."""
    return nn.GroupNorm(gcd(groups, channels), channels)


class TimedMLP(nn.Module):
    """``depth`` hidden layers of ``width`` SiLU units, each conditioned on the time; the features are the last layer.

    Args:
        shape: Shape of one point; it is flattened.
        width: Units per layer.
        depth: Number of hidden layers.
        scale: As in `Condition`.
        classes: As in `Condition`.
    """

    def __init__(
        self, shape: Sequence[int], width: int, depth: int = 3, scale: float = 1000.0, classes: int = 0
    ) -> None:
        super().__init__()
        self.features = width
        self.condition = Condition(width, scale, classes)
        sizes = [prod(shape), *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.films = nn.ModuleList(Film(width, width) for _ in range(depth))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(N, *shape) and (N,) to (N, width)."""
        embedding = self.condition(t, label)
        h = x.flatten(1)
        for layer, film in zip(self.layers[:-1], self.films[:-1], strict=True):
            h = nn.functional.silu(film(layer(h), embedding))
        return exactly(self._features, next(self.layers.parameters()).dtype, h, embedding)

    def _features(self, h: Tensor, embedding: Tensor) -> Tensor:
        return nn.functional.silu(self.films[-1](self.layers[-1](h), embedding))


class Encoder(nn.Module):
    """A classifier's shape: convolutions of stride 2 down to 2 pixels a side (28: 14, 7, 4, 2).

    The first convolution is linear in x; before every further one, and at the end, come group normalisation, the time,
    and SiLU. Further layers per size are the same, as residuals. Nothing is computed at full size, where it would cost
    most. The features are the last map, flattened.

    Args:
        shape: ``(C, H, W)`` of one image.
        width: Channels at half size; they double from size to size, up to eightfold.
        depth: Layers per size.
        scale: As in `Condition`.
        classes: As in `Condition`.
        energies: Whether the mean squares of the first convolution's maps, at all sizes and weighed by the time, are
            features too. They depend on the strength of the noise, which normalisation removes, and their gradients are
            linear filters of x, as those of a Gaussian's log-density are; the other features need long to learn these
            for images of many pixels.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        depth: int = 1,
        scale: float = 1000.0,
        classes: int = 0,
        energies: bool = False,
    ) -> None:
        super().__init__()
        sizes = ladder(shape[1:], smallest=2)[1:] or [(1, 1)]
        channels = [width * 2 ** min(i, 3) for i in range(len(sizes))]
        self.features = channels[-1] * sizes[-1][0] * sizes[-1][1]
        size = 4 * width
        self.condition = Condition(size, scale, classes)
        odd = (0, shape[2] % 2, 0, shape[1] % 2)
        self.first = nn.Sequential(nn.ZeroPad2d(odd), nn.Conv2d(shape[0], width, 4, stride=2, padding=1))
        self.layers = nn.ModuleList(_Layer(width, width, 1, size, residual=True) for _ in range(depth - 1))
        for a, b in pairwise(channels):
            self.layers.append(_Layer(a, b, 2, size))
            self.layers.extend(_Layer(b, b, 1, size, residual=True) for _ in range(depth - 1))
        self.last = _Steered(channels[-1], size)
        self.scales = len(sizes)
        self.energies = Film(size, self.scales * width) if energies else None
        if energies:
            self.features += self.scales * width

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(N, *shape) and (N,) to (N, features)."""
        embedding = self.condition(t, label)
        h = first = self.first(x)
        for layer in self.layers:
            h = layer(h, embedding)
        return exactly(self._features, self.last.norm.weight.dtype, h, first, embedding)

    def _features(self, h: Tensor, first: Tensor, embedding: Tensor) -> Tensor:
        features = self.last(h, embedding).flatten(1)
        if self.energies is None:
            return features
        energies = [_energy(first)]
        for _ in range(self.scales - 1):
            first = nn.functional.avg_pool2d(first, 2, ceil_mode=True)
            energies.append(_energy(first))
        return torch.cat([features, self.energies(torch.cat(energies, 1), embedding)], 1)


def _energy(maps: Tensor) -> Tensor:
    """Mean squares of maps (N, C, H, W) times (H W)^(1/4): the slope of their own witness is then of order 1."""
    flat = maps.flatten(2)
    return flat.shape[2] ** -0.75 * torch.linalg.vecdot(flat, flat)


class _Steered(nn.Module):
    """Group normalisation, the time, SiLU."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.film = Film(size, channels)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        return nn.functional.silu(self.film(self.norm(h), embedding))


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, size: int, residual: bool = False) -> None:
        super().__init__()
        self.steered = _Steered(inputs, size)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.residual = residual

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        new = self.conv(self.steered(h, embedding))
        return h + new if self.residual else new
