"""How DMMD's particles are drawn: the settings, and what sampling knows of the data at a noise level."""

from typing import Literal, NamedTuple

from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.settings import settings
from wasserflow.method.base import Sampling, positive

__all__ = ["DMMDSampling", "Level"]


@settings
class DMMDSampling(Sampling):
    """How DMMD draws samples.

    Args:
        sampler: exact: particles interact, in groups; approximate (a-DMMD): each moves alone between features of data
            at a level and at the next, which are stored with the run.
        particles: How many interact (exact, and in exact steps); samples are drawn in whole groups.
        noise_levels: T, how many levels, from --noise-level down; they should lie no wider apart than a model's --gap.
        steps: N_s, steps per level.
        step_size: In units of what suits most data: steps of a level that add up to 2 (exact) or 1.4 (approximate) mean
            displacements from noised data of the level to the next; as published (--slope 1), to 1.5 distances.
        noise_level: Where to start, from 1 (noise) down; given samples (--from) are noised to it first.
        no_noise: Leave given samples as they are.
        exact_steps: Further exact steps at the last level (a-DMMD-e), each as long as a step there.
        denoise: Leave the flow at this noise level, and take the rest of the noise off by one step of the denoiser.
        references: Training samples that stand for the data.
    """

    sampler: Literal["exact", "approximate"] = "exact"
    particles: int = 500
    noise_levels: int = 10
    steps: int = 10
    step_size: float = 1.0
    noise_level: float = 1.0
    no_noise: bool = False
    exact_steps: int = 0
    denoise: float = 0.0
    references: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "particles", "noise_levels", "steps", "step_size", "noise_level", "references")
        if self.noise_level > 1:
            raise UserError(f"--noise-level must lie between 0 and 1, not {self.noise_level}")
        if not 0 <= self.denoise < self.noise_level:
            raise UserError(f"--denoise must be 0 or a level below --noise-level, not {self.denoise}")
        if self.exact_steps < 0:
            raise UserError(f"--exact-steps must be at least 0, not {self.exact_steps}")
        if self.exact_steps and self.denoise:
            raise UserError("--exact-steps go down to clean data: leave them out, or --denoise")
        if self.references < 2:
            raise UserError(f"--references must be at least 2, not {self.references}")


class Level(NamedTuple):
    """What sampling needs to know of the data at a noise level t.

    Args:
        target: ``phi(x_r, t)`` of data at the level r that t is compared with, (M, D); for the linear kernel their
            mean, (1, D), which is all it sees.
        noised: ``phi(x_t, t)``, the same of data at level t.
        reach: What the gradient of the witness between these two is multiplied with to go from x_t to x_r: with slope 0
            to the mean displacement ``E[x_t - x_r | x_t]``, of which the loss makes it a known multiple; with slope 1,
            where it is none, to the distance W(t) at the mean slope.
        distance: W(t), mean of ``|x_t - x_r|``.
        spread: Standard deviation of clean data, over all dimensions together.
    """

    target: Tensor
    noised: Tensor
    reach: Tensor
    distance: Tensor
    spread: Tensor
