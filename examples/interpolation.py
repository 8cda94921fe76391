"""A walk through the latent space of a trained generator, on straight lines and on great circles.

python examples/interpolation.py RUN takes a run of wasserflow train; without RUN a VGrow is trained on the handwritten
digits of scikit-learn, for --cpu-minutes. Each row goes from G(z_a) to G(z_b):

    linear      z = (1 - t) z_a + t z_b
    spherical   z = (sin((1 - t) w) z_a + sin(t w) z_b) / sin w,    w the angle between z_a and z_b.

In many dimensions N(0, I) lies near a sphere of radius sqrt(l), and the middle of a straight line is shorter by a
factor of about sqrt(2), where the generator has seen hardly any noise; the great circle keeps to the sphere. The curves
show |z| / sqrt(l), and the mean log p/q that the run's own classifier gives to the images on the way.

Sources: Deep Generative Learning via Variational Gradient Flow (Gao et al., 2019), arXiv 1901.08469, interpolates
linearly; Sampling Generative Networks (White, 2016), arXiv 1609.04468, on great circles.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
import tyro
from common import PALETTE, cli, make_folder, save
from torch import Tensor

import wasserflow as wf
from wasserflow._core.noise import sample_noise
from wasserflow.method.pair import Pair
from wasserflow.plot import image_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["linear", "main", "spherical"]


def linear(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Straight lines between latents (N, l) at times (T,): shape (N, T, l)."""
    t = t[:, None]
    return (1 - t) * a[:, None] + t * b[:, None]


def spherical(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Great circles between latents (N, l) at times (T,): shape (N, T, l)."""
    angle = torch.cosine_similarity(a, b).acos()[:, None, None]
    t = t[:, None]
    return ((1 - t) * angle).sin() / angle.sin() * a[:, None] + (t * angle).sin() / angle.sin() * b[:, None]


PATHS = {"linear": linear, "spherical": spherical}


def main(
    run: tyro.conf.Positional[Path | None] = None,
    out: Path = Path("interpolation"),
    rows: int = 6,
    columns: int = 9,
    cpu_minutes: float = 0.5,
    seed: int = 0,
) -> dict[str, Any]:
    """Draw the walks, and print what happens on the way.

    Args:
        run: The run's folder; by default a short one is trained.
        out: Folder for the picture and the numbers.
        rows: Number of pairs of latents.
        columns: Number of images from one latent to the other.
        cpu_minutes: Process CPU time of the training, where there is one.
        seed: Random seed of the training and of the latents.
    """
    if min(rows, columns) < 2:
        raise wf.UserError(f"--rows and --columns must be at least 2, not {rows} and {columns}")
    make_folder(out)
    model = _train(cpu_minutes, seed) if run is None else wf.load(run)
    if not isinstance(model, Pair) or len(model.shape) != 3 or model.config.networks.prior != "normal":
        raise wf.UserError(f"{run} is no run of vgrow or monoflow on images with --prior normal: give one that is")
    size = model.config.networks.latent
    t = torch.linspace(0, 1, columns)
    many = 500
    a, b = sample_noise(seed, 0, 2 * many, (size,)).split(many)
    numbers: dict[str, Any] = {"latent": size, "t": t.tolist()}
    images: dict[str, Tensor] = {}
    for name, path in PATHS.items():
        z = path(a, b, t)
        with torch.no_grad():
            x = model.generator(z.flatten(0, 1))
        images[name] = x.unflatten(0, (many, columns))[:rows]
        numbers[name] = {
            "norm / sqrt(l)": (z.norm(dim=2).mean(0) / size**0.5).tolist(),
            "log p/q": model.log_ratio(x).unflatten(0, (many, columns)).mean(0).tolist(),
        }
        middle = {what: round(values[columns // 2], 3) for what, values in numbers[name].items()}
        print(f"{name}: in the middle {middle}")
    save(_picture(images, numbers), numbers, out, "interpolation")
    return numbers


def _train(cpu_minutes: float, seed: int) -> wf.VGrow:
    """A VGrow of the digits that come with scikit-learn."""
    model = wf.VGrow.for_shape((1, 8, 8), seed=seed)
    with TemporaryDirectory() as temporary:
        wf.train(model, "digits", budget=wf.Budget(cpu_minutes=cpu_minutes), out=Path(temporary) / "run", seed=seed)
    return model


def _picture(images: dict[str, Tensor], numbers: dict[str, Any]) -> "Figure":
    """The walks side by side, and below what happens on the way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.6), dpi=150, layout="constrained")
    walks, curves = figure.subfigures(2, 1, height_ratios=[2.1, 1])  # pyright: ignore[reportGeneralTypeIssues]
    for axes, (name, x) in zip(walks.subplots(1, 2), images.items(), strict=True):
        grid = image_grid(x.flatten(0, 1), columns=x.shape[1])
        axes.imshow(grid, cmap="gray" if grid.mode == "L" else None, interpolation="nearest")
        axes.set_title(name, fontsize=11)
        axes.set_axis_off()
    norm, ratio = curves.subplots(1, 2)
    _draw(norm, numbers, "norm / sqrt(l)", r"$|z|\,/\sqrt{l}$")
    _draw(ratio, numbers, "log p/q", "mean log p/q")
    norm.legend(frameon=False, fontsize=9, loc="center")
    return figure


def _draw(axes: "Axes", numbers: dict[str, Any], what: str, label: str) -> None:
    for name, colour in zip(PATHS, PALETTE, strict=False):
        axes.plot(numbers["t"], numbers[name][what], "o-", color=colour, markersize=3, lw=1.4, label=name)
    axes.set_xlabel("t")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cli(main)
