"""A run in pictures: its curves, its samples over training, and its samples against the data."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from math import ceil, isfinite, nan, sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wasserflow import plot
from wasserflow._core.errors import UserError
from wasserflow.data import DataLike, Dataset
from wasserflow.method import Method
from wasserflow.method.capability import GivesField, GivesLogDensity, GivesLogRatio
from wasserflow.run.picture import Picture, figure
from wasserflow.run.potential_plots import potential_pictures
from wasserflow.run.store import GRID_SAMPLES, Run

__all__ = ["moments_of", "plot_run", "read_log"]

DRAWN = 10_000
"""Samples compared with the data, and points of the data, at most."""

ROWS = 8
"""Moments of training in the strip of grids."""

WIDEST = 700
"""Pixels across an animation; wider grids are halved."""


def plot_run(
    path: str | Path,
    out: str | Path | None = None,
    *,
    data: "DataLike | Dataset | None" = None,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Draw what a run logged, how its samples changed over training, and how they compare with the data.

    Every run gets ``curves.png``; a run on images ``grids.png`` and ``training.gif``; one in the plane ``paths.png``,
    ``particles.gif``, ``field.png`` and ``density.png``; one on other vectors ``marginals.png``. One of a potential has
    ``energy.png`` and ``energies.png``, with ``potential.png`` instead of a field in the plane, and ``neighbours.png``
    of images. What lacks the data, a field or stored samples is left out, and ``say`` is told why. Points and
    velocities are in the data's units.

    Args:
        path: The run's folder.
        out: Where to put the pictures; by default ``plots`` in the run's folder. Those of an earlier call are replaced.
        data: The same data again, for a run that was trained on an array in memory.
        say: Called with a sentence for each picture written or left out.

    Returns:
        The files.

    Raises:
        UserError: If there is no such run, it has no checkpoint or no readable log, or nothing can be written. Every
            picture is drawn before the first is written.
    """
    run = Run.open(path)
    columns = read_log(run)
    model = run.load(data=data)
    level = model.ratio_loss.equilibrium if isinstance(model, GivesLogRatio) else None
    curves = figure(
        "curves.png",
        f"the log of the training, against the {run.form.noun} seen",
        plot.curves(columns, run.form.noun, level),
    )
    drawn = [curves, *(_grids(run) if run.form.is_image else _vectors(run, model, data))]
    if isinstance(model, GivesLogDensity):
        drawn += potential_pictures(run, model, data)
    folder = run.path / "plots" if out is None else Path(out)
    pictures = [one for one in drawn if isinstance(one, Picture)]
    _write(pictures, folder)
    if say:
        for one in drawn:
            say(f"{folder / one.name}: {one.shows}" if isinstance(one, Picture) else one)
    return [folder / picture.name for picture in pictures]


def read_log(run: Run) -> dict[str, np.ndarray]:
    """The columns of a run's ``log.jsonl`` by name, NaN where a line lacks the value.

    Raises:
        UserError: If there is no such file, it is empty, or a line of it cannot be read.
    """
    path = run.path / "log.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error
    if not lines:
        raise UserError(f"{path} is empty: the run has logged nothing yet")
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = {name: nan if value is None else float(value) for name, value in json.loads(line).items()}
            if not isfinite(row["images"]):
                raise ValueError
            rows.append(row)
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
            raise UserError(f"line {number} of {path} is damaged: mend or remove it") from error
    return {name: np.array([row.get(name, nan) for row in rows]) for name in {key: 0 for row in rows for key in row}}


def _grids(run: Run) -> Iterator[Picture | str]:
    """The grids that were drawn as the training went, some as a strip and all as an animation."""
    moments = moments_of(run, ".png")
    if not moments:
        yield f"no grids.png, no training.gif: {run.samples} holds no grids"
        return
    in_strip = [list(moments)[index] for index in plot.evenly(len(moments), ROWS)]
    grid_rows = ceil(GRID_SAMPLES / ceil(sqrt(GRID_SAMPLES)))
    rows: dict[str, Image.Image] = {}
    frames: list[Image.Image] = []
    for images, path in moments.items():
        try:
            with Image.open(path, formats=["PNG"]) as grid:
                grid.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{path} cannot be read as a picture: remove it") from error
        if images in in_strip:
            rows[f"{images:,}"] = plot.top_row(grid, grid_rows)
        while grid.width > WIDEST:
            grid = grid.reduce(2)
        frames.append(plot.captioned(grid, f"{images:,} images"))
    if len({frame.size for frame in frames}) > 1:
        raise UserError(f"the grids in {run.samples} differ in size: remove those of other runs")
    strip = plot.strip(rows, "images seen")
    first, last = min(moments), max(moments)
    shows = f"the same samples at {len(rows)} moments of training, from {first:,} to {last:,} images"
    yield Picture("grids.png", shows, partial(plot.save_image, strip))
    yield Picture("training.gif", f"all {len(frames)} stored grids", partial(plot.save_gif, frames))


