"""How noise is carried along a potential's gradient: solvers, correction, guidance, inpainting, interpolation."""

from collections.abc import Callable
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.autograd import value_and_gradient
from wasserflow._core.errors import UserError, unknown
from wasserflow._core.noise import derive_seed, sample_noise
from wasserflow._core.settings import settings
from wasserflow.flows import SOLVERS, flow
from wasserflow.method.base import Sampling, positive
from wasserflow.path import over
from wasserflow.solver import dormand_prince

__all__ = ["VAPOSampling", "carry", "field_of"]

COST = {"euler": 1, "heun": 2, "rk4": 4}
LATEST = 0.99  # the last time at which the score, a quotient that vanishes at 1, is asked for
PARTS = ("left", "right", "top", "bottom", "border", "checkerboard")


@settings
class VAPOSampling(Sampling):
    """How noise is carried to data.

    Args:
        solver: euler, heun or rk4 (fixed steps of one, two or four gradients of the potential), or dopri5 (adaptive).
        steps: How many fixed steps from t = 0 to 1; past 1 and from later on, steps of the same length.
        tolerance: Relative and absolute, of dopri5.
        control: Of dopri5's steps: sample (each sample its own) or batch (one for all, so samples depend on the batch).
        begin: The time to start at; samples given by --from are noised to that time first.
        end: The time to stop at; past 1 the field is held as it is at 1.
        corrections: Langevin steps with the score after each fixed step (annealed Langevin dynamics: Song & Ermon,
            2019, arXiv 1907.05600).
        snr: The length of a Langevin step is 2 (snr s(t))^2, s the noise of the path at that time.
        label: Draw samples of this label, of a run with --classes; -1 for all.
        guidance: How far past the label's potential to go, away from that without label.
        mask: Keep these pixels of the samples given by --from: left, right, top, bottom, border, checkerboard, or a
            .png or .npy file of the image's size whose non-zero pixels are kept.
        interpolate: Draw rows of so many samples along the great circle between two draws of noise; 0 for none.
    """

    solver: str = "heun"
    steps: int = 20
    tolerance: float = 1e-3
    control: str = "sample"
    begin: float = 0.0
    end: float = 1.0
    corrections: int = 0
    snr: float = 0.16
    label: int = -1
    guidance: float = 0.0
    mask: str = ""
    interpolate: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "steps", "tolerance", "end", "snr")
        if self.solver not in (*SOLVERS, "dopri5"):
            raise unknown("solver", self.solver, (*SOLVERS, "dopri5"))
        if self.control not in ("sample", "batch"):
            raise unknown("control", self.control, ("sample", "batch"))
        if not 0 <= self.begin < self.end or self.begin > 1:
            raise UserError(f"--begin must lie in [0, 1] and before --end, not at {self.begin} for {self.end}")
        if not 0 <= self.corrections < inf or not isfinite(self.guidance) or self.label < -1:
            raise UserError("--corrections must be 0 or more, --guidance finite, and --label -1 or a label")
        if self.corrections and self.solver == "dopri5":
            raise UserError("--corrections go with fixed steps: take another --solver than dopri5")
        if self.guidance and self.label < 0:
            raise UserError("--guidance needs a --label to go towards")
        if self.interpolate and (self.interpolate < 2 or self.mask):
            raise UserError("--interpolate needs 2 samples a row or more, and no --mask")


