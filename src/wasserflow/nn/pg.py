"""Networks that grow inside themselves: those of the progressive-growing VGrow experiments, for images of any size.

A ladder of sizes leads from at most 4 pixels a side to the full image, each size twice the one before (cropped). At
**stage** s the generator makes an image of the s-th size and enlarges it, block by block, to the full size; the logit
first takes means over those blocks. Between two stages the finer size is mixed in with a weight alpha. So both take
and give full images whatever the stage, and what trains them need only call `Growing.grow`.

Since every pixel of a block moves alike, the gradient of the logit over full pixels is 4^-k of the one over blocks of
2^k x 2^k, and so are the steps of particles; the fit of the generator sums over the block and makes up for it.

References:
    | Progressive Growing of GANs for Improved Quality, Stability, and Variation (Karras, Aila, Laine & Lehtinen, 2017),
      arXiv 1710.10196; while a size fades in, data are mixed there as samples are, here the logit sees them as they are
    | Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469
    | Self-Attention Generative Adversarial Networks (Zhang, Goodfellow, Metaxas & Odena, 2018), arXiv 1805.08318
"""

from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from wasserflow.nn.exact import Exact
from wasserflow.nn.sizes import ladder
from wasserflow.nn.strided import Resize

__all__ = ["Growing", "pg_pair"]

