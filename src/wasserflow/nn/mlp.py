"""Fully connected networks, for vectors."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import nn

from wasserflow.nn.exact import Exact

__all__ = ["mlp", "mlp_pair", "shallow_pair"]


def mlp(inputs: int, outputs: int, width: int, depth: int, activation: nn.Module) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` units, each followed by the activation."""
    sizes = [inputs, *[width] * depth]
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), activation)]
    return nn.Sequential(*hidden, Exact(nn.Linear(sizes[-1], outputs)))


def mlp_pair(shape: Sequence[int], latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """A generator and a logit with three hidden layers each.

    Leaky ReLU, because a logit of smooth units does not see narrow modes: on a ring of eight it learns the ring.
    """
    return _pair(shape, latent, width, 3, nn.LeakyReLU(0.2))


def shallow_pair(shape: Sequence[int], latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """One hidden layer each, with ReLU: the networks of VGrow's 2-D experiments."""
    return _pair(shape, latent, width, 1, nn.ReLU())


def _pair(
    shape: Sequence[int], latent: int, width: int, depth: int, activation: nn.Module
) -> tuple[nn.Module, nn.Module]:
    size = prod(shape)
    generator = nn.Sequential(mlp(latent, size, width, depth, activation), nn.Unflatten(1, tuple(shape)))
    logit = nn.Sequential(nn.Flatten(), mlp(size, 1, width, depth, activation), nn.Flatten(0))
    return generator, logit
