"""Feature extractors: maps from images or vectors to the vectors that distances compare.

An extractor is a callable from model space ``(N, *shape)`` to features ``(N, d)`` with a ``name`` and a sentence
``about`` itself. It is fitted on the training split only, and does not depend on the seed of an evaluation, so that
metrics of different runs can be compared.

- `pixels`: the leading principal components of the training images, unscaled; the coordinates of vectors.
- `classifier`: the penultimate layer of a small network trained on the training labels.
- `inception`, `dinov2`: networks pretrained on millions of images.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wasserflow._core.errors import UserError, unknown
from wasserflow._core.files import digest, whole_or_nothing
from wasserflow.data.dataset import Dataset, Form, Split
from wasserflow.metric.pretrained import dinov2, inception

__all__ = [
    "EXTRACTORS",
    "Classifier",
    "Coordinates",
    "Extractor",
    "Pixels",
    "cache_folder",
    "classifier",
    "extractor",
    "pixels",
]

COMPONENTS = 64
WIDTH = 64
BATCH = 256
LEAST_SEEN = 100_000  # images that the classifier is trained on, counted as often as they are seen
RECIPE = "v1"
"""Part of the cache's file name; increase it when the classifier's network or training changes."""


class Extractor(Protocol):
    """A map from model space to feature vectors."""

    @property
    def name(self) -> str:
        """Its name in reports."""
        ...

    @property
    def about(self) -> str:
        """A description in one sentence."""
        ...

    @property
    def key(self) -> str | None:
        """A key for features kept on disk: what they depend on besides the images; None if they are not kept."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Features ``(N, d)`` of samples in model space ``(N, *shape)``."""
        ...


@dataclass(frozen=True)
class Coordinates:
    """The coordinates of vectors in model space."""

    name: str = "coordinates"
    about: str = "Features are the coordinates in model space."
    key: None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The same vectors, shape ``(N, d)``."""
        return x.flatten(1)


@dataclass(frozen=True)
class Pixels:
    """Projection onto principal components, without whitening: distances stay distances between images.

    Args:
        mean: Mean training image, flattened, shape ``(D,)``.
        basis: Orthonormal rows, shape ``(d, D)``, d <= 64.
        name: Its name in reports.
        about: A description in one sentence.
    """

    mean: Tensor = field(repr=False)
    basis: Tensor = field(repr=False)
    name: str = "pixels"
    about: str = ""
    key: None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Principal components of images ``(N, C, H, W)``, shape ``(N, d)``."""
        return (x.flatten(1) - self.mean.to(x.device)) @ self.basis.to(x.device).T


