"""The DCGAN networks of the MonoFlow experiments, for images of any size.

Convolution weights start at N(0, 0.02), batch-norm gains at N(1, 0.02) (Radford, Metz & Chintala, 2015,
arXiv 1511.06434).
"""

from collections.abc import Sequence
from math import ceil, log2

from torch import nn

from wasserflow._core.errors import UserError
from wasserflow.nn.exact import Exact

__all__ = ["dcgan_pair", "normal_init"]


def normal_init(module: nn.Module) -> None:
    """Weights of convolutions and linear maps N(0, 0.02), of batch norms N(1, 0.02); biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _generator(shape: Sequence[int], latent: int, width: int) -> nn.Sequential:
    """Transposed convolutions 4, 8, 16, ... up to the image's size or, where none fits, beyond it and cropped."""
    colours, h, w = shape
    doublings = max(1, ceil(log2(max(h, w) / 4)))
    side = 4 * 2**doublings
    fits = h == w == side
    channels = [width * 2 ** max(3 - i, 0) for i in range(doublings + 1)]
    layers: list[nn.Module] = [nn.Unflatten(1, (latent, 1, 1)), nn.ConvTranspose2d(latent, channels[0], 4, bias=False)]
    for i in range(doublings):
        layers += [nn.BatchNorm2d(channels[i]), nn.ReLU()]
        out = colours if fits and i == doublings - 1 else channels[i + 1]
        double = nn.ConvTranspose2d(channels[i], out, 4, stride=2, padding=1, bias=False)
        layers.append(Exact(double) if fits and i == doublings - 1 else double)
    if not fits:
        top, left = (side - h) // 2, (side - w) // 2
        layers += [nn.BatchNorm2d(channels[-1]), nn.ReLU(), Exact(nn.Conv2d(channels[-1], colours, 1))]
        layers.append(nn.ZeroPad2d((-left, left + w - side, -top, top + h - side)))  # negative padding crops
    return nn.Sequential(*layers, nn.Tanh())


def _logit(shape: Sequence[int], width: int) -> nn.Sequential:
    """Convolutions of stride 2 down to at most 4 pixels a side, then one over all that is left."""
    channels, h, w = shape
    layers: list[nn.Module] = []
    out = width
    while max(h, w) > 4:
        if min(h, w) < 2:
            raise UserError(f"images of {shape[1]}x{shape[2]} are too narrow for the dcgan networks: take strided ones")
        layers.append(nn.Conv2d(channels, out, 4, stride=2, padding=1, bias=not layers))
        layers += [nn.LeakyReLU(0.2)] if len(layers) == 1 else [nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
        channels, out, h, w = out, min(2 * out, 8 * width), h // 2, w // 2
    return nn.Sequential(*layers, Exact(nn.Conv2d(channels, 1, (h, w))), nn.Flatten(0))


def dcgan_pair(shape: Sequence[int], latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The generator and the logit; ``width`` is the paper's f (32 for MNIST, 64 for CIFAR-10)."""
    generator, logit = _generator(shape, latent, width), _logit(shape, width)
    generator.apply(normal_init)
    logit.apply(normal_init)
    return generator, logit
