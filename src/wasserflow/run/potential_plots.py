"""What a potential leaves behind, in pictures: itself over time, its energy along the way, in and out of the data."""

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wasserflow import plot
from wasserflow._core.errors import UserError
from wasserflow._core.noise import sample_noise
from wasserflow.data import DataLike, Dataset, read_samples
from wasserflow.flows import flow
from wasserflow.path import over
from wasserflow.potential.density import READ_AT
from wasserflow.run.picture import Picture, figure
from wasserflow.run.store import Run

__all__ = ["potential_pictures"]

TIMES = (0.02, 0.25, 0.5, 0.75, 0.95)
CELLS, ARROWS = 120, 18
TRAJECTORIES, STEPS, END = 200, 60, 1.5
SCORED = 1000
SHOWN, NEAREST = 12, 3


def potential_pictures(run: Run, model: Any, data: "DataLike | Dataset | None") -> Iterator[Picture | str]:
    """``potential.png`` (the plane), ``energy.png``, ``energies.png``, and ``neighbours.png`` (images)."""
    try:
        known = run.load_data(data)
    except UserError as error:
        if data is not None:
            raise
        yield f"no energies.png, no potential.png, no neighbours.png: {error}"
        return
    try:
        model.check_density("")
        kind, label = "density", "log-density, up to a constant"
    except UserError:
        kind, label = "potential", "psi"
    ours = run.form.to_model(known.test.x[:SCORED])
    if run.form.shape == (2,):
        yield _plane(model, run, ours, kind, label)
    yield _trajectories(model, kind, label)
    yield _histograms(run, model, ours, kind, label)
    if run.form.is_image:
        yield _neighbours(model, run.form.to_model(known.train.x))


def _plane(model: Any, run: Run, ours: Tensor, kind: str, label: str) -> Picture:
    """Psi's density and its gradient at five times, in model space, over where noise and data are."""
    cloud = torch.cat([ours, sample_noise(0, 0, len(ours), (2,)) * float(model.path.s(torch.zeros(())))])
    bounds = plot.limits(cloud.numpy())
    values: dict[str, np.ndarray] = {}
    fields = []
    for t in TIMES:
        x = _grid(bounds, CELLS)
        times = x.new_full((len(x),), t)
        with torch.no_grad():
            psi = model.potential(x, times)
        value = model.path.log_density(psi, x, times) if kind == "density" else psi
        values[f"t = {t:g}"] = value.view(CELLS, CELLS).numpy()
        fields.append(model.velocity(_grid(bounds, ARROWS), t).view(ARROWS, ARROWS, 2).numpy())
    drawn = plot.potentials(values, fields, bounds, label)
    return figure("potential.png", f"{label} and grad psi at {len(TIMES)} times, in model space", drawn)


def _grid(bounds: np.ndarray, cells: int) -> Tensor:
    x, y = (torch.linspace(float(low), float(high), cells) for low, high in bounds)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(-1, 2)


def _trajectories(model: Any, kind: str, label: str) -> Picture:
    """The energy, read at one time throughout, along the way from noise past t = 1."""
    noise = sample_noise(0, 0, TRAJECTORIES, model.shape)
    moments: list[Tensor] = []
    start = over(model.path.s(torch.zeros(())), noise) * noise
    flow(
        start,
        model.velocity,
        steps=STEPS,
        step_size=END / STEPS,
        solver="heun",
        callback=lambda k, x: moments.append(model.log_density(x, kind=kind)),
    )
    times = np.linspace(0, END, STEPS + 1)
    drawn = plot.energy_paths(times, torch.stack(moments).numpy(), f"{label}, read at t = {READ_AT:g}")
    return figure("energy.png", f"{label} along {TRAJECTORIES} trajectories, to t = {END:g}", drawn)


def _histograms(run: Run, model: Any, ours: Tensor, kind: str, label: str) -> Picture:
    """Test data, samples, noise of their mean and variance, permuted pixels, and the sets in detection.json."""
    rng = torch.Generator().manual_seed(0)
    flat = ours.flatten(1)
    permuted = flat.gather(1, torch.rand(flat.shape, generator=rng).argsort(1)).view_as(ours)
    noise = ours.mean(0) + ours.std(0) * torch.randn(ours.shape, generator=rng)
    sets = {"test data": ours, "samples": model.sample(min(len(ours), 500)), "gaussian noise": noise}
    if run.form.is_image:
        sets["test data, pixels permuted"] = permuted
    with suppress(OSError, ValueError, KeyError, TypeError, UserError):  # pictures do without sets that have gone
        for one in json.loads((run.path / "detection.json").read_text())["against"]:
            sets[one["data"].rsplit("/", 1)[-1]] = read_samples(one["data"], run.form)[:SCORED]
    values = {name: model.log_density(x, kind=kind).numpy() for name, x in sets.items()}
    drawn = plot.histograms(values, f"{label}, read at t = {READ_AT:g}")
    return figure("energies.png", f"{label} of {', '.join(values)}", drawn)


def _neighbours(model: Any, train: Tensor) -> Picture:
    """A row of samples, and below each its nearest training images by the distance of pixels."""
    samples = model.sample(SHOWN)
    distances = torch.cat([torch.cdist(samples.flatten(1), part.flatten(1)) for part in train.split(5000)], 1)
    nearest = distances.topk(min(NEAREST, len(train)), largest=False).indices
    rows = [samples, *(train[nearest[:, k]] for k in range(nearest.shape[1]))]
    grid = plot.image_grid(torch.cat(rows), columns=SHOWN)
    shows = f"{SHOWN} samples, and below each its {nearest.shape[1]} nearest training images (pixels)"
    return Picture("neighbours.png", shows, partial(plot.save_image, grid))
