"""Settings of DMMD: of training, in groups, the recipes that fill them, and of sampling."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from wasserflow._core.errors import UserError
from wasserflow._core.settings import Count, Decay, Name, NonNegative, Positive, Share, Whole, settings
from wasserflow.kernel.by_name import KERNELS
from wasserflow.method.base import MethodConfig, Recipe, Sampling
from wasserflow.nn import ENCODERS

__all__ = ["RECIPES", "DMMDConfig", "DMMDSampling"]

Level = Annotated[float, Interval(gt=0, le=1)]


@settings
class Features:
    """The feature network.

    Args:
        network: Feature network: encoder or unet (images), or mlp (vectors).
        width: Channels at the finest size (images), or units per layer (mlp).
        depth: Layers (encoder) or residual blocks (unet) per size, or hidden layers (mlp).
    """

    network: Annotated[str, Name("network", ENCODERS)] = "encoder"
    width: Count = 32
    depth: Count = 1


@settings
class Discrepancy:
    """What the features maximise.

    Args:
        kernel: Kernel on the features.
        bound: mmd, or kale: a lower bound of the KL divergence (linear kernel only).
        lam: KALE's lambda: the KL divergence at 0, half the squared MMD at infinity.
    """

    kernel: Annotated[str, Name("kernel", KERNELS)] = "linear"
    bound: Literal["mmd", "kale"] = "mmd"
    lam: Positive = 1.0

    def __post_init__(self) -> None:
        if self.bound == "kale" and self.kernel != "linear":
            raise UserError(
                f"`bound='kale'` is for `kernel='linear'`, not {self.kernel}: its witness is solved for in features"
            )


@settings
class Noise:
    """The noise levels that are trained on.

    Args:
        levels: Noise levels per batch.
        together: Levels computed at a time; a smaller number needs less memory and gives the same gradients.
        least_level: Lowest noise level, above 0.
        gap: Distance from a level down to the level r that it is compared with; 1: clean data, as published.
        standardised: Give the noise the data's mean and variance, and the network inputs of mean 0 and variance 1.
            Without it the noise is N(0, I), as published.
    """

    levels: Count = 4
    together: Count = 16
    least_level: Annotated[float, Interval(gt=0, lt=1)] = 0.02
    gap: Level = 0.1
    standardised: bool = True


@settings
class Penalties:
    """What the loss adds to the discrepancy, and how levels are weighted.

    Args:
        penalty: lambda, weight of the penalty on the slope of the witness.
        slope: s, the slope that the penalty asks for; published: 1. With 0 the witness may be flat where x_t does not
            determine its displacement.
        feature_penalty: mu, weight of the squared norm of the features; published: 0.1.
        weighting: Weight of a level's MMD^2: distance (1/W(t), W the mean distance from x_t to x_r, so that the slope
            settles at the same value at all levels) or equal (as published).
    """

    penalty: Positive = 0.5
    slope: NonNegative = 0.0
    feature_penalty: NonNegative = 0.0
    weighting: Literal["distance", "equal"] = "distance"


@settings
class Optimiser:
    """How weights are updated.

    Args:
        lr: Learning rate of Adam.
        betas: Decay rates of Adam's first and second moments.
        ema: Half-life of the EMA weights in images, at most a twentieth of the images seen; 0: no EMA.
    """

    lr: Positive = 7e-4
    betas: tuple[Decay, Decay] = (0.5, 0.99)
    ema: Whole = 5_000


@settings
class Denoising:
    """A network that removes the last noise from images.

    Args:
        denoiser: Width of a U-Net trained beside the features to remove the last noise (images); 0: none.
        denoiser_level: Highest noise level that it learns.
    """

    denoiser: Whole = 0
    denoiser_level: Level = 0.3


@settings
class DMMDConfig(MethodConfig):
    """Settings of DMMD."""

    batch: Annotated[int, Ge(2)] = 32
    decay: Share = 0.3
    features: Features = Features()
    discrepancy: Discrepancy = Discrepancy()
    noise: Noise = Noise()
    penalties: Penalties = Penalties()
    optimiser: Optimiser = Optimiser()
    denoising: Denoising = Denoising()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.denoising.denoiser and not self.noise.least_level < self.denoising.denoiser_level:
            raise UserError(
                f"`denoiser_level` must lie between `least_level` and 1, not at {self.denoising.denoiser_level}"
            )


@settings
class DMMDSampling(Sampling):
    """How DMMD draws samples.

    Args:
        sampler: exact: particles interact, in groups; approximate (a-DMMD): each particle moves alone between mean
            features of data at the level and of data at the level below, which are stored with the run.
        particles: Particles that interact (exact, and in exact steps); samples are drawn in whole groups.
        noise_levels: T, number of noise levels from `noise_level` down, at most the model's `gap` apart.
        steps: N_s, steps per level.
        step_size: Step size, in `step_unit`.
        step_unit: displacement: 1 is the calibrated step, with which the steps of a level add up to 2 (exact) or 1.4
            (approximate) mean displacements from the level to the next, or to 1.5 mean distances if the model was
            trained with a `slope` above 0; absolute: eta in z - eta grad w, the same at all levels, as published.
        noise_level: Noise level to start from, 1 for noise; given samples are noised to it first.
        noise: Noise given samples to `noise_level` first.
        exact_steps: Additional exact steps at the last level (a-DMMD-e), each as long as a step there.
        denoise: Stop the flow at this noise level, and remove the rest of the noise by one step of the denoiser.
        references: Training samples that represent the data.
    """

    sampler: Literal["exact", "approximate"] = "exact"
    particles: Count = 500
    noise_levels: Count = 10
    steps: Count = 10
    step_size: Positive = 1.0
    step_unit: Literal["displacement", "absolute"] = "displacement"
    noise_level: Level = 1.0
    noise: bool = True
    exact_steps: Whole = 0
    denoise: NonNegative = 0.0
    references: Annotated[int, Ge(2)] = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.denoise < self.noise_level:
            raise UserError(f"`denoise` must be 0 or a level below `noise_level`, not {self.denoise}")
        if self.exact_steps and self.denoise:
            raise UserError("`exact_steps` go down to clean data: leave them out, or `denoise`")


SMALL = 16  # pixels a side, up to which a network twice as wide costs little


def _default_images(shape: Sequence[int]) -> Mapping[str, object]:
    return {"width": 64} if max(shape[1:]) <= SMALL else {}


def _default_vectors(shape: Sequence[int]) -> Mapping[str, object]:
    return {"batch": 128, "network": "mlp", "width": 64, "depth": 3, "feature_penalty": 1e-4, "lr": 1e-3}


def _paper(shape: Sequence[int]) -> Mapping[str, object]:
    """The authors' loss, batch, levels and optimiser, with a U-Net of their kind; the noise schedule is ours."""
    return {
        "batch": 64,
        "network": "unet",
        "width": 128,
        "depth": 2,
        "levels": 16,
        "together": 1,
        "decay": 0.0,
        "least_level": 1e-3,
        "gap": 1.0,
        "standardised": False,
        "penalty": 1.0,
        "slope": 1.0,
        "feature_penalty": 0.1,
        "weighting": "equal",
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "ema": 443_000,  # 0.9999 per step of 64
    }


RECIPES: Mapping[str, Recipe] = {
    "default": Recipe("the best quality per CPU minute that was measured", _default_images, _default_vectors),
    "paper": Recipe("the published loss and optimiser, for a GPU", _paper),
}
