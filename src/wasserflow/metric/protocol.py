"""How the metrics of a report were computed, in sentences."""

from wasserflow.data import toy
from wasserflow.data.dataset import Dataset
from wasserflow.metric.column import FEW_VALUES
from wasserflow.metric.feature import Classifier, Extractor

__all__ = ["describe"]


def describe(data: Dataset, split: str, extract: Extractor, count: int, unseen: dict[str, int]) -> str:
    """The protocol of an evaluation.

    Args:
        data: The data set.
        split: The held-out split compared with.
        extract: What computed the features.
        count: Samples on each side.
        unseen: How many samples of two splits that were not trained on went into ``memorised``; empty for none.
    """
    other = "other training samples" if split == "train" else "training samples"
    sentences = [
        f"{count:,} samples against {count:,} of the {split} split, all chosen by the seed; the real-data reference is "
        f"the same for {count:,} {other}.",
        extract.about,
        "Precision, recall, density and coverage use the 5 nearest neighbours; the sliced distance is the root of "
        "the mean squared W2 over 512 directions.",
    ]
    if unseen:
        sentences.append(_memorised(len(data.train), unseen))
    if data.form.is_image:
        sentences.append("Images are rounded to 256 levels first. The kernel distance is the unbiased cubic MMD^2.")
    else:
        sentences.append("The energy distance is unbiased, so it may be slightly negative.")
    if data.form.columns is not None:
        sentences.append(
            "Columns are compared in the data's units: ks is the Kolmogorov-Smirnov distance, total_variation that "
            f"between the shares of at most {FEW_VALUES} whole numbers, outside the share of values outside the range "
            "of the training rows (its reference is that of the held-out rows); correlations is the largest difference "
            "between the correlations of two columns."
        )
    if isinstance(extract, Classifier):
        sentences.append("Class shares are those predicted by the classifier, for samples and real data alike.")
    centres = toy.modes(data.source)
    if centres is not None:
        sentences.append(
            f"A mode (of {len(centres)}) counts when 3 standard deviations around it hold a tenth of its due share "
            "of samples; high quality is the share of samples that close to any."
        )
    return " ".join(sentences)


def _memorised(train: int, unseen: dict[str, int]) -> str:
    (held, n), (other, m) = unseen.items()
    return (
        "Memorised is the probability that a sample lies nearer to its nearest of all "
        f"{train:,} training samples than one of {n:,} of the {held} split to its own (0.5: no copying, towards 1: "
        f"copying), in the same features; its reference is the same for {m:,} of the {other} split. Intervals are "
        "95 %: 1.96 standard errors to each side."
    )
