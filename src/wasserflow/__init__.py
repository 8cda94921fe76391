"""Generative modelling by gradient flows of probability measures.

A divergence says how far particles are from data; its steepest descent is a field; a flow moves particles along the
field; a generator, where one is wanted, learns the flow so that a sample takes one step.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wasserflow.divergence import define_map
    from wasserflow.errors import UserError
    from wasserflow.field import RatioField
    from wasserflow.flow import flow
    from wasserflow.learned import LearnedRatioField
    from wasserflow.method import VAPO, MonoFlow, ResidualFlow, VGrow
    from wasserflow.ratio import define_loss
    from wasserflow.train import (
        Budget,
        Interrupted,
        detect,
        evaluate,
        load,
        plot_run,
        resume,
        sample,
        score,
        train,
    )

__all__ = [
    "VAPO",
    "Budget",
    "Interrupted",
    "LearnedRatioField",
    "MonoFlow",
    "RatioField",
    "ResidualFlow",
    "UserError",
    "VGrow",
    "define_loss",
    "define_map",
    "detect",
    "evaluate",
    "flow",
    "load",
    "plot_run",
    "resume",
    "sample",
    "score",
    "train",
]

_HOMES = {
    "divergence": ("define_map",),
    "errors": ("UserError",),
    "field": ("RatioField",),
    "flow": ("flow",),
    "learned": ("LearnedRatioField",),
    "method": ("VAPO", "MonoFlow", "ResidualFlow", "VGrow"),
    "ratio": ("define_loss",),
    "train": ("Budget", "Interrupted", "detect", "evaluate", "load", "plot_run", "resume", "sample", "score", "train"),
}
_HOME = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}


class _Package(ModuleType):
    """The package, which loads torch once a name is used: the command line answers, and takes Ctrl-C, before."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOME[name]), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            return  # wasserflow.train and wasserflow.flow stay functions, whatever imports the modules
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
