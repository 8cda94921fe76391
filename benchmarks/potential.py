"""What a potential costs beside a vector field, by engine, and how near it comes to the truth.

``python -m benchmarks.potential cost`` times one training step of the same network as a vector field (its output, or
for a scalar head its value, regressed) and as a potential under every engine, by turns, in process CPU time on one
thread, and counts the most bytes of tensors alive in it. ``truth`` trains on mixtures whose potential is known in
closed form. Both write ``benchmarks/results/potential/``.
"""

import json
import statistics
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.mixture import Mixture
from benchmarks.quality import RESULTS, commit_id, hardware, markdown_row
from wasserflow._core.autograd import value_and_gradient
from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing
from wasserflow.method import VAPO
from wasserflow.nn.potential import Autoencoder, Dot, Potential, Scalar
from wasserflow.path import Linear
from wasserflow.potential.engine import ENGINES
from wasserflow.potential.objective import OBJECTIVES, draw
from wasserflow.run.store import machine
from wasserflow.training.fit import Fit, Fits
from wasserflow.training.processes import processes

__all__ = ["Live", "cost", "main", "truth"]

Step = Callable[[], object]


@dataclass(frozen=True)
class Flags:
    """Measure potentials.

    Args:
        what: cost, or truth; three CPU minutes each.
        repeats: Of every timing.
        out: Where the figures go.
    """

    what: tyro.conf.Positional[Literal["cost", "truth"]]
    repeats: int = 4
    out: Path = RESULTS / "potential"


NETWORKS: dict[str, tuple[tuple[int, ...], int, dict[str, Any]]] = {
    "mlp, 32 numbers": ((32,), 500, {"network": "mlp", "width": 128, "depth": 3}),
    "encoder, 28x28": ((1, 28, 28), 32, {}),
    "unet, 28x28, dot": ((1, 28, 28), 32, {"network": "unet", "potential": "dot", "width": 32, "depth": 1}),
}
"""Shape, batch (images: the default recipe's) and settings."""

COMPILED = "mlp"  # where compiling takes seconds rather than minutes


class Live(TorchDispatchMode):
    """Counts the bytes of tensors alive that were made inside, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, weakref.finalize[Any, Any]] = {}

    def _gone(self, key: int, size: int) -> None:
        self.now -= size
        self._seen.pop(key, None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        old = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in old and key not in self._seen:
                    size = storage.nbytes()
                    self.now += size
                    self._seen[key] = weakref.finalize(storage, self._gone, key, size)
        self.peak = max(self.peak, self.now)
        return out


def peak_bytes(step: Step) -> int:
    """The most bytes of tensors that one step holds at a time, beside what was there before."""
    with Live() as live:
        step()
    return live.peak


def field_loss(potential: Potential, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """The same network regressed as a vector field; a scalar head's value instead, which costs the same."""
    energy = potential.energy
    if isinstance(energy, Scalar):
        return (energy(x, t) - v.flatten(1).sum(1)).square().mean()
    assert isinstance(energy, Dot | Autoencoder)
    return (energy.network(x, t).view_as(x) - v).square().mean()


