"""The methods: one paper, one file. A method is a module with a step; what trains it is elsewhere."""

from typing import Any

from wasserflow.method.base import Method, MethodConfig
from wasserflow.method.dmmd import DMMD, DMMDConfig, DMMDSampling
from wasserflow.method.monoflow import MonoFlow, MonoFlowConfig
from wasserflow.method.residual import ResidualFlow, ResidualFlowConfig
from wasserflow.method.vapo import VAPO, VAPOConfig
from wasserflow.method.vgrow import VGrow, VGrowConfig

__all__ = [
    "DMMD",
    "METHODS",
    "VAPO",
    "DMMDConfig",
    "DMMDSampling",
    "Method",
    "MethodConfig",
    "MonoFlow",
    "MonoFlowConfig",
    "ResidualFlow",
    "ResidualFlowConfig",
    "VAPOConfig",
    "VGrow",
    "VGrowConfig",
]

METHODS: dict[str, type[Method[Any]]] = {
    "vgrow": VGrow,
    "monoflow": MonoFlow,
    "residual": ResidualFlow,
    "dmmd": DMMD,
    "vapo": VAPO,
}
