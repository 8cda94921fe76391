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
    from wasserflow.flow import Diverged, flow
    from wasserflow.kernel import Custom, Energy, Gaussian, InverseMultiquadric, Laplace, Linear, RationalQuadratic
    from wasserflow.learned import LearnedRatioField
    from wasserflow.method import DMMD, VAPO, MonoFlow, ResidualFlow, VGrow
    from wasserflow.particle import DrMMDField, KALEField, MMDField, SlicedField
    from wasserflow.ratio import define_loss
    from wasserflow.stein import KSDField, SVGDField
    from wasserflow.train import (
        Budget,
        Interrupted,
        compare,
        detect,
        evaluate,
        load,
        plot_run,
        resume,
        sample,
        score,
        train,
    )
    from wasserflow.twosample import energy_distance, kale, mmd

__all__ = [
    "DMMD",
    "VAPO",
    "Budget",
    "Custom",
    "Diverged",
    "DrMMDField",
    "Energy",
    "Gaussian",
    "Interrupted",
    "InverseMultiquadric",
    "KALEField",
    "KSDField",
    "Laplace",
    "LearnedRatioField",
    "Linear",
    "MMDField",
    "MonoFlow",
    "RatioField",
    "RationalQuadratic",
    "ResidualFlow",
    "SVGDField",
    "SlicedField",
    "UserError",
    "VGrow",
    "compare",
    "define_loss",
    "define_map",
    "detect",
    "energy_distance",
    "evaluate",
    "flow",
    "kale",
    "load",
    "mmd",
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
    "flow": ("Diverged", "flow"),
    "kernel": ("Custom", "Energy", "Gaussian", "InverseMultiquadric", "Laplace", "Linear", "RationalQuadratic"),
    "learned": ("LearnedRatioField",),
    "method": ("DMMD", "VAPO", "MonoFlow", "ResidualFlow", "VGrow"),
    "particle": ("DrMMDField", "KALEField", "MMDField", "SlicedField"),
    "ratio": ("define_loss",),
    "stein": ("KSDField", "SVGDField"),
    "train": (
        *("Budget", "Interrupted", "compare", "detect", "evaluate"),
        *("load", "plot_run", "resume", "sample", "score", "train"),
    ),
    "twosample": ("energy_distance", "kale", "mmd"),
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
