"""``wasserflow flow --source A --target B --field mmd --out C``."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from wasserflow._core.errors import UserError, check_seed

__all__ = ["run"]

FRAMES = 60
RATIO_TIME = 2.5
"""How long a flow by the density ratio takes for a target of variance 1: MonoFlow's 2,500 steps of 0.001."""
LINES = 10  # printed at most of the log
USED_BY = {"divergence": ("ratio",), "lam": ("kale", "drmmd"), "adaptive": ("drmmd",), "slices": ("sliced",)}
"""Flags that some fields alone have a use for."""


@dataclass(frozen=True)
class FlowFlags:
    """Carry a cloud of points onto another along a field: no network, no training.

    Args:
        source: What is moved: a .npy, .npz, .csv or .parquet file, a folder or data set of images, a 2-D toy, one
            picture (its ink becomes points), or "normal" for standard Gaussian noise.
        target: Where to, in the same form; for svgd and ksd a toy with a density (ring, wide-ring, circles, funnel) or
            FILE.py:NAME, a function of points (N, d) that gives the score (N, d) or the log density (N,).
        out: Where the moved points go, in the source's own form: .npy, .csv, .parquet, a folder (images) or a .png
            picture.
        field: What moves them: mmd (the kernel's), energy (all pairs, no bandwidth), sliced (the same by sorting: a
            million points), kale, drmmd, svgd, ksd; ratio (a classifier learns the density ratio as the points move).
        gif: Where an animation of the flow goes, for points of the plane and for images.
        log: Where the energy along the flow goes, as JSON lines.
        steps: How many steps.
        step_size: Time per step; by default within the field's stable range.
        kernel: Of mmd, kale, drmmd, svgd and ksd: gaussian, laplace, imq (inverse multiquadric), rq (rational
            quadratic), energy or linear; by default gaussian, and imq for ksd.
        bandwidth: Of the kernel, sigma in exp(-d^2 / (2 sigma^2)): a number, several separated by commas (gaussian), or
            the rule median, median-log (svgd's) or optimal.
        r: Exponent of the energy kernel -d^r.
        divergence: Of ratio: kl, js, logd, jeffreys, or any other that train vgrow takes.
        lam: Regularisation of kale and drmmd.
        adaptive: Let the regularisation of drmmd shrink with the distance.
        slices: Directions per step of sliced.
        noise: Evaluate the field beside the particles by noise of this size, which falls to 0 over the first half of
            the steps: lets a narrow kernel feel a far target.
        weights: A .npy file with a weight for each point of the target.
        batch: Stand for the target by so many of its points, drawn afresh at each step.
        points: How many points a toy, a picture or normal gives, 2,000 by default; of a larger source, how many are
            moved, by default all.
        standardise: Measure distances in the target's standard deviations, column by column; by default for tables.
        seed: Of every random choice.
        device: cpu, cuda, cuda:1, mps; by default the best one here.
    """

    source: str
    target: str
    out: Path
    field: Literal["mmd", "energy", "sliced", "kale", "drmmd", "svgd", "ksd", "ratio"] = "mmd"
    gif: Path | None = None
    log: Path | None = None
    steps: int = 500
    step_size: float | None = None
    kernel: Literal["gaussian", "laplace", "imq", "rq", "energy", "linear"] | None = None
    bandwidth: str | None = None
    r: float = 1.0
    divergence: str = "kl"
    lam: float = 0.01
    adaptive: bool = False
    slices: int = 64
    noise: float = 0.0
    weights: Path | None = None
    batch: int | None = None
    points: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    standardise: bool | None = None
    seed: int = 0
    device: str | None = None


