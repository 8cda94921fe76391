"""When may a density ratio be held fixed? Six objectives, three ways to differentiate them, one Gaussian.

A model x = mu + S z, z ~ N(0, I), is moved from N((1, 1), I) to p = N(0, [[1, .8], [.8, .89]]) by stochastic gradient
descent on E_q g(r), r = p/q, where the ratio is

    full      exact, and its dependence on the model's parameters is differentiated too: a divergence is minimised;
    detached  exact, but held fixed: only x = mu + S z is differentiated, as a GAN does it;
    learned   that of a classifier trained beside the model: a GAN.

With the ratio held fixed a sample moves along grad h(log r) with h(d) = -g(e^d), and that lowers KL(q|p) only if h
increases. Of the five f-divergences only the reverse KL, g = -log r, gives such an h: the others work with the full
gradient and run away with the ratio held fixed. The sixth objective is the opposite case: E_q[-e^{1.5 d}] is no
divergence and fails with the full gradient, but h(d) = e^{1.5 d} increases and works with the ratio held fixed.

A cell works if the correlation has the right sign and KL(q|p) < 0.01, and fails if KL(q|p) > 1. Gradients are clipped
to norm 1, because that of chi-square has an infinite variance at the start.

Source: MonoFlow: Rethinking Divergence GANs via the Perspective of Wasserstein Gradient Flows (Yi, Zhu & Liu, 2023),
arXiv 2302.01075, section 4.3.

The columns full and detached take under a minute; --columns full detached learned takes some minutes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from common import GREY, PALETTE, cli, make_folder, save
from torch import Tensor, nn

from wasserflow._core.errors import UserError
from wasserflow.divergence import alpha, named
from wasserflow.ratio import LOSSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["OBJECTIVES", "Column", "Gaussian", "fit", "main"]

Column = Literal["full", "detached", "learned"]

TARGET = torch.tensor([[1.0, 0.0], [0.8, 0.5]], dtype=torch.float64)
"""The target's scale: x = TARGET z."""


def _power(d: Tensor) -> Tensor:
    return -alpha(1.5).h(d)


OBJECTIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "reverse KL": lambda d: named("kl").g(d.exp()),
    "forward KL": lambda d: named("forward-kl").g(d.exp()),
    "chi-square": lambda d: named("chi2").g(d.exp()),
    "Hellinger": lambda d: named("hellinger").g(d.exp()),
    "Jensen-Shannon": lambda d: named("js").g(d.exp()),
    "h = exp(1.5 d)": _power,
}
"""What is averaged over q and minimised, as a function of d = log r."""


@dataclass(frozen=True)
class Gaussian:
    """``x = mean + scale z``.

    Args:
        mean: Shape (2,).
        scale: Shape (2, 2).
    """

    mean: Tensor
    scale: Tensor

    @property
    def covariance(self) -> Tensor:
        """``S S'``."""
        return self.scale @ self.scale.T

    def log_density(self, x: Tensor) -> Tensor:
        """At points (N, 2), up to log 2 pi: shape (N,)."""
        z = torch.linalg.solve(self.scale, (x - self.mean).T)
        return -0.5 * z.square().sum(0) - torch.linalg.slogdet(self.scale).logabsdet

    def detached(self) -> "Gaussian":
        """The same, held fixed."""
        return Gaussian(self.mean.detach(), self.scale.detach())

    def kl(self, other: "Gaussian") -> float:
        """``KL(self | other)``."""
        a = torch.linalg.solve(other.scale, self.scale)
        b = torch.linalg.solve(other.scale, self.mean - other.mean)
        kl = 0.5 * (a.square().sum() + b.square().sum() - len(b)) - torch.linalg.slogdet(a).logabsdet
        return max(kl.item(), 0.0)

    def verdict(self) -> str:
        """The rule of the module's docstring."""
        kl, correlated = self.kl(P), self.covariance[0, 1] > 0
        return "works" if correlated and kl < 0.01 else "fails" if kl > 1 else "unclear"


P = Gaussian(torch.zeros(2, dtype=torch.float64), TARGET)


def fit(objective: str, column: Column, *, steps: int, seed: int = 0) -> Gaussian:
    """Minimise an objective with Adam, from N((1, 1), I).

    Args:
        objective: A key of `OBJECTIVES`.
        column: How the ratio is differentiated.
        steps: Adam's steps.
        seed: Random seed of the noise, and of the classifier.

    Returns:
        The model with its parameters averaged over the last fifth of the steps.
    """
    rng = torch.Generator().manual_seed(seed)
    mean = torch.ones(2, dtype=torch.float64, requires_grad=True)
    scale = torch.eye(2, dtype=torch.float64, requires_grad=True)
    q = Gaussian(mean, scale)
    learned = column == "learned"
    adam = torch.optim.Adam([mean, scale], 1e-3 if learned else 1e-2)
    classifier = Classifier(1e-3 if objective == "reverse KL" else 1e-4, seed) if learned else None
    last: list[Tensor] = []
    for k in range(steps):
        z = torch.randn(32 if classifier else 1000, 2, generator=rng, dtype=torch.float64)
        x = mean + z @ scale.T
        if classifier:
            classifier.learn(torch.randn(len(z), 2, generator=rng, dtype=torch.float64) @ TARGET.T, x.detach())
            d = classifier(x)
        else:
            d = P.log_density(x) - (q if column == "full" else q.detached()).log_density(x)
        loss = OBJECTIVES[objective](d).mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([mean, scale], 1.0)
        adam.step()
        if k >= 0.8 * steps:
            last.append(torch.cat([mean[None], scale]).detach())
    average = torch.stack(last).mean(0)
    return Gaussian(average[0], average[1:])


