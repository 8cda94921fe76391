"""DMMD: features that are conditional on the noise level, and particles that descend their witness."""

from wasserflow.method.dmmd.model import DMMD, DMMDConfig

__all__ = ["DMMD", "DMMDConfig"]
