"""Particle fields beside the obvious alternatives, and how the sliced energy grows to a million points.

``python -m benchmarks.particles`` takes some five minutes on one core, prints the tables of docs/flows.md, and writes
``benchmarks/results/particles.json`` and the plot. One process, one thread but for one row, CPU time of the
process, interleaved; peaks of memory are each measured in a separate process. Rivals that are not installed are left
out (``pip install -c constraints.txt '.[benchmark]'``).
"""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.quality import RESULTS, ROOT, commit_id, hardware, markdown_row
from benchmarks.speed import compare, cpu_seconds
from wasserflow._core.files import whole_or_nothing
from wasserflow.discrepancy.sliced_energy import directions, sliced_velocity
from wasserflow.field.of_samples import MMDField, SlicedField
from wasserflow.kernel.radial import Energy, Gaussian
from wasserflow.plot import save_figure
from wasserflow.run.store import machine

__all__ = ["broadcast", "cdist", "energy_by_cdist", "errors", "main"]

WIDTHS = (4.0, 8.0, 16.0, 32.0, 64.0)
SIZES = (1_000, 10_000, 100_000, 1_000_000)
SLICES = 16  # timed per size

Field = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Flags:
    """Measure particle fields.

    Args:
        repeats: Of every comparison.
        out: Where the results go.
        plot: Where the plot goes.
        probe: Measure one step in this process and print it; with this the benchmark calls itself.
    """

    repeats: int = 4
    out: Path = RESULTS / "particles.json"
    plot: Path = ROOT / "docs" / "figures" / "particles_speed.png"
    probe: str | None = None