def run(argv: Sequence[str]) -> None:
    """Move the points."""
    flags = tyro.cli(FlowFlags, args=argv, prog="wasserflow flow")
    _check(flags)

    import torch

    from wasserflow._core.device import resolve_device
    from wasserflow.cli.cloud import density, read_clouds
    from wasserflow.flows import Diverged, flow

    device = resolve_device(flags.device)
    scored = flags.field in ("svgd", "ksd")
    target = density(flags.target) if scored else None
    there = None if scored else flags.target
    origin = flags.kernel == "linear" and flags.field in ("kale", "drmmd")
    cloud = read_clouds(flags.source, there, flags.points, flags.seed, flags.standardise, origin)
    cloud.check_out(flags.out, flags.gif)
    x = cloud.particles.to(device)
    weights = _weights(flags.weights)
    field, step_size = _field(flags, x, target or cloud.target, weights)
    if not 0 < _now(step_size) < float("inf"):
        raise UserError(
            "these points suggest no step size: they coincide, or lie so far apart that squares overflow; bring them "
            "to another scale (--standardise True) or give --step-size"
        )
    looks: list[dict[str, float]] = []
    frames = {round(i * flags.steps / (FRAMES - 1)) for i in range(FRAMES)} if flags.gif else set()
    clouds: list[torch.Tensor] = []
    last: tuple[int, torch.Tensor] = (0, x)

    def see(k: int, particles: torch.Tensor) -> None:
        nonlocal last
        last = k, particles
        if k in frames:
            clouds.append(cloud.shown(particles))

    every = max(1, flags.steps // 50 // LINES) * 50

    def log(k: int, energy: float) -> None:
        looks.append({"step": k, "energy": energy})
        if k % every == 0 or k == flags.steps:
            print(f"step {k:>7,}  energy {energy:.4g}", flush=True)

    beta: Any = (lambda k: flags.noise * max(0.0, 1 - 2 * k / flags.steps)) if flags.noise else 0.0
    settings: dict[str, Any] = {"steps": flags.steps, "step_size": step_size, "noise": beta, "seed": flags.seed}
    print(f"{len(x):,} points, {flags.field}, {flags.steps:,} steps of {flags.step_size or _now(step_size):.3g}")
    try:
        moved = flow(x, field, **settings, callback=see, log=log)
    except Diverged as stop:
        cloud.write(stop.particles, flags.out)
        _write_log(looks, flags.log)
        raise UserError(f"{stop}; {flags.out} holds the particles of step {stop.step}") from stop
    except KeyboardInterrupt as stop:
        cloud.write(last[1], flags.out)
        stop.args = (f"{flags.out} holds the particles of step {last[0]}",)
        raise
    cloud.write(moved, flags.out)
    _write_log(looks, flags.log)
    if flags.gif:
        cloud.animate(clouds, flags.gif)
    print("\n".join([*cloud.report(x, moved, weights), f"{len(x):,} points -> {flags.out}"]))


def _check(flags: FlowFlags) -> None:
    check_seed(flags.seed)
    if flags.steps < 1 or (flags.points is not None and flags.points < 2):
        raise UserError(f"--steps must be at least 1 and --points 2, not {flags.steps} and {flags.points}")
    if flags.step_size is not None and not 0 < flags.step_size < float("inf"):
        raise UserError(f"--step-size must be a positive number, not {flags.step_size}")
    if not 0 <= flags.noise < float("inf"):
        raise UserError(f"--noise must be a finite number >= 0, not {flags.noise}")
    for name, fields in USED_BY.items():
        if getattr(flags, name) != getattr(FlowFlags, name) and flags.field not in fields:
            raise UserError(f"--{name} is for --field {' and '.join(fields)}: {flags.field} has no use for it")
    if flags.r != 1 and flags.field != "energy" and flags.kernel != "energy":
        raise UserError("--r is the exponent of the energy kernel: take --field energy or --kernel energy with it")
    if flags.field in ("energy", "sliced", "ratio") and (flags.kernel or flags.bandwidth):
        its = "no kernel" if flags.field == "ratio" else "its own kernel"
        raise UserError(f"the field {flags.field} has {its}: leave --kernel and --bandwidth out, or use mmd")
    if flags.field == "ratio" and flags.weights:
        raise UserError("the field ratio learns from points that count alike: leave --weights out")
    if flags.field in ("svgd", "ksd") and (flags.weights or flags.batch):
        raise UserError(f"{flags.field} knows its target by the score: there is nothing to weight or to draw from")
    if flags.gif is not None and flags.gif.suffix.lower() != ".gif":
        raise UserError(f"an animation is written as .gif, not as {flags.gif.name}")
    for path in (flags.out, flags.gif, flags.log):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"cannot write {path}: there is no folder {path.parent}")


