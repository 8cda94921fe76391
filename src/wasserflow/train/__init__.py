"""Training: seeds, averages, checkpoints, logs, devices, many processes."""

from wasserflow.train.budget import Budget, Progress
from wasserflow.train.compare import compare
from wasserflow.train.evaluate import evaluate
from wasserflow.train.interrupt import Interrupted
from wasserflow.train.loop import resume, train
from wasserflow.train.plot import plot_run
from wasserflow.train.run import Run, load, sample
from wasserflow.train.score import detect, score

__all__ = [
    "Budget",
    "Interrupted",
    "Progress",
    "Run",
    "compare",
    "detect",
    "evaluate",
    "load",
    "plot_run",
    "resume",
    "sample",
    "score",
    "train",
]
