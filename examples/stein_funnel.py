"""Neal's funnel by Stein variational gradient descent, with the target given by its log-density.

The funnel is ``y ~ N(0, 1)`` and ``x`` given y ``~ N(0, (e^y / 10)^2)``: its neck is thin, and a step that suits the
mouth is far too large there. SVGD with the median bandwidth finds the middle quickly and reaches into the neck slowly.
The kernel Stein discrepancy measures the distance to the target without a single sample of it.

Source: Stein Variational Gradient Descent: A General Purpose Bayesian Inference Algorithm (Liu & Wang, 2016),
arXiv 1608.04471.
"""

from pathlib import Path
from typing import Any

import torch
from common import cli, cloud_panels, make_folder, save
from particles import in_neck
from torch import Tensor

import wasserflow as wf
from wasserflow.data import toy
from wasserflow.discrepancy.stein import ksd_squared
from wasserflow.metric import energy_distance

__all__ = ["main"]


def main(out: Path = Path("stein_funnel"), particles: int = 300, steps: int = 4000, seed: int = 0) -> dict[str, Any]:
    """Run the flow, print how far from the funnel it ends, and draw it.

    Args:
        out: Folder for the picture and the numbers.
        particles: Number of particles.
        steps: Number of steps of 0.01.
        seed: Random seed.
    """
    if min(particles, steps) < 2:
        raise wf.UserError(f"--particles and --steps must be at least 2, not {particles} and {steps}")
    make_folder(out)
    density, fresh = toy.log_density("funnel"), toy.sample("funnel", 10_000, seed)
    rng = torch.Generator().manual_seed(seed)
    start = torch.tensor([0.0, 2.0]) + 0.5 * torch.randn(particles, 2, generator=rng)
    columns = [0, steps // 40, steps // 8, steps]
    clouds: list[Tensor] = []
    end = wf.flow(
        start,
        wf.SVGDField(density),
        steps=steps,
        step_size=0.01,
        callback=lambda k, x: clouds.append(x) if k in columns else None,
    )
    ends = {"start": start, "SVGD": end, "as many points of the target": fresh[:particles]}
    numbers = {
        "particles": particles,
        "steps": steps,
        "energy distance to the target": {name: energy_distance(x, fresh[particles:]) for name, x in ends.items()},
        "squared kernel Stein discrepancy": {name: ksd_squared(x, density).item() for name, x in ends.items()},
        "share in the neck, y < -1": {name: in_neck(x) for name, x in ends.items()},
    }
    for name, value in numbers.items():
        print(f"{name}: {value}")
    save(cloud_panels({"SVGD": clouds}, fresh[:4000], [f"step {k:,}" for k in columns]), numbers, out, "stein_funnel")
    return numbers


if __name__ == "__main__":
    cli(main)
