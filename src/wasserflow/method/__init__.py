"""The methods: one paper, one file. A method is a module with a step; what trains it is elsewhere."""

from typing import Any

from wasserflow._core.errors import UserError, unknown
from wasserflow._core.noise import sample_noise
from wasserflow._core.settings import settings
from wasserflow.method.base import Batch, Data, Drawn, Fits, Method, MethodConfig, Recipe, Sampling
from wasserflow.method.dmmd import DMMD, DMMDConfig, DMMDSampling
from wasserflow.method.monoflow import MonoFlow, MonoFlowConfig
from wasserflow.method.residual import ResidualFlow, ResidualFlowConfig
from wasserflow.method.vapo import VAPO, VAPOConfig
from wasserflow.method.vgrow import VGrow, VGrowConfig

__all__ = [
    "DMMD",
    "METHODS",
    "VAPO",
    "Batch",
    "DMMDConfig",
    "DMMDSampling",
    "Data",
    "Drawn",
    "Fits",
    "Method",
    "MethodConfig",
    "MonoFlow",
    "MonoFlowConfig",
    "Recipe",
    "ResidualFlow",
    "ResidualFlowConfig",
    "Sampling",
    "VAPOConfig",
    "VGrow",
    "VGrowConfig",
    "method_named",
    "name_of",
    "register",
    "sample_noise",
    "settings",
]

METHODS: dict[str, type[Method[Any]]] = {
    "vgrow": VGrow,
    "monoflow": MonoFlow,
    "residual": ResidualFlow,
    "dmmd": DMMD,
    "vapo": VAPO,
}
"""The methods by the names that the command line and the records of runs have for them."""


def register(name: str, method: type[Method[Any]]) -> None:
    """Add a custom method, so that runs trained with it can be opened by `wasserflow.load` and the command line.

    Args:
        name: Its name in ``wasserflow.fit`` and in the records of runs.
        method: A subclass of `wasserflow.Method`.

    Raises:
        UserError: If the name is that of another method.
    """
    if METHODS.setdefault(name, method) is not method:
        raise UserError(f"the name {name!r} is taken by {METHODS[name].__name__}: choose another")


def method_named(name: str) -> type[Method[Any]]:
    """The method called ``name``.

    Raises:
        UserError: If there is none.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise UserError(f"{unknown('method', name, METHODS)} A custom one is added by wasserflow.method.register.")
    return METHODS[name]


def name_of(method: type[Method[Any]]) -> str:
    """The name of a method: the one in `METHODS`, or, of one that is not registered, that of its class in lower case.

    Raises:
        UserError: If that is the name of another method.
    """
    name = next((name for name, known in METHODS.items() if known is method), method.__name__.lower())
    if METHODS.get(name, method) is not method:
        raise UserError(f"the name {name!r} is taken by another method: add yours by wasserflow.method.register")
    return name
