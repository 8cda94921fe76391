"""Noise that depends on a seed and on the sample's number only, not on how samples are batched."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["derive_seed", "sample_noise"]

BLOCK = 1024  # samples that share a generator; always drawn whole, so that a prefix stays a prefix


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def sample_noise(seed: int, start: int, stop: int, shape: Sequence[int], *, uniform: bool = False) -> Tensor:
    """Noise of the samples ``start..stop-1``: N(0, I), or uniform on [-1, 1]; float32 on the CPU.

    Returns:
        A tensor with shape (stop - start, *shape).
    """
    blocks = []
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        rng = torch.Generator().manual_seed(derive_seed("sample", seed, block))
        draw = torch.rand if uniform else torch.randn
        blocks.append(draw(BLOCK, *shape, generator=rng))
    first = start // BLOCK * BLOCK
    noise = torch.cat(blocks)[start - first : stop - first] if blocks else torch.empty(0, *shape)
    return noise.mul(2).sub(1) if uniform else noise
