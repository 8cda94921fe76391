"""Flows of particles without a generator: 8 Gaussians onto an S-curve, and down a funnel beside Langevin dynamics.

The field is s(d) grad d with d = log p/q learned by a classifier that takes one step between target and particles per
particle step (wf.LearnedRatioField): the deterministic flow of KL(q|p), where the target is given by samples.

--target s-curve (the default) moves 512 particles from 8 Gaussians in 2,500 steps of 0.001. --target funnel moves 1,024
particles from N((0, 2), I / 4) onto Neal's funnel, y ~ N(0, 1) and x given y ~ N(0, (e^y / 10)^2), in 1,500 such steps,
beside unadjusted Langevin dynamics with the exact score of the funnel and the same step size. With exact ratios and in
continuous time the two would have the same distribution, which has not converged at the end, t = 1.5. In the neck the
score is too steep for a step of this size, and Langevin's particles are thrown out of it.

Source: MonoFlow: Rethinking Divergence GANs via the Perspective of Wasserstein Gradient Flows (Yi, Zhu & Liu, 2023),
arXiv 2302.01075, and its authors' particle experiments.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from common import cli, cloud_panels, make_folder, save
from PIL import Image
from torch import Tensor

import wasserflow as wf
from wasserflow.data import toy
from wasserflow.metric import energy_distance
from wasserflow.plot import cloud_frames, evenly, save_gif

__all__ = ["eight_gaussians", "funnel_score", "in_neck", "langevin", "main"]

STEP_SIZE = 1e-3
FRAMES = 32


def eight_gaussians(n: int, rng: torch.Generator) -> Tensor:
    """Eight narrow Gaussians on a ring of radius 1.75: shape (n, 2)."""
    centres = torch.from_numpy(toy.ring_centres(8, 1.75)).float()
    return centres[torch.randint(8, (n,), generator=rng)] + 0.125 * torch.randn(n, 2, generator=rng)


def funnel_score(points: Tensor, scale: float = 0.1) -> Tensor:
    """``grad log p`` of the funnel at points (N, 2)."""
    x, y = points.T
    precision = (-2 * y).exp() / scale**2
    return torch.stack([-precision * x, precision * x.square() - 1 - y], 1)


def langevin(x: Tensor, t: float | None = None) -> Tensor:
    """The velocity whose Euler step is one of unadjusted Langevin dynamics, ``x + eta score + sqrt(2 eta) noise``."""
    return funnel_score(x) + (2 / STEP_SIZE) ** 0.5 * torch.randn_like(x)


def main(
    out: Path = Path("particles"),
    target: Literal["s-curve", "funnel"] = "s-curve",
    particles: int | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Move the particles, print how far from the target they end, and draw where they went.

    Args:
        out: Folder for the pictures and the numbers.
        target: Target of the flow.
        particles: Number of particles; by default the authors' number.
        steps: Particle steps; by default the authors' number.
        seed: Random seed.
    """
    if min(2 if particles is None else particles - 1, 1 if steps is None else steps) < 1:
        raise wf.UserError(f"--particles must be at least 2 and --steps at least 1, not {particles} and {steps}")
    make_folder(out)
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    data = toy.sample(target, 10_000, seed)
    fields: dict[str, Any] = {"gradient flow": wf.LearnedRatioField(data, seed=seed)}
    if target == "s-curve":
        x, steps = eight_gaussians(particles or 512, rng), steps or 2500
    else:
        x = torch.tensor([0.0, 2.0]) + 0.5 * torch.randn(particles or 1024, 2, generator=rng)
        steps = steps or 1500
        fields["Langevin"] = langevin

    fresh = toy.sample(target, 10_000, seed + 1)
    histories: dict[str, list[Tensor]] = {}
    distances = {
        "at the start": energy_distance(x, fresh),
        "as many points of the target": energy_distance(data[: len(x)], fresh),
    }
    lowest, neck = {"target": fresh[:, 1].min().item()}, {"target": in_neck(fresh)}
    for name, field in fields.items():
        clouds: list[Tensor] = []
        end = wf.flow(x, field, steps=steps, step_size=STEP_SIZE, callback=lambda k, x, c=clouds: c.append(x))
        histories[name] = clouds
        distances[name], lowest[name], neck[name] = energy_distance(end, fresh), end[:, 1].min().item(), in_neck(end)
    numbers: dict[str, Any] = {"particles": len(x), "steps": steps, "energy distance to the target": distances}
    if target == "funnel":
        numbers |= {"share in the neck, y < -1": neck, "lowest y": lowest}
    for name, value in numbers.items():
        print(f"{name}: {value}")
    times = [round(steps * share) for share in (0, 0.1, 0.3, 1)]
    rows = {name: [clouds[k] for k in times] for name, clouds in histories.items()}
    save(cloud_panels(rows, fresh[:4000], [f"step {k:,}" for k in times]), numbers, out, target)
    _animate(histories, fresh[:1000], out / f"{target}.gif")
    return numbers


def in_neck(points: Tensor) -> float:
    """The share of points (N, 2) below y = -1."""
    return (points[:, 1] < -1).float().mean().item()


def _animate(histories: dict[str, list[Tensor]], data: Tensor, path: Path) -> None:
    """The methods side by side, a frame every few steps."""
    chosen = {name: [clouds[k] for k in evenly(len(clouds), FRAMES)] for name, clouds in histories.items()}
    films = [
        cloud_frames(clouds, data, [name] * len(clouds), torch.cat([clouds[0], data]))  # the start is in sight too
        for name, clouds in chosen.items()
    ]
    frames = []
    for images in zip(*films, strict=True):
        half = [image.reduce(2) for image in images]
        frame = Image.new("RGB", (sum(image.width for image in half), half[0].height))
        for i, image in enumerate(half):
            frame.paste(image, (i * image.width, 0))
        frames.append(frame)
    save_gif(frames, path, seconds=5)
    print(path)


if __name__ == "__main__":
    cli(main)
