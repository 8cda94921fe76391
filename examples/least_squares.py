"""Gradient descent is the Euler scheme of an ODE: least squares beside a flow of particles, and their closed forms.

Above, gradient descent on |y - X beta|^2 / (2n), whose gradient flow from beta = 0 is

    beta' = X'(y - X beta) / n,    beta(t) = (X'X)^+ (I - exp(-t X'X / n)) X'y.

X has a column too many, so X'X is singular: the flow still has its closed form, with the pseudo-inverse, and ends in
the solution of least norm, because it never leaves the span of X'. Below, the same three panels one level up: particles
in the Wasserstein gradient flow of KL(q|p), p = N(0, S), from q = N(m, C), with the distribution of an
Ornstein-Uhlenbeck process:

    x' = grad log p/q (x) = C_t^-1 (x - m_t) - S^-1 x,
    m_t = exp(-t S^-1) m,    C_t = S + exp(-t S^-1) (C - S) exp(-t S^-1).

Lines are closed forms, circles Euler steps; the grey ellipse is p. The right panels show that the error of either
scheme at a fixed time is of first order in the step size.

Sources: A Continuous-Time View of Early Stopping for Least Squares Regression (Ali, Kolter & Tibshirani, 2019),
arXiv 1810.10082; The Variational Formulation of the Fokker-Planck Equation (Jordan, Kinderlehrer & Otto, 1998).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import GREY, PALETTE, cli, make_folder, save
from torch import Tensor

import wasserflow as wf

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Gaussians", "Regression", "main", "order"]

F64: dict[str, Any] = {"dtype": torch.float64}
CIRCLES: dict[str, Any] = {"markersize": 3.5, "fillstyle": "none", "markeredgewidth": 0.8}


class Regression:
    """Least squares with a singular X: the third column is the sum of the first two.

    Args:
        n: Number of observations.
        seed: Random seed of the data.
    """

    time = 4.0

    def __init__(self, n: int = 40, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        free = torch.randn(n, 2, generator=rng, **F64) * torch.tensor([1.0, 0.5], **F64)
        self.x = torch.cat([free, free.sum(1, keepdim=True)], 1)
        self.y = self.x @ torch.tensor([1.5, -1.0, 0.5], **F64) + 0.3 * torch.randn(n, generator=rng, **F64)
        self.start = torch.zeros(1, 3, **F64)

    def field(self, beta: Tensor, t: float | None = None) -> Tensor:
        """``X'(y - X beta) / n``, for coefficients (1, 3)."""
        return (self.y - beta @ self.x.T) @ self.x / len(self.y)

    def closed_form(self, t: float) -> Tensor:
        """``beta(t)``, shape (1, 3)."""
        gram = self.x.T @ self.x
        decay = torch.linalg.matrix_exp(-t * gram / len(self.y))
        return (torch.linalg.pinv(gram, hermitian=True) @ (torch.eye(3, **F64) - decay) @ self.x.T @ self.y)[None]

    def loss(self, beta: Tensor) -> float:
        """``|y - X beta|^2 / (2n)``."""
        return 0.5 * (self.y - beta[0] @ self.x.T).square().mean().item()


class Gaussians:
    """The flow of KL(q|p) between Gaussians; the particles' own mean and covariance are exactly those of q.

    Args:
        n: Number of particles.
        seed: Random seed of the particles.
    """

    time = 1.5

    def __init__(self, n: int = 400, seed: int = 0) -> None:
        self.target = torch.tensor([[1.0, 0.8], [0.8, 0.89]], **F64)
        z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), **F64)
        z = z - z.mean(0)
        z = torch.linalg.solve_triangular(torch.linalg.cholesky(z.T.cov(correction=0)), z.T, upper=False).T
        self.mean = torch.tensor([2.0, -1.0], **F64)
        self.start = self.mean + 0.5 * z

    def field(self, x: Tensor, t: float | None = None) -> Tensor:
        """``grad log p/q`` at the particles (N, 2), q being the Gaussian with their mean and covariance."""
        mean, inverse = x.mean(0), torch.linalg.inv(x.T.cov(correction=0))
        precision = torch.linalg.inv(self.target)

        def log_ratio(x: Tensor) -> Tensor:  # up to a constant
            centred = x - mean
            return 0.5 * ((centred @ inverse) * centred - (x @ precision) * x).sum(1)

        return wf.RatioField(log_ratio, "kl")(x)

    def moments(self, t: float) -> tuple[Tensor, Tensor]:
        """``m_t`` and ``C_t``."""
        decay = torch.linalg.matrix_exp(-t * torch.linalg.inv(self.target))
        return decay @ self.mean, self.target + decay @ (0.25 * torch.eye(2, **F64) - self.target) @ decay

    def closed_form(self, t: float) -> Tensor:
        """The particles at time t, ``m_t + C_t^{1/2} C_0^{-1/2} (x - m_0)``: C_0 commutes with S, being isotropic."""
        mean, covariance = self.moments(t)
        values, vectors = torch.linalg.eigh(covariance)
        return mean + 2 * (self.start - self.mean) @ (vectors * values.sqrt()) @ vectors.T


