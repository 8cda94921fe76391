"""What a run reports as it goes: time used, means of what the steps return, speed, memory, time left."""

import time

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


class Ledger:
    """Sums of the scalars that steps return, kept on the device until a line is due."""

    def __init__(self, progress: Progress) -> None:
        self._start(progress)

    def _start(self, progress: Progress) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._images, self.since = progress.images, progress.seconds

    def add(self, log: dict[str, Tensor]) -> None:
        """Take in what a step returned."""
        self._steps += 1
        for name, value in log.items():
            value = value.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def line(self, progress: Progress, budget: Budget) -> Line:
        """The means since the last line, with the run's progress; waits for the device."""
        means = dict(zip(self._sums, (torch.stack(list(self._sums.values())) / self._steps).tolist(), strict=True))
        elapsed = progress.seconds - self.since
        rate = (progress.images - self._images) / elapsed if elapsed > 0 else 0.0
        done = budget.done(progress)
        line: Line = {
            "images": progress.images,
            "steps": progress.steps,
            "seconds": round(progress.seconds, 2),
            "cpu_seconds": round(progress.cpu_seconds, 2),
            "images_per_second": round(rate, 2),
            "seconds_left": round(max(progress.seconds / done - progress.seconds, 0), 1),
            "memory_mb": memory_mb(next(iter(self._sums.values())).device),
            **means,
        }
        self._start(progress)
        return line


def memory_mb(device: torch.device) -> int:
    """Memory in MB: the peak on a CUDA device, what the process holds now otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return psutil.Process().memory_info().rss >> 20
