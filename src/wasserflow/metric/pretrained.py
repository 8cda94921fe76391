"""Features of networks that others trained on millions of images: Inception and DINOv2 (the extra ``metrics``).

The networks' weights lie in torch's own cache, ``~/.cache/torch/hub/checkpoints`` unless ``TORCH_HOME`` says otherwise.
They are downloaded there on first use, and their SHA-256 is checked at every one: torch-fidelity, which unpickles
Inception's, gets the published file or none. The code of DINOv2 is a fixed commit of its publisher's. Images are handed
over in grey levels (uint8), grey ones three times over; each network resizes them itself, as TensorFlow 1 does: to
299x299 and 224x224.

References:
    Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015), arXiv 1512.00567.
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017),
    arXiv 1706.08500. DINOv2: Learning Robust Visual Features without Supervision (Oquab et al., 2023),
    arXiv 2304.07193. Torch-fidelity (Obukhov et al., 2020), doi 10.5281/zenodo.4957738.
"""

import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from wasserflow._core.errors import UserError, install
from wasserflow.data.dataset import Dataset
from wasserflow.data.download import DownloadError, download

__all__ = ["Pretrained", "dinov2", "inception", "levels"]

BATCH = 64

INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

DINOV2 = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth"
DINOV2_SHA256 = "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"
DINOV2_COMMIT = "e1277af2ba9496fbadf7aec6eba56e8d882d1e35"
"""Of its publisher's code, github.com/facebookresearch/dinov2, which torch.hub downloads and runs."""


@dataclass(frozen=True)
class Pretrained:
    """A network from uint8 images ``(N, 3, H, W)`` to a tuple that starts with features ``(N, d)``.

    Args:
        net: The network.
        name: Its name in reports.
        about: What it is, in one sentence.
        key: What its features depend on, beyond the images.
    """

    net: nn.Module = field(repr=False)
    name: str
    about: str
    key: str

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Features of images ``(N, C, H, W)`` in [-1, 1], C 1 or 3, shape ``(N, d)``."""
        net = self.net.to(x.device)
        return torch.cat([net(levels(part).expand(-1, 3, -1, -1))[0] for part in x.split(BATCH)])


def inception(data: Dataset) -> Pretrained:
    """Inception-v3 with the weights of the Frechet inception distance: its 2,048 pooled features.

    Args:
        data: Images, grey or in colour.

    Raises:
        UserError: The data are no such images, torch-fidelity is not installed, or the weights cannot be had.
    """
    _check(data, "inception")
    module = _fidelity("feature_extractor_inceptionv3", "inception")
    path = _weights(INCEPTION, INCEPTION_SHA256)
    with torch.random.fork_rng(devices=[]):  # its layers draw weights before they are given theirs
        net = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    version = _fidelity("version", "inception").__version__
    return Pretrained(
        net,
        name="inception",
        about=f"Features are the 2,048 of torch-fidelity {version}'s Inception-v3 ({path.stem}): these figures are "
        "comparable with published ones only under the same counts, images and splits.",
        key=f"inception-{INCEPTION_SHA256[:8]}",
    )


def dinov2(data: Dataset) -> Pretrained:
    """DINOv2's ViT-B/14: the 768 features of its class token.

    Args:
        data: Images, grey or in colour.

    Raises:
        UserError: The data are no such images, torch-fidelity is not installed, or the code or the weights cannot be
            had.
    """
    _check(data, "dinov2")
    resize = _fidelity("interpolate_compat_tensorflow", "dinov2").interpolate_bilinear_2d_like_tensorflow1x
    path = _weights(DINOV2, DINOV2_SHA256)
    os.environ["XFORMERS_DISABLED"] = "1"  # its other attention, which computes the same on some GPUs only
    try:
        with torch.random.fork_rng(devices=[]), redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="xFormers")
            repository = f"facebookresearch/dinov2:{DINOV2_COMMIT}"
            vit: Any = torch.hub.load(
                repository, "dinov2_vitb14", pretrained=False, skip_validation=True, verbose=False
            )
    except (OSError, ImportError, RuntimeError, BadZipFile) as error:
        folder = Path(torch.hub.get_dir()) / f"facebookresearch_dinov2_{DINOV2_COMMIT}"
        raise UserError(
            f"the code of DINOv2 cannot be had ({error}): put commit {DINOV2_COMMIT[:7]} of "
            f"github.com/facebookresearch/dinov2 into {folder}."
        ) from error
    vit.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Pretrained(
        _DinoV2(vit, resize).eval().requires_grad_(False),
        name="dinov2",
        about="Features are the 768 of DINOv2's ViT-B/14, of images resized to 224x224.",
        key=f"dinov2-{DINOV2_SHA256[:8]}",
    )


def levels(x: Tensor) -> Tensor:
    """Images of model space, floats in [-1, 1], in the 256 grey levels of a file: uint8 of the same shape."""
    return x.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


class _DinoV2(nn.Module):
    """What torch-fidelity's extractor of this name does, without the torchvision that it needs."""

    mean: Tensor
    std: Tensor

    def __init__(self, vit: nn.Module, resize: Callable[..., Tensor]) -> None:
        super().__init__()
        self.vit, self.resize = vit, resize
        self.register_buffer("mean", 255 * torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", 255 * torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.resize(x.float(), size=(224, 224), align_corners=False)
        return (self.vit((x - self.mean) / self.std),)


def _check(data: Dataset, name: str) -> None:
    if not data.form.is_image or data.form.shape[0] not in (1, 3):
        what = f"images of {data.form.shape[0]} channels" if data.form.is_image else "vectors"
        raise UserError(f"{name} features need grey or RGB images, and these data are {what}: use pixels instead.")


def _weights(url: str, sha256: str) -> Path:
    """The file of weights, downloaded where it is absent, its content checked."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.exists():
        try:
            download(url, path, sha256)
        except DownloadError as error:
            raise UserError(
                f"{path.name} is not in {path.parent} and the download failed ({error}): put the file there."
            ) from error
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if digest != sha256:
        raise UserError(f"{path} is not the file that is published at {url}: remove it.")
    return path


def _fidelity(module: str, features: str) -> ModuleType:
    """A module of torch-fidelity, without what its package imports besides.

    That is torchvision, which has to match the build of torch to a letter, and which these modules do not use.
    """
    name = f"torch_fidelity.{module}"
    if "torch_fidelity" in sys.modules:
        return import_module(name)
    spec = find_spec("torch_fidelity")
    if spec is None or spec.submodule_search_locations is None:
        raise UserError(f"{features} features need the package torch-fidelity: {install('metrics')}.")
    package = ModuleType("torch_fidelity")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["torch_fidelity"] = package
    try:
        return import_module(name)
    finally:  # whoever imports the package later gets all of it
        for known in [known for known in sys.modules if known.split(".")[0] == "torch_fidelity"]:
            del sys.modules[known]