def field_of(model: Any, how: VAPOSampling) -> Callable[[Tensor, Tensor], Tensor]:
    """``grad psi(x, t)`` for points (N, *) and times (N,), held at 1 past it: of the label, guided, and blended."""
    classes = model.config.classes
    if how.label >= 0 and how.label >= classes:
        raise UserError(f"--label {how.label} needs a run that was trained with --classes above it, not {classes}")
    others = list(model.blended)

    def psi(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        ours = 1 - sum(share for _, share in others)
        value = (1 + how.guidance) * model.potential(x, t, label)
        if how.guidance:
            value = value - how.guidance * model.potential(x, t)
        for other, share in others:
            value = value + share / ours * other(x, t)
        return ours * value

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        label = torch.full((len(x),), how.label, device=x.device) if how.label >= 0 else None
        return value_and_gradient(psi, x, t.clamp(max=1), label)[1]

    return velocity


def carry(model: Any, rows: range, seed: int, how: VAPOSampling, start: Tensor | None) -> tuple[Tensor, float]:
    """The samples with these numbers, and what one cost in gradients of the potential.

    Args:
        model: Potential, path and shape.
        rows: Which samples.
        seed: Of the noise.
        how: The settings.
        start: Samples to start from, (N, *shape), or None.
    """
    path, device = model.path, next(model.parameters()).device
    noise = _noise(rows, seed, model.shape, how.interpolate).to(device)
    begin = torch.tensor(how.begin, device=device)
    if start is None and (how.mask or how.begin):
        raise UserError("--mask and --begin need samples to start from: give --from")
    if start is None:
        x1, x = noise, over(path.s(begin), noise) * noise
    else:
        x1 = start.to(device)
        x = path.at(x1, noise, begin) if how.begin < 1 else x1
    free = _free(how.mask, model.shape).to(device) if how.mask else None
    grad_psi = field_of(model, how)

    def velocity(x: Tensor, t: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        v = grad_psi(x, t)
        if free is None:
            return v
        known = path.velocity(x1[rows], noise[rows], t) * over((t < 1).to(x), x)
        return torch.where(free, v, known)  # known pixels follow their own straight way to what is known of them

    if how.solver == "dopri5":
        x, cost = dormand_prince(
            x,
            velocity,
            start=how.begin,
            end=how.end,
            tolerance=how.tolerance,
            control=how.control,  # type: ignore[arg-type]
        )
        evaluations = cost.float().mean().item()
    else:
        x, evaluations = _fixed(model, x, velocity, how, rows, seed, free)
    return (x if free is None else torch.where(free, x, x1)), evaluations


def _fixed(
    model: Any,
    x: Tensor,
    velocity: Callable[[Tensor, Tensor], Tensor],
    how: VAPOSampling,
    rows: range,
    seed: int,
    free: Tensor | None,
) -> tuple[Tensor, float]:
    """Steps of one length, each followed by its corrections."""
    steps = max(1, round(how.steps * (how.end - how.begin)))
    step_size = (how.end - how.begin) / steps
    if how.corrections:
        model.check_density("--corrections need the score")

    def field(x: Tensor, t: float) -> Tensor:
        return velocity(x, x.new_full((len(x),), how.begin + t))

    if not how.corrections:
        return flow(x, field, steps=steps, step_size=step_size, solver=how.solver), steps * COST[how.solver]  # type: ignore[arg-type]
    evaluations = 0
    for k in range(steps):
        x = SOLVERS[how.solver](x, field, k * step_size, step_size)
        evaluations += COST[how.solver]
        t = how.begin + (k + 1) * step_size
        for j in range(how.corrections if t <= LATEST else 0):
            z = sample_noise(derive_seed("langevin", seed, k, j), rows.start, rows.stop, model.shape).to(x)
            times = x.new_full((len(x),), t)
            score = model.path.score_from_velocity(velocity(x, times), x, times)
            size = over(2 * (how.snr * model.path.s(times)).square(), x)
            moved = x + size * score + (2 * size).sqrt() * z
            x = moved if free is None else torch.where(free, moved, x)
            evaluations += 1
    if not x.isfinite().all():
        raise UserError(f"the samples are no longer finite: try more --steps than {how.steps}, or a lower --snr")
    return x, evaluations


def _noise(rows: range, seed: int, shape: tuple[int, ...], row_length: int) -> Tensor:
    """N(0, I) of the samples with these numbers; or points on great circles between two draws each."""
    if not row_length:
        return sample_noise(seed, rows.start, rows.stop, shape)
    first, last = rows.start // row_length, (rows.stop - 1) // row_length
    ends = sample_noise(seed, 2 * first, 2 * last + 2, shape)
    number = torch.tensor(list(rows))
    a, b = (ends[2 * (number // row_length - first) + side].flatten(1) for side in (0, 1))
    share = (number % row_length).to(a)[:, None] / (row_length - 1)
    lengths = [value.norm(dim=1, keepdim=True) for value in (a, b)]
    angle = ((a * b).sum(1, keepdim=True) / (lengths[0] * lengths[1])).clamp(-1, 1).acos()
    weights = [((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()]
    unit = weights[0] * a / lengths[0] + weights[1] * b / lengths[1]
    return (unit * (lengths[0] * (1 - share) + lengths[1] * share)).view(-1, *shape)


def _free(mask: str, shape: tuple[int, ...]) -> Tensor:
    """Which pixels are to be drawn, (H, W)."""
    if len(shape) != 3:
        raise UserError("--mask is for images")
    height, width = shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    known = {
        "left": x < width // 2,
        "right": x >= width // 2,
        "top": y < height // 2,
        "bottom": y >= height // 2,
        "border": (torch.minimum(x, width - 1 - x) < width // 4) | (torch.minimum(y, height - 1 - y) < height // 4),
        "checkerboard": (x + y) % 2 == 0,
    }
    if mask in known:
        return ~known[mask]
    path = Path(mask)
    if path.suffix.lower() not in (".png", ".npy"):
        raise unknown("mask", mask, (*PARTS, "FILE.png", "FILE.npy"))
    try:
        if path.suffix.lower() == ".png":
            from PIL import Image

            with Image.open(path, formats=["PNG"]) as image:
                kept = np.asarray(image.convert("L"))
        else:
            kept = np.load(path, allow_pickle=False)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UserError(f"{path} cannot be read as a mask: {getattr(error, 'strerror', None) or error}") from error
    if kept.shape != (height, width) or kept.dtype.kind not in "biuf":
        raise UserError(f"the mask {path} has shape {kept.shape}, and the images {(height, width)}")
    return torch.from_numpy(kept == 0)
