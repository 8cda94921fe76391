"""Eight Gaussians on a ring, and particles that start far away: what reaches them, and what does not.

A Gaussian kernel as wide as the ring's radius is nearly zero at the distance of the start: the particles push each
other apart, and few find the ring. Three remedies: noise injected where the field is evaluated; the median distance as
bandwidth, chosen at every step; or the energy kernel, which has no bandwidth.

Sources: Maximum Mean Discrepancy Gradient Flow (Arbel, Korba, Salim & Gretton, 2019), arXiv 1906.04370; Generative
Sliced MMD Flows with Riesz Kernels (Hertrich et al., 2024), arXiv 2305.11463 (the energy kernel).
"""

from pathlib import Path
from typing import Any

import torch
from common import cli, cloud_panels, make_folder, save
from torch import Tensor

import wasserflow as wf
from wasserflow.data import toy
from wasserflow.metric import energy_distance

__all__ = ["main"]


def main(out: Path = Path("far_start"), particles: int = 250, steps: int = 1200, seed: int = 0) -> dict[str, Any]:
    """Run the flows, print how far from the ring they end, and draw them.

    Args:
        out: Folder for the picture and the numbers.
        particles: Number of particles, and of points of the target.
        steps: Steps of each flow.
        seed: Random seed.
    """
    if min(particles, steps) < 2:
        raise wf.UserError(f"--particles and --steps must be at least 2, not {particles} and {steps}")
    make_folder(out)
    target = toy.sample("ring", particles, seed)
    rng = torch.Generator().manual_seed(seed)
    start = torch.tensor([4.0, 4.0]) + 0.1 * torch.randn(particles, 2, generator=rng)
    narrow = wf.kernel.Gaussian(1.0)
    flows: dict[str, tuple[Any, float, Any]] = {
        "Gaussian": (wf.MMDField(target, narrow), 0.6, 0.0),
        "Gaussian, noise": (wf.MMDField(target, narrow), 0.6, lambda k: 4 * max(0.0, 1 - 1.25 * k / steps)),
        "Gaussian, median": (wf.MMDField(target, wf.kernel.Gaussian("median")), 0.6, 0.0),
        "energy": (wf.MMDField(target, wf.kernel.Energy()), 0.1, 0.0),
    }
    columns = [0, steps // 20, steps // 5, steps]
    histories: dict[str, list[Tensor]] = {}
    distances = {"at the start": energy_distance(start, target)}
    for name, (field, step_size, noise) in flows.items():
        clouds: list[Tensor] = []
        end = wf.flow(
            start,
            field,
            steps=steps,
            step_size=step_size,
            noise=noise,
            seed=seed,
            callback=lambda k, x, clouds=clouds: clouds.append(x) if k in columns else None,
        )
        histories[name] = clouds
        distances[name] = energy_distance(end, target)
    numbers = {"particles": particles, "steps": steps, "energy distance to the ring": distances}
    for name, value in numbers.items():
        print(f"{name}: {value}")
    save(cloud_panels(histories, target, [f"step {k:,}" for k in columns]), numbers, out, "far_start")
    return numbers


if __name__ == "__main__":
    cli(main)
