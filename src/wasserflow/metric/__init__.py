"""How good samples are: distances between distributions, quality and variety, and what they are measured on.

`evaluate` is the one call: samples against held-out data, beside the same figures for real data.
"""

from wasserflow.metric.distance import energy_distance, frechet, kernel_distance, sliced_wasserstein
from wasserflow.metric.evaluate import Report, Row, evaluate
from wasserflow.metric.feature import Classifier, Extractor, extractor
from wasserflow.metric.manifold import Manifold, manifold

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
    "manifold",
    "sliced_wasserstein",
]