def cloud(n: int, d: int, seed: int, shift: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard Gaussian points, shifted."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype) + shift


def broadcast(x: Tensor, y: Tensor) -> Tensor:
    """The field of the Gaussian mixture as it is usually first written: differences broadcast, autograd."""
    return _by_autograd(x, y, lambda a, b: (a[:, None] - b[None]).square().sum(2))


def cdist(x: Tensor, y: Tensor) -> Tensor:
    """The same with ``torch.cdist``."""
    return _by_autograd(x, y, lambda a, b: torch.cdist(a, b).square())


def _by_autograd(x: Tensor, y: Tensor, squared: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    x = x.detach().requires_grad_()

    def gram(a: Tensor, b: Tensor) -> Tensor:
        s = squared(a, b)
        return torch.stack([(-s / (2 * width**2)).exp() for width in WIDTHS]).sum(0)

    loss = gram(x, x).mean() / 2 - gram(x, y).mean()
    return -len(x) * torch.autograd.grad(loss, x)[0]


def geomloss_energy(x: Tensor, y: Tensor) -> Tensor:
    """The energy field through geomloss, whose loss is 1/2 MMD^2 of -|x - y|."""
    from geomloss import SamplesLoss  # type: ignore[import-not-found]

    x = x.detach().requires_grad_()
    loss = SamplesLoss("energy", backend="tensorized")(x, y)
    return -len(x) * torch.autograd.grad(loss, x)[0]


def energy_by_cdist(x: Tensor, y: Tensor) -> Tensor:
    """The energy field through ``torch.cdist`` and autograd."""
    x = x.detach().requires_grad_()
    loss = torch.cdist(x, y).mean() - torch.cdist(x, x).mean() / 2
    return -len(x) * torch.autograd.grad(loss, x)[0]


def relative(a: Tensor, b: Tensor) -> float:
    """Distance of two fields relative to the second."""
    return ((a - b).norm() / b.norm()).item()


def errors() -> dict[str, float]:
    """How far rivals' fields are from ours in float64, at 400 points: they compute the same."""
    x, y = cloud(400, 128, 0, dtype=torch.float64), cloud(400, 128, 1, 0.3, dtype=torch.float64)
    mixture, energy = MMDField(y, Gaussian(WIDTHS))(x), MMDField(y, Energy())(x)
    rivals = {
        "broadcast": (broadcast, mixture),
        "cdist": (cdist, mixture),
        "energy by cdist": (energy_by_cdist, energy),
    }
    if find_spec("geomloss"):
        rivals["energy, geomloss"] = (geomloss_energy, energy)
    return {name: relative(field(x, y), ours) for name, (field, ours) in rivals.items()}


def mixtures(repeats: int, n: int = 2048, d: int = 128) -> dict[str, Any]:
    """Five Gaussian bandwidths and the energy kernel, n = m = 2048 points in 128 dimensions, float32."""
    x, y = cloud(n, d, 0), cloud(n, d, 1, 0.3)
    mixture, energy = MMDField(y, Gaussian(WIDTHS)), MMDField(y, Energy())
    rivals: dict[str, tuple[Field, Any, int]] = {
        "Gaussian mixture, broadcast": (broadcast, mixture, max(1, repeats // 2)),
        "Gaussian mixture, cdist": (cdist, mixture, repeats),
        "energy, cdist": (energy_by_cdist, energy, repeats),
    }
    if find_spec("geomloss"):
        rivals["energy, geomloss"] = (geomloss_energy, energy, repeats)
    results = {}
    for name, (rival, ours, count) in rivals.items():
        results[name] = compare(lambda f=ours: f(x), lambda f=rival: f(x, y), count).to_json()
    return results


def growth(repeats: int) -> dict[str, Any]:
    """CPU seconds per slice of the sliced energy field, beside NumPy's sort of the same floats, at n = m."""
    rows = []
    for d in (2, 64):
        for n in SIZES:
            x, y = cloud(n, d, 0), cloud(n, d, 1, 0.5)
            xi = directions(d, SLICES, np.random.default_rng(0))
            projected = (xi @ torch.cat([x[:n], y]).T).numpy()
            inner = max(1, 100_000 // n)
            seconds, sorts = [], []
            for _ in range(repeats):
                seconds.append(_timed(lambda x=x, y=y, xi=xi: sliced_velocity(x, x, y, xi), inner) / SLICES)
                sorts.append(_timed(lambda s=projected, n=n: (np.sort(s[0, :n]), np.sort(s[0, n:])), 4 * inner))
            ratios = np.divide(seconds, sorts)
            rows.append(
                {
                    "d": d,
                    "n": n,
                    "seconds_per_slice": float(np.median(seconds)),
                    "numpy_sort_seconds": float(np.median(sorts)),
                    "ratio": float(np.median(ratios)),
                    "ratio_range": [float(ratios.min()), float(ratios.max())],
                }
            )
    exponents = {}
    for d in (2, 64):
        own = [row for row in rows if row["d"] == d]
        logs = np.log([[row["n"], row["seconds_per_slice"], row["n"] * math.log(row["n"])] for row in own])
        exponents[d] = {
            "exponent_of_n": np.polyfit(logs[:, 0], logs[:, 1], 1)[0],
            "exponent_of_n_log_n": np.polyfit(logs[:, 2], logs[:, 1], 1)[0],
        }
    return {"rows": rows, "fit": exponents}


def _timed(step: Callable[[], object], inner: int) -> float:
    return cpu_seconds(lambda: [step() for _ in range(inner)]) / inner


def accuracy(d: int = 64, n: int = 1000) -> list[dict[str, float]]:
    """Relative error of the sliced field against the exact one, for independent and for orthogonal directions."""
    x, y = cloud(n, d, 0), cloud(n, d, 1, 0.3)
    exact = MMDField(y, Energy())(x)
    flat, target = cloud(n, 2, 0), cloud(n, 2, 1, 0.3)
    exact_plane = MMDField(target, Energy())(flat)
    rows = []
    for count in (16, 64, 256, 1024, 4096):
        trials = 4 if count <= 256 else 2
        found: dict[str, list[float]] = {"independent": [], "orthogonal": [], "plane": []}
        for seed in range(trials):
            rng = np.random.default_rng(seed)
            loose = torch.nn.functional.normalize(cloud(count, d, 100 + seed), dim=1)
            found["independent"].append(relative(sliced_velocity(x, x, y, loose), exact))
            found["orthogonal"].append(relative(sliced_velocity(x, x, y, directions(d, count, rng)), exact))
            even = directions(2, count, rng)
            found["plane"].append(relative(sliced_velocity(flat, flat, target, even), exact_plane))
        means = {name: float(np.mean(values)) for name, values in found.items()}
        rows.append({"slices": count, "guide": math.sqrt(d / count), **means})
    return rows


def probe(name: str) -> dict[str, float]:
    """Time of one step and peak memory of this process, before and after it."""
    kind, n, d, threads = name.split(",")
    torch.set_num_threads(int(threads))
    x, y = cloud(int(n), int(d), 0), cloud(int(n), int(d), 1, 0.5)
    field = MMDField(y, Gaussian(0.5)) if kind == "exact" else SlicedField(y, slices=64)
    before = peak_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    field(x)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": peak_mb(),
        "before_mb": before,
    }


def peak_mb() -> float:
    """The most memory that this process has had; what `getrusage` says begins with the peak of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def probes() -> dict[str, dict[str, float]]:
    """Each in a separate process."""
    names = {
        "exact Gaussian field, n = m = 100,000, d = 2": "exact,100000,2,1",
        "sliced energy field, 64 slices, n = m = 1,000,000, d = 2": "sliced,1000000,2,1",
        "sliced energy field, 64 slices, n = m = 1,000,000, d = 64": "sliced,1000000,64,1",
        "the same in the plane, two threads": "sliced,1000000,2,2",
    }
    words = [sys.executable, "-m", "benchmarks.particles", "--probe"]
    return {
        what: json.loads(subprocess.run([*words, name], capture_output=True, text=True, check=True).stdout)
        for what, name in names.items()
    }


def draw(results: dict[str, Any], out: Path) -> None:
    """Growth with n on the left, error with the number of slices on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = results["growth"]["rows"]
    for d, colour in ((2, "#1f5fbf"), (64, "#c8531c")):
        own = [row for row in rows if row["d"] == d]
        n = [row["n"] for row in own]
        left.loglog(n, [1e3 * row["seconds_per_slice"] for row in own], "o-", color=colour, label=f"a slice, d = {d}")
    last = own[-1]
    sort = [1e3 * row["numpy_sort_seconds"] for row in own]
    left.loglog(n, sort, "s--", color="#9a9a9a", label="numpy.sort of the same floats")
    guide = np.array([k * math.log(k) for k in n])
    guide = guide / guide[-1] * 1e3 * last["seconds_per_slice"]
    left.loglog(n, guide, ":", color="black", lw=1, label="n log n")
    left.set(xlabel="particles = target points, n", ylabel="CPU milliseconds per slice", title="growth")
    errors = results["accuracy"]
    count = [row["slices"] for row in errors]
    right.loglog(count, [row["independent"] for row in errors], "o-", color="#9a9a9a", label="independent, d = 64")
    right.loglog(count, [row["orthogonal"] for row in errors], "o-", color="#c8531c", label="orthogonal, d = 64")
    right.loglog(count, [row["plane"] for row in errors], "o-", color="#1f5fbf", label="evenly spaced, d = 2")
    right.loglog(count, [row["guide"] for row in errors], ":", color="black", lw=1, label="sqrt(d / slices), d = 64")
    right.set(xlabel="slices", ylabel="relative error of the field", title="accuracy")
    for axes in (left, right):
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out)


def tables(results: dict[str, Any]) -> str:
    """The tables of docs/flows.md."""
    heads = ["n = m = 2048, d = 128", "rival, ms", "wasserflow, ms", "faster by", "over repeats"]
    lines = [markdown_row(heads), markdown_row(["---"] * len(heads))]
    for name, row in results["mixtures"].items():
        span = " to ".join(f"{value:.1f}" for value in row["ratio_range"])
        times = [f"{1e3 * row[key]:.0f}" for key in ("plain_seconds", "ours_seconds")]
        lines.append(markdown_row([name, *times, f"{row['ratio']:.1f}", span]))
    heads = ["", "seconds", "CPU seconds", "peak MB", "of these before the step"]
    lines += ["", markdown_row(heads), markdown_row(["---"] * len(heads))]
    for name, row in results["probes"].items():
        cells = [
            f"{row['seconds']:.1f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['peak_mb']:.0f}",
            f"{row['before_mb']:.0f}",
        ]
        lines.append(markdown_row([name, *cells]))
    heads = ["d", "n = m", "ms per slice", "numpy.sort, ms", "ratio", "over repeats"]
    lines += ["", markdown_row(heads), markdown_row(["---"] * len(heads))]
    for row in results["growth"]["rows"]:
        slice_, sort = row["seconds_per_slice"], row["numpy_sort_seconds"]
        cells = [str(row["d"]), f"{row['n']:,}", f"{1e3 * slice_:.3g}", f"{1e3 * sort:.3g}", f"{row['ratio']:.1f}"]
        lines.append(markdown_row([*cells, " to ".join(f"{value:.1f}" for value in row["ratio_range"])]))
    for d, fit in results["growth"]["fit"].items():
        n, with_log = fit["exponent_of_n"], fit["exponent_of_n_log_n"]
        lines += ["", f"d = {d}: seconds grow like n^{n:.2f}, or (n log n)^{with_log:.2f}."]
    heads = ["slices", "sqrt(64 / slices)", "independent, d = 64", "orthogonal, d = 64", "evenly spaced, d = 2"]
    lines += ["", markdown_row(heads), markdown_row(["---"] * len(heads))]
    for row in results["accuracy"]:
        cells = [f"{row[key]:.3f}" for key in ("guide", "independent", "orthogonal")]
        lines.append(markdown_row([str(row["slices"]), *cells, f"{row['plane']:.1e}"]))
    return "\n".join(lines)


def main() -> None:
    """Measure, print, store, draw."""
    flags = tyro.cli(Flags)
    if flags.probe:
        print(json.dumps(probe(flags.probe)))
        return
    torch.set_num_threads(1)
    same = errors()
    if max(same.values()) > 1e-6:
        raise SystemExit(f"the implementations do not compute the same: {same}")
    results = {
        "command": "python -m benchmarks.particles",
        "date": date.today().isoformat(),
        "commit": commit_id(),
        "hardware": hardware() | machine(),
        "relative_errors_float64": same,
        "probes": probes(),
        "mixtures": mixtures(flags.repeats),
        "growth": growth(flags.repeats),
        "accuracy": accuracy(),
    }
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    with whole_or_nothing(flags.out) as path:
        path.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(flags.out.read_text())
    draw(results, flags.plot)
    print(tables(results))


if __name__ == "__main__":
    main()
