"""Metrics of samples: distances between distributions, precision and recall, memorisation, and feature extractors.

`evaluate` compares samples with held-out data, and states the same metrics for real data beside them.
"""

from wasserflow.metric.distance import energy_distance, frechet, kernel_distance, log_chamfer, sliced_wasserstein
from wasserflow.metric.evaluation import evaluate
from wasserflow.metric.feature import Classifier, Extractor, extractor
from wasserflow.metric.manifold import Manifold, manifold
from wasserflow.metric.memorisation import memorised
from wasserflow.metric.report import LOWER_IS_BETTER, Report, Row

__all__ = [
    "LOWER_IS_BETTER",
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
