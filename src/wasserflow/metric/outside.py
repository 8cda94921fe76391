"""Whether samples lie where the data are at all, whatever the features.

Features do not always tell. Principal components leave out most of what noise consists of, so that noise images
collapse to a point among the data: inside the large balls of outliers (precision 1) and, for photographs, near images
of low contrast (memorised near 1). So samples are also compared with the data in model space, by two numbers: the
distance to the nearest training sample and, for images, the roughness.
"""

import torch
from torch import Tensor

from wasserflow.data.dataset import Dataset
from wasserflow.metric.distance import nearest

__all__ = ["outside", "roughness", "warn_outside"]

QUANTILE = 0.99
SHARE = 0.75
"""Share of samples outside the data from which on a warning says so; a model after a short training stays below it."""

MOST = 500
"""Samples, and held-out data, that are looked at."""

TRAINING, VALUES = 10_000, 2**24
"""Training data, and values in them, that are searched at most."""

BATCH = 1024


def outside(samples: Tensor, held_out: Tensor, train: Tensor) -> Tensor:
    """Which samples are farther from the training data, or rougher, than 99 % of held-out data.

    Args:
        samples: In model space, shape ``(N, *shape)``.
        held_out: Data that were not trained on, shape ``(M, *shape)``.
        train: Training data, shape ``(T, *shape)``; distances are Euclidean, to the nearest of them.

    Returns:
        Booleans, shape ``(N,)``; one or two in a hundred are true for real data.
    """
    both = torch.cat([samples, held_out])
    found = torch.zeros(len(samples), dtype=torch.bool, device=samples.device)
    numbers = [nearest(both.flatten(1), train.flatten(1).split(BATCH))]
    if samples.ndim == 4:
        numbers.append(roughness(both))
    for number in numbers:
        found |= number[: len(samples)] > number[len(samples) :].quantile(QUANTILE)
    return found


def roughness(images: Tensor) -> Tensor:
    r"""How much neighbouring pixels differ, relative to the contrast of an image.

    .. math:: \frac{\overline{(x_{i+1,j} - x_{ij})^2} + \overline{(x_{i,j+1} - x_{ij})^2}}{4\,\overline{(x - \bar x)^2}}

    with the mean colour taken off each channel: about 1 for white noise of any strength, 0.1 for photographs.

    Args:
        images: Shape ``(N, C, H, W)``.

    Returns:
        Float64, shape ``(N,)``, at least 0; 0 for an image of one colour.
    """
    x = images.double()
    x = x - x.mean((2, 3), keepdim=True)
    across = (x[..., 1:] - x[..., :-1]).square().flatten(1).mean(1)
    down = (x[..., 1:, :] - x[..., :-1, :]).square().flatten(1).mean(1)
    contrast = x.square().flatten(1).mean(1)
    return torch.where(contrast > 0, (across + down) / (4 * contrast), 0.0)


def warn_outside(samples: Tensor, data: Dataset, unseen: tuple[str, Tensor]) -> list[str]:
    """A sentence where three quarters of the samples or more lie outside the data, or nothing.

    Args:
        samples: In model space, shape ``(N, *shape)``.
        data: The data set.
        unseen: A split that was not trained on, and the indices of the samples of it to compare with.
    """
    split, index = unseen
    train = data.clean(max(1, min(TRAINING, VALUES // samples[0].numel())))
    held_out = data.form.to_model(data.split(split).x[index[:MOST]])
    share = outside(samples[:MOST], held_out.to(samples.device), train.to(samples.device)).double().mean().item()
    if share < SHARE:
        return []
    noun = data.form.noun
    if not data.form.is_image:
        how, hint = f"farther from the training {noun}", ""
    else:
        how = f"farther from the training {noun}, pixel by pixel, or rougher"
        hint = "; precision and memorised in these features may not show it"
    return [
        f"{share:.0%} of the samples lie outside the data: they are {how} than {QUANTILE:.0%} of held-out {noun}{hint}."
    ]
