"""DMMD: features that are conditional on the noise level, and particles that descend their witness."""

from wasserflow.method.dmmd.model import DMMD
from wasserflow.method.dmmd.settings import DMMDConfig, DMMDSampling

__all__ = ["DMMD", "DMMDConfig", "DMMDSampling"]
