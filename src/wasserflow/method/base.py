"""What a method is to whatever trains it, stores it or samples from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from wasserflow._core.errors import UserError, check_seed, unknown
from wasserflow._core.settings import Count, Share, leaves, settings, with_leaves

__all__ = ["Batch", "Data", "Drawn", "Fit", "Fits", "Method", "MethodConfig", "Recipe", "Sampling"]


@settings
class MethodConfig:
    """Settings that every method has.

    Args:
        batch: Real samples per batch, over all processes together.
        decay: Share of the budget, at its end, over which the learning rates decay linearly to 0.
    """

    batch: Count = 64
    decay: Share = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that do not fit together."""


@settings
class Sampling:
    """Settings with which samples are drawn; single-pass methods have none."""

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


class Batch(Protocol):
    """Data of one batch, or this process's part of it."""

    @property
    def x(self) -> Tensor:
        """Samples in model space, (B, *shape)."""
        ...

    @property
    def label(self) -> Tensor | None:
        """Labels (B,), where the data have them."""
        ...


class Data(Protocol):
    """The data as a step sees them."""

    @property
    def batch(self) -> int:
        """Samples per batch of this process."""
        ...

    @property
    def seen(self) -> int:
        """Samples drawn so far, by all processes."""
        ...

    @property
    def label(self) -> Tensor | None:
        """Labels of all training data (M,), where they have them."""
        ...

    def next(self) -> Batch:
        """The next batch."""
        ...

    def look(self, n: int) -> Tensor:
        """``n`` samples in model space, the same on every call and in every process; they do not count as seen."""
        ...


class Fit(Protocol):
    """A network and its optimiser."""

    def minimise(self, losses: Tensor | Iterable[Tensor]) -> None:
        """One optimiser step down the sum of the losses; gradients are computed for this network alone."""
        ...


class Fits(Protocol):
    """The fit of each network that has an optimiser, as an attribute of the network's name."""

    def __getattr__(self, name: str) -> Fit: ...


@dataclass(frozen=True)
class Recipe:
    """Settings under one name.

    Args:
        about: What they are, in a few words.
        images: The fields that differ from the defaults, for images of a shape ``(C, H, W)``; None: not for images.
        vectors: The same for vectors of a shape ``(d,)``; None: not for vectors.
    """

    about: str
    images: Callable[[Sequence[int]], Mapping[str, object]] | None = None
    vectors: Callable[[Sequence[int]], Mapping[str, object]] | None = None


def _check_shape(shape: Sequence[int]) -> None:
    whole = isinstance(shape, Sequence) and all(isinstance(size, Integral) and size > 0 for size in shape)
    if not whole or len(shape) not in (1, 3):
        raise UserError(f"samples have the shape (d,) or (C, H, W), of whole numbers above 0, not {shape!r}")


Settings = TypeVar("Settings", bound=MethodConfig)


class Method(nn.Module, ABC, Generic[Settings]):
    """Networks for samples of one shape, a step that trains them, and a way to draw samples; the base of all methods.

    A new method defines ``Config`` (its settings), `build`, `optimizers`, `step` and `draw`.

    Args:
        config: The method's settings.
        shape: Shape of one sample in model space: ``(C, H, W)`` in [-1, 1], or ``(d,)``.
        seed: Random seed of the initial weights.

    Raises:
        UserError: If the shape is another, or the seed out of range.

    Attributes:
        config: The method's settings.
        shape: As given.
    """

    Config: ClassVar[type[MethodConfig]]
    Sampling: ClassVar[type[Any]] = Sampling
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "default": Recipe("the defaults of its settings", images=lambda shape: {}, vectors=lambda shape: {})
    }
    watched: ClassVar[tuple[str, ...]] = ()
    """Logged scalars that a progress line shows; the first two where none is named."""
    from_samples: ClassVar[bool] = False
    """Whether sampling can start from given samples."""

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
    def recipe(cls, name: str, shape: Sequence[int]) -> Settings:
        """The settings of that name for samples of this shape; every method has a recipe called ``default``.

        Raises:
            UserError: If there is none of that name for this shape.
        """
        if name not in cls.recipes:
            raise unknown("recipe", name, cls.recipes)
        kind, other = ("images", "vectors") if len(shape) == 3 else ("vectors", "images")
        made_for = {known: one.images if kind == "images" else one.vectors for known, one in cls.recipes.items()}
        make = made_for[name]
        if make is None:
            fitting = ", ".join(known for known, one in made_for.items() if one)
            raise UserError(f"the recipe {name} is for {other}, and these are {kind}: take one of {fitting}")
        return cast(Settings, with_leaves(cls.Config(), **make(shape)))

    @abstractmethod
    def build(self) -> None:
        """Make the networks, as attributes, from ``config`` and ``shape``; the random numbers are seeded."""

    @abstractmethod
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """One optimiser per network that is trained, by the network's name."""

    @abstractmethod
    def step(self, data: Data, fit: Fits, rng: torch.Generator) -> dict[str, Tensor]:
        """One training step.

        Args:
            data: ``data.next().x`` is this process's part of a batch of ``batch`` samples in model space;
                ``data.seen`` counts the samples drawn so far, by all processes.
            fit: ``fit.NAME.minimise(loss)`` takes an optimiser step for the network ``NAME``.
            rng: Random numbers of the step, on the device.

        Returns:
            Scalars to log, on the device, without gradients.
        """

    @abstractmethod
    def draw(self, n: int, seed: int, batch: int, how: Any, start: Tensor | None) -> Iterator[Drawn]:
        """``n`` samples in batches, drawn as ``how`` (a ``Sampling``) says, from ``start`` (n, *shape) where given."""

    @property
    def sampling(self) -> Any:
        """The settings with which samples are drawn by default."""
        return self.Sampling()

    def preview(self, n: int) -> Tensor:
        """At most ``n`` samples to look at during training, always from the same noise."""
        return self.sample(n)

    def averages(self, seen: int = 0) -> dict[str, int]:
        """Networks that have EMA weights, the same throughout, and the half-life in samples after ``seen`` of them."""
        return {}

    def lr_factor(self, seen: int) -> float:
        """The factor on the learning rates once ``seen`` samples have been seen."""
        return 1.0

    def cost_changes(self) -> tuple[int, ...]:
        """Numbers of samples seen at which the cost of a step changes, in growing order."""
        return ()

    def remarks(self) -> list[str]:
        """Sentences on what the training left undone, for example parts of the model that it never reached."""
        return []

    @classmethod
    def for_shape(cls, shape: Sequence[int], *, recipe: str = "default", seed: int = 0, **overrides: Any) -> Self:
        """A freshly initialised model for samples of this shape.

        Args:
            shape: ``(C, H, W)`` or ``(d,)``.
            recipe: A name in the method's ``recipes``: ``default``, or for example ``paper`` for the authors' settings.
            seed: Random seed of the initial weights.
            overrides: Settings that differ from the recipe.

        Raises:
            UserError: If a setting is unknown or out of range, or the recipe is not for this shape.
        """
        _check_shape(shape)
        config = cls.recipe(recipe, shape)
        return cls(with_leaves(config, **overrides), shape, seed)

    def sample(
        self, n: int, *, seed: int = 0, batch: int = 1000, start: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Draw ``n`` samples; sample i depends on ``(seed, i)`` alone, so fewer are a prefix of more.

        Args:
            n: Number of samples.
            seed: Random seed of the noise.
            batch: Samples drawn at a time.
            start: Samples to start from instead of noise, with shape (n, *shape), in model space.
            settings: Settings of the method's ``Sampling`` that differ from its defaults.

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