SLOPE = 0.2
HE = nn.init.calculate_gain("leaky_relu", SLOPE)
UNIT = 2**20  # of growth: a whole number, because averages of weights average what is not
MOMENTUM = 0.1

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Growing(nn.Module):
    """A network over a ladder of sizes, in use up to a stage: 0 is the smallest size, ``last`` the full one.

    The stage is part of the state: checkpoints and averages of weights carry it. A new network is fully grown.
    """

    growth: Tensor

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last
        self.register_buffer("growth", torch.tensor(last * UNIT))

    def grow(self, stage: float) -> None:
        """Use the sizes up to ``floor(stage)``, and the next one with the weight ``alpha = stage - floor(stage)``.

        Below 0 it is 0, above ``last`` it is ``last``.
        """
        self.growth.fill_(round(UNIT * min(max(stage, 0), self.last)))

    def finest(self) -> tuple[int, float]:
        """The finest size in use, and its weight alpha in (0, 1]."""
        stage, part = divmod(int(self.growth.numpy()), UNIT)
        return (stage + 1, part / UNIT) if part else (stage, 1.0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        host = self.growth
        super()._apply(fn, recurse)
        self.growth = host  # wherever the weights go: reading it must not wait for a device
        return self


class _Generator(Growing):
    def __init__(self, shape: Sequence[int], latent: int, width: int) -> None:
        sizes = ladder(shape[1:])[::-1]
        super().__init__(len(sizes) - 1)
        h, w = sizes[0]
        attention = _attended(sizes)
        self.blocks = nn.Sequential(
            nn.Sequential(
                _PixelNorm(),
                _equalised(nn.Linear(latent, width * h * w)),
                nn.Unflatten(1, (width, h, w)),
                nn.LeakyReLU(SLOPE),
                _PixelNorm(),
                *_conv(width, width, 3),
                _PixelNorm(),
            )
        )
        for i, size in enumerate(sizes[1:], 1):
            convs = [*_conv(width, width, 3), _PixelNorm(), *_conv(width, width, 3), _PixelNorm()]
            attend = [_Attention(width)] if i == attention else []
            self.blocks.append(nn.Sequential(Resize(size), *convs, *attend))
        self.to_image = nn.ModuleList(Exact(_equalised(nn.Conv2d(width, shape[0], 1), 1.0)) for _ in sizes)
        self.enlarge = nn.Sequential(*(Resize(size) for size in sizes))

    def forward(self, z: Tensor) -> Tensor:
        """(N, l) to (N, *shape)."""
        s, alpha = self.finest()
        coarser = self.blocks[:s](z)
        x = self.to_image[s](self.blocks[s](coarser))
        if alpha < 1:
            x = self.enlarge[s](self.to_image[s - 1](coarser)).lerp(x, alpha)
        return self.enlarge[s + 1 :](x)


class _Logit(Growing):
    """Its lists run from the full size down."""

    def __init__(self, shape: Sequence[int], width: int) -> None:
        sizes = ladder(shape[1:])
        super().__init__(len(sizes) - 1)
        h, w = sizes[-1]
        attention = self.last - _attended(sizes[::-1])
        self.from_image = nn.ModuleList(nn.Sequential(*_conv(shape[0], width, 1)) for _ in sizes)
        self.blocks = nn.Sequential()
        for i in range(self.last):
            attend = [_Attention(width)] if i == attention else []
            self.blocks.append(nn.Sequential(*attend, *_conv(width, width, 3), *_conv(width, width, 3), _halve()))
        self.blocks.append(
            nn.Sequential(
                _Deviation(),
                *_conv(width + 1, width, 3),
                nn.Flatten(),
                _equalised(nn.Linear(width * h * w, width)),
                nn.LeakyReLU(SLOPE),
                Exact(_equalised(nn.Linear(width, 1), 1.0)),
                nn.Flatten(0),
            )
        )
        self.reduce = nn.Sequential(*(_halve() for _ in range(self.last)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, *shape) to (N,)."""
        s, alpha = self.finest()
        i = self.last - s
        x = self.reduce[:i](x)
        y = self.blocks[i](self.from_image[i](x))
        if alpha < 1:
            y = self.from_image[i + 1](self.reduce[i](x)).lerp(y, alpha)
        return self.blocks[i + 1 :](y)


class _Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return self.scale * weight


def _equalised(layer: Layer, gain: float = HE) -> Layer:
    """Weights N(0, 1), scaled at run time by ``gain / sqrt(fan in)``, so that Adam moves all layers at one speed."""
    assert layer.bias is not None
    nn.init.normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    register_parametrization(layer, "weight", _Scaled(gain / layer.weight[0].numel() ** 0.5))
    return layer


def _conv(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    return _equalised(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)), nn.LeakyReLU(SLOPE)


def _halve() -> nn.Module:
    """Means over 2x2 blocks, cut off at the border: the inverse of enlarging on enlarged images."""
    return nn.AvgPool2d(2, ceil_mode=True)


class _PixelNorm(nn.Module):
    """Every pixel's features, or the latent, divided by their root mean square over the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class _Deviation(nn.Module):
    """Appends one constant map: the standard deviation over the batch, averaged over features and pixels.

    In evaluation mode it is a running mean of what training saw, of data and particles alike, so that each logit
    depends on its own sample alone.
    """

    running: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running", torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        deviation = self.running
        if self.training:
            deviation = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
            self.running.lerp_(deviation.detach().to(self.running.dtype), MOMENTUM)
        return torch.cat([x, deviation.expand(len(x), 1, *x.shape[2:])], 1)


class _Attention(nn.Module):
    """``x + gamma o(sum_j softmax_j(f(x_i) . g(x_j)) h(x_j))`` over pixels i, j; gamma starts at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, half = max(1, channels // 8), max(1, channels // 2)
        self.parts = [inner, inner, half]
        self.fgh = _equalised(nn.Conv2d(channels, sum(self.parts), 1), 1.0)
        self.o = _equalised(nn.Conv2d(half, channels, 1), 1.0)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        f, g, h = self.fgh(x).flatten(2).split(self.parts, 1)
        attended = h @ (f.mT @ g).softmax(-1).mT
        return x + self.gamma * self.o(attended.unflatten(2, x.shape[2:]))


def _attended(sizes: Sequence[tuple[int, int]]) -> int:
    """Which of the growing sizes has attention: the largest up to 32 pixels where the full one has 64 or more."""
    fits = [i for i, size in enumerate(sizes) if max(size) <= 32]
    return fits[-1] if max(sizes[-1]) >= 64 else -1


def pg_pair(shape: Sequence[int], latent: int, width: int) -> tuple[Growing, Growing]:
    """The generator and the logit, with ``width`` channels at every size; the authors have 256, and 512 latents.

    Both have two 3x3 convolutions per size, leaky ReLU, equalised learning rates, and for images of 64 pixels or more
    self-attention at 32. The generator normalises the latent and every pixel, and ends linearly. The logit sees the
    minibatch's standard deviation at the smallest size; in evaluation mode a running mean of it.
    """
    return _Generator(shape, latent, width), _Logit(shape, width)
