"""The residual networks of the VGrow experiments (written there for 32x32), for images of any size.

The skip connections see the rectified input, as they do in the published experiments.

References:
    | Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469
    | Deep Generative Learning via Euler Particle Transport (Gao et al., 2020), arXiv 2012.06094; without normalisation
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu
from torch.nn.utils.parametrizations import spectral_norm

from wasserflow.nn.dcgan import normal_init
from wasserflow.nn.exact import Exact
from wasserflow.nn.fold import convolve_and_halve, enlarge_and_convolve
from wasserflow.nn.sizes import ladder
from wasserflow.nn.strided import Resize

__all__ = ["resnet_pair", "resnet_plain_pair"]


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


class _UpBlock(nn.Module):
    """ReLU, upsample, conv, BN, ReLU, conv; beside it upsample and a 1x1 conv, which may change places."""

    def __init__(self, channels: int, size: tuple[int, int], *, normalised: bool) -> None:
        super().__init__()
        self.resize = Resize(size)
        self.conv1, self.conv2 = _conv(channels, channels, 3), _conv(channels, channels, 3)
        self.norm = nn.BatchNorm2d(channels) if normalised else nn.Identity()
        self.skip = _conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(x)
        main = enlarge_and_convolve(x, self.conv1.weight, self.resize.size)
        return self.conv2(relu(self.norm(main), inplace=True)) + self.resize(self.skip(x))


class _DownBlock(nn.Module):
    """ReLU (but in the first block), conv, ReLU, conv, average pool; beside it a 1x1 conv or the identity.

    The pool is taken into what comes before it: a mean of convolutions is a convolution, of the mean.
    """

    def __init__(self, inputs: int, outputs: int, *, first: bool = False, down: bool = True) -> None:
        super().__init__()
        self.first, self.down = first, down
        self.conv1, self.conv2 = _conv(inputs, outputs, 3), _conv(outputs, outputs, 3)
        self.skip = _conv(inputs, outputs, 1) if down else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else relu(x)
        main = relu(self.conv1(x), inplace=True)
        if not self.down:
            return self.conv2(main) + self.skip(x)
        return convolve_and_halve(main, self.conv2.weight) + self.skip(avg_pool2d(x, 2, ceil_mode=True))


class _SumOverSpace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return relu(x).sum((2, 3))


def resnet_pair(shape: Sequence[int], latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The generator and the logit, spectrally normalised (5 power iterations); the paper's ``width`` is 128."""
    return _pair(shape, latent, width, normalised=True)


def resnet_plain_pair(shape: Sequence[int], latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The same networks without spectral or batch normalisation."""
    return _pair(shape, latent, width, normalised=False)


def _pair(shape: Sequence[int], latent: int, width: int, *, normalised: bool) -> tuple[nn.Module, nn.Module]:
    sizes = ladder(shape[1:])
    h, w = sizes[-1]
    generator = nn.Sequential(
        nn.Linear(latent, width * h * w),
        nn.Unflatten(1, (width, h, w)),
        *(_UpBlock(width, size, normalised=normalised) for size in sizes[-2::-1]),
        nn.ReLU(),
        Exact(_conv(width, shape[0], 3)),
        nn.Tanh(),
    )
    downs = max(1, len(sizes) - 2)  # 32 -> 16 -> 8
    logit = nn.Sequential(
        _DownBlock(shape[0], width, first=True),
        *(_DownBlock(width, width) for _ in range(downs - 1)),
        _DownBlock(width, width, down=False),
        _DownBlock(width, width, down=False),
        _SumOverSpace(),
        Exact(nn.Linear(width, 1)),
        nn.Flatten(0),
    )
    for network in (generator, logit):
        network.apply(normal_init)
        for module in network.modules() if normalised else ():
            if isinstance(module, nn.Conv2d | nn.Linear):
                spectral_norm(module, n_power_iterations=5)
    return generator, logit
