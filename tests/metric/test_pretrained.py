"""Inception and DINOv2: a stand-in for torch-fidelity and weights made here; the real one where it is installed."""

import hashlib
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from wasserflow._core.errors import UserError
from wasserflow.data import Dataset, Form, Split
from wasserflow.metric import evaluate, extractor, pretrained
from wasserflow.metric.pretrained import levels

INCEPTION = """
import torch
from torch import nn

class FeatureExtractorInceptionV3(nn.Module):
    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert (name, features_list) == ("inception-v3-compat", ["2048"])
        self.linear = nn.Linear(3, 8)
        self.load_state_dict(torch.load(feature_extractor_weights_path))
        self.requires_grad_(False)

    def forward(self, x):
        assert x.dtype == torch.uint8 and x.shape[1] == 3
        return (self.linear(x.float().mean((2, 3))),)
"""

RESIZE = """
import torch

def interpolate_bilinear_2d_like_tensorflow1x(x, size, align_corners):
    return torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=align_corners)
"""

HUBCONF = """
import torch
dependencies = ["torch"]

def dinov2_vitb14(pretrained):
    assert not pretrained
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 5))
"""


def images(channels: int = 3, n: int = 20) -> Dataset:
    rng = torch.Generator().manual_seed(channels)
    train, validation, test = (
        Split(torch.randint(256, (n, channels, 6, 6), generator=rng, dtype=torch.uint8)) for _ in range(3)
    )
    return Dataset("array", Form((channels, 6, 6), "NCHW", ("uint8",)), train, validation, test, "c" * 64)


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and no network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def no_network(url: object, *_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    return tmp_path / "torch" / "hub"


@pytest.fixture
def fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name, which cannot be imported as a whole: so it is where torchvision does not fit torch."""
    package = tmp_path / "site" / "torch_fidelity"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import no_torchvision")
    (package / "version.py").write_text('__version__ = "0.4.0"')
    (package / "feature_extractor_inceptionv3.py").write_text(INCEPTION)
    (package / "interpolate_compat_tensorflow.py").write_text(RESIZE)
    monkeypatch.syspath_prepend(str(package.parent))


def put_weights(hub: Path, monkeypatch: pytest.MonkeyPatch, name: str, weights: dict[str, torch.Tensor]) -> Path:
    path = hub / "checkpoints" / getattr(pretrained, name).rsplit("/", 1)[1]
    torch.save(weights, path)
    monkeypatch.setattr(pretrained, f"{name}_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def linear(inputs: int, outputs: int, name: str) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(outputs)
    weight, bias = torch.randn(outputs, inputs, generator=rng), torch.randn(outputs, generator=rng)
    return {f"{name}.weight": weight, f"{name}.bias": bias}


@pytest.mark.usefixtures("fidelity")
@pytest.mark.parametrize("channels", [1, 3])
def test_inception_gets_grey_levels_in_three_channels(channels: int, hub: Path, monkeypatch: pytest.MonkeyPatch):
    weights = linear(3, 8, "linear")
    put_weights(hub, monkeypatch, "INCEPTION", weights)
    data = images(channels, n=70)  # more than a batch
    state = torch.get_rng_state()
    extract = extractor("inception", data)
    assert torch.equal(torch.get_rng_state(), state)
    assert not [name for name in sys.modules if name.startswith("torch_fidelity")]
    x = data.test.x
    features = extract(data.form.to_model(x) + 0.4 / 127.5)
    means = x.float().mean((2, 3)).expand(-1, 3)
    torch.testing.assert_close(features, means @ weights["linear.weight"].T + weights["linear.bias"])
    assert not features.requires_grad
    assert "comparable with published ones only under the same counts" in extract.about
    report = evaluate(data.form.to_model(data.validation.x[:40]), data, features="inception")
    assert (report.features, report["frechet"].lower_is_better) == ("inception", True)
    assert extract.about in report.protocol


@pytest.mark.usefixtures("fidelity")
def test_dinov2_gets_resized_and_normalised_images(hub: Path, monkeypatch: pytest.MonkeyPatch):
    weights = linear(3, 5, "2")
    put_weights(hub, monkeypatch, "DINOV2", weights)
    data = images(1)
    with pytest.raises(UserError, match=r"the code of DINOv2 is not available.*no network.*put commit \w{7} of github"):
        extractor("dinov2", data)
    code = hub / f"facebookresearch_dinov2_{pretrained.DINOV2_COMMIT}"
    code.mkdir()
    (code / "hubconf.py").write_text(HUBCONF)
    extract = extractor("dinov2", data)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features = extract(data.form.to_model(data.test.x))
    # The mean of an image is that of its bilinear enlargement if it is constant.
    flat = torch.full((2, 1, 6, 6), 0.6)
    wanted = (((flat + 1) * 127.5).round() / 255).mean((2, 3)).expand(-1, 3)
    wanted = (wanted - mean) / std @ weights["2.weight"].T + weights["2.bias"]
    torch.testing.assert_close(extract(flat), wanted, rtol=1e-5, atol=1e-5)
    assert features.shape == (20, 5)
    assert extract.name == "dinov2"


@pytest.mark.usefixtures("fidelity")
@pytest.mark.parametrize("name", ["inception", "dinov2"])
def test_weights_that_cannot_be_had_or_are_others(name: str, hub: Path):
    file = {"inception": "weights-inception-2015-12-05-6726825d.pth", "dinov2": "dinov2_vitb14_pretrain.pth"}[name]
    with pytest.raises(
        UserError, match=rf"{file} is not in {hub}/checkpoints .* failed .*no network.*put the file there"
    ):
        extractor(name, images())
    (hub / "checkpoints" / file).write_bytes(b"a page that says not found")
    with pytest.raises(UserError, match=rf"{file} is not the file that is published at https://.*: remove it"):
        extractor(name, images())
    (hub / "checkpoints" / file).unlink()
    (hub / "checkpoints" / file).mkdir()
    with pytest.raises(UserError, match=r"cannot be read: Is a directory\."):
        extractor(name, images())


@pytest.mark.parametrize("name", ["inception", "dinov2"])
def test_data_they_do_not_fit_and_a_package_that_is_absent(name: str, monkeypatch: pytest.MonkeyPatch):
    part = Split(torch.randn(30, 5))
    points = Dataset("array", Form((5,), "ND", ("float32",)), part, part, part, "0" * 64)
    with pytest.raises(UserError, match="these data are vectors: use pixels"):
        extractor(name, points)
    with pytest.raises(UserError, match="images of 4 channels"):
        extractor(name, images(4))
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=rf"{name} features need the package torch-fidelity: pip install 'wasserflow\[metr"
    ):
        extractor(name, images())


def test_levels_are_those_of_a_file():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    form = Form((1, 16, 16), "NHW", ("uint8",))
    assert torch.equal(levels(form.to_model(every)), every)
    assert levels(torch.tensor([-7.0, 1.002, 0.999])).tolist() == [0, 255, 255]


@pytest.mark.skipif(find_spec("torch_fidelity") is None, reason="torch-fidelity is not installed")
def test_the_real_inception_with_weights_made_here(hub: Path, monkeypatch: pytest.MonkeyPatch):
    module = pretrained._fidelity("feature_extractor_inceptionv3", "inception")
    with monkeypatch.context() as patch:  # the class cannot be made without weights
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(nn.Module, "load_state_dict", lambda *_: None)
        net = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], "none")
    put_weights(hub, monkeypatch, "INCEPTION", net.state_dict())
    data = images(1)
    features = extractor("inception", data)(data.form.to_model(data.test.x[:2]))
    assert features.shape == (2, 2048)
    torch.testing.assert_close(features, net(data.test.x[:2].expand(-1, 3, -1, -1))[0])