def _vectors(run: Run, model: Method, data: "DataLike | Dataset | None") -> Iterator[Picture | str]:
    """What shows samples beside data, and how samples got there."""
    samples = model.sample(DRAWN)
    cloud = _units(run, samples)
    known, why = _data(run, data)
    columns = run.form.shape[0]
    beside, draw, without = "marginals.png", plot.marginals, "no marginals.png"
    if columns == 2:
        yield from _over_training(run, known)
        if not isinstance(model, GivesLogDensity):  # whose field depends on the time: potential.png
            yield _field(run, model, samples, known)
        beside, draw, without = "density.png", plot.densities, "no density.png, and no data in the other pictures"
    if known is None:
        yield f"{without}: {why}"
        return
    some = f", the first {plot.MOST_COLUMNS} of {columns} columns" if columns > plot.MOST_COLUMNS else ""
    shows = f"{len(cloud):,} samples beside {len(known):,} {run.form.noun} of the data{some}"
    yield figure(beside, shows, draw(cloud, known, run.form.columns))


def _over_training(run: Run, data: np.ndarray | None) -> Iterator[Picture | str]:
    """Where the same noise went while the model learned."""
    stored = {images: _read_points(path) for images, path in moments_of(run, ".npy").items()}
    if len(stored) < 2:
        yield f"no paths.png, no particles.gif: {run.samples} holds points (.npy) of {len(stored)} moments of training"
        return
    images = list(stored)
    count = min(map(len, stored.values()))
    moments = np.stack([points[:count] for points in stored.values()])
    when = [f"{seen:,} {run.form.noun}" for seen in images]
    period = f"from {images[0]:,} to {when[-1]}"
    drawn = plot.paths(moments, data, (when[0], when[-1]), run.form.columns)
    yield figure("paths.png", f"where the same noise went, {period}", drawn)
    frames = plot.cloud_frames(moments, data, when)
    yield Picture("particles.gif", f"{count:,} samples, {period}", partial(plot.save_gif, frames))


def _field(run: Run, model: Method, samples: torch.Tensor, data: np.ndarray | None) -> Picture | str:
    """What moves the particles, at the end of the training."""
    if not isinstance(model, GivesField):
        return f"no field.png: {type(model).__name__} has no velocity field"
    v = model.field.at(samples)
    mean, std = (np.asarray(value or default) for value, default in ((run.form.mean, 0.0), (run.form.std, 1.0)))

    def velocity(points: np.ndarray) -> np.ndarray:
        return v(torch.from_numpy((points - mean) / std).float()).detach().numpy() * std

    drawn = plot.field(velocity, _units(run, samples), data, run.form.columns)
    return figure("field.png", "the velocity of particles, as the model has learned it", drawn)


def _data(run: Run, data: "DataLike | Dataset | None") -> tuple[np.ndarray | None, str]:
    """Points of the training data, shape ``(N, d)``, in their units; or None, and why."""
    try:
        found = run.load_data(data)
    except UserError as error:
        if data is not None:
            raise
        return None, str(error)
    order = torch.randperm(len(found.train), generator=torch.Generator().manual_seed(0))
    return _units(run, found.train.x[order[:DRAWN]]), ""


def _units(run: Run, points: torch.Tensor) -> np.ndarray:
    return np.asarray(run.form.to_data(points), np.float64)


def moments_of(run: Run, suffix: str) -> dict[int, Path]:
    """What was stored as the training went, by the images seen, first to last."""
    return {int(path.stem): path for path in sorted(run.samples.glob(f"*{suffix}")) if path.stem.isdecimal()}


def _read_points(path: Path) -> np.ndarray:
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as points: remove it") from error
    good = isinstance(points, np.ndarray) and points.dtype.kind == "f" and points.ndim == 2 and points.shape[1] == 2
    if not (good and len(points) and np.isfinite(points).all()):
        raise UserError(f"{path} does not hold points of the plane: remove it")
    return points.astype(np.float64)


def _write(pictures: list[Picture], folder: Path) -> None:
    """Write the pictures, each whole; if that fails, leave no new empty folder."""
    made: list[Path] = []
    try:
        made += [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            picture.save(folder / picture.name)
    except (OSError, UserError) as error:
        for place in made:
            with suppress(OSError):
                place.rmdir()
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from error
