"""Four divergences, two clouds: VGrow from a square of noise to a ring of Gaussians and to two circles.

The 2-D experiments of VGrow's progressive-growing authors: 8 Gaussians of sd 1 on a ring of radius 10, and two circles
of radius 15 and 5 with noise of sd 0.5; networks with one hidden layer of 256 ReLU units, batches of 1,000, one step of
each kind (wf.VGrow with recipe="paper"). Over training: the log-Chamfer distance log mean(min_i + min_j) between 1,000
samples and 1,000 points of the data, and the share of samples within 3 standard deviations of a mode or of a circle;
dashed what real data have.

--cpu-minutes is the training time of all eight runs together. The default takes five to ten thousand steps, and one
minute a thousand or fewer; the authors train for 200,000.

Source: Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import GREY, PALETTE, cli, make_folder, save
from torch import Tensor

import wasserflow as wf
from wasserflow._core.errors import check_seed
from wasserflow.data import toy
from wasserflow.data.raw import Part, Raw
from wasserflow.data.split import finish
from wasserflow.metric import log_chamfer
from wasserflow.plot.figure import DATA, SAMPLES, limits
from wasserflow.plot.scatter import draw_cloud
from wasserflow.training.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["TARGETS", "Target", "learn", "main"]

DIVERGENCES = ("kl", "js", "logd", "jeffreys")
COUNT = 1000
"""Points on each side of a comparison."""

Draw = Callable[[int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Target:
    """A distribution of the plane.

    Args:
        draw: ``draw(n, rng)``, points (n, 2).
        gap: Distance of points (N, 2) to the nearest mode or circle, (N,).
        sd: Standard deviation of the noise around those.
    """

    draw: Draw
    gap: Callable[[Tensor], Tensor]
    sd: float

    def points(self, n: int, seed: int) -> Tensor:
        """Points in the target's own units, (n, 2)."""
        check_seed(seed)
        return torch.from_numpy(self.draw(n, np.random.default_rng(seed)).astype(np.float32))

    def high_quality(self, points: Tensor) -> float:
        """The share of points (N, 2) within 3 sd of a mode or circle."""
        return (self.gap(points) < 3 * self.sd).float().mean().item()


def _to_modes(points: Tensor) -> Tensor:
    return torch.cdist(points, torch.from_numpy(toy.ring_centres(8, 10.0)).to(points)).amin(1)


def _to_circles(points: Tensor) -> Tensor:
    return (points.norm(dim=1, keepdim=True) - points.new_tensor([15.0, 5.0])).abs().amin(1)


TARGETS = {
    "ring": Target(partial(toy.ring, radius=10.0, sd=1.0), _to_modes, 1.0),
    "circles": Target(partial(toy.circles, radii=(15.0, 5.0), weight=0.67, sd=0.5), _to_circles, 0.5),
}


def learn(target: Target, divergence: str, budget: wf.Budget, seed: int = 0) -> tuple[Tensor, list[dict[str, float]]]:
    """Train VGrow, and measure it ever more rarely.

    Args:
        target: Target, in its own units.
        divergence: Divergence of VGrow.
        budget: When to stop; measuring does not count.
        seed: Random seed.

    Returns:
        Samples at the end, (1000, 2), and the metrics along the way.
    """
    cloud = Raw("the cloud", Part(target.points(50_000, seed).numpy()), "ND", ("float32",), standardise=False)
    model = wf.VGrow.for_shape((2,), recipe="paper", divergence=divergence, seed=seed)
    cpu = torch.device("cpu")
    trainer = Trainer(model, finish(cloud, "array"), seed=seed, device=cpu, precision="fp32")
    reference = target.points(COUNT, seed + 1)
    figures: list[dict[str, float]] = []
    due = 50
    while budget.done(trainer.progress) < 1:
        begun = time.process_time()
        loss = trainer.step()["ratio_loss"]
        trainer.progress.cpu_seconds += time.process_time() - begun
        step = trainer.progress.steps
        if step == due or budget.done(trainer.progress) >= 1:
            samples = trainer.sampler().sample(COUNT, seed=seed)
            distance, share = log_chamfer(samples, reference), target.high_quality(samples)
            figures.append({"step": step, "log_chamfer": distance, "high_quality": share, "ratio_loss": loss.item()})
            due = round(1.25 * due)
    return trainer.sampler().sample(COUNT, seed=seed), figures


def main(out: Path = Path("ring_divergences"), cpu_minutes: float = 8.0, seed: int = 0) -> dict[str, Any]:
    """Train the eight runs, print what they came to, and draw it.

    Args:
        out: Folder for the picture and the numbers.
        cpu_minutes: Process CPU time of training, all runs together.
        seed: Random seed.
    """
    make_folder(out)
    budget = wf.Budget(cpu_minutes=cpu_minutes / (len(TARGETS) * len(DIVERGENCES)))
    numbers: dict[str, Any] = {"cpu_minutes": cpu_minutes}
    clouds: dict[str, dict[str, Tensor]] = {name: {} for name in TARGETS}
    for name, target in TARGETS.items():
        real, other = target.points(COUNT, seed + 1), target.points(COUNT, seed + 2)
        numbers[name] = {"real": {"log_chamfer": log_chamfer(other, real), "high_quality": target.high_quality(other)}}
        print(f"{name}: real data {numbers[name]['real']}")
        for divergence in DIVERGENCES:
            clouds[name][divergence], numbers[name][divergence] = learn(target, divergence, budget, seed)
            print(f"{name}, {divergence}: {numbers[name][divergence][-1]}", flush=True)
    save(_picture(clouds, numbers, seed), numbers, out, "ring_divergences")
    return numbers


def _picture(clouds: dict[str, dict[str, Tensor]], numbers: dict[str, Any], seed: int) -> "Figure":
    """A row per target: the final clouds over the data, then the two metrics over training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.9), dpi=110, layout="constrained")
    panels = figure.subplots(len(clouds), len(DIVERGENCES) + 2, width_ratios=[1] * len(DIVERGENCES) + [1.25, 1.25])
    for row, (name, found) in zip(panels, clouds.items(), strict=True):
        data = TARGETS[name].points(2 * COUNT, seed + 1).numpy()
        for axes, divergence in zip(row, DIVERGENCES, strict=False):
            draw_cloud(axes, data, DATA, limits(data), alpha=0.5)
            draw_cloud(axes, found[divergence].numpy(), SAMPLES, limits(data)).set_sizes([4])
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, fontsize=11)
        _draw_curves(row[-2], numbers[name], "log_chamfer")
        _draw_curves(row[-1], numbers[name], "high_quality")
    for axes, divergence in zip(panels[0], DIVERGENCES, strict=False):
        axes.set_title(divergence, fontsize=11)
    panels[0][-2].set_title("log-Chamfer distance", fontsize=11)
    panels[0][-1].set_title("share of high quality", fontsize=11)
    panels[0][-2].legend(frameon=False, fontsize=9)
    return figure


def _draw_curves(axes: "Axes", numbers: dict[str, Any], figure: str) -> None:
    from matplotlib.ticker import NullFormatter

    for divergence, colour in zip(DIVERGENCES, PALETTE, strict=True):
        found = numbers[divergence]
        axes.semilogx([f["step"] for f in found], [f[figure] for f in found], color=colour, lw=1.4, label=divergence)
    axes.axhline(numbers["real"][figure], color=GREY, ls="--", lw=1.2)
    axes.set_xlabel("step")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cli(main)
