"""The vanilla GAN with a shifted logit.

MonoFlow with h(d) = -log(1 - sigma(d + C)), the generator loss of the vanilla GAN at C = 0, with the authors' DCGAN,
batch and learning rates (recipe="paper"), but with networks of a quarter of the width, so that two CPU minutes show
something; --width 32 is theirs on MNIST, and they train for 15 epochs with C = 0, 1, 3, 5. A poor sample has d << 0
and moves along sigma(d + C) grad d. Without a shift this vanishes like e^d; with C it stays near grad d while d > -C.
Here d is at -9 after a few hundred steps, below -C for all four, so C = 10 is added. The baseline is the non-saturating
loss, h = log sigma(d).

The picture has a grid of samples per loss. Its title is the Frechet distance to the validation split between features
of a classifier of the labels; that of as many real training images is the reference. The six runs take --cpu-minutes
each, so the default takes a little over twelve minutes. The runs are kept in the output folder and not trained again.

Source: MonoFlow: Rethinking Divergence GANs via the Perspective of Wasserstein Gradient Flows (Yi, Zhu & Liu, 2023),
arXiv 2302.01075.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import cli, make_folder, save
from torch import Tensor

import wasserflow as wf
from wasserflow.data import load
from wasserflow.divergence import named
from wasserflow.plot import image_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LOSSES", "main"]

LOSSES: dict[str, dict[str, Any]] = {
    **{f"vanilla, C = {shift}": {"divergence": "vanilla", "shift": float(shift)} for shift in (0, 1, 3, 5, 10)},
    "non-saturating": {"divergence": "ns"},
}


def main(
    out: Path = Path("shifted_vanilla"),
    data: str = "mnist",
    width: int = 8,
    cpu_minutes: float = 2.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a run per loss, measure it, and lay the samples side by side.

    Args:
        out: Folder for the picture, the numbers and the runs.
        data: Images with labels: mnist, fashion-mnist, cifar10, or digits, which need no download.
        width: Channels at the finest size.
        cpu_minutes: Process CPU time of each of the six runs.
        seed: Random seed.
    """
    try:
        images = load(data)
    except wf.UserError as error:
        raise wf.UserError(f"{error} Or leave out the download with --data digits.") from error
    make_folder(out)
    numbers: dict[str, Any] = {"data": data, "width": width, "cpu_minutes": cpu_minutes}
    samples: dict[str, Tensor] = {}
    for name, settings in LOSSES.items():
        run = out / f"{data}-{name.replace(', C = ', '-')}"
        if not run.exists():
            model = wf.MonoFlow.for_shape(images.form.shape, recipe="paper", width=width, seed=seed, **settings)
            wf.train(model, images, budget=wf.Budget(cpu_minutes=cpu_minutes), out=run, seed=seed)
        report = wf.evaluate(run, split="validation", features="classifier", seed=seed, data=images)
        frechet = report["frechet"]
        numbers[name] = {"frechet": frechet.value, "reference": frechet.reference, "count": report.count}
        print(
            f"{name}: Frechet {frechet.value:.1f} (real images {frechet.reference:.1f}), {report.count:,} samples",
            flush=True,
        )
        samples[name] = wf.load(run).sample(49, seed=seed)
    save(_picture(samples, numbers), numbers, out, "shifted_vanilla")
    return numbers


def _picture(samples: dict[str, Tensor], numbers: dict[str, Any]) -> "Figure":
    """A grid per loss, and their rates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.4, 6.8), dpi=130, layout="constrained")
    *panels, rates = figure.subplot_mosaic("abcd;efgg").values()
    for axes, (name, x) in zip(panels, samples.items(), strict=False):
        grid = image_grid(x)
        axes.imshow(grid, cmap="gray" if grid.mode == "L" else None, interpolation="antialiased")
        axes.set_title(f"{name}\nFrechet {numbers[name]['frechet']:.4g}", fontsize=10)
        axes.set_axis_off()
    _draw_rates(rates)
    real = numbers[next(iter(samples))]["reference"]
    figure.supxlabel(
        f"width {numbers['width']}, {numbers['cpu_minutes']:g} CPU minutes each; Frechet of real images {real:.3g}",
        fontsize=9,
    )
    return figure


def _draw_rates(axes: "Axes") -> None:
    from matplotlib import colormaps

    d = torch.linspace(-18, 5, 300)  # from where on the left there is room for the legend
    for i, (name, settings) in enumerate(LOSSES.items()):
        rate = named(settings["divergence"]).shifted(settings.get("shift", 0.0)).rate(d)
        own = "shift" in settings
        axes.plot(d, rate, color=colormaps["viridis"](i / 5) if own else "black", ls="-" if own else "--", label=name)
    axes.set_xlabel("d = log p/q (poor samples on the left)")
    axes.set_title("how fast a sample moves: the rate h'(d)", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="center left")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cli(main)
