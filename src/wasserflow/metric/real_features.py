"""Features of real data, kept on disk where they are slow to compute.

Inception and DINOv2 take minutes to hours for a whole data set. Their features of each split are kept in
``~/.cache/wasserflow/features`` (``XDG_CACHE_HOME`` moves it), one file per data fingerprint, network and split: a
plain array (float32; 8 kB per image for Inception, 3 kB for DINOv2) with its SHA-256 behind it. No image is stored. A
damaged file is made again, and the folder may be emptied at any time. Principal components, coordinates and the small
classifier's features take seconds and are not kept.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wasserflow._core.errors import UserError
from wasserflow._core.files import whole_or_nothing
from wasserflow.data.dataset import Dataset
from wasserflow.metric.feature import Extractor, cache_folder

__all__ = ["RealFeatures", "features_of"]

BATCH = 1024
CHUNK = 2**20
FLOAT = np.dtype("<f4")


def features_of(extract: Extractor, x: Tensor) -> Tensor:
    """Features, float32 ``(N, d)``, of samples in model space, with full precision on every device."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return torch.cat([extract(part) for part in x.split(BATCH)]).float()


class RealFeatures:
    """Features of a data set's splits.

    Args:
        data: The data set.
        extract: Computes the features.
        device: Device of the computation and of the features.
        say: Called with a sentence before a long computation.
    """

    def __init__(
        self, data: Dataset, extract: Extractor, device: torch.device, say: Callable[[str], None] | None = None
    ) -> None:
        self.data, self.extract, self.device, self.say = data, extract, device, say
        self._kept: dict[str, np.ndarray | None] = {}

    def rows(self, split: str, index: Tensor) -> Tensor:
        """Features of the samples ``index`` of a split, float32 ``(N, d)``."""
        kept = self._stored(split)
        if kept is not None:
            return torch.from_numpy(kept[index.numpy()]).to(self.device)
        return torch.cat([self._compute(split, part) for part in index.split(BATCH)])

    def blocks(self, split: str) -> Iterator[Tensor]:
        """Features of a whole split, in order, a block at a time."""
        for part in torch.arange(len(self.data.split(split))).split(BATCH):
            yield self.rows(split, part)

    def _compute(self, split: str, index: Tensor) -> Tensor:
        stored = self.data.split(split).x
        x = self.data.form.to_model(stored[index.to(stored.device)].to(self.device))
        return features_of(self.extract, x)

    def _stored(self, split: str) -> np.ndarray | None:
        """The features on disk, computed where they are absent; None where they are not kept."""
        if split not in self._kept:
            self._kept[split] = self._found(split)
        return self._kept[split]

    def _found(self, split: str) -> np.ndarray | None:
        if self.extract.key is None:
            return None
        path = cache_folder() / f"{self.data.fingerprint[:32]}-{self.extract.key}-{split}.f32"
        count = len(self.data.split(split))
        if (found := _read(path, count)) is not None:
            return found
        # A cache that cannot be written costs time, not the evaluation.
        with suppress(UserError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_or_nothing(path) as unfinished:
                self._write(unfinished, split, path.parent)
        return _read(path, count)

    def _write(self, path: Path, split: str, folder: Path) -> None:
        count = len(self.data.split(split))
        if self.say:
            noun = self.data.form.noun
            self.say(f"{self.extract.name} features of {count:,} {split} {noun}, once: they are kept in {folder}")
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for part in torch.arange(count).split(BATCH):
                words = self._compute(split, part).cpu().numpy().astype(FLOAT).tobytes()
                digest.update(words)
                file.write(words)
            file.write(digest.digest())


def _read(path: Path, count: int) -> np.ndarray | None:
    """The array in a file, left on disk; None where there is no whole one of ``count`` rows."""
    digest = hashlib.sha256()
    try:
        left = size = path.stat().st_size - digest.digest_size
        with path.open("rb") as file:
            while words := file.read(max(0, min(left, CHUNK))):
                digest.update(words)
                left -= len(words)
            whole = file.read() == digest.digest()
        return np.memmap(path, FLOAT, "r", shape=(count, size // (4 * count))) if whole and size > 0 else None
    except OSError:
        return None
