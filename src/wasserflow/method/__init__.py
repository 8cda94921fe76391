"""The methods: one paper, one file. A method is a module with a step; what trains it is elsewhere."""

from wasserflow.method.monoflow import MonoFlow, MonoFlowConfig
from wasserflow.method.pair import Pair, PairConfig
from wasserflow.method.vgrow import VGrow, VGrowConfig

__all__ = ["METHODS", "MonoFlow", "MonoFlowConfig", "Pair", "PairConfig", "VGrow", "VGrowConfig"]

METHODS = {"vgrow": VGrow, "monoflow": MonoFlow}
