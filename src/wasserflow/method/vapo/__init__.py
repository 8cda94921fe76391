"""VAPO: a potential whose gradient carries noise to data."""

from wasserflow.method.vapo.model import VAPO, VAPOConfig

__all__ = ["VAPO", "VAPOConfig"]