class Case:
    """One network with points of a path, and the steps that are timed with it."""

    def __init__(self, name: str) -> None:
        shape, self.batch, settings = NETWORKS[name]
        self.potential = VAPO.for_shape(shape, **settings).potential
        rng = torch.Generator().manual_seed(0)
        x1, eps = torch.randn(2, self.batch, *shape, generator=rng)
        self.points = draw(Linear(), x1, eps, torch.rand(self.batch, generator=rng).clamp(0.01, 0.99))
        for module in self.potential.modules():  # a fresh U-Net's last layers are zero: no engine should profit from it
            if isinstance(module, nn.Conv2d) and not module.weight.any():
                nn.init.normal_(module.weight, std=0.05, generator=rng)
        engines = [engine for engine in ENGINES if engine != "compiled" or name.startswith(COMPILED)]
        self.steps: dict[str, Step] = {"vector field": self.field, **{one: partial(self.by, one) for one in engines}}
        self.steps["gradient for a sample"] = lambda: value_and_gradient(self.potential, self.points.x, self.points.t)
        try:
            for step in self.steps.values():
                step()
        except Exception as error:  # no compiler, or one that cannot take this network
            if "compiled" not in self.steps:
                raise
            print(f"{name}: not compiled ({type(error).__name__})")
            del self.steps["compiled"]

    def field(self) -> None:
        """A step of the same network as a vector field."""
        self.backward([field_loss(self.potential, self.points.x, self.points.t, self.points.v)])

    def by(self, engine: str) -> None:
        """A step of the potential with this engine."""
        self.backward(ENGINES[engine](self.potential, self.points, OBJECTIVES["fm"])[1])

    def backward(self, losses: Iterable[Tensor]) -> None:
        """Fill the gradients of the weights, as the trainer does: none of x."""
        self.potential.zero_grad(set_to_none=True)
        for loss in losses:
            loss.backward(inputs=list(self.potential.parameters()))

    def gradient(self, engine: str) -> Tensor:
        """The gradient in all weights by this engine."""
        self.by(engine)
        return torch.cat([p.grad.flatten() for p in self.potential.parameters() if p.grad is not None])

    def seconds(self, repeats: int) -> dict[str, list[float]]:
        """Process CPU time of each step, the steps taken in turn, forwards and backwards."""
        taken: dict[str, list[float]] = {what: [] for what in self.steps}
        for i in range(repeats):
            for what in list(self.steps)[:: 1 if i % 2 else -1]:
                begun = time.process_time()
                self.steps[what]()
                taken[what].append(time.process_time() - begun)
        return taken


def cost(repeats: int) -> dict[str, Any]:
    """Time and memory of a step, per network and engine, and of a gradient for sampling."""
    results: dict[str, Any] = {}
    for name in NETWORKS:
        case = Case(name)
        seconds, exact, rows = case.seconds(repeats), case.gradient("double-backward"), {}
        for what, taken in seconds.items():
            row = {
                "seconds": min(taken),
                "times_field": statistics.median(a / b for a, b in zip(taken, seconds["vector field"], strict=True)),
                "images_per_second": case.batch / min(taken),
            }
            if what != "compiled":  # whose buffers no dispatch mode sees
                row["peak_mb"] = peak_bytes(case.steps[what]) / 1e6
            if what in ENGINES:
                row["gradient_error"] = float((case.gradient(what) - exact).norm() / exact.norm())
            rows[what] = row
        results[name] = {
            "weights": sum(p.numel() for p in case.potential.parameters()),
            "batch": case.batch,
            "rows": rows,
        }
        print(cost_table({name: results[name]}), flush=True)
    return results


def cost_table(results: dict[str, Any]) -> str:
    """The table of docs/vapo.md."""
    lines = []
    for name, one in results.items():
        heads = [f"{name}, {one['weights'] / 1e6:.2f} M weights, batch {one['batch']}", "seconds", "times the field's"]
        heads += ["peak MB of tensors", "times the field's", "gradient error"]
        lines += ["", markdown_row(heads), markdown_row(["---"] * len(heads))]
        base = one["rows"]["vector field"]["peak_mb"]
        for what, row in one["rows"].items():
            cells = [what, f"{row['seconds']:.4f}", f"{row['times_field']:.2f}"]
            cells += [f"{row['peak_mb']:.1f}", f"{row['peak_mb'] / base:.2f}"] if "peak_mb" in row else ["", ""]
            cells.append(f"{row['gradient_error']:.0e}" if "gradient_error" in row else "")
            lines.append(markdown_row(cells))
    return "\n".join(lines)


class _Data:
    def __init__(self, known: Mixture, batch: int) -> None:
        self.known, self.batch, self.seen, self.label = known, batch, 0, None
        self.rng = torch.Generator().manual_seed(0)

    def look(self, n: int) -> Tensor:
        return self.known.sample(n, torch.Generator().manual_seed(1))

    def next(self) -> Any:
        self.seen += self.batch
        return SimpleNamespace(x=self.known.sample(self.batch, self.rng), label=None)


TRUTHS = {
    "fm": {"objective": "fm"},
    "fm, time score 0.1": {"objective": "fm", "time_score": 0.1},
    "action-matching": {"objective": "action-matching", "weight": "s"},
    "vapo": {"objective": "vapo", "weight": "s"},
    "vapo, literal": {"objective": "vapo", "weight": "s", "literal": True},
    "vapo-tmlr": {"objective": "vapo-tmlr", "preconditioned": False, "potential": "autoencoder", "time_scale": 1.0},
}
STEPS, BATCH = 1000, 256


