"""``wasserflow flow --source A --target B --out C``."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from torch import Tensor

from wasserflow._core.device import resolve_device
from wasserflow._core.errors import UserError, check_seed
from wasserflow._core.files import whole_or_nothing
from wasserflow._core.pairs import TILE
from wasserflow._core.settings import Count, NonNegative, Positive, settings
from wasserflow.cli.cloud import Cloud, density, read_clouds
from wasserflow.cli.flags import Device, option, parse
from wasserflow.cli.moving import show_moving
from wasserflow.cli.threads import threads_for
from wasserflow.data.array import load_npy
from wasserflow.data.toy import TOYS
from wasserflow.field.base import Field
from wasserflow.field.by_name import FIELDS, check_settings, default_of, make_field, takers
from wasserflow.flows import Diverged, flow, stable_step
from wasserflow.kernel.bandwidth import RULES
from wasserflow.kernel.by_name import KERNELS

__all__ = ["run"]

DEFAULT = "sliced"
FRAMES = 60
SETTINGS = {setting for row in FIELDS.values() for setting in row.settings} - {"seed"}
"""Flags that some fields take and others do not."""


def _optional(metavar: str, default: str = "") -> Any:
    """What annotates a flag that may be left out."""
    return option(metavar=metavar, help_behavior_hint=f"(default: {default})" if default else "")


def _of(setting: str, metavar: str | None, text: str, default: object = None) -> Any:
    """What annotates the flag of a field's setting: its help names the fields that take it, from their table."""
    hint = "" if default is None else f"(default: {default})"
    return option(metavar=metavar, help=f"{text} Fields: {', '.join(takers(setting))}.", help_behavior_hint=hint)


def _table(rows: dict[str, Any]) -> str:
    return "; ".join(f"{name} ({row.about})" for name, row in rows.items())


@settings
class MoreFlags:
    """Flags that are rarely needed.

    Args:
        step_size: Time per step. Smaller if a flow diverges, larger if it has not arrived.
        noise: Evaluate the field beside the particles by Gaussian noise of this standard deviation, which decays to 0
            over the first half of the steps: lets a narrow kernel feel a far target.
        weights: A .npy file with a weight for each point of the target.
        log: Where the energy along the flow goes, as JSON lines.
        standardise: Measure distances in the target's standard deviations, column by column.
        device: cpu, cuda, cuda:1 or mps.
    """

    step_size: Annotated[Positive | None, _optional("FLOAT", "the field's stable step")] = None
    kernel: Annotated[str | None, _of("kernel", "NAME", f"Kernel: {_table(KERNELS)}.")] = None
    bandwidth: Annotated[
        str | None,
        _of(
            "bandwidth",
            "FLOAT|RULE",
            f"Bandwidth of the kernel: a number, several with commas (gaussian), or a rule: {', '.join(RULES)}.",
        ),
    ] = None
    r: Annotated[float | None, _of("r", "FLOAT", "Exponent of the energy kernel -d^r.", default_of("r"))] = None
    divergence: Annotated[
        str | None, _of("divergence", "NAME", "Divergence that the flow descends.", default_of("divergence"))
    ] = None
    lam: Annotated[float | None, _of("lam", "FLOAT", "Regularisation lambda.", default_of("lam"))] = None
    adaptive: Annotated[bool, _of("adaptive", None, "Let lambda shrink as the points come near.")] = False
    slices: Annotated[int | None, _of("slices", "INT", "Directions per step.", default_of("slices"))] = None
    noise: NonNegative = 0.0
    weights: Annotated[Path | None, _optional("PATH")] = None
    batch: Annotated[
        int | None, _of("batch", "INT", "Use this many of the target's points at each step, drawn afresh.")
    ] = None
    log: Annotated[Path | None, _optional("PATH")] = None
    standardise: Annotated[bool | None, _optional("True|False", "True for tables")] = None
    device: Device = None


