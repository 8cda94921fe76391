"""A student network learns a teacher by the MMD flow of its neurons, with and without injected noise.

Teacher and student are means over neurons ``psi(x; z)``, small networks with three hidden units and the activation
exp(-u^2 / 4) on inputs x on the unit sphere of R^50. With the kernel ``k(z, z') = E_x psi(x; z) psi(x; z')`` the
squared MMD between the neurons of the two *is* the mean squared error of the student, and the MMD flow of the neurons
is its training by gradient descent. The flow is not convex and can stop early; it may be evaluated at ``z + beta_k u``,
with noise that falls by half every tenth of the training and is not kept.

The kernel is a custom one of fifteen lines: sums over its features take O(N + M). Inputs come in fresh batches of 100;
the error is that of 1,000 fixed others. Shortened from the paper's 10,000 epochs.

Source: Maximum Mean Discrepancy Gradient Flow (Arbel, Korba, Salim & Gretton, 2019), arXiv 1906.04370.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import GREY, PALETTE, cli, make_folder, save
from torch import Tensor
from torch.nn.functional import normalize

import wasserflow as wf
from wasserflow.kernel.base import Kernel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Neurons", "main", "neuron"]

INPUTS, HIDDEN = 50, 3
SIZE = HIDDEN * (INPUTS + 1)


def neuron(x: Tensor, z: Tensor) -> Tensor:
    """``psi(x; z) = sum_h u_h exp(-(w_h . x)^2 / 4)`` at inputs (B, 50) for neurons (N, 153): shape (N, B)."""
    inner, outer = z[:, : HIDDEN * INPUTS].reshape(-1, INPUTS), z[:, HIDDEN * INPUTS :]
    active = (-(inner @ x.T).square() / 4).exp().view(len(z), HIDDEN, len(x))
    return (outer[:, :, None] * active).sum(1)


class Neurons(Kernel):
    """``k(z, z') = E_x psi(x; z) psi(x; z')``, by a fresh batch of inputs whenever it is bound."""

    def __init__(self, rng: torch.Generator, inputs: Tensor | None = None) -> None:
        self.rng, self.inputs = rng, inputs

    def bind(self, particles: Tensor, target: Tensor, t: float | None = None) -> Kernel:
        """With other inputs."""
        return Neurons(self.rng, normalize(torch.randn(100, INPUTS, generator=self.rng), dim=1))

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The Gram matrix."""
        return self._features(x) @ self._features(y).T

    def combine(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """Through the features' sum."""
        return self._features(z) @ (self._features(points).T @ weights)

    def gradient(self, z: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        """By autograd of `combine`."""
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.combine(z, points, weights).sum(), z)[0]

    def _features(self, z: Tensor) -> Tensor:
        assert self.inputs is not None
        return neuron(self.inputs, z) / len(self.inputs) ** 0.5


def main(
    out: Path = Path("student_teacher"), neurons: int = 200, steps: int = 3000, noise: float = 1.0, seed: int = 0
) -> dict[str, Any]:
    """Train the student both ways, print its errors, and draw them.

    Args:
        out: Folder for the picture and the numbers.
        neurons: Neurons of the student.
        steps: Steps of each training.
        noise: Noise level beta at the start.
        seed: Random seed.
    """
    if min(neurons, steps) < 2:
        raise wf.UserError(f"--neurons and --steps must be at least 2, not {neurons} and {steps}")
    make_folder(out)
    rng = torch.Generator().manual_seed(seed)
    teacher = torch.randn(10, SIZE, generator=rng) * 3
    student = 0.1 * torch.randn(neurons, SIZE, generator=rng)
    inputs = normalize(torch.randn(1000, INPUTS, generator=rng), dim=1)
    answers = neuron(inputs, teacher).mean(0)

    def error(z: Tensor) -> float:
        return (neuron(inputs, z).mean(0) - answers).square().mean().item()

    schedules: dict[str, Any] = {
        "no noise": 0.0,
        "injected noise": lambda k: noise * 0.5 ** (10 * k // steps) if k < 0.9 * steps else 0.0,
    }
    errors: dict[str, list[float]] = {}
    every = max(1, steps // 100)
    for name, beta in schedules.items():
        seen: list[float] = []
        wf.flow(
            student,
            wf.MMDField(teacher, Neurons(torch.Generator().manual_seed(seed))),
            steps=steps,
            step_size=1.0,
            noise=beta,
            seed=seed,
            callback=lambda k, z, seen=seen: seen.append(error(z)) if k % every == 0 else None,
        )
        errors[name] = seen
    numbers = {
        "neurons": neurons,
        "steps": steps,
        "variance of the teacher's answers": answers.var().item(),
        "mean squared error at the start": errors["no noise"][0],
        "mean squared error": {name: seen[-1] for name, seen in errors.items()},
    }
    for name, value in numbers.items():
        print(f"{name}: {value}")
    save(_picture(errors, every), numbers, out, "student_teacher")
    return numbers


def _picture(errors: dict[str, list[float]], every: int) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=130, layout="constrained")
    axes = figure.subplots()
    for (name, seen), colour in zip(errors.items(), (GREY, PALETTE[0]), strict=True):
        axes.semilogy([every * i for i in range(len(seen))], seen, color=colour, label=name)
    axes.set(xlabel="step", ylabel="mean squared error on other inputs")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    cli(main)
