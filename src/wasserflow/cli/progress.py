"""How a training shows its progress: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from wasserflow.training.ledger import Line
from wasserflow.training.loop import Report

__all__ = ["show_progress"]

PLAIN_SECONDS = 10.0


@contextmanager
def show_progress(watched: Sequence[str], noun: str) -> Iterator[Report]:
    """A report that draws each line of the log.

    Args:
        watched: Scalars to show; the first two that the method logs where there are none.
        noun: What the data are: images, rows or points.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("starting", total=1.0)

            def draw(line: Line) -> None:
                progress.update(task, completed=_share(line), description=_words(line, watched, noun))

            yield draw
    else:
        printed = -PLAIN_SECONDS

        def write(line: Line) -> None:
            nonlocal printed
            seconds = float(line["seconds"] or 0)
            if seconds - printed >= PLAIN_SECONDS or not line["seconds_left"]:
                printed = seconds
                with suppress(OSError):  # a training outlives whoever was reading
                    print(f"{100 * _share(line):3.0f} %  {_words(line, watched, noun)}", flush=True)

        yield write


def _share(line: Line) -> float:
    seconds, left = float(line["seconds"] or 0), float(line["seconds_left"] or 0)
    return seconds / max(seconds + left, 1e-9)


def _words(line: Line, watched: Sequence[str], noun: str) -> str:
    words = [
        f"{line['images']:,} {noun}",
        f"{line['images_per_second']:,.0f}/s",
        f"{_minutes(line['seconds_left'])} left",
    ]
    logged = list(line)[list(line).index("memory_mb") + 1 :]
    return "  ".join(words + [f"{name} {line[name]:.3g}" for name in watched or logged[:2] if name in line])


def _minutes(seconds: float | None) -> str:
    minutes, rest = divmod(round(seconds or 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
