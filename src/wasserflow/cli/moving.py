"""How a flow shows its progress: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Moving", "show_moving"]

LINES = 10
"""Most plain lines, if the steps are fast."""

SLOW = 10.0
"""Seconds after which a plain line is printed in any case."""

SOON = 5.0
"""Seconds of a flow before which no time left is shown."""


@contextmanager
def show_moving(steps: int) -> Iterator["Moving"]:
    """Progress of a flow with this number of steps."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Moving(steps)
        return
    columns = (TextColumn("moving"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        yield Moving(steps, bar)


class Moving:
    """Progress of a flow, told after each step and whenever its energy is computed."""

    def __init__(self, steps: int, bar: Progress | None = None) -> None:
        self.steps, self.bar = steps, bar
        self.task = bar.add_task("", total=steps) if bar else None
        self.every = max(1, steps // 50 // LINES) * 50
        self.start = self.printed = time.monotonic()
        self.energy: float | None = None

    def step(self, k: int) -> None:
        """After k steps."""
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=k, description=self._words(k))
        elif time.monotonic() - self.printed > SLOW or (k and self.energy is None and self._due(k)):
            self._print(k)

    def look(self, k: int, energy: float) -> None:
        """The energy after k steps."""
        self.energy = energy
        if not self.bar and self._due(k):
            self._print(k, f"  energy {energy:.4g}")

    def _due(self, k: int) -> bool:
        return k % self.every == 0 or k == self.steps

    def _print(self, k: int, more: str = "") -> None:
        now = self.printed = time.monotonic()
        left = (now - self.start) / max(k, 1) * (self.steps - k)
        soon = f"  {int(left) // 60}:{int(left) % 60:02} left" if k and now - self.start > SOON else ""
        print(f"step {k:>7,}{soon}{more}", flush=True)

    def _words(self, k: int) -> str:
        return f"step {k:,} of {self.steps:,}" + ("" if self.energy is None else f"  energy {self.energy:.4g}")
