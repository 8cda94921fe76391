"""The points of ``wasserflow flow``: read in any form, moved as vectors, written back in the form they had."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path
from traceback import extract_tb

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError, unknown
from wasserflow.data import read
from wasserflow.data.dataset import Form
from wasserflow.data.raw import Raw
from wasserflow.data.toy import TOYS, log_density
from wasserflow.data.write import check_target, write_samples
from wasserflow.field.target import Samples
from wasserflow.metric import energy_distance
from wasserflow.plot import cloud_frames, draw_samples, image_grid, save_gif

__all__ = ["Cloud", "density", "read_clouds"]

IN_MEMORY = 2**30
"""Bytes up to which a target is taken into memory; a larger .npy file is read in blocks, at every step."""

FAR = 100
"""Standard deviations from 0 beyond which a column of points is moved there: float32 keeps seven digits in all."""

TOO_FAR = 10**6
"""Those beyond which float32 cannot tell points apart any more, where they cannot be moved."""

COMPARED = 5000
SHOWN = 10_000
SOME = 2000
TILES = 36


@dataclass(frozen=True)
class Cloud:
    """Particles and target in model space.

    Images are in [-1, 1], tables in standard deviations, points as they are, less the target's mean in a column where
    that is far from 0.

    Args:
        particles: float32, (N, *).
        target: (M, *), in memory or memory-mapped; None where it is known by its score.
        form: How the source looked.
    """

    particles: Tensor
    target: Tensor | np.memmap | None
    form: Form

    def check_out(self, out: Path, gif: Path | None) -> None:
        """Raise a `UserError` if the points have no such form."""
        check_target(out, self.form)
        if gif is not None and not self.form.has_picture:
            raise UserError(f"points of dimension {self.form.shape[0]} have no animation: leave --gif out")

    def write(self, moved: Tensor, out: Path) -> None:
        """Write the particles in the source's own form, or draw them."""
        if out.suffix.lower() == ".png":
            draw_samples(self.form.to_picture(moved[: 100 if self.form.is_image else SHOWN]), out)
        else:
            write_samples([moved.cpu()], len(moved), self.form, out)

    def shown(self, particles: Tensor) -> Tensor:
        """Those that an animation shows, in the data's units."""
        every = -(-len(particles) // SHOWN)
        return self.form.to_picture(particles[:TILES] if self.form.is_image else particles[::every])

    def animate(self, clouds: list[Tensor], gif: Path) -> None:
        """Write the clouds as an animation."""
        if self.form.is_image:
            frames = [image_grid(cloud) for cloud in clouds]
        else:
            frames = cloud_frames(clouds, around=torch.cat([clouds[0], clouds[-1]]))  # neither end is cut off
        save_gif(frames, gif)

    def report(self, x: Tensor, moved: Tensor, weights: np.ndarray | None = None) -> list[str]:
        """How far the particles began and ended from the target, whose points may be weighted."""
        if self.target is None:
            return []
        x, moved = (p[:: -(-len(p) // COMPARED)].cpu().flatten(1).double() for p in (x, moved))
        y, shares = Samples(self.target, weights).sketch(x, COMPARED)
        before, after = (energy_distance(p, y, shares) for p in (x, moved))
        whose = "target" if weights is None else "weighted target"
        return [f"energy distance to the {whose}: {before:.4g} before, {after:.4g} after (0: none)"]


def read_clouds(
    source: str, target: str | None, n: int | None, seed: int, standardise: bool | None, origin: bool = False
) -> Cloud:
    """Read both ends of a flow and bring them into one space.

    Args:
        source: As for `wasserflow.data.read`, or ``normal``.
        target: Likewise; None for a target known by its score.
        n: Points of a toy, a picture or ``normal``, and the most that are moved; None: 2,000, and all.
        seed: Of those.
        standardise: Whether columns are measured in the target's standard deviations; None: those of tables are.
        origin: Whether the field depends on where 0 is: points that are not standardised then stay where they are.

    Raises:
        UserError: If one cannot be read, or the two do not fit together.
    """
    there = None if target is None else read(target, n or SOME, (seed + 1) % 2**63)
    here = _normal(there, n or SOME, seed) if source == "normal" else read(source, n or SOME, seed)
    for raw in (here, there):
        if raw is not None and len(raw.train) < 2:
            raise UserError(f"{raw.name} has a single point: a flow needs at least two on either side")
    if standardise and (there is None or there.layout != "ND"):
        raise UserError("--standardise is for vectors, and a target that is given as points: leave it out")
    if there is None:
        form = Form((here.train.x.shape[1],), "ND", here.dtypes, columns=here.columns)
        if here.layout != "ND":
            raise UserError("a target known by its score moves vectors, not images")
        x = _rows(here, n, seed)
        _check_near(x, here.name)
        return Cloud(torch.from_numpy(x.astype(np.float32)), None, form)
    if (here.layout == "ND") != (there.layout == "ND") or here.train.x.shape[1:] != there.train.x.shape[1:]:
        raise UserError(
            f"{here.name} has samples of shape {here.train.x.shape[1:]} and {there.name} of shape "
            f"{there.train.x.shape[1:]}: they must be alike"
        )
    values = _all(there)
    if here.layout != "ND":
        form = Form(tuple(here.train.x.shape[1:]), here.layout, here.dtypes)
        x, y = (form.to_model(torch.from_numpy(np.array(v, order="C"))) for v in (_rows(here, n, seed), values))
        return Cloud(x, y, form)
    order = there.order(here.columns, here.name)
    x, mean, std = _rows(here, n, seed), np.zeros(len(order)), np.ones(len(order))
    scaled = standardise or (standardise is None and here.columns is not None)
    if scaled:
        mean, std = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
        std[std == 0] = 1
    elif origin or isinstance(values, np.memmap):
        _check_near(values, there.name)
    else:
        mean, spread = _rough(values)
        mean[np.abs(mean) <= FAR * spread] = 0  # ordinary points stay as they are, to the bit
    if scaled or not isinstance(values, np.memmap):
        values = torch.from_numpy(_moved(values, mean, std)[:, order])
    elif order != list(range(len(order))):
        raise UserError("a target in a file has its columns in the source's order")
    mean, std = mean[order], std[order]
    if source != "normal" or not scaled:
        x = _moved(x, mean, std)
    form = Form((x.shape[1],), "ND", here.dtypes, tuple(mean.tolist()), tuple(std.tolist()), here.columns)
    return Cloud(torch.from_numpy(np.ascontiguousarray(x, np.float32)), values, form)


def density(words: str) -> Callable[[Tensor], Tensor]:
    """A target known by its density: a toy's, or ``FILE.py:NAME``.

    Raises:
        UserError: If there is no such toy, file or function.
    """
    path, colon, name = words.rpartition(":")
    if not colon or not path.endswith(".py"):
        if words in TOYS or not words.endswith(".py"):
            return log_density(words)
        raise UserError(f"{words} is a file: say which function, as in {words}:score")
    if not Path(path).is_file():
        raise UserError(f"no such file: {path}")
    try:
        names = run_path(path)
    except Exception as error:
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    functions = [key for key, value in names.items() if callable(value) and not key.startswith("_")]
    if not callable(names.get(name)):
        raise unknown(f"function of {path}", name, functions)
    return _guarded(names[name], path, name)


def _guarded(function: Callable[[Tensor], Tensor], path: str, name: str) -> Callable[[Tensor], Tensor]:
    """The user's function, whose errors are the user's too."""

    def guarded(x: Tensor) -> Tensor:
        try:
            return function(x)
        except Exception as error:
            lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == path]
            where = f"line {lines[-1]} of {path}" if lines else path
            what = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
            raise UserError(f"{name} fails in {where} at points {tuple(x.shape)}: {what}") from error

    return guarded


def _normal(there: Raw | None, n: int, seed: int) -> Raw:
    from wasserflow.data.raw import Part

    if there is not None and there.layout != "ND":
        noise = np.random.default_rng(seed).normal(127.5, 64, (n, *there.train.x.shape[1:]))
        return Raw("normal", Part(noise.clip(0, 255).round().astype(np.uint8)), there.layout, there.dtypes)
    d = 2 if there is None else there.train.x.shape[1]
    noise = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    dtypes, columns = (("float32",), None) if there is None else (there.dtypes, there.columns)
    return Raw("normal", Part(noise), "ND", dtypes, columns=columns)


def _rows(raw: Raw, most: int | None, seed: int) -> np.ndarray:
    """The samples that are moved: all, or ``most`` of them."""
    count = len(raw.train)
    rows = np.arange(count) if raw.train.rows is None else np.asarray(raw.train.rows)
    if most is not None and count > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return np.asarray(raw.train.x[rows])


def _moved(values: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Points in float32, moved and scaled before in float64: what float32 keeps are the digits that tell them apart."""
    if mean.any() or (std != 1).any():
        values = (values - mean) / std
    return values.astype(np.float32)


def _rough(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the columns, from a few thousand points."""
    few = np.asarray(values[:: -(-len(values) // COMPARED)], np.float64)
    return few.mean(0), few.std(0)


def _check_near(values: np.ndarray, name: str) -> None:
    """Raise a `UserError` where points (N, d) that stay where they are cannot be told apart in float32."""
    mean, std = map(np.linalg.norm, _rough(values))
    if mean > TOO_FAR * std > 0:
        raise UserError(
            f"{name} lies {mean / std:.0e} standard deviations from 0, where float32 cannot tell its points apart: "
            "take an offset off it, its mean say, first"
        )


def _all(raw: Raw) -> np.ndarray:
    x = raw.train.x
    if isinstance(x, np.memmap) and x.nbytes > IN_MEMORY and raw.train.rows is None and raw.layout == "ND":
        return x
    return np.asarray(x if raw.train.rows is None else x[raw.train.rows])
