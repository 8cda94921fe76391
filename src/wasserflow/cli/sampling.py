"""Flags of a command beside the settings with which a run's method draws samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import tyro

from wasserflow._core.settings import leaves
from wasserflow.cli.flags import about_of, parse
from wasserflow.method import METHODS
from wasserflow.run.store import Run

__all__ = ["parse_with_run"]


class OfRun(Protocol):
    """Flags that name a run."""

    @property
    def run(self) -> Path:
        """The run's folder."""
        ...


Flags = TypeVar("Flags", bound=OfRun)


def parse_with_run(kind: type[Flags], argv: Sequence[str], command: str) -> tuple[Flags, dict[str, Any]]:
    """The flags of ``wasserflow COMMAND RUN``, and the given settings of sampling, which depend on the run's method."""
    prog = f"wasserflow {command}"
    help_wanted = not {"-h", "--help"}.isdisjoint(argv)
    if help_wanted:
        folder = next((Path(word) for word in argv if Path(word, "config.json").is_file()), None)
    else:
        folder = tyro.cli(kind, args=argv, prog=prog, return_unknown_args=True)[0].run
    how = Run.open(folder).build().sampling if folder else None
    about = None if folder else f"{about_of(kind)}\n\n{_of_methods(command)}"
    return parse(kind, how, argv, prog, about=about)


def _of_methods(command: str) -> str:
    """Which settings of sampling there are, method by method."""
    known = {name: list(leaves(method.Sampling())) for name, method in METHODS.items()}
    listed = [f"{name} ({', '.join(settings).replace('_', ' ')})" for name, settings in known.items() if settings]
    return (
        f"Settings of sampling depend on the run's method: wasserflow {command} RUN --help lists them. Methods with "
        f"such settings: {'; '.join(listed)}."
    )
