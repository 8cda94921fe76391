"""How long a run goes on, and how far it has come."""

import math
from dataclasses import asdict, dataclass

from wasserflow._core.errors import UserError
from wasserflow._core.settings import settings

__all__ = ["Budget", "Progress"]


@dataclass
class Progress:
    """What a run has used up so far, over all its sessions.

    Args:
        images: Real images drawn.
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
    """Totals at the first of which a run ends, at a step boundary.

    Where it ends is all that depends on them, and, with ``--decay``, when learning rates begin to fall.

    Args:
        images: Real images to see, in total.
        minutes: Wall time of training, in total.
        cpu_minutes: Process CPU time of training, in total.
    """

    images: int | None = None
    minutes: float | None = None
    cpu_minutes: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise UserError(f"--{name.replace('_', '-')} must be a finite number above 0, not {value}")
        if not given:
            raise UserError("a run needs a budget: give --images, --minutes or --cpu-minutes")

    def done(self, progress: Progress) -> float:
        """The share used up: the run ends once it is 1 or more."""
        used = (progress.images, progress.seconds / 60, progress.cpu_seconds / 60)
        limits = (self.images, self.minutes, self.cpu_minutes)
        return max(a / b for a, b in zip(used, limits, strict=True) if b is not None)