@dataclass(frozen=True)
class Classifier:
    """The penultimate layer of a small classifier.

    Args:
        net: Its layers; all but the last compute the features.
        name: Its name in reports.
        about: A description, with its accuracy, in one sentence.
    """

    net: nn.Sequential = field(repr=False)
    name: str = "classifier"
    about: str = ""
    key: None = None

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Features of images ``(N, C, H, W)``, shape ``(N, 64)``."""
        return torch.cat([self.net[:-1].to(x.device)(part) for part in x.split(BATCH)])

    @torch.no_grad()
    def shares(self, features: Tensor) -> list[float]:
        """The share of samples that it assigns to each class, from features ``(N, 64)``."""
        logits = self.net[-1].to(features.device)(features.float())
        counts = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
        return (counts.double() / len(features)).tolist()


def extractor(name: str, data: Dataset) -> Extractor:
    """The extractor of a name, fitted on the training split; for vectors ``pixels`` means their coordinates.

    Args:
        name: A key of `EXTRACTORS`.
        data: The data set.
    """
    if name not in EXTRACTORS:
        raise unknown("feature extractor", name, EXTRACTORS)
    return EXTRACTORS[name](data)


def pixels(data: Dataset) -> Extractor:
    """Principal components of at most 10,000 training images; the coordinates themselves for vectors."""
    from sklearn.decomposition import PCA

    if not data.form.is_image:
        return Coordinates()
    size = data.train.x[0].numel()
    # At most half a gigabyte of pixels.
    count = min(len(data.train), 10_000, max(4 * COMPONENTS, 2**27 // size))
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:count]
    x = data.form.to_model(data.train.x[chosen.to(data.train.x.device)]).flatten(1).cpu()
    pca = PCA(min(COMPONENTS, size, count), copy=False, random_state=0).fit(x.numpy())
    kept = float(pca.explained_variance_ratio_.sum())
    return Pixels(
        mean=torch.as_tensor(pca.mean_).float().flatten(),
        basis=torch.as_tensor(pca.components_).float(),
        about=f"Features are the first {pca.n_components_} principal components of {count:,} training images, "
        f"{kept:.0%} of their variance.",
    )


def classifier(data: Dataset) -> Extractor:
    """A small convolutional network trained on the training labels.

    It is kept in the user's cache folder under the data's fingerprint; a damaged file is replaced.

    Args:
        data: Images with labels.

    Raises:
        UserError: If the data are not images, have no labels, or only one class.
    """
    if not data.form.is_image:
        raise UserError("the classifier's features need images, and these data are vectors: use pixels instead.")
    if data.train.label is None:
        raise UserError("the classifier's features need labels, and these data have none: use pixels instead.")
    classes = max(int(data.train.label.max()) + 1, len(data.classes or ()))
    if classes < 2:
        raise UserError("the classifier's features need at least two classes: use pixels instead.")
    path = cache_folder() / f"{data.fingerprint[:32]}-classifier-{RECIPE}.safetensors"
    net = _network(data.form.shape, classes)
    accuracy = _load(net, path)
    if accuracy is None:
        _train(net, data.form, data.train)
        net.eval()
        accuracy = _accuracy(net, data.form, data.validation)
        # An evaluation does not fail because its cache cannot be written.
        with suppress(UserError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_or_nothing(path) as part:
                weights = net.state_dict()
                save_file(weights, part, metadata={"accuracy": repr(accuracy), "sha256": digest(weights)})
    net.eval().requires_grad_(False)
    about = f"Features are the {WIDTH} penultimate activations of a classifier of the training labels"
    return Classifier(net, about=f"{about} ({accuracy:.1%} right on the validation split).")


EXTRACTORS: dict[str, Callable[[Dataset], Extractor]] = {
    "pixels": pixels,
    "classifier": classifier,
    "inception": inception,
    "dinov2": dinov2,
}


def cache_folder() -> Path:
    """The folder of features and classifiers that are slow to compute."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "wasserflow" / "features"


def _network(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Convolution, ReLU and pooling until the image is smaller than 8, then 64 features, then the classes."""
    channels, height, width = shape
    layers: list[tuple[str, nn.Module]] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        out = 16
        while True:
            stage = [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
            if min(height, width) >= 8:
                stage.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers += [(f"stage{len(layers)}", nn.Sequential(*stage))]
            channels, out = out, min(2 * out, 64)
            if min(height, width) < 8:
                break
        head = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, WIDTH), nn.ReLU())
        return nn.Sequential(OrderedDict([*layers, ("features", head), ("classes", nn.Linear(WIDTH, classes))]))


def _train(net: nn.Sequential, form: Form, split: Split) -> None:
    """Train with Adam and a learning rate decaying to zero, for three epochs or 100,000 images."""
    assert split.label is not None
    device = split.x.device
    net.to(device).train()
    rng = torch.Generator().manual_seed(0)
    count = len(split)
    steps = max(3 * count, LEAST_SEEN) // BATCH
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    order = torch.cat([torch.randperm(count, generator=rng) for _ in range(-(-steps * BATCH // count))]).to(device)
    for index in order[: steps * BATCH].split(BATCH):
        loss = F.cross_entropy(net(form.to_model(split.x[index])), split.label[index].long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def _accuracy(net: nn.Sequential, form: Form, split: Split) -> float:
    assert split.label is not None
    parts = zip(split.x.split(BATCH), split.label.split(BATCH), strict=True)
    right = sum(int((net(form.to_model(x)).argmax(1) == label).sum()) for x, label in parts)
    return right / max(1, len(split))


def _load(net: nn.Sequential, path: Path) -> float | None:
    """Load the network from the cache; returns the accuracy stored there, or None if there is no usable file."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            about = file.metadata() or {}
        if about["sha256"] != digest(weights):
            return None
        accuracy = float(about["accuracy"])
        net.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError):
        return None
    return accuracy
