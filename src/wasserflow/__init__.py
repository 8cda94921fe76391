"""Generative modelling by gradient flows of probability measures.

A divergence says how far particles are from data; its steepest descent is a field; a flow moves particles along the
field; a generator, where one is wanted, learns the flow so that a sample takes one step.
"""

from wasserflow.errors import UserError
from wasserflow.field import RatioField
from wasserflow.flow import flow
from wasserflow.method import MonoFlow, VGrow
from wasserflow.train import Budget, Interrupted, load, resume, sample, train

__all__ = [
    "Budget",
    "Interrupted",
    "MonoFlow",
    "RatioField",
    "UserError",
    "VGrow",
    "flow",
    "load",
    "resume",
    "sample",
    "train",
]