@settings
class FlowFlags:
    """Carry a cloud of points onto another along a field: no network, no training.

    Args:
        source: The points to move: a .npy, .npz, .csv or .parquet file, a folder or data set of images, a 2-D toy, one
            picture (its ink becomes points), or "normal" for Gaussian noise.
        out: Where the moved points go, in the source's own form: .npy, .csv, .parquet, a folder (images) or a .png
            picture.
        steps: Number of steps.
        gif: Where an animation of the flow goes, for points of the plane and for images.
        seed: Random seed.
    """

    source: str
    target: Annotated[
        str,
        option(
            help="Where to move them, in the same form. For the fields "
            + " and ".join(name for name, row in FIELDS.items() if row.target == "density")
            + " a toy with a density ("
            + ", ".join(name for name, toy in TOYS.items() if toy.log_density)
            + ") or FILE.py:NAME, a function of points (N, d) that gives the score (N, d) or the log density (N,)."
        ),
    ]
    out: Path
    field: Annotated[str, option(metavar="NAME", help=f"The field that moves them: {_table(FIELDS)}.")] = DEFAULT
    steps: Count = 500
    points: Annotated[
        int | None,
        option(
            metavar="INT",
            help="Number of points drawn from a toy, a picture or a Gaussian; of a larger source, the number moved.",
            help_behavior_hint="(default: 2000; all of a larger source)",
            aliases=("-n",),
        ),
    ] = None
    gif: Annotated[Path | None, _optional("PATH")] = None
    seed: int = 0
    more: MoreFlags = MoreFlags()


def run(argv: Sequence[str]) -> None:
    """Move the points."""
    flags, _ = parse(FlowFlags, None, argv, "wasserflow flow")
    _check(flags)
    device = resolve_device(flags.more.device)
    scored = FIELDS[flags.field].target == "density"
    target = density(flags.target) if scored else None
    cloud = read_clouds(
        flags.source, None if scored else flags.target, flags.points, flags.seed, flags.more.standardise, _origin(flags)
    )
    cloud.check_out(flags.out, flags.gif)
    if cloud.form.is_image and not FIELDS[flags.field].images:
        raise UserError(f"the field {flags.field} moves points, not images: take another --field, or train a method")
    x, weights = cloud.particles.to(device), _weights(flags.more.weights)
    field = _field(flags, target or cloud.target, weights)
    with threads_for(_operations(flags, x, cloud)) as threads:
        print(_chosen(flags, x, cloud, field, threads), flush=True)
        moved, frames = _move(flags, x, cloud, field)
        cloud.write(moved, flags.out)
        print("\n".join([*cloud.report(x, moved, weights), f"{len(x):,} points -> {flags.out}"]), flush=True)
        if flags.gif:
            cloud.animate(frames, flags.gif, weights)
            print(f"animation of {len(frames)} frames -> {flags.gif}")


def _check(flags: FlowFlags) -> None:
    """Raise a `UserError` for flags that contradict each other, before anything is read."""
    check_seed(flags.seed)
    check_settings(flags.field, _settings(flags.more))
    if flags.points is not None and flags.points < 2:
        raise UserError(f"`points` must be at least 2, not {flags.points}")
    if flags.gif is not None and flags.gif.suffix.lower() != ".gif":
        raise UserError(f"an animation is written as .gif, not as {flags.gif.name}")
    for path in (flags.out, flags.gif, flags.more.log):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"cannot write {path}: there is no folder {path.parent}")


def _settings(flags: MoreFlags) -> dict[str, Any]:
    """The field's settings that are given."""
    given = {name: value for name, value in vars(flags).items() if name in SETTINGS}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def _origin(flags: FlowFlags) -> bool:
    """Whether the field depends on where 0 is: the norm that regularises a linear witness does."""
    return flags.more.kernel == "linear" and "lam" in FIELDS[flags.field].settings


def _field(flags: FlowFlags, target: Any, weights: np.ndarray | None) -> Field:
    given = _settings(flags.more) | {"bandwidth": _bandwidth(flags.more.bandwidth), "weights": weights}
    seed = flags.seed if "seed" in FIELDS[flags.field].settings else None
    return make_field(flags.field, target, seed=seed, **given)


