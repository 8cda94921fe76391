"""Generative modelling by gradient flows of probability measures.

A divergence says how far particles are from data; its steepest descent is a field; a flow moves particles along the
field; a generator, where one is wanted, learns the flow so that a sample takes one step.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wasserflow import kernel as kernel
    from wasserflow._core.errors import UserError as UserError
    from wasserflow.discrepancy.two_sample import energy_distance as energy_distance
    from wasserflow.discrepancy.two_sample import kale as kale
    from wasserflow.discrepancy.two_sample import mmd_squared as mmd_squared
    from wasserflow.divergence import Map as Map
    from wasserflow.divergence import define_map as define_map
    from wasserflow.field.base import Field as Field
    from wasserflow.field.known_ratio import RatioField as RatioField
    from wasserflow.field.learned_ratio import LearnedRatioField as LearnedRatioField
    from wasserflow.field.of_samples import DrMMDField as DrMMDField
    from wasserflow.field.of_samples import KALEField as KALEField
    from wasserflow.field.of_samples import MMDField as MMDField
    from wasserflow.field.of_samples import SlicedField as SlicedField
    from wasserflow.field.of_score import KSDField as KSDField
    from wasserflow.field.of_score import SVGDField as SVGDField
    from wasserflow.flows import Diverged as Diverged
    from wasserflow.flows import flow as flow
    from wasserflow.kernel.base import Kernel as Kernel
    from wasserflow.method import DMMD as DMMD
    from wasserflow.method import VAPO as VAPO
    from wasserflow.method import Method as Method
    from wasserflow.method import MonoFlow as MonoFlow
    from wasserflow.method import ResidualFlow as ResidualFlow
    from wasserflow.method import VGrow as VGrow
    from wasserflow.path import Path as Path
    from wasserflow.ratio import define_loss as define_loss
    from wasserflow.run.comparison import compare as compare
    from wasserflow.run.density import detect as detect
    from wasserflow.run.density import log_density as log_density
    from wasserflow.run.evaluation import evaluate as evaluate
    from wasserflow.run.fitted import Fitted as Fitted
    from wasserflow.run.fitted import fit as fit
    from wasserflow.run.launch import resume as resume
    from wasserflow.run.launch import train as train
    from wasserflow.run.plots import plot_run as plot_run
    from wasserflow.run.samples import load as load
    from wasserflow.run.samples import sample as sample
    from wasserflow.training.budget import Budget as Budget
    from wasserflow.training.interrupt import Interrupted as Interrupted

_HOMES = {
    "_core.errors": ("UserError",),
    "discrepancy.two_sample": ("energy_distance", "kale", "mmd_squared"),
    "divergence": ("Map", "define_map"),
    "field.base": ("Field",),
    "field.known_ratio": ("RatioField",),
    "field.learned_ratio": ("LearnedRatioField",),
    "field.of_samples": ("DrMMDField", "KALEField", "MMDField", "SlicedField"),
    "field.of_score": ("KSDField", "SVGDField"),
    "flows": ("Diverged", "flow"),
    "kernel.base": ("Kernel",),
    "method": ("DMMD", "VAPO", "Method", "MonoFlow", "ResidualFlow", "VGrow"),
    "path": ("Path",),
    "ratio": ("define_loss",),
    "run.comparison": ("compare",),
    "run.density": ("detect", "log_density"),
    "run.evaluation": ("evaluate",),
    "run.fitted": ("Fitted", "fit"),
    "run.launch": ("resume", "train"),
    "run.plots": ("plot_run",),
    "run.samples": ("load", "sample"),
    "training.budget": ("Budget",),
    "training.interrupt": ("Interrupted",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME, "kernel"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A public name, whose module is loaded once the name is used: the command line answers before torch is there."""
    if name == "kernel":
        return import_module("wasserflow.kernel")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
