"""The ladder of image sizes that strided networks climb."""

from collections.abc import Sequence

__all__ = ["ladder"]


def ladder(side: Sequence[int], smallest: int = 4) -> list[tuple[int, int]]:
    """Sizes from the image's (H, W) down, halved and rounded up while a side exceeds ``smallest``.

    >>> ladder((28, 28))
    [(28, 28), (14, 14), (7, 7), (4, 4)]
    """
    sizes = [(side[0], side[1])]
    while max(sizes[-1]) > smallest:
        h, w = sizes[-1]
        sizes.append((-(-h // 2), -(-w // 2)))
    return sizes
