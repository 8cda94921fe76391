"""What a method can do beside training and sampling: each is declared by inheriting from one of these, and asked for.

Whoever draws, measures or stores a model asks ``isinstance(model, GivesLogRatio)`` and knows no method by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow.field.base import Field
from wasserflow.nn.potential import Potential
from wasserflow.path import Path
from wasserflow.ratio import RatioLoss

__all__ = ["ComparesWithData", "GivesField", "GivesLogDensity", "GivesLogRatio", "Reference"]


class GivesLogRatio(ABC):
    """It has learned ``d = log p/q``, p the data and q the particles."""

    ratio_loss: RatioLoss

    @abstractmethod
    def log_ratio(self, x: Tensor, *, batch: int = 1000) -> Tensor:
        """``d(x)``, with shape (N,), at points (N, *shape) in model space."""


class GivesField(ABC):
    """Its particles move along one field, whatever the time."""

    @property
    @abstractmethod
    def field(self) -> Field:
        """What moves the particles at the end of the training."""


class GivesLogDensity(ABC):
    """It has learned a potential ``psi(x, t)`` along a path, from which densities can be read."""

    shape: tuple[int, ...]
    path: Path
    potential: Potential

    @abstractmethod
    def log_density(self, x: Tensor, *, kind: str = "density", time: float = ..., label: int = -1) -> Tensor:
        """One number per point (N, *shape), with shape (N,): the higher, the more like the data."""

    @abstractmethod
    def velocity(self, x: Tensor, t: float) -> Tensor:
        """``grad psi(x, t)``, with the shape of the points (N, *shape)."""

    @abstractmethod
    def check_density(self, what: str) -> None:
        """Raise a `UserError` if psi is not that of the path's density; ``what`` says what needs it."""

    @abstractmethod
    def blend(self, other: "GivesLogDensity", share: float) -> None:
        """Draw from ``p^(1 - share) p_other^share``, normalised, from now on."""


class Reference:
    """The data that sampling compares its particles with, and what has been computed of them before.

    Args:
        draw: ``draw(n)`` gives n training samples in model space, the same on every call; None where there are no data.
        known: What has been computed of the data and the weights, by name; grows, and is stored with a run.
    """

    def __init__(self, draw: Callable[[int], Tensor] | None = None, known: Mapping[str, Tensor] | None = None) -> None:
        self.draw = draw
        self.known = dict(known or {})

    def data(self, n: int) -> Tensor:
        """``n`` training samples in model space.

        Raises:
            UserError: If there are none.
        """
        if self.draw is None:
            raise UserError(
                "this method compares its particles with data: train it, load a run, or set model.reference"
            )
        return self.draw(n)

    @torch.no_grad()
    def get(self, name: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What is known under ``name/``, computed where it is not."""
        prefix = f"{name}/"
        if not any(key.startswith(prefix) for key in self.known):
            self.known |= {prefix + part: value for part, value in compute().items()}
        return {key.removeprefix(prefix): value for key, value in self.known.items() if key.startswith(prefix)}


class ComparesWithData(ABC):
    """It needs the data when it draws samples."""

    reference: Reference

    @abstractmethod
    def study(self) -> None:
        """Compute once, into ``reference``, what drawing samples takes from the data."""
