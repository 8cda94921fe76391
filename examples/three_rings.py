"""Three rings: particles that start at one point flow onto them by MMD, KALE at two lambdas, and DrMMD.

The MMD flow, and KALE at lambda 10^4, which is half the squared MMD up to 10^-4, throw the particles over the plane and
collect them again. KALE at lambda 10^-3 is near the KL divergence: the particles fill the ring where they start
and then reach the others. DrMMD, near the chi^2 divergence while lambda is small, goes the same way with a narrower
kernel.

Two shares say how a flow ends: that of the particles that lie within 0.03 of a ring, and that of the rings' points that
have a particle within 0.03. The first is 1 at the start already, where all particles lie at one point of a ring.

Shortened from the papers' 50,000 and 20,000 to 100,000 steps.

Sources: KALE Flow: A Relaxed KL Gradient Flow for Probabilities with Disjoint Support (Glaser, Arbel & Gretton, 2021),
arXiv 2106.08929; (De)-regularized Maximum Mean Discrepancy Gradient Flow (Chen et al., 2025), arXiv 2409.14980.
"""

from math import pi
from pathlib import Path
from typing import Any

import torch
from common import cli, cloud_panels, make_folder, save
from torch import Tensor

import wasserflow as wf
from wasserflow.metric import energy_distance

__all__ = ["covered", "main", "on_rings", "three_rings"]

RADIUS, WIDTH = 0.3, 0.05**0.5  # exp(-|x - y|^2 / 0.1)


def three_rings(n: int) -> Tensor:
    """``3 n`` points evenly on three circles of radius 0.3 beside each other: shape (3 n, 2)."""
    angle = torch.arange(n) * (2 * pi / n)
    ring = RADIUS * torch.stack([angle.cos(), angle.sin()], 1)
    return torch.cat([ring + torch.tensor([x, 0.0]) for x in (-0.7, 0.0, 0.7)])


def on_rings(points: Tensor) -> float:
    """The share of points (N, 2) that lie within 0.03 of a circle."""
    centres = torch.tensor([[-0.7, 0.0], [0.0, 0.0], [0.7, 0.0]]).to(points)
    off = ((points[:, None] - centres).norm(dim=2) - RADIUS).abs().min(1).values
    return (off < 0.03).float().mean().item()


def covered(points: Tensor, target: Tensor) -> float:
    """The share of the target's points (M, 2) that have one of the points (N, 2) within 0.03."""
    return (torch.cdist(target, points.to(target)).min(1).values < 0.03).double().mean().item()


def main(out: Path = Path("three_rings"), points: int = 80, steps: int = 1500, seed: int = 0) -> dict[str, Any]:
    """Run the flows, print how far from the rings they end, and draw them.

    Args:
        out: Folder for the picture and the numbers.
        points: Points on each ring; there are as many particles as points on all three.
        steps: Steps of each flow.
        seed: Random seed of the start.
    """
    if min(points, steps) < 2:
        raise wf.UserError(f"--points and --steps must be at least 2, not {points} and {steps}")
    make_folder(out)
    target = three_rings(points).double()
    rng = torch.Generator().manual_seed(seed)
    start = torch.tensor([0.0, -0.3]) + 0.01 * torch.randn(len(target), 2, generator=rng, dtype=torch.float64)
    kernel, narrow = wf.kernel.Gaussian(WIDTH), wf.kernel.Gaussian(0.15)
    drmmd = wf.DrMMDField(target, 0.03, narrow, adaptive=True)
    flows: dict[str, tuple[Any, Any]] = {
        "MMD": (wf.MMDField(target, kernel), 1e-2),
        "KALE, 10,000": (wf.KALEField(target, 1e4, kernel), 1e-2),
        "KALE, 0.001": (wf.KALEField(target, 1e-3, kernel), 3e-4),
        "DrMMD": (drmmd, lambda k: max(1e-2 * drmmd.lam, 1e-5)),
    }
    columns = [0, steps // 30, steps // 6, steps]
    histories: dict[str, list[Tensor]] = {}
    ends = {"at the start": start}
    for name, (field, step_size) in flows.items():
        clouds: list[Tensor] = []
        end = wf.flow(
            start,
            field,
            steps=steps,
            step_size=step_size,
            callback=lambda k, x, clouds=clouds: clouds.append(x) if k in columns else None,
        )
        histories[name], ends[name] = clouds, end
    numbers: dict[str, Any] = {"particles": len(start), "steps": steps}
    numbers["energy distance to the rings"] = {name: energy_distance(x, target) for name, x in ends.items()}
    numbers["share of particles within 0.03 of a ring"] = {name: on_rings(x) for name, x in ends.items()}
    numbers["share of the rings within 0.03 of a particle"] = {name: covered(x, target) for name, x in ends.items()}
    for name, value in numbers.items():
        print(f"{name}: {value}")
    save(cloud_panels(histories, target, [f"step {k:,}" for k in columns]), numbers, out, "three_rings")
    return numbers


if __name__ == "__main__":
    cli(main)
