"""One field, four families of methods: a density-ratio field as GAN, kernel flow, residual maps, amortised flow.

VGrow moves particles by s(d) grad d, d = log p/q. The four families differ in how they use that field
(docs/connections.md has the formulas):

    GAN                the generator takes one step towards where its particles want to go
    kernel flow        no generator: the particles themselves move, by the field smoothed with a kernel, as in SVGD
    residual maps      no generator: the maps x + eta s(d_k) grad d_k are kept, and new noise is pushed through them
    amortised flow     particles take several steps, then the generator is fitted to where they are, as a decoder is

All learn the same points of the plane for the same CPU seconds, with the KL divergence (s = 1). The table gives the
energy distance of 1,000 samples to held-out points.

Source: Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469.
"""

import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import cli, make_folder, save
from torch import Tensor

import wasserflow as wf
from wasserflow._core.errors import unknown
from wasserflow._core.pairs import squared_distances
from wasserflow.data import Dataset, load, toy
from wasserflow.method import Method
from wasserflow.metric import energy_distance
from wasserflow.plot.figure import DATA, SAMPLES, limits
from wasserflow.plot.scatter import draw_cloud
from wasserflow.training.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CONSUMERS", "KernelField", "main"]

COUNT = 1000
"""Samples that are compared and drawn."""


class KernelField:
    """``v(x) = mean_j k(x, x_j) u(x_j)`` with ``k(x, y) = exp(-|x - y|^2 / 2 b^2)``, for a field u.

    It is the gradient flow's direction in the kernel's Hilbert space. For ``u = grad log p/q`` it is, integrated by
    parts, that of "Stein Variational Gradient Descent" (Liu & Wang, 2016, arXiv 1608.04471).

    Args:
        field: u, bound to the particles with ``at``.
        bandwidth: b.
    """

    def __init__(self, field: Any, bandwidth: float) -> None:
        self.field, self.bandwidth = field, bandwidth

    def at(self, particles: Tensor, t: float | None = None) -> Callable[[Tensor], Tensor]:
        """The velocity anywhere, with the field at the particles held fixed."""
        u = self.field.at(particles, t)(particles)
        return lambda points: self._kernel(points, particles) @ u / len(particles)

    def __call__(self, x: Tensor, t: float | None = None) -> Tensor:
        """The velocity of the particles ``x``, with shape (N, d)."""
        return self.at(x, t)(x)

    def _kernel(self, x: Tensor, y: Tensor) -> Tensor:
        return (squared_distances(x, y) / (-2 * self.bandwidth**2)).exp()


def trained(model: Method, data: Dataset, seconds: float, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """Samples of a method after so many CPU seconds of training."""
    trainer = Trainer(model, data, seed=seed, device=torch.device("cpu"), precision="fp32")
    end = time.process_time() + seconds
    while time.process_time() < end:
        trainer.step()
    shown, steps = trainer.sampler(), trainer.progress.steps
    return shown.sample(COUNT, seed=seed), {"steps": steps, "evaluations per sample": 1}


def gan(data: Dataset, seconds: float, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """VGrow with one step of each kind."""
    return trained(wf.VGrow.for_shape((2,), divergence="kl", seed=seed), data, seconds, seed)


def kernel_flow(data: Dataset, seconds: float, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """Particles moved by the kernel-smoothed field."""
    x = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(seed))
    field = KernelField(wf.LearnedRatioField(data.train.x, ratio_steps=2, seed=seed), bandwidth=0.2)
    steps, end = 0, time.process_time() + seconds
    while time.process_time() < end:
        x = wf.flow(x, field, steps=10, step_size=0.3)
        steps += 10
    return x, {"steps": steps, "evaluations per sample": steps}


def residual_maps(data: Dataset, seconds: float, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """The Euler scheme of the flow, its maps kept."""
    return trained(wf.ResidualFlow.for_shape((2,), divergence="kl", seed=seed), data, seconds, seed)


def amortised_flow(data: Dataset, seconds: float, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """VGrow with several particle steps, and several passes of the fit over the frozen particles."""
    model = wf.VGrow.for_shape((2,), divergence="kl", seed=seed, pool=4, inner_steps=5, step_size=0.05, fit_epochs=(5,))
    return trained(model, data, seconds, seed)


CONSUMERS = {
    "GAN": gan,
    "kernel flow": kernel_flow,
    "residual maps": residual_maps,
    "amortised flow": amortised_flow,
}


def main(
    out: Path = Path("connections"), data: str = "two-moons", cpu_minutes: float = 0.7, seed: int = 0
) -> dict[str, Any]:
    """Train the four, print the table, draw the four clouds.

    Args:
        out: Folder for the picture and the numbers.
        data: Name of a toy in the plane.
        cpu_minutes: Process CPU time of training, all four together.
        seed: Random seed.
    """
    if data not in toy.TOYS:
        raise unknown("toy", data, toy.TOYS)
    if not 0 < cpu_minutes < inf:
        raise wf.UserError(f"--cpu-minutes must be a finite number above 0, not {cpu_minutes}")
    make_folder(out)
    points = load(data)
    held_out, reference = points.test.x, energy_distance(points.train.x[:COUNT], points.test.x)
    seconds = 60 * cpu_minutes / len(CONSUMERS)
    print(f"{data}, {seconds:.3g} CPU seconds each; energy distance of as many points of the data {reference:.4f}")
    print(f"{'':16}{'energy distance':>16}{'steps':>9}{'evaluations per sample':>24}")
    rows: dict[str, Any] = {}
    clouds: dict[str, Tensor] = {}
    for name, consume in CONSUMERS.items():
        clouds[name], rows[name] = consume(points, seconds, seed)
        rows[name]["energy distance"] = distance = energy_distance(clouds[name], held_out)
        print(
            f"{name:16}{distance:16.4f}{rows[name]['steps']:9,}{rows[name]['evaluations per sample']:24,}", flush=True
        )
    numbers = {"data": data, "cpu_seconds": seconds, "reference": reference, **rows}
    save(_picture(clouds, rows, held_out), numbers, out, "connections")
    return numbers


def _picture(clouds: dict[str, Tensor], rows: dict[str, Any], held_out: Tensor) -> "Figure":
    """A panel per family, its samples over the data."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.2), dpi=130, layout="compressed")
    data = held_out[: 2 * COUNT].numpy()
    for axes, (name, cloud) in zip(figure.subplots(1, len(clouds)), clouds.items(), strict=True):
        draw_cloud(axes, data, DATA, limits(data), alpha=0.5)
        draw_cloud(axes, cloud.numpy(), SAMPLES, limits(data)).set_sizes([4])
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{name}\nenergy distance {rows[name]['energy distance']:.4f}", fontsize=10)
    return figure


if __name__ == "__main__":
    cli(main)
