"""Networks, small and paper-sized, for any method.

A pair is a **generator** ``G(z): (N, l) -> (N, *shape)`` and a **logit** ``d(x): (N, *shape) -> (N,)``.
"""

from collections.abc import Callable, Sequence

from torch import nn

from wasserflow._core.errors import UserError, unknown
from wasserflow.nn.dcgan import dcgan_pair
from wasserflow.nn.mlp import mlp_pair, shallow_pair
from wasserflow.nn.pg import pg_pair
from wasserflow.nn.resnet import resnet_pair, resnet_plain_pair
from wasserflow.nn.strided import strided_pair
from wasserflow.nn.timed import Encoder, TimedMLP
from wasserflow.nn.unet import UNetFeatures

__all__ = ["ENCODERS", "PAIRS", "build_encoder", "build_pair"]

PAIRS: dict[str, Callable[[Sequence[int], int, int], tuple[nn.Module, nn.Module]]] = {
    "mlp": mlp_pair,
    "shallow": shallow_pair,
    "strided": strided_pair,
    "dcgan": dcgan_pair,
    "resnet": resnet_pair,
    "resnet-plain": resnet_plain_pair,
    "pg": pg_pair,
}


def build_pair(name: str, shape: Sequence[int], latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The generator and the logit called ``name``, for samples of this shape.

    Raises:
        UserError: If the name is unknown, or the networks cannot take samples of this shape.
    """
    if name not in PAIRS:
        raise unknown("network", name, PAIRS)
    if name not in ("mlp", "shallow") and len(shape) != 3:
        raise UserError(f"the {name} networks take images, not samples of shape {tuple(shape)}: take `network='mlp'`")
    return PAIRS[name](shape, latent, width)


ENCODERS = ("encoder", "mlp", "unet")


def build_encoder(name: str, shape: Sequence[int], width: int, depth: int) -> nn.Module:
    """The features ``f(x, t) -> (N, D)`` called ``name``, for samples of this shape.

    Args:
        name: encoder, mlp, or unet: a U-Net, its last map at a quarter of the size, flattened.
        shape: Shape of one sample.
        width: Channels at the finest size, or units per layer.
        depth: Layers or residual blocks per size, or hidden layers.

    Raises:
        UserError: If the name is unknown, or the network cannot take samples of this shape.
    """
    if name not in ENCODERS:
        raise unknown("network", name, ENCODERS)
    if name == "mlp":
        return TimedMLP(shape, width, depth)
    if len(shape) != 3:
        raise UserError(f"the {name} takes images, not samples of shape {tuple(shape)}: take `network='mlp'`")
    return Encoder(shape, width, depth, energies=True) if name == "encoder" else UNetFeatures(shape, width, depth)