def _bandwidth(words: str | None) -> float | list[float] | str | None:
    """A number, several, or a rule's name."""
    if words is None:
        return None
    try:
        numbers = [float(word) for word in words.split(",")]
    except ValueError:
        return words
    return numbers if len(numbers) > 1 else numbers[0]


def _weights(path: Path | None) -> np.ndarray | None:
    if path is None:
        return None
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    weights = load_npy(path)
    if weights.ndim != 1 or weights.dtype.kind not in "fiu":
        raise UserError(f"{path} has type {weights.dtype} and shape {weights.shape}: give one number per target point")
    return weights.astype("float64")


def _operations(flags: FlowFlags, x: Tensor, cloud: Cloud) -> float:
    """Multiply-adds that threads share at a time, roughly: of a tile of pairs, or of the slices of all points."""
    n, d = len(x), x[0].numel()
    m = 0 if cloud.target is None else min(len(cloud.target), flags.more.batch or len(cloud.target))
    if "slices" in FIELDS[flags.field].settings:
        return int(str(flags.more.slices or default_of("slices"))) * (n + m) * (d + 8)
    return min(n * (n + m), TILE) * (d + 8)


def _chosen(flags: FlowFlags, x: Tensor, cloud: Cloud, field: Field, threads: str) -> str:
    """What will be done, in one line."""
    onto = "" if cloud.target is None else f" onto {len(cloud.target):,}"
    kernel = field.kernel_at(x)
    words = [f"{len(x):,} points{onto}: field {flags.field}", *([f"kernel {kernel!r}"] if kernel else [])]
    step_size = flags.more.step_size or stable_step(field, x)
    which = "" if flags.more.step_size else " (stable, adaptive)" if field.adaptive else " (stable)"
    return ", ".join([*words, f"{flags.steps:,} steps of {step_size:.3g}{which}", threads])


def _move(flags: FlowFlags, x: Tensor, cloud: Cloud, field: Field) -> tuple[Tensor, dict[int, Tensor]]:
    """The moved particles, and what an animation shows after some of the steps.

    If the flow stops early, its best particles are written.
    """
    shown = {round(i * flags.steps / (FRAMES - 1)) for i in range(FRAMES)} if flags.gif else set()
    frames: dict[int, Tensor] = {}
    looks: list[dict[str, float]] = []
    last = 0, x

    def see(k: int, particles: Tensor) -> None:
        nonlocal last
        last = k, particles
        if k in shown:
            frames[k] = cloud.shown(particles)
        progress.step(k)

    def log(k: int, energy: float) -> None:
        looks.append({"step": k, "energy": energy})
        progress.look(k, energy)

    try:
        with show_moving(flags.steps) as progress:
            moved = flow(
                x,
                field,
                steps=flags.steps,
                step_size=flags.more.step_size,
                noise=_noise(flags),
                seed=flags.seed,
                callback=see,
                log=log,
            )
    except Diverged as stop:
        cloud.write(stop.particles, flags.out)
        _write_log(looks, flags.more.log)
        raise UserError(f"{stop}; {flags.out} holds the particles of step {stop.step}") from stop
    except KeyboardInterrupt as stop:
        cloud.write(last[1], flags.out)
        stop.args = (f"{flags.out} holds the particles of step {last[0]}",)
        raise
    _write_log(looks, flags.more.log)
    return moved, frames


def _noise(flags: FlowFlags) -> float | Callable[[int], float]:
    if not flags.more.noise:
        return 0.0
    return lambda k: flags.more.noise * max(0.0, 1 - 2 * k / flags.steps)


def _write_log(looks: list[dict[str, float]], path: Path | None) -> None:
    if path is not None:
        with whole_or_nothing(path) as part:
            part.write_text("".join(json.dumps(look) + "\n" for look in looks))
