"""Noise-conditional kernels: MMD flows onto a ring with fixed widths, and with one width per noise level.

DMMD lets its features choose the kernel of each noise level by one loss, -MMD^2 / W + E (|grad w| - 1)^2 on points
between noised data and data, W their mean distance. Here a kernel is but s^2 times a Gaussian of some width, the best s
is known in closed form, and at every level the width with the lowest loss is taken: wide far from the data, narrow near
them, as for two Gaussians, where alpha* = sqrt(ReLU(|mu|^2 / (d + 2) - 2 s^2)) pulls hardest (`optimal_width`).
Particles go from noise to data down the witness, level by level, with the steps of DMMD; beside them, the same with one
fixed width at all levels.

Source: Deep MMD Gradient Flow without adversarial training (Galashov, De Bortoli & Gretton, 2025), arXiv 2405.06780.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import GREY, PALETTE, cli, make_folder, save
from torch import Tensor

import wasserflow as wf
from wasserflow.data import toy
from wasserflow.discrepancy.mmd import paired_mmd_squared, witness
from wasserflow.method.dmmd.model import noised
from wasserflow.metric import energy_distance
from wasserflow.plot.figure import limits, tidy, tile
from wasserflow.plot.scatter import draw_cloud

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["best_width", "descend", "main"]

WIDTHS = torch.logspace(-2, 0.5, 26).tolist()
FIXED = (0.03, 0.1, 0.3, 1.0)


def best_width(noise: Tensor, data: Tensor, between: Tensor) -> float:
    """The width with the lowest loss between pairs of noised and clean points, (N, d) each; ``between`` is (N, 1)."""
    middle = between * data + (1 - between) * noise
    distance = (noise - data).norm(dim=1).mean()

    def gain(width: float) -> float:
        """``(M + 2 W E|grad w|)^2 / E|grad w|^2``: minus the loss at the best scale, but for constants."""
        kernel = wf.kernel.Gaussian(width)
        slope = witness(noise, data, kernel).gradient(middle).norm(dim=1)
        value = paired_mmd_squared(noise, data, kernel) + 2 * distance * slope.mean()
        return (value / slope.square().mean().sqrt()).item()

    return max(WIDTHS, key=gain)


def main(
    out: Path = Path("adaptive_kernel"), particles: int = 500, levels: int = 20, steps: int = 10, seed: int = 0
) -> dict[str, Any]:
    """Move the particles with every width, print how far from the target they end, and draw them.

    Args:
        out: Folder for the picture and the numbers.
        particles: Number of particles.
        levels: Number of noise levels.
        steps: Steps per level.
        seed: Random seed.
    """
    if min(particles - 1, levels - 1, steps) < 1:
        raise wf.UserError("--particles and --levels must be at least 2 and --steps at least 1")
    make_folder(out)
    rng = torch.Generator().manual_seed(seed)
    data, fresh = toy.sample("ring", 1000, seed), toy.sample("ring", 10_000, seed + 1)
    start = torch.randn(particles, 2, generator=rng)
    places = torch.linspace(1, 1 / levels, levels)
    stages = [noised(data, torch.randn(data.shape, generator=rng), t) for t in places]
    adapted = [best_width(stage, data, torch.rand(len(data), 1, generator=rng)) for stage in stages]

    ends: dict[str, Tensor] = {"noise": start}
    chosen = {f"fixed {width:g}": [width] * levels for width in FIXED} | {"by level": adapted}
    for name, widths in chosen.items():
        ends[name] = descend(start, data, stages, widths, steps)
    distances = {name: energy_distance(end, fresh) for name, end in ends.items()}
    distances["as many points of the target"] = energy_distance(data[:particles], fresh)
    for name, distance in distances.items():
        print(f"{name:30}energy distance {distance:.4f}")
    numbers = {"particles": particles, "steps": levels * steps, "widths": adapted, "energy distance": distances}
    save(draw(ends, distances, places.tolist(), adapted, fresh), numbers, out, "adaptive_kernel")
    return numbers


def descend(x: Tensor, data: Tensor, stages: list[Tensor], widths: list[float], steps: int) -> Tensor:
    """Down the witness from level to level; a level's steps are as long as from its noised data to the next one's."""
    distances = [(stage - data).norm(dim=1).mean() for stage in stages] + [torch.tensor(0.0)]
    for stage, width, here, after in zip(stages, widths, distances, distances[1:], strict=False):
        kernel = wf.kernel.Gaussian(width)
        slope = witness(stage, data, kernel).gradient(stage).norm(dim=1).mean()
        x = wf.flow(x, wf.MMDField(data, kernel), steps=steps, step_size=((here - after) / (steps * slope)).item())
    return x


def draw(
    ends: dict[str, Tensor], distances: dict[str, float], levels: list[float], widths: list[float], target: Tensor
) -> "Figure":
    """Where each flow ended, and the width at each level."""
    figure, panels = tile(len(ends) + 1, 4, (3.2, 3.2))
    frame = limits(target.numpy())
    for axes, (name, end) in zip(panels, ends.items(), strict=False):
        draw_cloud(axes, target.numpy(), GREY, frame, 0.5)
        draw_cloud(axes, end.numpy(), PALETTE[0], frame)
        tidy(axes, f"{name}: {distances[name]:.3f}")
    axes = panels[-1]
    axes.semilogy(levels, widths, ".-", color=PALETTE[0])
    axes.set_xlabel("noise level")
    axes.grid(color=GREY, alpha=0.3)
    tidy(axes, "width by level")
    return figure


if __name__ == "__main__":
    cli(main)
