"""VAPO: a potential whose gradient carries noise to data."""

from wasserflow.method.vapo.model import VAPO
from wasserflow.method.vapo.settings import VAPOConfig, VAPOSampling

__all__ = ["VAPO", "VAPOConfig", "VAPOSampling"]
