"""Small convolutional networks for images of any size: cheap per image on a CPU, plain enough for a GPU.

The logit is the stronger of the two: VGrow asks it for a gradient at every particle step, and the generator only
once per pool.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate

from wasserflow.nn.exact import Exact
from wasserflow.nn.sizes import ladder

__all__ = ["Resize", "strided_generator", "strided_logit", "strided_pair"]


class Resize(nn.Module):
    """Nearest-neighbour resize to a fixed (H, W)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, H, W)."""
        return interpolate(x, self.size, mode="nearest")


class _Double(nn.ConvTranspose2d):
    """A transposed convolution to twice the size, cropped to (H, W)."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int]) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(x)[:, :, : self.size[0], : self.size[1]]


def strided_generator(shape: Sequence[int], latent: int, width: int) -> nn.Sequential:
    """Linear to the smallest size; per further size batch norm, ReLU and a transposed convolution; tanh at the end."""
    sizes = ladder(shape[1:])[::-1]
    channels = [width * 2 ** min(len(sizes) - 1 - i, 3) for i in range(len(sizes) - 1)] + [shape[0]]
    h, w = sizes[0]
    layers: list[nn.Module] = [nn.Linear(latent, channels[0] * h * w), nn.Unflatten(1, (channels[0], h, w))]
    for size, a, b in zip(sizes[1:], channels, channels[1:], strict=False):
        layers += [nn.BatchNorm2d(a), nn.ReLU(), _Double(a, b, size)]
    layers[-1] = Exact(layers[-1])
    return nn.Sequential(*layers, nn.Tanh())


def strided_logit(shape: Sequence[int], width: int) -> nn.Sequential:
    """A convolution at full size, one of stride 2 per size of the ladder, then a linear map of all features."""
    sizes = ladder(shape[1:])
    channels = [width * 2 ** min(i, 3) for i in range(len(sizes))]
    layers: list[nn.Module] = [nn.Conv2d(shape[0], channels[0], 3, padding=1), nn.LeakyReLU(0.2)]
    for a, b in pairwise(channels):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
    h, w = sizes[-1]
    return nn.Sequential(*layers, nn.Flatten(), Exact(nn.Linear(channels[-1] * h * w, 1)), nn.Flatten(0))


def strided_pair(shape: Sequence[int], latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The generator and the logit; ``width`` is the number of channels of the logit at full size."""
    return strided_generator(shape, latent, width), strided_logit(shape, width)
