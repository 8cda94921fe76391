"""What a run reports as it goes: time used, means of what the steps return, speed, memory, time left."""

import time
from dataclasses import dataclass, field

import psutil
import torch
from torch import Tensor

from wasserflow.training.budget import Budget, Progress

__all__ = ["Clock", "Ledger", "Line"]

Line = dict[str, float | int | None]


class Clock:
    """Adds wall and process CPU time to a run's progress."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def tick(self) -> None:
        """Bring the progress up to now."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.progress.seconds += wall - self._wall
        self.progress.cpu_seconds += cpu - self._cpu
        self._wall, self._cpu = wall, cpu


@dataclass
class _Stretch:
    """The steps from one line of the log to the next: where they started, and the sums of what they returned."""

    images: int
    seconds: float
    steps: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)


class Ledger:
    """Sums of the scalars that steps return, kept on the device until a line is due.

    Args:
        progress: Where the run stands.
        window: Seconds that the means of a line cover at least. A line that comes sooner after the last one (before a
            checkpoint, at the end) averages over steps of earlier lines too, so that it is not noisier than the others.
    """

    def __init__(self, progress: Progress, window: float) -> None:
        self.window = window
        self._stretches = [_Stretch(progress.images, progress.seconds)]

    @property
    def since(self) -> float:
        """The second at which the last line was taken."""
        return self._stretches[-1].seconds

    def add(self, log: dict[str, Tensor]) -> None:
        """Take in what a step returned."""
        now = self._stretches[-1]
        now.steps += 1
        for name, value in log.items():
            value = value.detach()
            now.sums[name] = now.sums[name] + value if name in now.sums else value

    def line(self, progress: Progress, budget: Budget) -> Line:
        """The means over the last steps, with the run's progress; waits for the device."""
        while len(self._stretches) > 1 and progress.seconds - self._stretches[1].seconds >= self.window:
            del self._stretches[0]
        sums: dict[str, Tensor] = {}
        steps: dict[str, int] = {}
        for stretch in self._stretches:
            for name, value in stretch.sums.items():
                sums[name] = sums[name] + value if name in sums else value
                steps[name] = steps.get(name, 0) + stretch.steps
        totals = torch.stack(list(sums.values()))
        first = self._stretches[0]
        elapsed = progress.seconds - first.seconds
        done = budget.done(progress)
        line: Line = {
            "images": progress.images,
            "steps": progress.steps,
            "seconds": round(progress.seconds, 2),
            "cpu_seconds": round(progress.cpu_seconds, 2),
            "images_per_second": round((progress.images - first.images) / elapsed if elapsed > 0 else 0.0, 2),
            "seconds_left": round(max(progress.seconds / done - progress.seconds, 0), 1),
            "memory_mb": memory_mb(totals.device),
            **{name: total / steps[name] for name, total in zip(sums, totals.tolist(), strict=True)},
        }
        self._stretches.append(_Stretch(progress.images, progress.seconds))
        return line


def memory_mb(device: torch.device) -> int:
    """Memory in MB: the peak on a CUDA device, what the process holds now otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return psutil.Process().memory_info().rss >> 20