def truth() -> list[dict[str, Any]]:
    """Errors of potentials trained on mixtures in 2 and 32 dimensions, at equal steps."""
    found = []
    for size, modes, sd in ((2, 3, 0.3), (32, 10, 0.1)):
        rng = torch.Generator().manual_seed(size)
        known = Mixture(Linear(), torch.randn(modes, size, generator=rng), sd)
        for name, settings in TRUTHS.items():
            begun = time.process_time()
            model = VAPO.for_shape((size,), width=128, depth=3, batch=BATCH, **{"time_scale": 100.0, **settings})
            data = _Data(known, BATCH)
            fit = Fit(model.potential, model.optimizers()["potential"], processes())
            for step in range(STEPS):
                fit.scale_rate(min(1.0, 2 * (1 - step / STEPS)))  # falls over the second half
                model.step(data, Fits({"potential": fit}), torch.Generator().manual_seed(step))
            row: dict[str, Any] = {"dimensions": size, "objective": name, "times": {}}
            row["cpu_seconds"] = time.process_time() - begun
            for moment in (0.1, 0.3, 0.5, 0.7, 0.9):
                row["times"][moment] = _errors(model, known, moment)
            samples = model.eval().sample(2000, steps=40)
            row["distance_to_mode"] = float(
                (torch.cdist(samples, known.means).min(1).values.square().mean() / size).sqrt() / sd
            )
            found.append(row)
            print(truth_table([row]).splitlines()[-1], flush=True)
    return found


def _errors(model: VAPO, known: Mixture, moment: float) -> dict[str, float]:
    rng = torch.Generator().manual_seed(7)
    n = 4000
    t = torch.full((n,), moment)
    shape = (n, *model.shape)
    x = known.path.at(known.sample(n, rng), torch.randn(shape, generator=rng), t)
    v, g = known.velocity(x, t), model.velocity(x, moment)
    affine = torch.cat([x, torch.ones(n, 1)], 1)
    left = (affine @ torch.linalg.lstsq(affine, v).solution - v).square().sum(1).mean()
    with torch.no_grad():
        log_p = known.path.log_density(model.potential(x, t), x, t)
    expected = known.log_density(x, t)
    ranks = torch.stack([value.argsort().argsort().double() for value in (log_p, expected)])
    return {
        "velocity_error": float(((g - v).square().sum() / v.square().sum()).sqrt()),
        "unexplained": float((g - v).square().sum(1).mean() / left),
        "speed": float((g * v).sum() / v.square().sum()),
        "rank_correlation": float(torch.corrcoef(ranks)[0, 1]),
        "log_density_error": float((log_p - expected).std() / expected.std()),
    }


def truth_table(found: list[dict[str, Any]]) -> str:
    """The table of docs/vapo.md: at t = 0.1, 0.5, 0.9."""
    heads = ["dimensions, objective", "velocity error, relative", "speed a(t)", "rank correlation of log p_t"]
    heads += ["log p_t error, deviations", "distance to mode, data = 1", "CPU s"]
    lines = [markdown_row(heads), markdown_row(["---"] * len(heads))]
    for row in found:
        at = [row["times"][moment] for moment in row["times"] if float(moment) in (0.1, 0.5, 0.9)]
        cells = [f"{row['dimensions']}, {row['objective']}"]
        for name in ("velocity_error", "speed", "rank_correlation", "log_density_error"):
            cells.append(" / ".join(f"{one[name]:.2f}" for one in at))
        cells += [f"{row['distance_to_mode']:.2f}", f"{row['cpu_seconds']:.0f}"]
        lines.append(markdown_row(cells))
    return "\n".join(lines)


def main() -> None:
    """Measure, print, store."""
    flags = tyro.cli(Flags)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        figures = cost(flags.repeats) if flags.what == "cost" else truth()
    except UserError as error:
        raise SystemExit(str(error)) from error
    receipt = {
        "command": f"python -m benchmarks.potential {flags.what}",
        "commit": commit_id(),
        "hardware": hardware() | machine(),
        "figures": figures,
    }
    flags.out.mkdir(parents=True, exist_ok=True)
    with whole_or_nothing(flags.out / f"{flags.what}.json") as path:
        path.write_text(json.dumps(receipt, indent=1) + "\n")
    if flags.what == "truth":
        print(truth_table(figures))  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
