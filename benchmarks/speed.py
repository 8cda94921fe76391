"""Speed beside a plain implementation of the same steps, and the share of the hardware's limit that it reaches.

``python -m benchmarks.speed`` takes some twenty minutes on one core, prints the tables of docs/speed.md and writes
``benchmarks/results/speed.json``. Everything is timed in one process and on one thread, interleaved, in CPU time of
the process; ratios are medians over adjacent pairs, so that other work on the machine affects both alike. It needs
MNIST (see the README).
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.plain import PlainMonoFlow, PlainVGrow, velocity
from benchmarks.quality import RESULTS, commit_id, hardware, markdown_row
from wasserflow._core.files import whole_or_nothing
from wasserflow.data import Dataset, load
from wasserflow.method import Method, MonoFlow, VGrow
from wasserflow.run.store import machine
from wasserflow.training.fit import Fits
from wasserflow.training.trainer import Trainer

__all__ = ["Comparison", "compare", "main", "relative_errors", "settle"]

POOL = 20  # batches, of the paper's pool, which the particle step moves
SCALED: dict[str, Any] = {"pool": 4, "inner_steps": 4, "fit_epochs": (1,), "fit_epochs_at": ()}
PAPER = {"pool": 20, "particle step": 20 * 20, "classifier step": 20, "fit step": 5 * 20}
"""How often each part, on one batch, is done in the paper's first outer loops."""

Step = Callable[[], object]


@dataclass(frozen=True)
class Flags:
    """Measure speed beside the plain implementation.

    Args:
        repeats: Repeats of each comparison; the outer loop has a third as many.
        out: File for the results.
    """

    repeats: int = 6
    out: Path = RESULTS / "speed.json"


@dataclass(frozen=True)
class Comparison:
    """CPU seconds of the same work, done by the library and by the plain implementation; one entry per repeat."""

    ours: list[float]
    plain: list[float]

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return statistics.median(plain / ours for ours, plain in zip(self.ours, self.plain, strict=True))

    def to_json(self) -> dict[str, Any]:
        """The seconds, their ratio, and its range over the repeats."""
        ratios = [plain / ours for ours, plain in zip(self.ours, self.plain, strict=True)]
        return {
            "ours_seconds": min(self.ours),
            "plain_seconds": min(self.plain),
            "ratio": self.ratio,
            "ratio_range": [min(ratios), max(ratios)],
            "repeats": len(ratios),
        }


def cpu_seconds(step: Step) -> float:
    """CPU time of the process for one step."""
    start = time.process_time()
    step()
    return time.process_time() - start


def compare(ours: Step, plain: Step, repeats: int) -> Comparison:
    """Time both, interleaved, in alternating order."""
    seconds: dict[Step, list[float]] = {ours: [], plain: []}
    for i in range(repeats):
        for step in (ours, plain) if i % 2 else (plain, ours):
            seconds[step].append(cpu_seconds(step))
    return Comparison(seconds[ours], seconds[plain])


def settle(model: VGrow, passes: int = 200) -> None:
    """Bring the power iterations of the spectral norms to their fixed point, where training keeps them."""
    with torch.no_grad():
        for _ in range(passes):
            model.logit.train()(torch.zeros(1, model.shape[0], 8, 8))
            model.generator.train()(torch.zeros(2, model.config.networks.latent))


def relative_errors(model: VGrow, plain: PlainVGrow, n: int) -> dict[str, float]:
    """How far the two are apart given the same weights: particles, and the velocities of ``n`` other points."""
    rng = torch.Generator().manual_seed(1)
    z = model.latents(n, rng)
    x = torch.rand(n, *model.shape, generator=rng) * 2 - 1
    pairs = {
        "particles": (model.push(z, n), plain.push(z)),
        "velocities": (model.velocity(x, n), velocity(plain.logit, x, n, model.map.rate)),
    }
    return {name: ((ours - theirs).norm() / theirs.norm()).item() for name, (ours, theirs) in pairs.items()}


