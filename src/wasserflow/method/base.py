"""What a method is to whatever trains it, stores it or samples from it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf
from numbers import Integral
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from wasserflow._core.errors import UserError, check_seed, unknown
from wasserflow._core.settings import Count, Share, leaves, settings, with_leaves

__all__ = ["Drawn", "Method", "MethodConfig", "Sampling", "milestones", "positive"]


@settings
class MethodConfig:
    """What the settings of every method hold; each setting is a flag of the command line.

    Args:
        batch: Real images per batch, over all processes together.
        decay: Share of the budget, at its end, over which learning rates fall in a straight line to 0.
    """

    batch: Count = 64
    decay: Share = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that do not fit together."""


@settings
class Sampling:
    """How samples are drawn; each setting is a flag of ``wasserflow sample``. One network evaluation needs none."""

    def __post_init__(self) -> None:
        """Refuse settings that do not fit together."""


class Drawn(NamedTuple):
    """A batch of samples.

    Args:
        x: Samples in model space, (B, *shape).
        evaluations: Evaluations of a network, with or without its gradient, that each of them cost.
    """

    x: Tensor
    evaluations: float = 1


def positive(config: object, *names: str) -> None:
    """Raise a `UserError` unless each of these fields of a config is above zero and finite."""
    for name in names:
        value = getattr(config, name)
        if not 0 < value < inf:
            raise UserError(f"--{name.replace('_', '-')} must be a finite number above 0, not {value}")


def milestones(config: object, name: str) -> None:
    """Raise a `UserError` unless this field of a config holds growing numbers of images."""
    value = getattr(config, name)
    if any(a >= b for a, b in pairwise((0, *value))):
        raise UserError(f"--{name.replace('_', '-')} must be growing numbers of images above 0, not {value}")


def _check_shape(shape: Sequence[int]) -> None:
    whole = isinstance(shape, Sequence) and all(isinstance(size, Integral) and size > 0 for size in shape)
    if not whole or len(shape) not in (1, 3):
        raise UserError(f"samples have the shape (d,) or (C, H, W), of whole numbers above 0, not {shape!r}")


Settings = TypeVar("Settings", bound=MethodConfig)


class Method(nn.Module, ABC, Generic[Settings]):
    """Networks for samples of one shape, a step that trains them, and samples.

    Args:
        config: The method's settings.
        shape: One sample in model space: ``(C, H, W)`` in [-1, 1], or ``(d,)``.
        seed: Of the initial weights.

    Raises:
        UserError: If the shape is another, or the seed out of range.

    Attributes:
        config: The method's settings.
        shape: As given.
    """

    Config: ClassVar[type[MethodConfig]]
    Sampling: ClassVar[type[Any]] = Sampling
    from_samples: ClassVar[bool] = False  # whether sampling can start from given samples

    def __init__(self, config: Settings, shape: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        _check_shape(shape)
        check_seed(seed)
        self.config = config
        self.shape = tuple(shape)
        self.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.build()
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @classmethod
    @abstractmethod
    def recipe(cls, name: str, shape: Sequence[int]) -> Settings:
        """The settings of that name for samples of this shape; every method has those called ``default``.

        Raises:
            UserError: If there are none of that name for this shape.
        """

    @abstractmethod
    def build(self) -> None:
        """Make the networks, as attributes, from ``config`` and ``shape``; the random numbers are seeded."""

    @abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One optimiser per network that is trained, by the network's name."""

    @abstractmethod
    def step(self, data: Any, fit: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """One training step.

        Args:
            data: Its ``next().x`` is this process's part of a batch in model space, of ``batch`` samples; ``seen``
                counts the images drawn so far, by all processes.
            fit: ``fit.NAME.minimise(loss)`` takes an optimiser's step of the network ``NAME``.
            rng: The step's random numbers, on the device.

        Returns:
            Scalars to log, on the device, without gradients.
        """

    @abstractmethod
    def draw(self, n: int, seed: int, batch: int, how: Any, start: Tensor | None) -> Iterator[Drawn]:
        """``n`` samples in batches, drawn as ``how`` (a ``Sampling``) says, from ``start`` (n, *shape) where given."""

    @property
    def sampling(self) -> Any:
        """How samples are drawn unless told otherwise."""
        return self.Sampling()

    def preview(self, n: int) -> Tensor:
        """At most ``n`` samples to look at while training goes on, always of the same noise."""
        return self.sample(n)

    def averages(self) -> dict[str, int]:
        """Networks of which a moving average is kept, with its half-life in images."""
        return {}

    def lr_factor(self, seen: int) -> float:
        """What the learning rates are multiplied with once ``seen`` images have been seen."""
        return 1.0

    def cost_changes(self) -> tuple[int, ...]:
        """Images seen from which on a step takes another time than before, growing."""
        return ()

    @classmethod
    def for_shape(cls, shape: Sequence[int], *, recipe: str = "default", seed: int = 0, **overrides: Any) -> Self:
        """A freshly initialised model for samples of this shape.

        Args:
            shape: ``(C, H, W)`` or ``(d,)``.
            recipe: ``default``, or another that the method has: ``paper`` for the authors' settings.
            seed: Of the initial weights.
            overrides: Fields of the config that differ from the recipe.

        Raises:
            UserError: If a setting is unknown or out of range, or the shape of another kind.
        """
        _check_shape(shape)
        config = cls.recipe(recipe, shape)
        return cls(with_leaves(config, **overrides), shape, seed)

    def sample(
        self, n: int, *, seed: int = 0, batch: int = 1000, start: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Draw ``n`` samples; sample i depends on ``(seed, i)`` alone, so fewer are a prefix of more.

        Args:
            n: How many.
            seed: Of the noise.
            batch: Samples drawn at a time.
            start: Where to start from instead of noise, with shape (n, *shape), in model space.
            settings: Fields of the method's ``Sampling`` that differ from its defaults.

        Returns:
            Float samples in model space, with shape (n, *shape).

        Raises:
            UserError: If a setting is unknown or out of range, or the method cannot start from given samples.
        """
        drawn = self.stream(n, seed=seed, batch=batch, start=start, **settings)
        return torch.cat([part.x for part in drawn])

    def stream(
        self, n: int, *, seed: int = 0, batch: int = 1000, start: Tensor | None = None, **settings: Any
    ) -> Iterator[Drawn]:
        """The samples of `sample`, in batches, with what they cost."""
        if not all(isinstance(count, Integral) and count >= 1 for count in (n, batch)):
            raise UserError(f"the number of samples and the batch are whole numbers above 0, not {n} and {batch}")
        if start is not None and not self.from_samples:
            raise UserError(f"{type(self).__name__} draws from noise: it cannot start from given samples")
        if start is not None and start.shape != (n, *self.shape):
            raise UserError(f"the samples to start from have shape {tuple(start.shape)}, not {(n, *self.shape)}")
        how = self.sampling
        for name in settings:
            if name not in leaves(how):
                raise unknown("setting of sampling", name, leaves(how))
        return self.draw(n, seed, batch, with_leaves(how, **settings), start)