class Classifier:
    """``d(x) = log p/q`` learned by logistic regression, one step at a time."""

    def __init__(self, lr: float, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            act = nn.LeakyReLU(0.2)
            layers = (nn.Linear(2, 512), act, nn.Linear(512, 256), act, nn.Linear(256, 1), nn.Flatten(0))
            self.logit = nn.Sequential(*layers)
        self.adam = torch.optim.Adam(self.logit.parameters(), lr, fused=True)

    def learn(self, p: Tensor, q: Tensor) -> None:
        """One step on data and particles, (N, 2) each."""
        loss = LOSSES["logistic"](self.logit(p.float()), self.logit(q.float()))
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()

    def __call__(self, x: Tensor) -> Tensor:
        """``d(x)``, shape (N,)."""
        return self.logit(x.float()).double()


def main(
    out: Path = Path("gaussian_table"),
    columns: Sequence[Column] = ("full", "detached"),
    steps: int = 2000,
    learned_steps: int = 5000,
    seed: int = 0,
) -> dict[str, dict[str, dict]]:
    """Fill in the table, print it and draw it.

    Args:
        out: Folder for the picture and the numbers.
        columns: How the ratio is differentiated.
        steps: Adam's steps with exact ratios.
        learned_steps: Adam's steps with a learned ratio.
        seed: Random seed.
    """
    from matplotlib.figure import Figure

    if not columns or min(steps, learned_steps) < 5:  # the last fifth is averaged
        raise UserError(f"--columns needs a column, and steps must be at least 5, not {steps} and {learned_steps}")
    make_folder(out)
    columns = [column for column in get_args(Column) if column in columns]
    table: dict[str, dict[str, dict]] = {column: {} for column in columns}
    figure = Figure(figsize=(2 * len(OBJECTIVES), 2.25 * len(columns) + 0.3), dpi=150, layout="constrained")
    panels = figure.subplots(len(columns), len(OBJECTIVES), sharex=True, sharey=True, squeeze=False)
    print(f"{'':24}{'mu':>16}{'Sigma 11, 12, 22':>24}{'KL(q|p)':>10}")
    for row, column in zip(panels, columns, strict=True):
        row[0].set_ylabel(f"{column} ratio" if column != "full" else "full gradient", fontsize=11)
        for axes, objective in zip(row, OBJECTIVES, strict=True):
            q = fit(objective, column, steps=learned_steps if column == "learned" else steps, seed=seed)
            (s11, s12), (_, s22) = q.covariance.tolist()
            cell = {"mu": q.mean.tolist(), "sigma": [s11, s12, s22], "kl": q.kl(P), "verdict": q.verdict()}
            table[column][objective] = cell
            mu = "{:8.3f}{:8.3f}".format(*cell["mu"])
            print(f"{column:9}{objective:15}{mu}{s11:8.3f}{s12:8.3f}{s22:8.3f}{cell['kl']:10.4f}  {q.verdict()}")
            _draw(axes, q)
    for axes, objective in zip(panels[0], OBJECTIVES, strict=True):
        axes.set_title(f"{objective}\n{axes.get_title()}", fontsize=10)
    save(figure, table, out, "gaussian_table")
    return table


def _draw(axes: "Axes", q: Gaussian) -> None:
    """Ellipses of one and two standard deviations: the target grey, the start dotted, the model in colour."""
    angle = torch.linspace(0, 2 * torch.pi, 200, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    start = Gaussian(torch.ones(2).double(), torch.eye(2).double())
    colour = {"works": PALETTE[2], "fails": PALETTE[1]}.get(q.verdict(), PALETTE[3])
    for radius in (1, 2):
        axes.fill(*(P.mean + radius * circle @ P.scale.T).T.numpy(), color=GREY, alpha=0.3, linewidth=0)
        axes.plot(*(q.mean + radius * circle @ q.scale.T).T.numpy(), color=colour, linewidth=1.6)
    axes.plot(*(start.mean + circle @ start.scale.T).T.numpy(), color="black", linewidth=0.8, linestyle=":")
    kl = q.kl(P)
    axes.set(xlim=(-3, 4.5), ylim=(-3, 4.5), aspect="equal", xticks=[-2, 0, 2, 4], yticks=[-2, 0, 2, 4])
    axes.set_title(f"{q.verdict()}, KL {kl:.4f}" if kl < 1 else f"{q.verdict()}, KL {kl:.1f}", fontsize=9, color=colour)
    axes.tick_params(labelsize=8)


if __name__ == "__main__":
    cli(main)