Problem = Regression | Gaussians


def path(problem: Problem, step_size: float) -> Tensor:
    """The iterates of the Euler scheme up to the problem's time, shape (steps + 1, N, d)."""
    iterates: list[Tensor] = []
    steps = round(problem.time / step_size)
    wf.flow(problem.start, problem.field, steps=steps, step_size=step_size, callback=lambda k, x: iterates.append(x))
    return torch.stack(iterates)


def order(problem: Problem, steps: tuple[int, ...] = (20, 40, 80, 160, 320, 640)) -> list[dict[str, float]]:
    """The error of the Euler scheme at the problem's time, for several step sizes."""
    exact = problem.closed_form(problem.time)
    sizes = [problem.time / n for n in steps]
    errors = [(path(problem, size)[-1] - exact).square().sum(1).mean().sqrt().item() for size in sizes]
    return [{"step_size": size, "error": error} for size, error in zip(sizes, errors, strict=True)]


def main(out: Path = Path("least_squares"), seed: int = 0) -> dict[str, Any]:
    """Compare the two Euler schemes with their closed forms, in numbers and in pictures.

    Args:
        out: Folder for the picture and the numbers.
        seed: Random seed of the data and of the particles.
    """
    from matplotlib.figure import Figure

    regression, gaussians = Regression(seed=seed), Gaussians(seed=seed)
    gram = regression.x.T @ regression.x / len(regression.y)
    values, vectors = torch.linalg.eigh(gram)
    limit = torch.linalg.pinv(regression.x) @ regression.y
    descent = wf.flow(regression.start, regression.field, steps=1000, step_size=0.5)
    numbers: dict[str, Any] = {
        "eigenvalues of X'X/n": values.tolist(),
        "null coordinate of beta": abs((descent @ vectors)[0, 0].item()),
        "distance of gradient descent to the least-norm solution": (descent[0] - limit).norm().item(),
        "least squares": order(regression),
        "KL flow": order(gaussians),
    }
    for name, value in numbers.items():
        if isinstance(value, list) and isinstance(value[0], dict):
            print(f"{name}: step size and error " + ", ".join(f"{e['step_size']:.3g}: {e['error']:.2e}" for e in value))
        else:
            print(f"{name}: {value}")

    figure = Figure(figsize=(11, 6.4), dpi=120, layout="constrained")
    (curve, plane, first), (moments, cloud, second) = figure.subplots(2, 3)
    _draw_coefficients(curve, regression)
    _draw_descent(plane, regression, values[1:], vectors[:, 1:])
    _draw_order(first, numbers["least squares"])
    _draw_moments(moments, gaussians)
    _draw_particles(cloud, gaussians)
    _draw_order(second, numbers["KL flow"])
    make_folder(out)
    save(figure, numbers, out, "least_squares")
    return numbers


def _against_time(
    axes: "Axes", problem: Problem, exact: Callable[[float], Tensor], euler: Tensor, step_size: float, names: list[str]
) -> None:
    """Closed forms as lines, the Euler scheme as dots, one colour per quantity."""
    times = torch.linspace(0, problem.time, 200).tolist()
    curves = torch.stack([exact(t) for t in times])
    for i, name in enumerate(names):
        colour = [*PALETTE, "black"][i]
        axes.plot(times, curves[:, i], color=colour, linewidth=1.3, label=name)
        axes.plot(
            step_size * torch.arange(len(euler)), euler[:, i], "o", color=colour, markersize=3.5, fillstyle="none"
        )
    axes.set_xlabel("time t")
    axes.legend(frameon=False, fontsize=9, ncols=2, columnspacing=1.0, handlelength=1.2)


def _draw_coefficients(axes: "Axes", problem: Regression) -> None:
    step_size = 0.2
    names = [r"$\beta_1$", r"$\beta_2$", r"$\beta_3$"]
    _against_time(axes, problem, lambda t: problem.closed_form(t)[0], path(problem, step_size)[:, 0], step_size, names)
    axes.set_title("gradient descent on least squares", fontsize=10)
    axes.set_ylabel("coefficient")


