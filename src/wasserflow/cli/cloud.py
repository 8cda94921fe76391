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
from wasserflow.data.raw import Part, Raw
from wasserflow.data.toy import TOYS, log_density
from wasserflow.data.write import check_target, write_samples
from wasserflow.field.target import Samples
from wasserflow.metric import energy_distance
from wasserflow.plot import captioned, cloud_frames, draw_samples, image_grid, save_gif

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
FIGURE_SPACE = "\u2007"
"""As wide as a digit, so that a counter does not move."""


@dataclass(frozen=True)
class Cloud:
    """Particles and target in model space.

    Images are in [-1, 1], tables in standard deviations, points as they are, less the target's mean in a column where
    that is far from 0.

    Args:
        particles: float32, (N, *).
        target: (M, *), in memory or memory-mapped; None if it is given by its score.
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

    def animate(self, frames: dict[int, Tensor], gif: Path, weights: np.ndarray | None = None) -> None:
        """Write what was shown after some of the steps as an animation, points over those of the target."""
        digits = len(str(max(frames)))
        titles = [f"step {str(k).rjust(digits, FIGURE_SPACE)} of {max(frames)}" for k in frames]
        clouds = list(frames.values())
        if self.form.is_image:
            save_gif([captioned(image_grid(cloud), title) for cloud, title in zip(clouds, titles, strict=True)], gif)
            return
        target = [] if self.target is None else [self.form.to_picture(self._sketch(weights)[0])]
        around = torch.cat([clouds[0], clouds[-1], *target])  # no end of the flow is cut off
        save_gif(cloud_frames(clouds, target[0] if target else None, titles, around), gif)

    def report(self, x: Tensor, moved: Tensor, weights: np.ndarray | None = None) -> list[str]:
        """How far the particles began and ended from the target, whose points may be weighted."""
        if self.target is None:
            return []
        x, moved = (p[:: -(-len(p) // COMPARED)].cpu().flatten(1).double() for p in (x, moved))
        y, shares = self._sketch(weights, torch.float64)
        before, after = (energy_distance(p, y, shares) for p in (x, moved))
        whose = "target" if weights is None else "weighted target"
        return [f"energy distance to the {whose}: {before:.4g} before, {after:.4g} after (0: none)"]

    def _sketch(self, weights: np.ndarray | None, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """At most 5,000 of the target's points (m, d), evenly, and their weights."""
        assert self.target is not None
        like = torch.empty(0, int(np.prod(self.target.shape[1:])), dtype=dtype)
        return Samples(self.target, weights).sketch(like, COMPARED)


def read_clouds(
    source: str, target: str | None, n: int | None, seed: int, standardise: bool | None, origin: bool = False
) -> Cloud:
    """Read both ends of a flow and bring them into one space.

    Args:
        source: As for `wasserflow.data.read`, or ``normal``.
        target: Likewise; None for a target given by its score.
        n: Points of a toy, a picture or ``normal``, and the most that are moved; None: 2,000, and all.
        seed: Random seed of those.
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
        return _scored(here, n, seed)
    if (here.layout == "ND") != (there.layout == "ND") or here.train.x.shape[1:] != there.train.x.shape[1:]:
        raise UserError(
            f"{here.name} has samples of shape {here.train.x.shape[1:]} and {there.name} of shape "
            f"{there.train.x.shape[1:]}: they must be alike"
        )
    if here.layout != "ND":
        form = Form(tuple(here.train.x.shape[1:]), here.layout, here.dtypes)
        x, y = (form.to_model(torch.from_numpy(np.array(v, order="C"))) for v in (_rows(here, n, seed), _all(there)))
        return Cloud(x, y, form)
    scaled = here.columns is not None if standardise is None else standardise
    return _vectors(here, there, _rows(here, n, seed), scaled, origin, stays=source == "normal" and scaled)


def _scored(here: Raw, n: int | None, seed: int) -> Cloud:
    """Vectors that move onto a target given by its score."""
    if here.layout != "ND":
        raise UserError("a target given by its score moves vectors, not images")
    x = _rows(here, n, seed)
    _check_near(x, here.name)
    form = Form((x.shape[1],), "ND", here.dtypes, columns=here.columns)
    return Cloud(torch.from_numpy(x.astype(np.float32)), None, form)


def _vectors(here: Raw, there: Raw, x: np.ndarray, scaled: bool, origin: bool, stays: bool) -> Cloud:
    """Vectors x of ``here`` that move onto those of ``there``; ``stays``: x is in model space already."""
    values, order = _all(there), there.order(here.columns, here.name)
    mean, std = _space(values, there.name, scaled, origin)
    if scaled or not isinstance(values, np.memmap):
        values = torch.from_numpy(np.ascontiguousarray(_moved(values, mean, std)[:, order]))  # as Python's arrays are
    elif order != list(range(len(order))):
        raise UserError("a target in a file has its columns in the source's order")
    mean, std = mean[order], std[order]
    if not stays:
        x = _moved(x, mean, std)
    form = Form((x.shape[1],), "ND", here.dtypes, tuple(mean.tolist()), tuple(std.tolist()), here.columns)
    return Cloud(torch.from_numpy(np.ascontiguousarray(x, np.float32)), values, form)


def _space(values: np.ndarray, name: str, scaled: bool, origin: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is subtracted from the columns, and what they are divided by then."""
    if scaled:
        std = values.std(0, dtype=np.float64)
        return values.mean(0, dtype=np.float64), np.where(std == 0, 1, std)
    mean, one = np.zeros(values.shape[1]), np.ones(values.shape[1])
    if origin or isinstance(values, np.memmap):
        _check_near(values, name)
        return mean, one
    mean, spread = _rough(values)
    return np.where(np.abs(mean) <= FAR * spread, 0, mean), one  # ordinary points stay as they are, to the bit


def density(words: str) -> Callable[[Tensor], Tensor]:
    """A target given by its density: a toy's, or ``FILE.py:NAME``.

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
