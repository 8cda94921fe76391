"""3x3 convolutions that take in the resizing beside them: the same numbers for 2.25 times fewer multiplications.

A mean over 2x2 blocks after a convolution, and an enlargement by 2 before one, are sums of shifted copies of its
kernel: one 4x4 kernel, at a quarter of the places.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d, interpolate, pad

__all__ = ["convolve_and_halve", "enlarge_and_convolve"]


def convolve_and_halve(x: Tensor, weight: Tensor) -> Tensor:
    """A 3x3 convolution, then means over 2x2 blocks, cut off at the border.

    It equals ``avg_pool2d(conv2d(x, weight, padding=1), 2, ceil_mode=True)``.

    Args:
        x: (N, C, H, W).
        weight: (D, C, 3, 3).

    Returns:
        (N, D, H/2, W/2), rounded up.
    """
    if x.shape[2] % 2 or x.shape[3] % 2:  # a block that is cut off has another kernel
        return avg_pool2d(conv2d(x, weight, padding=1), 2, ceil_mode=True)
    return conv2d(x, _spread(weight) / 4, stride=2, padding=1)


def enlarge_and_convolve(x: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """A nearest-neighbour resize to ``size``, then a 3x3 convolution.

    It equals ``conv2d(interpolate(x, size, mode="nearest"), weight, padding=1)``.

    Args:
        x: (N, C, h, w).
        weight: (D, C, 3, 3).
        size: (H, W).

    Returns:
        (N, D, H, W).
    """
    if tuple(size) != (2 * x.shape[2], 2 * x.shape[3]):
        return conv2d(interpolate(x, tuple(size), mode="nearest"), weight, padding=1)
    return conv_transpose2d(x, _spread(weight.transpose(0, 1).flip(2, 3)), stride=2, padding=1)


def _spread(weight: Tensor) -> Tensor:
    """Kernels (D, C, 3, 3) convolved with 2x2 ones: (D, C, 4, 4)."""
    wide = pad(weight, (0, 1)) + pad(weight, (1, 0))
    return (pad(wide, (0, 0, 0, 1)) + pad(wide, (0, 0, 1, 0))).contiguous(memory_format=torch.channels_last)