def _field(flags: FlowFlags, x: Any, target: Any, weights: Any) -> tuple[Any, float | Callable[[int], float]]:
    """The field, and the step size within its stable range where none is given."""
    import torch

    from wasserflow._core.points import flat
    from wasserflow.field.learned_ratio import LearnedRatioField
    from wasserflow.field.of_samples import DrMMDField, KALEField, MMDField, SlicedField
    from wasserflow.field.of_score import KSDField, SVGDField
    from wasserflow.kernel.radial import Energy

    kernel = _kernel(flags)
    if flags.field == "ratio":
        if x.ndim > 2:
            raise UserError("the field ratio moves points, not images: train a method, or take --field sliced")
        spread = torch.as_tensor(target).var(0).mean().item()
        field = LearnedRatioField(target, flags.divergence, batch=flags.batch, seed=flags.seed)
        return field, flags.step_size or RATIO_TIME * spread / flags.steps
    if flags.field in ("svgd", "ksd"):
        field = (SVGDField if flags.field == "svgd" else KSDField)(target, kernel)
        fastest = field(x).flatten(1).norm(dim=1).max().item()  # steep scores ask for small steps
        return field, flags.step_size or min(0.1, 0.1 * x.std(0).mean().item() / max(fastest, 1e-9))
    given: dict[str, Any] = {"batch": flags.batch, "seed": flags.seed, "weights": weights}
    match flags.field:
        case "mmd" | "energy":
            field = MMDField(target, Energy(flags.r) if flags.field == "energy" else kernel, **given)
        case "sliced":
            field = SlicedField(target, flags.slices, **given)
        case "kale":
            field = KALEField(target, flags.lam, kernel, **given)
        case _:
            field = DrMMDField(target, flags.lam, kernel, adaptive=flags.adaptive, **given)
    if flags.step_size:
        return field, flags.step_size
    x = flat(x)
    y, _ = field.target.sketch(x)
    bound = (getattr(field, "kernel", None) or Energy()).bind(x, y, 0.0)
    if not bound.lipschitz < float("inf"):
        return field, 0.3 * y.std(0).mean().item()
    if not bound.lipschitz:  # the square of the kernel's width overflows
        return field, float("inf")
    share = {"mmd": 1 / 3, "kale": 1.0, "drmmd": 0.5}[flags.field] / bound.lipschitz
    if isinstance(field, DrMMDField):
        return field, lambda k: share * field.lam / (1 + field.lam)
    return field, share * (flags.lam / (1 + flags.lam) if isinstance(field, KALEField) else 1)


def _now(step_size: float | Callable[[int], float]) -> float:
    return step_size(0) if callable(step_size) else step_size


def _kernel(flags: FlowFlags) -> Any:
    from wasserflow import kernel

    name: str | None = flags.kernel
    width: Any = _bandwidth(flags.bandwidth)
    if name is None:
        name = "imq" if flags.field == "ksd" else "gaussian"
    if width is not None and name in ("rq", "energy", "linear"):
        raise UserError(f"the kernel {name} has no bandwidth: leave --bandwidth out")
    if isinstance(width, list) and name != "gaussian":
        raise UserError(f"the kernel {name} takes one bandwidth, not {len(width)}")
    default = "median-log" if flags.field == "svgd" else 1.0 if flags.field == "ksd" else "median"
    makers: dict[str, Callable[[Any], Any]] = {
        "gaussian": kernel.Gaussian,
        "laplace": kernel.Laplace,
        "imq": kernel.InverseMultiquadric,
        "rq": lambda _: kernel.RationalQuadratic(),
        "energy": lambda _: kernel.Energy(flags.r),
        "linear": lambda _: kernel.Linear(),
    }
    return makers[name](default if width is None else width)


def _bandwidth(words: str | None) -> Any:
    """A number, several, or a rule's name."""
    if words is None:
        return None
    try:
        numbers = [float(word) for word in words.split(",")]
    except ValueError:
        return words
    return numbers if len(numbers) > 1 else numbers[0]


def _weights(path: Path | None) -> Any:
    if path is None:
        return None
    from wasserflow.data.array import load_npy

    if not path.is_file():
        raise UserError(f"no such file: {path}")
    weights = load_npy(path)
    if weights.ndim != 1 or weights.dtype.kind not in "fiu":
        raise UserError(f"{path} has type {weights.dtype} and shape {weights.shape}: give one number per target point")
    return weights.astype("float64")


def _write_log(looks: list[dict[str, float]], path: Path | None) -> None:
    from wasserflow._core.files import whole_or_nothing

    if path is not None:
        with whole_or_nothing(path) as part:
            part.write_text("".join(json.dumps(look) + "\n" for look in looks))
