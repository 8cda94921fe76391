"""How good samples are: distances between distributions, quality and variety, and what they are measured on.

`evaluate` is the one call: samples against held-out data, beside the same figures for real data.
"""

from wasserflow.metric.distance import energy_distance, frechet, kernel_distance, log_chamfer, sliced_wasserstein
from wasserflow.metric.evaluation import evaluate
from wasserflow.metric.feature import Classifier, Extractor, extractor
from wasserflow.metric.manifold import Manifold, manifold
from wasserflow.metric.memorisation import memorised
from wasserflow.metric.report import Report, Row

__all__ = [
    "Classifier",
    "Extractor",
    "Manifold",
    "Report",
    "Row",
    "energy_distance",
    "evaluate",
    "extractor",
    "frechet",
    "kernel_distance",
    "log_chamfer",
    "manifold",
    "memorised",
    "sliced_wasserstein",
]
