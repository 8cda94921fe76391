"""Time-conditional U-Nets, ``U(x, t)`` with the shape of the images x; smooth, and without batch statistics.

Residual blocks with the time as scale and shift, one head of self-attention at some sizes, means over 2x2 blocks on the
way down and nearest neighbours on the way up, as in "Diffusion Models Beat GANs on Image Synthesis" (Dhariwal & Nichol,
2021, arXiv 2105.05233). With width 128, channels (2, 2, 2) and 4 blocks it has the 55.676 million weights of "Learning
Energy-Based Generative Models via Potential Flow" (Loo et al., 2025, arXiv 2504.16262) on images with three channels.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, silu

from wasserflow.nn.exact import Exact
from wasserflow.nn.timed import Condition, Film, group_norm

__all__ = ["SeededDropout", "UNet", "UNetFeatures"]

GROUPS = 32


class SeededDropout(nn.Module):
    """Dropout whose mask follows from ``seed``, so that every pass of one step drops the same."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.seed = 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training mode."""
        if not self.p or not self.training:
            return x
        rng = torch.Generator(x.device).manual_seed(self.seed)
        kept = torch.rand(x.shape, generator=rng, device=x.device) >= self.p
        return x * kept / (1 - self.p)


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, p: float, attends: bool) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(inputs, GROUPS), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film = Film(size, outputs)
        self.norm2, self.conv2 = group_norm(outputs, GROUPS), _zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.dropout = SeededDropout(p)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention = _Attention(outputs) if attends else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        h = self.conv2(self.dropout(silu(self.film(self.norm2(h), embedding))))
        return self.attention(self.skip(x) + h)


class _Attention(nn.Module):
    """Written out, because torch's fused kernels have no second derivative."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, GROUPS)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, 1)
        weights = (q.mT @ k / q.shape[1] ** 0.5).softmax(-1)
        return x + self.out((v @ weights.mT).unflatten(2, x.shape[2:]))


class UNet(nn.Module):
    """A U-Net; see the module's docstring.

    Args:
        shape: ``(C, H, W)`` of one image.
        width: Unit of channels.
        channels: Channels of each size in that unit; the sizes are halved and rounded up.
        blocks: Residual blocks per size on the way down, one more on the way up.
        attention: Sizes that have attention, counted from 0 for the full one; the smallest always has it once.
        p: Dropout rate.
        scale: As in `Condition`.
        classes: As in `Condition`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 128,
        channels: Sequence[int] = (2, 2, 2),
        blocks: int = 4,
        attention: Sequence[int] = (1,),
        p: float = 0.0,
        scale: float = 1000.0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        size = 4 * width
        wide = [width * factor for factor in channels]
        self.condition = Condition(size, scale, classes, frequencies=width // 2)
        self.first = nn.Conv2d(shape[0], wide[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        now, skips = wide[0], [wide[0]]
        for level, outputs in enumerate(wide):
            row = nn.ModuleList()
            for _ in range(blocks):
                row.append(_Residual(now, outputs, size, p, level in attention))
                now = outputs
                skips.append(now)
            self.down.append(row)
            if level < len(wide) - 1:
                skips.append(now)
        self.middle = nn.ModuleList([_Residual(now, now, size, p, True), _Residual(now, now, size, p, False)])
        for level, outputs in reversed(list(enumerate(wide))):
            row = nn.ModuleList()
            for _ in range(blocks + 1):
                row.append(_Residual(now + skips.pop(), outputs, size, p, level in attention))
                now = outputs
            self.up.append(row)
        self.norm = group_norm(now, GROUPS)
        self.last = Exact(_zero(nn.Conv2d(now, shape[0], 3, padding=1)))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(N, *shape) and (N,) to (N, *shape)."""
        embedding = self.condition(t, label)
        h = self.first(x)
        skips = [h]
        for level, row in enumerate(self.down):
            if level:
                h = avg_pool2d(h, 2, ceil_mode=True)
                skips.append(h)
            for block in cast(nn.ModuleList, row):
                h = block(h, embedding)
                skips.append(h)
        for block in self.middle:
            h = block(h, embedding)
        for level, row in enumerate(self.up):
            if level:
                h = interpolate(h, skips[-1].shape[2:], mode="nearest")
            for block in cast(nn.ModuleList, row):
                h = block(torch.cat([h, skips.pop()], 1), embedding)
        return self.last(silu(self.norm(h)))


class UNetFeatures(nn.Module):
    """A U-Net's last map with 16 channels, means over 4x4 blocks of it, flattened: ``f(x, t) -> (N, D)``.

    Args:
        shape: ``(C, H, W)`` of one image.
        width: Channels at the full size; twice as many at the three sizes below.
        blocks: As in `UNet`.
    """

    def __init__(self, shape: Sequence[int], width: int = 128, blocks: int = 2) -> None:
        super().__init__()
        self.network = UNet(shape, width, (1, 2, 2, 2), blocks)
        self.network.last = Exact(nn.Conv2d(width, 16, 3, padding=1))  # not zero: features of zero have no slope

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(N, *shape) and (N,) to (N, D)."""
        return avg_pool2d(self.network(x, t), 4, ceil_mode=True).flatten(1)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A convolution that starts at zero, so that a block starts as the identity."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
