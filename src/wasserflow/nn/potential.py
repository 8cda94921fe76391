r"""Scalar potentials ``psi(x, t)`` over time-conditional networks, with any head.

A head turns a network ``f`` into a number per point:

=========== ========================== =====================================================================
scalar      ``F = w . f(x, t)``        Energy Matching (Balcerak et al., 2025), arXiv 2504.10612
autoencoder ``F = 1/2 |x - U(x,t)|^2`` Should EBMs Model the Energy or the Score? (Salimans & Ho, 2021)
dot         ``F = x . U(x, t)``        the same; Dual Score Matching (Guth et al., 2025), arXiv 2506.05310
=========== ========================== =====================================================================

where U has the shape of x.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from wasserflow._core.errors import UserError, unknown
from wasserflow.nn.exact import Exact
from wasserflow.nn.timed import Encoder, TimedMLP
from wasserflow.nn.unet import UNet
from wasserflow.path import Path, mean_and_deviation, over, squared_norm

__all__ = ["HEADS", "NETWORKS", "Autoencoder", "Dot", "Potential", "Scalar", "build_energy"]


class Scalar(nn.Module):
    """``F = w . f(x, t)``, one linear map of the network's features."""

    def __init__(self, network: nn.Module, features: int) -> None:
        super().__init__()
        self.network = network
        self.head = Exact(nn.Linear(features, 1, bias=False))  # a constant has no gradient

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(N, *shape) and (N,) to (N,)."""
        return self.head(self.network(x, t, label)).squeeze(1)


class Autoencoder(nn.Module):
    """``F = 1/2 |x - U(x, t)|^2``, the error of an autoencoder."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(N, *shape) and (N,) to (N,)."""
        return squared_norm(x - self.network(x, t, label).view_as(x)) / 2


class Dot(nn.Module):
    """``F = x . U(x, t)``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(N, *shape) and (N,) to (N,)."""
        return (x * self.network(x, t, label).view_as(x)).flatten(1).sum(1)


class _Lifted(nn.Module):
    """Features of a `TimedMLP` mapped linearly to the shape of x."""

    def __init__(self, network: TimedMLP, size: int) -> None:
        super().__init__()
        self.network = network
        self.out = Exact(nn.Linear(network.features, size))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.out(self.network(x, t, label))


HEADS = ("scalar", "autoencoder", "dot")
NETWORKS = ("encoder", "mlp", "unet", "unet-paper")


def build_energy(
    network: str,
    head: str,
    shape: Sequence[int],
    width: int,
    depth: int,
    scale: float = 1000.0,
    classes: int = 0,
    dropout: float = 0.0,
) -> nn.Module:
    """A network of that name under a head of that name, ``F(x, t, label) -> (N,)``.

    Args:
        network: One of `NETWORKS`.
        head: One of `HEADS`.
        shape: Shape of one point.
        width: Channels at the finest size, or units per layer.
        depth: Layers or residual blocks per size, or hidden layers.
        scale: Factor on times before they are embedded.
        classes: Number of labels.
        dropout: Dropout rate of the U-Nets.

    Raises:
        UserError: If a name is unknown, or the network does not suit the head or the points.
    """
    if network not in NETWORKS:
        raise unknown("network", network, NETWORKS)
    if head not in HEADS:
        raise unknown("potential", head, HEADS)
    if network != "mlp" and len(shape) != 3:
        raise UserError(f"the {network} takes images, not samples of shape {tuple(shape)}: take `network='mlp'`")
    if network == "encoder":
        if head != "scalar":
            raise UserError(f"the encoder gives no image, as `potential={head!r}` needs: take `network='unet'`")
        encoder = Encoder(shape, width, depth, scale, classes)
        return Scalar(encoder, encoder.features)
    if network == "mlp":
        mlp = TimedMLP(shape, width, depth, scale, classes)
        if head == "scalar":
            return Scalar(mlp, mlp.features)
        full: nn.Module = _Lifted(mlp, prod(shape))
    else:
        if head == "scalar":
            raise UserError(f"the {network} gives an image: take `potential='dot'` or `potential='autoencoder'`")
        channels = (2, 2, 2) if network == "unet-paper" else (1, 2, 2)
        full = UNet(shape, width, channels, depth, p=dropout, scale=scale, classes=classes)
    return Autoencoder(full) if head == "autoencoder" else Dot(full)


class Potential(nn.Module):
    r"""``psi(x, t)``: what a Gaussian with the data's mean and variance needs, plus what the network adds.

    With data of mean m and variance sigma^2 per dimension, x has variance ``V = mu^2 sigma^2 + s^2`` around ``mu m``.
    The first two terms below are the potential of the best field that is linear in x, and what that leaves of the
    velocity has the standard deviation ``beta / sqrt(V)`` per dimension:

        ``psi = mu' m.x + alpha/2 |x - mu m|^2 + beta F((x - mu m)/sqrt(V), t)``,
        ``alpha = (mu mu' sigma^2 + s s')/V``,  ``beta = sigma (mu' s - mu s')``.

    So the network sees points of unit variance, its gradient is asked for values of unit variance, and for Gaussian
    data it has nothing to learn: the preconditioning of "Elucidating the Design Space of Diffusion-Based Generative
    Models" (Karras et al., 2022, arXiv 2206.00364), for potentials. Without it, ``psi = F(x, t)``.

    Args:
        energy: ``F(x, t, label) -> (N,)``.
        shape: Shape of one point.
        path: The path that the points come from.
        timed: Whether F is time-conditional.
        preconditioned: Whether the terms beside F are added.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, energy: nn.Module, shape: Sequence[int], path: Path, *, timed: bool = True, preconditioned: bool = True
    ) -> None:
        super().__init__()
        self.energy = energy
        self.path = path
        self.timed = timed
        self.preconditioned = preconditioned
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("std", torch.ones(()))

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Take the data's mean, and their standard deviation over all dimensions, from points (N, *shape)."""
        mean, std = mean_and_deviation(x)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """(N, *shape), times (N,), and labels (N,) with -1 for none, to (N,)."""
        time = t if self.timed else torch.zeros_like(t)
        if not self.preconditioned:
            return self.energy(x, time, label)
        path, sigma = self.path, self.std
        mu, s, mu_dot, s_dot = path.mu(t), path.s(t), path.mu_dot(t), path.s_dot(t)
        variance = (mu * sigma) ** 2 + s**2
        alpha = (mu * mu_dot * sigma**2 + s * s_dot) / variance
        beta = sigma * (mu_dot * s - mu * s_dot)
        centred = x - over(mu, x) * self.mean
        along = mu_dot * (self.mean * x).flatten(1).sum(1)
        energy = self.energy(centred * over(variance.rsqrt(), x), time, label)
        return along + alpha / 2 * squared_norm(centred) + beta * energy