def trainer_of(model: Method, data: Dataset) -> Trainer:
    """The library's own trainer, in float32 on the CPU."""
    return Trainer(model, data, seed=0, device=torch.device("cpu"), precision="fp32")


def paper(repeats: int) -> dict[str, Any]:
    """The paper's recipe on images of CIFAR-10's size (speed does not ask what is on them): parts and a scaled loop."""
    colours = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    data = load(colours)
    model = VGrow.for_shape(data.form.shape, recipe="paper", **SCALED)
    settle(model)
    plain = PlainVGrow(model, colours)
    trainer = trainer_of(model, data)
    errors = relative_errors(model, plain, n=16)
    if max(errors.values()) > 1e-4:
        raise SystemExit(f"the two implementations do not compute the same: {errors}")

    batch = model.config.batch
    fits, rng = Fits(trainer.fits), trainer.rng
    z = model.latents(batch, rng)
    q = model.push(z, batch)
    pool = torch.cat([model.push(model.latents(batch, rng), batch) for _ in range(POOL)])

    def fit_loss(generator: torch.nn.Module) -> Tensor:
        return 0.5 * (generator(z) - q).square().flatten(1).sum(1).mean()

    parts: dict[str, tuple[Step, Step]] = {
        "pool": (lambda: model.push(z, batch), lambda: plain.push(z)),
        "particle step": (
            lambda: model.velocity(q, batch),
            lambda: velocity(plain.logit, q, batch, plain.model.map.rate),
        ),
        "classifier step": (lambda: model.learn_ratio(trainer.data, q, fits, rng), lambda: plain.learn_ratio(q)),
        "fit step": (
            lambda: fits.generator.minimise(fit_loss(model.generator)),
            lambda: plain.fit(fit_loss(plain.generator)),
        ),
    }
    counts = {name: [flops(step) for step in both] for name, both in parts.items()}  # and all is in memory by now
    timed = {name: compare(ours, theirs, repeats) for name, (ours, theirs) in parts.items()}
    whole = compare(
        lambda: model.velocity(pool, batch),
        lambda: velocity(plain.logit, pool, batch, plain.model.map.rate),
        max(1, repeats // 3),
    )
    loop = compare(trainer.step, plain.step, max(1, repeats // 3))
    seconds = {
        name: comparison.to_json() | dict(zip(("ours_flops", "plain_flops"), counts[name], strict=True))
        for name, comparison in timed.items()
    }
    full = {
        key: sum(count * seconds[name][key] for name, count in PAPER.items())
        for key in ("ours_seconds", "plain_seconds", "ours_flops", "plain_flops")
    }
    return {
        "relative_errors": errors,
        "parts": seconds,
        "particle_step_of_the_pool": whole.to_json()
        | {side: POOL * seconds["particle step"][side] for side in ("ours_flops", "plain_flops")},
        "scaled_outer_loop": loop.to_json(),
        "full_outer_loop": full | {"ratio": full["plain_seconds"] / full["ours_seconds"]},
        "profile": {"particle step": operators(parts["particle step"][0], 3), "outer loop": operators(trainer.step, 1)},
    }


def default(data: Dataset, repeats: int, steps: int = 16) -> dict[str, Any]:
    """The default recipes on MNIST, through the trainer."""
    images = data.train.x[:, 0].numpy()
    vgrow, monoflow = VGrow.for_shape(data.form.shape), MonoFlow.for_shape(data.form.shape)
    rivals = {
        "VGrow logd": (trainer_of(vgrow, data).step, PlainVGrow(vgrow, images).step),
        "MonoFlow ns": (trainer_of(monoflow, data).step, PlainMonoFlow(monoflow, images).step),
    }
    results = {}
    for name, rival in rivals.items():
        ours, theirs = (times(steps, step) for step in rival)
        ours()
        theirs()
        timed, seen = compare(ours, theirs, repeats), steps * vgrow.config.batch
        results[name] = timed.to_json() | {
            "ours_images_per_second": seen / min(timed.ours),
            "plain_images_per_second": seen / min(timed.plain),
            "ours_flops": flops(ours),
            "plain_flops": flops(theirs),
            "profile": operators(ours, 1),
        }
    return results


def times(n: int, step: Step) -> Step:
    """A step that does another one ``n`` times."""

    def repeated() -> None:
        for _ in range(n):
            step()

    return repeated


def peak(n: int = 1024, repeats: int = 40) -> float:
    """The most FLOP/s that a product of two float32 matrices reaches here."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / min(cpu_seconds(lambda: a @ b) for _ in range(repeats))


class _Counter(TorchDispatchMode):
    """Counts as torch's `FlopCounterMode` does, whose tracking of modules refuses `autograd.grad`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def flops(step: Step) -> int:
    """Floating-point operations of the convolutions and matrix products in a step."""
    with _Counter() as counter:
        step()
    return counter.total


def operators(step: Step, repeats: int) -> dict[str, float]:
    """Shares of the time of a step by operator, the largest first; those below 1 % together."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            step()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    shares = {event.key: event.self_cpu_time_total / total for event in events}
    large = {name: float(share) for name, share in shares.items() if share >= 0.01}
    return large | {"all else": 1 - sum(large.values())}


def tables(figures: dict[str, Any]) -> str:
    """The tables of docs/speed.md."""
    p, best = figures["paper"], figures["peak_flops"]
    rows = [("particle step, 20 x 64 images", p["particle_step_of_the_pool"])]
    rows += [("outer loop: pool of 4 x 64, 4 inner steps, 1 epoch", p["scaled_outer_loop"])]
    rows += [("the paper's outer loop, summed from its parts:", p["full_outer_loop"])]
    rows += [(f"{name}, 64 images", part) for name, part in p["parts"].items()]
    rows += [(f"{name}, default, MNIST, 16 steps of 64", row) for name, row in figures["default"].items()]
    heads = ["", "plain, s", "wasserflow, s", "faster by", "over repeats", "GFLOP", "share of a matrix product's speed"]
    lines = [markdown_row(heads), markdown_row(["---"] * len(heads))]
    for name, row in rows:
        cells = [name, f"{row['plain_seconds']:.2f}", f"{row['ours_seconds']:.2f}", f"{row['ratio']:.2f}"]
        cells.append(" to ".join(f"{value:.2f}" for value in row.get("ratio_range", ())))
        both = [(row[f"{side}_flops"], row[f"{side}_seconds"]) for side in ("plain", "ours") if f"{side}_flops" in row]
        cells.append(", ".join(f"{count / 1e9:.1f}" for count, _ in both))
        cells.append(", ".join(f"{count / seconds / best:.0%}" for count, seconds in both))
        lines.append(markdown_row(cells))
    lines += ["", f"A matrix product: {best / 1e9:.0f} GFLOP/s."]
    for name, row in figures["default"].items():
        plain, ours = row["plain_images_per_second"], row["ours_images_per_second"]
        lines.append(f"{name}: {ours:.0f} images/s, plain {plain:.0f}.")
    profiles = p["profile"] | {f"{name}, default": row["profile"] for name, row in figures["default"].items()}
    for name, shares in profiles.items():
        lines += ["", f"{name}: " + ", ".join(f"{op} {share:.1%}" for op, share in shares.items())]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, store."""
    flags = tyro.cli(Flags)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = load("mnist")  # first: what is absent is said before minutes of measuring
    figures = {
        "command": "python -m benchmarks.speed",
        "date": date.today().isoformat(),
        "commit": commit_id(),
        "hardware": hardware() | machine(),
        "peak_flops": peak(),
        "paper": paper(flags.repeats),
        "default": default(data, flags.repeats),
    }
    figures["peak_flops"] = max(figures["peak_flops"], peak())  # other work on the machine only lowers it
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    with whole_or_nothing(flags.out) as path:
        path.write_text(json.dumps(figures, indent=1) + "\n")
    print(tables(figures))


if __name__ == "__main__":
    main()
