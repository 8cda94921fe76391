"""Settings of VAPO: of training, in groups, the recipes that fill them, and of sampling."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from wasserflow._core.errors import UserError
from wasserflow._core.settings import Count, Decay, Name, NonNegative, Positive, Share, Whole, settings
from wasserflow.method.base import MethodConfig, Recipe, Sampling
from wasserflow.nn.potential import HEADS, NETWORKS
from wasserflow.potential.engine import ENGINES
from wasserflow.potential.objective import OBJECTIVES

__all__ = ["RECIPES", "VAPOConfig", "VAPOSampling"]

WITH_DROPOUT = ("unet", "unet-paper")


@settings
class Matching:
    """What is minimised.

    Args:
        objective: fm (the energy functional, its innovation term integrated by parts: least variance), vapo (the
            published energy loss), action-matching, or vapo-tmlr (the loss of the authors' second code, which has
            another minimiser).
        weight: Weight of a time: one, or s for the path's noise level, which tames vapo if the path ends without noise.
        literal: Centre the innovation over the batch, as published, instead of in closed form. A batch then has a
            single time, because over several the loss has no minimum: psi's time-dependent offset is unconstrained.
        pairing: Noise and data of a pair are independent, or paired by optimal transport in the batch (ot: straighter
            paths, but psi gives no density).
        time_score: Weight of a loss that fits the time derivative of the log-density to the innovation, and so fixes
            the density of one mode relative to another; 0: none.
    """

    objective: Annotated[str, Name("objective", OBJECTIVES)] = "fm"
    weight: Literal["one", "s"] = "one"
    literal: bool = False
    pairing: Literal["independent", "ot"] = "independent"
    time_score: NonNegative = 0.0

    def __post_init__(self) -> None:
        if self.pairing == "ot" and self.objective not in ("fm", "action-matching"):
            raise UserError(f"`pairing='ot'` is for fm and action-matching: {self.objective} needs independent noise")
        if self.pairing == "ot" and self.time_score:
            raise UserError("`time_score` needs independent noise: leave out `pairing='ot'`")


@settings
class Noise:
    """The path from noise to data.

    Args:
        path: Path from noise to data: linear, vp (variance preserving) or log-homotopy.
        prior_width: Standard deviation of the noise at the start of log-homotopy.
        likelihood_width: Standard deviation, approximately, of the noise left in the data at the end of log-homotopy.
        margin: Times are drawn between `margin` and 1 - `margin`.
    """

    path: Literal["linear", "vp", "log-homotopy"] = "linear"
    prior_width: Positive = 1.0
    likelihood_width: Positive = 0.01
    margin: Annotated[float, Interval(gt=0, lt=0.5)] = 1e-3


@settings
class Energy:
    """The potential's network.

    Args:
        network: Network of the potential: encoder (images: strided convolutions), unet or unet-paper (images), or mlp.
        width: Channels at the finest size (images), or units per layer (mlp).
        depth: Layers or residual blocks per size (images), or hidden layers (mlp).
        dropout: Dropout rate of the U-Nets.
        potential: Head that turns the network into a scalar: scalar (encoder, mlp), autoencoder or dot (unet, mlp).
        timed: Make the potential time-conditional; without it psi has no time, and is that of no path.
        time_scale: Factor on times before they are embedded.
        preconditioned: Train the network only on what a Gaussian with the data's mean and variance does not explain.
        classes: Number of labels to condition the potential on; 0: none.
    """

    network: Annotated[str, Name("network", NETWORKS)] = "encoder"
    width: Count = 32
    depth: Count = 2
    dropout: Decay = 0.0
    potential: Annotated[str, Name("potential", HEADS)] = "scalar"
    timed: bool = True
    time_scale: Positive = 1000.0
    preconditioned: bool = True
    classes: Whole = 0

    def __post_init__(self) -> None:
        if self.dropout and self.network not in WITH_DROPOUT:
            takers = " and ".join(WITH_DROPOUT)
            raise UserError(f"`dropout` is for the networks {takers}: {self.network} has none, take `dropout=0`")


@settings
class Optimiser:
    """How weights are updated.

    Args:
        engine: How second derivatives are computed.
        optimizer: adam, or clipped-adam: gradient entries are clipped at 3 of their standard deviations plus 0.1.
        lr: Learning rate.
        betas: Decay rates of Adam's first and second moments.
        clip: Largest norm of the gradient, which is scaled down to it; 0: no limit.
        warmup: Images over which the learning rate grows linearly to `lr`.
        ema: Half-life of the EMA weights in images, at most a twentieth of the images seen; 0: no EMA.
    """

    engine: Annotated[str, Name("engine", ENGINES)] = "double-backward"
    optimizer: Literal["adam", "clipped-adam"] = "adam"
    lr: Positive = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    clip: NonNegative = 0.0
    warmup: Whole = 0
    ema: Whole = 20_000


@settings
class Contrast:
    """The contrastive phase of Energy Matching, after which exp(psi / temperature) is the density of the data.

    Args:
        contrast: Weight of the contrastive loss; 0: no contrastive phase.
        contrast_after: Images after which the phase begins.
        contrast_ema: Half-life of the EMA weights in images during the phase; 0: `ema`, as before.
        temperature: Temperature of the density, and of the Langevin chains that the phase learns from.
        chain_steps: Steps of a chain.
        chain_step_size: Step size of a chain.
    """

    contrast: NonNegative = 0.0
    contrast_after: Whole = 0
    contrast_ema: Whole = 0
    temperature: Positive = 0.1
    chain_steps: Count = 75
    chain_step_size: Positive = 0.025


@settings
class VAPOConfig(MethodConfig):
    """Settings of VAPO.

    Args:
        flips: Flip half of the images left to right at random.
    """

    batch: Count = 32
    decay: Share = 0.3
    flips: bool = False
    matching: Matching = Matching()
    noise: Noise = Noise()
    energy: Energy = Energy()
    optimiser: Optimiser = Optimiser()
    phase: Contrast = Contrast()

    def __post_init__(self) -> None:
        super().__post_init__()
        energy = self.energy
        if self.matching.time_score and not energy.timed:
            raise UserError("`time_score` needs a time-conditional network: leave out `timed=False`")
        if self.phase.contrast and (energy.timed or energy.preconditioned or self.noise.path != "linear"):
            raise UserError(
                "`contrast` needs one potential for all times of the linear path: "
                "add `timed=False` and `preconditioned=False`"
            )
        if self.optimiser.engine == "compiled" and energy.dropout:
            raise UserError("the compiled engine has no dropout: take another `engine`, or `dropout=0`")


@settings
class VAPOSampling(Sampling):
    """How noise is carried to data.

    Args:
        solver: euler, heun or rk4 (fixed steps of 1, 2 or 4 gradients of the potential), or dopri5 (adaptive).
        steps: Fixed steps from t = 0 to 1; past 1, and from a later `begin`, steps of the same length.
        tolerance: Relative and absolute tolerance of dopri5.
        control: Step size of dopri5: sample (each sample has its own) or batch (one for all: samples depend on the
            batch).
        begin: Time to start at; given samples are noised to that time first.
        end: Time to stop at; past 1 the field is that of t = 1.
        corrections: Langevin steps with the score after each fixed step.
        snr: Length of a Langevin step: 2 (snr s(t))^2, s the noise of the path at that time.
        label: Label of the samples, for a run with `classes`; -1: no label.
        guidance: How far to go past the label's potential, away from the potential without label.
        mask: Keep these pixels of given samples: left, right, top, bottom, border, checkerboard, or a .png or .npy
            file of the image's size whose non-zero pixels are kept.
        interpolate: Draw rows of this many samples along the great circle between two draws of noise; 0: none.
    """

    solver: Literal["euler", "heun", "rk4", "dopri5"] = "heun"
    steps: Count = 20
    tolerance: Positive = 1e-3
    control: Literal["sample", "batch"] = "sample"
    begin: Annotated[float, Interval(ge=0, le=1)] = 0.0
    end: Positive = 1.0
    corrections: Whole = 0
    snr: Positive = 0.16
    label: Annotated[int, Ge(-1)] = -1
    guidance: float = 0.0
    mask: str = ""
    interpolate: Whole = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.begin < self.end:
            raise UserError(f"`begin` must lie before `end`, not at {self.begin} for {self.end}")
        if self.corrections and self.solver == "dopri5":
            raise UserError("`corrections` need fixed steps: take another `solver` than dopri5")
        if self.guidance and self.label < 0:
            raise UserError("`guidance` needs a `label`")
        if self.interpolate and (self.interpolate < 2 or self.mask):
            raise UserError("`interpolate` needs at least 2 samples a row, and no `mask`")


FOR_VECTORS = {"batch": 500, "network": "mlp", "width": 128, "depth": 3, "time_scale": 100.0, "lr": 2e-3}


def _default_images(shape: Sequence[int]) -> Mapping[str, object]:
    return {}


def _default_vectors(shape: Sequence[int]) -> Mapping[str, object]:
    return FOR_VECTORS


def _paper_v1(shape: Sequence[int]) -> Mapping[str, object]:
    """The energy loss of the first paper with its batch covariance, on the log-homotopy, and a potential without time.

    That potential has one value for all times: its minimiser is not the potential of the path at any time, so no
    density is read off it. The network is ours, since the paper's is not published.
    """
    return {
        **({} if len(shape) == 3 else FOR_VECTORS),
        "objective": "vapo",
        "path": "log-homotopy",
        "timed": False,
        "preconditioned": False,
        "literal": True,
        "decay": 0.0,
    }


def _paper_tmlr(shape: Sequence[int]) -> Mapping[str, object]:
    """What the code published with Density Homotopy Matching does on CIFAR-10."""
    return {
        "batch": 64,
        "decay": 0.0,
        "flips": True,
        "objective": "vapo-tmlr",
        "margin": 1e-5,
        "network": "unet-paper",
        "width": 128,
        "depth": 4,
        "dropout": 0.3,
        "potential": "autoencoder",
        "time_scale": 1.0,
        "preconditioned": False,
        "optimizer": "clipped-adam",
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "warmup": 5000 * 64,
        "ema": 443_000,  # 0.9999 per step of 64
    }


def _energy_matching(shape: Sequence[int]) -> Mapping[str, object]:
    """Optimal transport, then the contrastive phase, at the authors' settings for MNIST; the network is ours.

    Theirs is a U-Net under a vision transformer, and their contrastive loss takes a batch of its own.
    """
    return {
        **({} if len(shape) == 3 else FOR_VECTORS),
        "batch": 128,
        "decay": 0.0,
        "pairing": "ot",
        "timed": False,
        "preconditioned": False,
        "lr": 1e-4,
        "betas": (0.9, 0.95),
        "clip": 1.0,
        "warmup": 10_000 * 128,
        "ema": 88_700,  # 0.999 per step of 128
        "contrast": 1e-3,
        "contrast_after": 50_000 * 128,
        "contrast_ema": 8_830,  # 0.99 per step of 128
    }


RECIPES: Mapping[str, Recipe] = {
    "default": Recipe("the best quality per CPU minute that was measured", _default_images, _default_vectors),
    "paper-v1": Recipe("the energy loss of the first paper, a potential without time", _paper_v1, _paper_v1),
    "paper-tmlr": Recipe("the authors' second code on CIFAR-10, for a GPU", _paper_tmlr),
    "energy-matching": Recipe("optimal transport, then a contrastive phase", _energy_matching, _energy_matching),
}