def _draw_moments(axes: "Axes", problem: Gaussians) -> None:
    step_size = 0.05
    steps = path(problem, step_size)
    euler = torch.stack([_entries(x.mean(0), x.T.cov(correction=0)) for x in steps])
    names = ["$m_1$", "$m_2$", "$C_{11}$", "$C_{12}$", "$C_{22}$"]
    _against_time(axes, problem, lambda t: _entries(*problem.moments(t)), euler, step_size, names)
    axes.set_title("particles in the flow of KL(q|p)", fontsize=10)
    axes.set_ylabel("mean and covariance")


def _entries(mean: Tensor, covariance: Tensor) -> Tensor:
    return torch.stack([*mean, covariance[0, 0], covariance[0, 1], covariance[1, 1]])


def _draw_descent(axes: "Axes", problem: Regression, values: Tensor, vectors: Tensor) -> None:
    """The path in the plane of the two eigenvectors that X sees, over contours of the loss."""
    exact = torch.cat([problem.closed_form(t) for t in torch.linspace(0, 60, 2000).tolist()]) @ vectors
    flip = exact[-1].sign()  # an eigenvector has no sign of its own
    exact, vectors, end = exact * flip, vectors * flip, exact[-1].abs()
    axes.plot(*exact.T.numpy(), color="black", linewidth=1.2, label="closed form")
    for step_size, colour in ((0.1, PALETTE[0]), (0.6, PALETTE[1])):
        iterates = torch.cat([*path(problem, step_size)]) @ vectors
        label = f"step size {step_size}"
        axes.plot(*iterates.T.numpy(), "o", color=colour, **CIRCLES, label=label)
    axes.set(xlim=(-0.5 * end[0].item(), 1.7 * end[0].item()), ylim=(-0.3 * end[1].item(), 1.7 * end[1].item()))
    a, b = torch.meshgrid(torch.linspace(*axes.get_xlim(), 80), torch.linspace(*axes.get_ylim(), 80), indexing="xy")
    excess = 0.5 * (values[0] * (a - end[0]).square() + values[1] * (b - end[1]).square())
    axes.contour(a, b, excess.sqrt(), levels=9, colors=GREY, linewidths=0.6)
    axes.set(xlabel=r"$\beta$ along the 2nd eigenvector", ylabel=r"$\beta$ along the 1st eigenvector")
    axes.set_title("the path, over contours of the loss", fontsize=10)
    axes.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize=8)


def _draw_particles(axes: "Axes", problem: Gaussians) -> None:
    """Some particles' paths, in closed form and by the Euler scheme, and q_t as ellipses."""
    shown = slice(0, 12)
    exact = torch.stack([problem.closed_form(t)[shown] for t in torch.linspace(0, problem.time, 100).tolist()])
    euler = path(problem, 0.05)[:, shown]
    axes.plot(*exact.permute(2, 0, 1).numpy(), color="black", linewidth=0.8)
    axes.plot(
        *euler.permute(2, 0, 1).numpy(), "o", color=PALETTE[0], markersize=2.4, fillstyle="none", markeredgewidth=0.6
    )
    angle = torch.linspace(0, 2 * torch.pi, 100, **F64)
    circle = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    for t, shade in ((0.0, 0.75), (0.15, 0.6), (0.5, 0.45), (1.5, 0.3)):
        mean, covariance = problem.moments(t)
        axes.plot(*(mean + circle @ torch.linalg.cholesky(covariance).T).T.numpy(), color=str(shade), linewidth=1.4)
    target = circle @ torch.linalg.cholesky(problem.target).T
    axes.fill(*target.T.numpy(), color=GREY, alpha=0.25, linewidth=0)
    axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title("paths of particles, q at four times", fontsize=10)


def _draw_order(axes: "Axes", errors: list[dict[str, float]]) -> None:
    from matplotlib.ticker import NullFormatter

    sizes, values = [e["step_size"] for e in errors], [e["error"] for e in errors]
    axes.loglog(sizes, values, "o-", color=PALETTE[0], markersize=4, label="Euler scheme")
    axes.loglog(sizes, [values[-1] * s / sizes[-1] for s in sizes], "--", color="black", linewidth=1, label="slope 1")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="step size", ylabel="error at the end")
    axes.set_title("first order in the step size", fontsize=10)
    axes.legend(frameon=False, fontsize=9)


if __name__ == "__main__":
    cli(main)
