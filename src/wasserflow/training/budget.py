"""When a run ends, and how far it has come."""

from dataclasses import asdict, dataclass

from wasserflow._core.errors import UserError
from wasserflow._core.settings import Count, Positive, settings

__all__ = ["Budget", "Progress"]


@dataclass
class Progress:
    """What a run has used up so far, resumed parts included.

    Args:
        images: Real samples drawn.
        steps: Steps of the method.
        seconds: Wall time of training.
        cpu_seconds: Process CPU time of training.
    """

    images: int = 0
    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@settings
class Budget:
    """When a training ends: at the first step after one of these totals is reached; at least one must be given.

    The budget decides when training stops, and nothing else but the learning-rate decay (a method's ``decay``).

    Args:
        images: Real samples to see, in total: images, points or rows, each counted as often as it is drawn.
        minutes: Wall time of training, in total.
        cpu_minutes: Process CPU time of training, in total: independent of other load on the machine.

    Example:
        >>> wf.train(model, "mnist", budget=wf.Budget(minutes=20), out="runs/mnist")
        >>> wf.resume("runs/mnist", budget=wf.Budget(minutes=40))  # 20 more
    """

    images: Count | None = None
    minutes: Positive | None = None
    cpu_minutes: Positive | None = None

    def __post_init__(self) -> None:
        if not any(asdict(self).values()):
            raise UserError("a run needs a budget: give `images`, `minutes` or `cpu_minutes`")

    def done(self, progress: Progress) -> float:
        """The share of the budget that is used up: the run ends once it is 1 or more."""
        used = (progress.images, progress.seconds / 60, progress.cpu_seconds / 60)
        limits = (self.images, self.minutes, self.cpu_minutes)
        return max(a / b for a, b in zip(used, limits, strict=True) if b is not None)
