"""The cost of a training, from a few timed steps: ``wasserflow train ... --dry-run``."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import mean

import torch

from wasserflow._core.settings import leaves
from wasserflow.data import Batch
from wasserflow.training.budget import Budget, Progress
from wasserflow.training.ledger import memory_mb
from wasserflow.training.trainer import Trainer

__all__ = ["estimate", "pace_of"]

STEPS = 8  # that a dry run times after the first, for each part of a schedule: penalties come every 8th
MOST_SECONDS = 20.0
ENOUGH_SECONDS = 5.0  # of timing: one step can take minutes


@dataclass(frozen=True)
class Pace:
    """The cost of an image from some point of the training on, in seconds of wall and CPU time."""

    start: int
    wall: float
    cpu: float


def estimate(trainer: Trainer, source: str, budget: Budget) -> None:
    """Print the resolved settings, and images/s, hours and memory from a few timed steps of each part of a schedule."""
    model, device, noun = trainer.model, trainer.rng.device, trainer.data.form.noun
    settings = {"method": type(model).__name__, "data": source, "shape": model.shape, "device": str(device)}
    print(json.dumps(settings | leaves(model.config), indent=2))
    paces, whole = [], True
    for start in (0, *model.cost_changes()):
        if paces and _used(budget, paces, start) >= 1:
            break
        pace, finished = _time_steps(trainer, start)
        paces.append(pace)
        whole = whole and finished
    if not whole:
        print(f"one step takes over {MOST_SECONDS:g} seconds: what follows counts its first part, without the fit")
    most, least = ("about", "about") if whole else ("at most", "at least")
    for pace in paces:
        since = f" from {pace.start:,} {noun} on" if pace.start else ""
        print(f"{'' if whole else 'at most '}{1 / pace.wall:,.0f} {noun}/s{since}")
    print(f"{len(trainer.data.x):,} training samples; {memory_mb(device):,} MB")
    for name, limit, kind in (("minutes", budget.minutes, "wall"), ("CPU minutes", budget.cpu_minutes, "cpu")):
        if limit is not None:
            print(f"{limit:g} {name}: {most} {_images(paces, kind, 60 * limit):,.0f} {noun}")
    if budget.images is not None:
        seconds = _seconds(paces, "wall", budget.images)
        words = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.2g} minutes"
        print(f"{budget.images:,} {noun}: {least} {words}")


def pace_of(trainer: Trainer) -> str:
    """The speed of a training's first steps, in words; the trainer's model takes them."""
    pace, whole = _time_steps(trainer, 0, steps=1)
    return f"{'' if whole else 'at most '}{1 / pace.wall:,.2g} {trainer.data.form.noun}/s"


def _time_steps(trainer: Trainer, start: int, steps: int = STEPS) -> tuple[Pace, bool]:
    """The cost of an image once ``start`` have been seen, and whether every step ended within 20 seconds."""
    times: list[tuple[float, float]] = []
    draw, begun = trainer.data.next, time.perf_counter()

    def draw_in_time() -> Batch:
        if time.perf_counter() - begun > MOST_SECONDS:
            raise TimeoutError
        return draw()

    trainer.data.seen, trainer.data.next, whole = start, draw_in_time, True
    while len(times) <= steps and sum(wall for wall, _ in times) < ENOUGH_SECONDS:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            trainer.step()
        except TimeoutError:
            whole = False
        if trainer.rng.device.type != "cpu":
            torch.accelerator.synchronize(trainer.rng.device)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    trainer.data.next = draw
    images = (trainer.data.seen - start) / len(times)
    wall, cpu = (mean(part) for part in zip(*(times[1:] or times), strict=True))  # the first step warms up
    return Pace(start, wall / images, cpu / images), whole


def _seconds(paces: Sequence[Pace], kind: str, images: float) -> float:
    """The time that so many images take."""
    ends = [*(pace.start for pace in paces[1:]), inf]
    return sum(
        max(0, min(images, end) - pace.start) * getattr(pace, kind) for pace, end in zip(paces, ends, strict=True)
    )


def _images(paces: Sequence[Pace], kind: str, seconds: float) -> float:
    """The images that are seen in so much time: the inverse of `_seconds`."""
    last = [pace for pace in paces if _seconds(paces, kind, pace.start) <= seconds][-1]
    return last.start + (seconds - _seconds(paces, kind, last.start)) / getattr(last, kind)


def _used(budget: Budget, paces: Sequence[Pace], images: int) -> float:
    """The share of the budget that is used up once so many images have been seen."""
    return budget.done(Progress(images, 0, _seconds(paces, "wall", images), _seconds(paces, "cpu", images)))
