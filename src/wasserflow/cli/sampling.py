"""Flags of a command beside the settings with which a run's method draws samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import tyro

from wasserflow.run.store import Run

__all__ = ["parse"]


class OfRun(Protocol):
    """Flags that name a run."""

    @property
    def run(self) -> Path:
        """The run's folder."""
        ...


Flags = TypeVar("Flags", bound=OfRun)


def parse(kind: type[Flags], argv: Sequence[str], command: str) -> tuple[Flags, dict[str, Any]]:
    """The flags of ``wasserflow COMMAND RUN``, and the settings of sampling that the run's method has.

    They are read twice: which settings there are, and what they default to, depends on the run; so does what --help
    lists after a run.
    """
    prog = f"wasserflow {command}"
    if {"-h", "--help"}.isdisjoint(argv):
        first, _ = tyro.cli(kind, args=argv, prog=prog, return_unknown_args=True)
        folder: Path | None = first.run
    else:
        folder = next((Path(word) for word in argv if Path(word, "config.json").is_file()), None)
    if folder:
        run = Run.open(folder)
        how = run.build().sampling
        if vars(how):
            return _both(kind, how, run.record["method"], argv, prog)
    return tyro.cli(kind, args=argv, prog=prog), {}


def _both(kind: type[Flags], how: Any, name: str, argv: Sequence[str], prog: str) -> tuple[Flags, dict[str, Any]]:
    def both(flags, how):  # noqa: ANN001, ANN202
        return flags, vars(how)

    plain = tyro.conf.OmitArgPrefixes
    both.__annotations__ = {"flags": plain[kind], "how": plain[Annotated[type(how), tyro.conf.arg(name=name)]]}
    both.__defaults__ = (how,)
    return tyro.cli(both, args=argv, prog=prog, description=kind.__doc__, config=(tyro.conf.FlagCreatePairsOff,))
